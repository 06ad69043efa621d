"""What a running search shows on stderr where it is no terminal: lines, or nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ..plan import Observer, Plan, objective_of, standing_of
from ..trial import Learn, Report, Request, Teach, Trial
from .text import duration, metric, parts_of, phase_of


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


class Quiet(Observer):
    """Shows nothing, and remembers the folder."""

    folder: Path | None = None

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
