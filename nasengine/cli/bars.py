"""What a running search shows on stderr in a terminal: bars. Apart, because drawing them needs much of rich."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..plan import Plan, phase_of
from ..run import Run
from ..trial import Learn, Report, Request, Trial
from .progress import Lines, described

BARS = 6
"""How many running trials have a bar of their own."""


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
            self.before[phase_of(trial.request)] += 1
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
