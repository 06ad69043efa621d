"""Loggers that follow a search, and what keeps them from ever ending or slowing one.

    with logged("tensorboard", "mlflow:experiment=mine") as observer:
        run = nasengine.search("chain", "random", observer=observer)

A logger works in a thread of its own, after what it logs was recorded. One that fails is named once, in a sentence on
stderr, and left out from there on.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .errors import ConfigError, NasError, near_miss, one_line
from .options import check_options
from .plan import Observer, Plan, objective_of, standing_of
from .registry import split
from .run import Run
from .trial import Objective, Report, Request, Trial

LOGGERS = {"mlflow": "MLflow", "wandb": "WeightsAndBiases", "tensorboard": "TensorBoard"}
"""The loggers' classes, each in the module of `nasengine.integrations` that has its name."""

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboardX"}
SECONDS_TO_FINISH = 30.0


class Logger(Observer):
    """What all loggers have in common: they can go on with a run that they have logged a part of.

    `logged/NOTES` in the run's folder holds the logger's own name for the run and the numbers of the trials that it has
    logged, a line each; the trials that a resumed run had before are logged when it is opened.
    """

    name: str
    notes: str | None = None
    """The file's name, by default the logger's; two of a kind need two."""

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.objective: Objective = plan.objectives[0]
        self.best: float | None = None
        self._standing: tuple[float, ...] | None = None
        self._epochs: dict[int, int] = {}
        self._notes = folder / "logged" / (self.notes or self.name)
        lines = self._notes.read_text(encoding="utf-8").split() if self._notes.exists() else []
        identity = self.begin(lines[0] if lines else None)
        self._notes.parent.mkdir(exist_ok=True)
        if not lines:
            self._notes.write_text(f"{identity}\n", encoding="utf-8")
        self._logged = set(map(int, lines[1:]))
        for trial in Run(folder).all_trials:
            self._improve(trial) if trial.number in self._logged else self.ended(trial)

    def reported(self, report: Report) -> None:
        if report.number in self._logged:
            return
        self._epochs[report.number] = max(report.epoch, self._epochs.get(report.number, 0))
        self.log_epoch(report.number, report.epoch, report.metrics)

    def ended(self, trial: Trial) -> None:
        if trial.number in self._logged:  # it was on record when the logger, which may lag behind, was opened
            return
        self._logged.add(trial.number)
        seen = self._epochs.pop(trial.number, 0)
        for epoch, metrics in enumerate(trial.curve, 1):
            if epoch > seen:
                self.log_epoch(trial.number, epoch, metrics)
        self._improve(trial)
        self.log_trial(trial)
        with open(self._notes, "a", encoding="utf-8") as notes:
            notes.write(f"{trial.number}\n")

    def close(self) -> None:
        """Logs what it was not told of, and what the run came to, if it is finished; lets go."""
        run = Run(self.folder)
        for trial in run.all_trials:
            self.ended(trial)
        self.end(run)

    @abstractmethod
    def begin(self, identity: str | None) -> str:
        """Begins a run in the tracker, or goes on with the one of that name; its name."""

    @abstractmethod
    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial's metrics after an epoch, counted from 1."""

    @abstractmethod
    def log_trial(self, trial: Trial) -> None:
        """A trial that has come back; `best` is the search's best value so far."""

    @abstractmethod
    def end(self, run: Run) -> None:
        """The last event: the run is finished, or will be resumed."""

    def _improve(self, trial: Trial) -> None:
        by_stage = self.plan.by_stage
        standing = standing_of(trial, by_stage) if trial.purpose == "search" else None
        if standing is not None and (self._standing is None or standing > self._standing):
            self._standing, self.best = standing, trial.metrics[objective_of(trial, by_stage).metric]


def settings_of(plan: Plan) -> dict[str, str | int | float | bool]:
    """A run's settings, flat: the four plugins' names, their options as `space.layers`, and the rest."""
    flat: dict[str, str | int | float | bool] = {}
    for name in type(plan.config).model_fields:
        value = getattr(plan.config, name)
        if name in ("space", "strategy", "evaluator", "task"):
            flat[name] = value.name
            flat |= {f"{name}.{option}": _plain(given) for option, given in getattr(plan, name).settings.items()}
        elif value is not None:
            flat[name] = _plain(value)
    return flat


def outcome_of(run: Run) -> dict[str, float]:
    """What a finished run came to, as numbers: the model found, and how it compares with random architectures."""
    metrics = {f"found/{name}": value for name, value in run.best.metrics.items()}
    comparison = run.comparison()
    if comparison is not None:
        metrics["comparison/gain"] = comparison.gain
        metrics["comparison/spread"] = comparison.spread
        metrics["comparison/random_mean"] = sum(comparison.baseline) / len(comparison.baseline)
    return metrics


class Aside(Observer):
    """Runs an observer in a thread of its own; drops it, with one sentence, when it fails."""

    def __init__(self, observer: Logger) -> None:
        self._observer = observer
        self._events: SimpleQueue[tuple[str, tuple[Any, ...]] | None] = SimpleQueue()
        self._opened = False
        self._left_behind = False
        self._thread = threading.Thread(target=self._work, name=f"logger {observer.name}", daemon=True)

    def opened(self, folder: Path, plan: Plan) -> None:
        self._opened = True
        self._events.put(("opened", (folder, plan)))
        self._thread.start()

    def reported(self, report: Report) -> None:
        self._events.put(("reported", (report,)))

    def ended(self, trial: Trial) -> None:
        self._events.put(("ended", (trial,)))

    def close(self) -> None:
        """Waits until everything is logged, but not for ever."""
        if not self._opened:
            return
        self._events.put(("close", ()))
        self._events.put(None)
        self._thread.join(SECONDS_TO_FINISH)
        if self._thread.is_alive():
            self._left_behind = True
            self._say(f"has not finished after {SECONDS_TO_FINISH:.0f} s, and is left behind")

    def _work(self) -> None:
        failed = False
        while (event := self._events.get()) is not None:
            method, arguments = event
            if failed:
                continue
            try:
                getattr(self._observer, method)(*arguments)
            except (Exception, SystemExit) as error:  # anybody's code: a search must not end with it
                failed = True
                what = str(error) if isinstance(error, NasError) else one_line(error)
                if not self._left_behind:  # else it has been named, and the run that it logged is over
                    self._say(f"failed and is left out from here on: {what}")

    def _say(self, what: str) -> None:
        print(f"nas: the logger {self._observer.name!r} {what}", file=sys.stderr, flush=True)


class Several(Observer):
    """Tells all of them: the first, which shows progress, at once; the loggers aside."""

    def __init__(self, first: Observer, loggers: Sequence[Logger]) -> None:
        self._all: list[Observer] = [first, *map(Aside, loggers)]
        self.folder: Path | None = None

    @property
    def stop_requested(self) -> bool:
        """The first one's: a logger has no say in it."""
        return self._all[0].stop_requested

    @stop_requested.setter
    def stop_requested(self, wanted: bool) -> None:
        self._all[0].stop_requested = wanted

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        for observer in self._all:
            observer.opened(folder, plan)

    def note(self, text: str) -> None:
        for observer in self._all:
            observer.note(text)

    def began(self, phase: str) -> None:
        for observer in self._all:
            observer.began(phase)

    def started(self, number: int, request: Request) -> None:
        for observer in self._all:
            observer.started(number, request)

    def reported(self, report: Report) -> None:
        for observer in self._all:
            observer.reported(report)

    def lost(self, number: int, error: str) -> None:
        for observer in self._all:
            observer.lost(number, error)

    def ended(self, trial: Trial) -> None:
        for observer in self._all:
            observer.ended(trial)

    def close(self) -> None:
        for observer in self._all:
            close = getattr(observer, "close", None)
            if close is not None:
                close()


def logger(text: str) -> Logger:
    """`mlflow`, `wandb:project=mine`, `tensorboard` as a logger. Raises ConfigError."""
    name, options = split(text)
    if name not in LOGGERS:
        raise ConfigError(f"no logger is named {name!r}.{near_miss(name, LOGGERS)} Loggers: {', '.join(LOGGERS)}")
    if find_spec(PACKAGES[name]) is None:
        raise ConfigError(f"the logger {name!r} needs a package: pip install 'nasengine[{name}]'")
    found: Any = getattr(import_module(f"nasengine.integrations.{name}"), LOGGERS[name])
    made: Logger = found(**check_options("logger", name, found, options))
    made.notes = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return made


@contextmanager
def logged(*loggers: str | Logger, observer: Observer | None = None) -> Iterator[Observer]:
    """An observer for `search` and `resume` that logs as these say, beside one of the caller's own."""
    made = [logger(given) if isinstance(given, str) else given for given in loggers]
    several = Several(observer or Observer(), made)
    try:
        yield several
    finally:
        several.close()


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
