"""What a running search shows on stderr: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..plan import Observer, Plan
from ..trial import Learn, Report, Request, Trial
from .text import duration, metric

PHASES = {"search": "searching", "final": "training what was found, and random architectures by the same recipe"}


class Lines(Observer):
    """A line for each epoch of learning in a supernet and for each trial; also what the bars write above themselves."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.metric = "accuracy"
        self.best: float | None = None
        self.requests: dict[int, Request] = {}
        self.began_at = time.monotonic()

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began_at:6.1f} s] {line}", file=sys.stderr, flush=True)

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.objective = plan.objectives[0]
        self.metric = self.objective.metric
        parts = (plan.space, plan.strategy, plan.evaluator, plan.task)
        names = " · ".join(part.known_as for part in parts)
        self.say(f"{names} · seed {plan.config.seed} · {folder}")
        if plan.task.found:
            self.say(plan.task.found)

    def began(self, phase: str) -> None:
        self.say(PHASES[phase])

    def started(self, number: int, request: Request) -> None:
        self.requests[number] = request

    def reported(self, report: Report) -> None:
        if isinstance(self.requests.get(report.number), Learn):
            of = f"/{report.epochs}" if report.epochs else ""
            self.say(f"learning, epoch {report.epoch}{of}: {described(report.metrics)}")

    def ended(self, trial: Trial) -> None:
        self.say(self.line(trial))

    def line(self, trial: Trial) -> str:
        """One trial in one line."""
        what = {"final": "found", "baseline": "random"}.get(trial.purpose, f"trial {trial.number}")
        if isinstance(trial.request, Learn):
            what = f"trial {trial.number} (learning)"
        score = self.objective.score(trial)
        if trial.purpose == "search" and score is not None and (self.best is None or score > self.best):
            self.best = score
        state = trial.state if trial.same_as is None else f"same network as trial {trial.same_as}"
        shown = {name: trial.metrics[name] for name in (self.metric, "parameters") if name in trial.metrics}
        parts = [f"{what}: {state}", described(shown), duration(trial.seconds), trial.error or ""]
        return ", ".join(part for part in parts if part)


def described(metrics: object) -> str:
    """`accuracy 98.61 %, parameters 24,954`."""
    items = dict(metrics).items()  # type: ignore[call-overload]
    return ", ".join(f"{name} {metric(name, value)}" for name, value in items)


class Bars(Lines):
    """Two bars: trials of the phase, and epochs of the trial that runs."""

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
        self.epochs: TaskID | None = None

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

    def began(self, phase: str) -> None:
        self.progress.start()
        if self.trials is not None:
            self.progress.remove_task(self.trials)
        config = self.plan.config
        total = config.trials if phase == "search" else 1 + config.baseline
        name = "trials" if phase == "search" else "final training"
        self.trials = self.progress.add_task(name, total=total, note="")

    def started(self, number: int, request: Request) -> None:
        super().started(number, request)
        if isinstance(request, Learn) and self.trials is not None:
            self.progress.update(self.trials, visible=False)  # one long request: its epochs are the progress
        name = "learning" if isinstance(request, Learn) else f"trial {number}"
        self.epochs = self.progress.add_task(f"  {name}", total=None, note="")

    def reported(self, report: Report) -> None:
        shown = {k: v for k, v in report.metrics.items() if k == self.metric} or report.metrics
        if self.epochs is not None:
            self.progress.update(self.epochs, completed=report.epoch, total=report.epochs, note=described(shown))

    def ended(self, trial: Trial) -> None:
        line = self.line(trial)
        if trial.state != "done" or trial.purpose != "search" or isinstance(trial.request, Learn):
            self.say(line)
        if self.epochs is not None:
            self.progress.remove_task(self.epochs)
            self.epochs = None
        if self.trials is not None:
            best = "" if self.best is None else f"best {described({self.metric: abs(self.best)})}"
            self.progress.update(self.trials, advance=1, visible=True, note=best)

    def close(self) -> None:
        self.progress.stop()


class Quiet(Observer):
    """Shows nothing, and remembers the folder."""

    folder: Path | None = None

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
