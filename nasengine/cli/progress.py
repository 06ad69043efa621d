"""What a running search shows on stderr: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..plan import Observer, Plan, objective_of, standing_of
from ..plan import phase_of as phase_of_request
from ..run import Run
from ..trial import Learn, Report, Request, Teach, Trial
from .text import duration, metric, parts_of, phase_of

BARS = 6
"""How many running trials have a bar of their own."""


class Lines(Observer):
    """A line for each epoch of learning in a supernet and for each trial; also what the bars write above themselves."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.metric = "accuracy"
        self.best: float | None = None
        self.standing: tuple[float, ...] | None = None
        self.requests: dict[int, Request] = {}
        self.restarts = 1
        self.began_at = time.monotonic()

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began_at:6.1f} s] {line}", file=sys.stderr, flush=True)

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.objective = plan.objectives[0]
        self.metric = self.objective.metric
        self.restarts = int(getattr(plan.strategy, "restarts", 1))
        names = " · ".join(parts_of(plan.config))
        self.say(f"{names} · seed {plan.config.seed} · {folder}")
        if plan.task.found:
            self.say(plan.task.found)

    def note(self, text: str) -> None:
        self.say(text)

    def began(self, phase: str) -> None:
        self.say(phase_of(phase, self.plan.config))

    def started(self, number: int, request: Request) -> None:
        self.requests[number] = request

    def reported(self, report: Report) -> None:
        request = self.requests.get(report.number)
        if isinstance(request, Learn):
            of = f"/{report.epochs}" if report.epochs else ""
            self.say(f"{self.learning(request)}, epoch {report.epoch}{of}: {described(report.metrics)}")
        elif self.plan.config.trials == 0:
            of = f"/{report.epochs}" if report.epochs else ""
            self.say(f"epoch {report.epoch}{of}: {described(report.metrics)}")

    def lost(self, number: int, error: str) -> None:
        self.say(f"trial {number}: its worker was lost ({error}); it runs again")

    def ended(self, trial: Trial) -> None:
        self.requests.pop(trial.number, None)
        self.say(self.line(trial))

    def learning(self, request: Learn) -> str:
        """`learning`, or, where there are several, which of them: `learning 2 of 3`."""
        return "learning" if self.restarts == 1 else f"learning {request.restart + 1} of {self.restarts}"

    def compare(self, trial: Trial) -> None:
        """Keeps the value of the search's best trial."""
        by_stage = self.plan.by_stage
        standing = standing_of(trial, by_stage) if trial.purpose == "search" else None
        if standing is not None and (self.standing is None or standing > self.standing):
            self.standing, self.best = standing, trial.metrics[objective_of(trial, by_stage).metric]

    def line(self, trial: Trial) -> str:
        """One trial in one line."""
        what = {"final": "found" if self.plan.config.trials else "trained", "baseline": "random"}.get(
            trial.purpose, f"trial {trial.number}"
        )
        if isinstance(trial.request, Learn):
            what = f"trial {trial.number} ({self.learning(trial.request)})"
        if isinstance(trial.request, Teach):
            what = f"the evaluator {self.plan.funnel[trial.stage].evaluator.known_as} learnt"
        self.compare(trial)
        state = trial.state if trial.same_as is None else f"same network as trial {trial.same_as}"
        judged = trial.purpose in ("search", "preparation")
        by = self.plan.funnel[trial.stage] if judged else self.plan.judge
        names = dict.fromkeys([*(objective.metric for objective in by.objectives), "parameters"])
        shown = {name: trial.metrics[name] for name in names if name in trial.metrics}
        parts = [f"{what}: {state}", described(shown), duration(trial.seconds), trial.error or ""]
        return ", ".join(part for part in parts if part)


def described(metrics: object) -> str:
    """`accuracy 98.61 %, parameters 24,954`."""
    items = dict(metrics).items()  # type: ignore[call-overload]
    return ", ".join(f"{name} {metric(name, value)}" for name, value in items)


class Bars(Lines):
    """A bar for the trials of the phase, and one for the epochs of each trial that runs, as far as there is room."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        self.trials: TaskID | None = None
        self.before: Counter[str] = Counter()  # how many trials of each phase there are already
        self.running: dict[int, TaskID] = {}

    def opened(self, folder: Path, plan: Plan) -> None:
        super().opened(folder, plan)
        for trial in Run(folder).all_trials:  # of a run that is resumed
            self.before[phase_of_request(trial.request)] += 1
            self.compare(trial)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

    def began(self, phase: str) -> None:
        self.progress.start()
        if self.trials is not None:
            self.progress.remove_task(self.trials)
        name = {"search": "trials", "final": "final training", "preparation": "learning first"}.get(phase, phase)
        total, done = self.plan.config.requests_in(phase), self.before[phase]
        self.trials = self.progress.add_task(name, total=total, completed=done, note="")
        self.fit()

    def started(self, number: int, request: Request) -> None:
        super().started(number, request)
        if isinstance(request, Learn):
            name = self.learning(request)
            if self.trials is not None:
                self.progress.update(self.trials, visible=False)  # long requests: their epochs are the progress
        else:
            names = {"final": "found", "baseline": "random", "preparation": "learning"}
            name = names.get(request.purpose, f"trial {number}")
        if number in self.running:  # again, after its worker was lost
            self.progress.remove_task(self.running[number])
        self.running[number] = self.progress.add_task(f"  {name}", total=None, note="", visible=False)
        self.fit()

    def fit(self) -> None:
        """Shows the first few that run, and how many more there are."""
        for place, task in enumerate(self.running.values()):
            self.progress.update(task, visible=place < BARS)
        if self.trials is not None:
            best = "" if self.best is None else f"best {described({self.metric: self.best})}"
            more = f"and {len(self.running) - BARS} more running" if len(self.running) > BARS else ""
            self.progress.update(self.trials, note=", ".join(part for part in (best, more) if part))

    def reported(self, report: Report) -> None:
        shown = {k: v for k, v in report.metrics.items() if k == self.metric} or report.metrics
        task = self.running.get(report.number)
        if task is not None:
            self.progress.update(task, completed=report.epoch, total=report.epochs, note=described(shown))

    def lost(self, number: int, error: str) -> None:
        super().lost(number, error)
        if number in self.running:
            self.progress.remove_task(self.running.pop(number))
            self.fit()

    def ended(self, trial: Trial) -> None:
        line = self.line(trial)
        self.requests.pop(trial.number, None)
        if trial.state != "done" or trial.purpose != "search" or isinstance(trial.request, Learn):
            self.say(line)
        if trial.number in self.running:
            self.progress.remove_task(self.running.pop(trial.number))
        if self.trials is not None:
            learning = any(isinstance(request, Learn) for request in self.requests.values())
            self.progress.update(self.trials, advance=1, visible=not learning)
        self.fit()

    def close(self) -> None:
        self.progress.stop()


class Quiet(Observer):
    """Shows nothing, and remembers the folder."""

    folder: Path | None = None

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
