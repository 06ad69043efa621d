"""What `nas watch` knows of a run: tallies that grow with what is recorded, so that a long run costs no more to watch.

Everything is read from the run's folder. Nothing takes a lock, and the run does not notice.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import NasError
from ..evaluator import Fidelity
from ..ledger import Start
from ..plan import objective_of, standing_of
from ..run import Run
from ..trial import Evaluate, Learn, Teach, Trial

Phase: TypeAlias = Literal["search", "final", "finished", "interrupted"]

RECENT = 60
WINDOW = 20
"""How many of the latest trials, or epochs of learning, say how fast the run is."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the phase is: `done` of `total` (None where nobody knows) trials, epochs or trainings."""

    done: int
    total: int | None
    unit: Literal["trials", "epochs", "final trainings"]
    left: float | None = None
    """Seconds that the phase is expected to take still; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Working:
    """A request that a worker works on. epochs: how many there will be at most, if known; guessed: by other trials."""

    start: Start
    what: str
    seconds: float
    curve: Sequence[float] = field(default_factory=list)
    epoch: int = 0
    epochs: int | None = None
    guessed: bool = False


class Tally:
    """A run as it is watched. `read` brings it up to date."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(folder)
        self.objective = self.run.objectives[0]
        self.stage = 0
        self.states: Counter[str] = Counter()
        self.best: Trial | None = None
        self.learnt: Trial | None = None
        self.found: Trial | None = None
        self.first_failure: Trial | None = None
        self.last_failure: Trial | None = None
        self.recent: deque[Trial] = deque(maxlen=RECENT)
        self.bests: list[float] = []
        self.values: list[float | None] = []
        """The best value of the search after each of its trials, and theirs, from the first one that has a value."""
        self.under_way: set[int] = set()
        self.phase: Phase = "search"
        self.owner: str | None = None
        self.starts: dict[int, Start] = {}
        self._searched = self._trained = self._seen = 0
        self._told: deque[float] = deque([0.0], maxlen=WINDOW + 1)
        self._epochs: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self._lengths: dict[Fidelity, int] = {}
        self._epochs_of_learning: int | None = None
        self._restarts = 1
        self._loaded = False
        self._learnt: list[int] = []
        self._final_seconds = 0.0
        self._clock = (time.monotonic(), self.run.seconds)  # ours, and the run's as it was last recorded
        self.owner = self.run.owner
        self._take(sorted(self.run.all_trials, key=lambda trial: self.run.told_at[trial.number]))
        self._look()

    def read(self) -> None:
        """Takes in what was recorded since the last reading."""
        self.owner = self.run.owner  # first: a run that finishes in between is finished, not interrupted
        self._take(self.run.refresh())
        self._look()

    def _take(self, told: list[Trial]) -> None:
        for number in range(self._seen, len(self.run.requests)):
            self.under_way.add(number)
            if isinstance(self.run.requests[number], Learn):
                self._learnt.append(number)
        self._seen = len(self.run.requests)
        for trial in told:
            self.under_way.discard(trial.number)
            self.states[trial.state] += 1
            self.recent.append(trial)
            if trial.error and trial.state not in ("done", "pruned"):
                self.first_failure = self.first_failure or trial
                self.last_failure = trial
            if isinstance(trial.request, Evaluate):
                length = self._lengths.get(trial.request.fidelity, 0)
                self._lengths[trial.request.fidelity] = max(length, len(trial.curve))
            if trial.purpose == "preparation":
                continue
            if trial.purpose != "search":
                self._trained += 1
                self._final_seconds += trial.seconds
                if trial.purpose == "final" and trial.state == "done":
                    self.found = trial
                continue
            self._searched += 1
            self._told.append(self.run.told_at[trial.number])
            if trial.derived is not None:
                self.learnt = trial
            by_stage = self.run.by_stage
            if trial.stage != self.stage:  # of a funnel: other values, which are not to be compared with those before
                self.stage, self.best = trial.stage, None
                self.bests, self.values = [], []
            self.objective = objective_of(trial, by_stage)
            standing = standing_of(trial, by_stage)
            before = standing_of(self.best, by_stage) if self.best is not None else None
            if standing is not None and (before is None or standing > before):
                self.best = trial
            if self.best is not None:
                self.values.append(None if standing is None else trial.metrics[self.objective.metric])
                self.bests.append(self.best.metrics[self.objective.metric])

    def _look(self) -> None:
        """What the record of events does not say: who works, and in which phase that is."""
        run = self.run
        if run.finished:
            self.phase = "finished"
        elif self.owner is None and run.owner is None:
            self.phase = "interrupted"
        else:
            self.phase = "final" if self._final else "search"
        began = self._owned_since()
        self.starts = {}
        if self.phase in ("search", "final"):
            self.starts = {number: start for number, start in run.workers().items() if start.at >= began - 1}
        if self.phase == "interrupted" or run.seconds != self._clock[1]:
            self._clock = (time.monotonic(), run.seconds)
        learning = self._learning
        if learning:
            at = time.monotonic(), sum(len(run.curve(number)) for number in learning)
            if not self._epochs or self._epochs[-1][1] != at[1]:
                self._epochs.append(at)

    @property
    def _final(self) -> bool:
        return self._seen > 0 and self.run.requests[self._seen - 1].purpose in ("final", "baseline")

    @property
    def _learning(self) -> list[int]:
        return [number for number in self._learnt if number in self.under_way]

    def _owned_since(self) -> float:
        """When the process that works on the run took it; who worked before then does no more."""
        try:
            return (self.run.folder / "lock").stat().st_mtime
        except OSError:
            return 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that the run has worked until now, over all its processes."""
        at, passed = self._clock
        return passed + (time.monotonic() - at if self.phase in ("search", "final") else 0.0)

    @property
    def progress(self) -> Progress:
        config = self.run.config
        if self._final:
            total = max(1 + config.baseline, self._seen - self._searched)
            return Progress(self._trained, total, "final trainings", self._left_of_training(total))
        learning = self._learning
        if not learning:
            return Progress(self._searched, config.searched, "trials", self._left_of_search())
        self._load()
        done = sum(len(self.run.curve(number)) for number in self._learnt)
        whole = (self._epochs_of_learning or 0) * max(self._restarts, len(self._learnt))
        epochs = whole if whole >= done else None
        return Progress(done, epochs, "epochs", self._limited(self._left_of_learning(epochs)))

    def _left_of_search(self) -> float | None:
        passed = self.elapsed - self._told[0]
        known = len(self._told) - 1
        remaining = max(self.run.config.searched - self._searched, 0)
        return self._limited(remaining * passed / known if known > 1 and passed > 0 else None)

    def _left_of_training(self, total: int) -> float | None:
        """By how long the final trainings took that came back."""
        if self.phase != "final" or not self._trained:
            return None
        each, now = self._final_seconds / self._trained, time.time()
        waiting = max(total - self._trained - len(self.starts), 0)
        running = sum(max(each - (now - start.at), 0.0) for start in self.starts.values())
        return (waiting * each + running) / max(len(self.starts), 1)

    def _left_of_learning(self, total: int | None) -> float | None:
        """By the epochs that ended while we watched: when the others did is not recorded."""
        if total is None or len(self._epochs) < 2:
            return None
        (began, first), (_, last) = self._epochs[0], self._epochs[-1]
        passed = time.monotonic() - began
        return max(total - last, 0) * passed / (last - first) if last > first else None

    def _limited(self, left: float | None) -> float | None:
        """The search's end by its time limit, where that is nearer; None while nobody works."""
        if self.phase != "search":
            return None
        limit = self.run.config.time_limit
        until = max(limit - self.elapsed, 0.0) if limit is not None else None
        return min((seconds for seconds in (left, until) if seconds is not None), default=None)

    def working(self) -> list[Working]:
        """What runs now, the longest-running first, without its curves; `followed` adds them."""
        now = time.time()
        rows = []
        for number, start in self.starts.items():
            request = self.run.requests[number]
            what = f"trial {number}"
            if isinstance(request, Learn):
                self._load()
                what = "learning" if request.restart == 0 and self._restarts == 1 else f"learning {request.restart + 1}"
            elif request.purpose != "search":
                what = {"final": "found", "baseline": "random", "preparation": "the evaluator learns"}[request.purpose]
            rows.append(Working(start, what, max(now - start.at, 0.0)))
        return sorted(rows, key=lambda row: (row.start.at, row.start.number))

    def followed(self, row: Working) -> tuple[Working, str]:
        """The row with its learning curve, and the name of the metric that the curve is of."""
        points = self.run.curve(row.start.number)
        name = self.objective.metric
        if points and name not in points[-1]:
            validated = (other for other in points[-1] if other.startswith("valid"))
            name = next(validated, next(iter(points[-1]), name))
        values = [point[name] for point in points if name in point]
        epochs, guessed = self._planned(row.start.number)
        if epochs is not None and len(points) > epochs:
            epochs = None
        return Working(row.start, row.what, row.seconds, values, len(points), epochs, guessed), name

    def _planned(self, number: int) -> tuple[int | None, bool]:
        """How many epochs a request has at most, and whether that is a guess by the trials that are like it."""
        request = self.run.requests[number]
        if isinstance(request, Learn):
            self._load()
            return self._epochs_of_learning, False
        if isinstance(request, Teach):
            return None, False
        if request.fidelity.epochs is not None:
            return request.fidelity.epochs, False
        option = self.run.config.evaluator.options.get("epochs")
        if isinstance(option, int):
            return option, False
        return self._lengths.get(request.fidelity) or None, True

    def _load(self) -> None:
        """How long a one-shot strategy learns, and how often: by its options, their defaults, or the task's recipe."""
        if self._loaded:
            return
        self._loaded = True
        from ..options import options_of
        from ..registry import load

        config = self.run.config
        options: dict[str, Any] = {}
        recipe = None
        with suppress(NasError):  # a strategy or task that is not installed here, or was an object: not known, then
            parameters = options_of(load("strategy", config.strategy.name))
            options = {name: parameter.default for name, parameter in parameters.items()}
            recipe = getattr(load("task", config.task.name), "recipe", None)
        options |= config.strategy.options
        epochs, restarts = options.get("epochs"), options.get("restarts")
        epochs = epochs if isinstance(epochs, int) else getattr(recipe, "search_epochs", None)
        self._epochs_of_learning = epochs if isinstance(epochs, int) else None
        self._restarts = restarts if isinstance(restarts, int) else 1
