"""Run: a run's folder seen from outside, while it goes on or after: its trials, its best, its models."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .architecture import Architecture
from .config import Config
from .errors import NasError, RunError
from .fronts import fronts
from .ledger import Event, Ledger, Start, owner
from .models import load_weights, model_path
from .plan import rank, simulated_seconds, trial_seed
from .trial import Evaluate, Objective, Request, Trial, request_from_dict

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from .calibration import Agreement
    from .plugin import Plugin
    from .report.importance import Importance
    from .space import SearchSpace
    from .task import Task


@dataclass(frozen=True, slots=True)
class Comparison:
    """The architecture found against random ones, all trained by one recipe, on the test data.

    found: its value. baseline: theirs. gain: found minus the mean of theirs, signed so that positive is better.
    spread: the standard deviation of theirs (0 where there is one only).
    """

    metric: str
    found: float
    baseline: Sequence[float]
    gain: float
    spread: float


class Run:
    """What a run's folder says. Reading it takes no lock and changes nothing."""

    def __init__(self, folder: str | Path, plugins: Mapping[str, Plugin] | None = None) -> None:
        self.folder = Path(folder)
        self._plugins = dict(plugins or {})
        self._load()

    def _load(self) -> None:
        ledger = Ledger.read(self.folder)
        try:
            self.about = ledger.about()
        finally:
            ledger.close()
        self.config = Config.of(self.about["config"], str(self.folder))
        self.objectives = [Objective.parse(text) for text in self.about["objectives"]]
        stages = self.about.get("stages") or [self.about["objectives"]]
        self.stages = [[Objective.parse(text) for text in texts] for texts in stages]
        """The objectives of each stage of the funnel; of the search, where there is none."""
        self.by_stage = [objectives[0] for objectives in self.stages]
        self.final_objectives = [
            Objective.parse(text) for text in self.about.get("final_objectives", self.about["objectives"])
        ]
        """What the final trainings are judged by."""
        self.requests: dict[int, Request] = {}
        self._trials: dict[int, Trial] = {}
        self._last = 0
        self._finished = False
        self.failure: str | None = None
        """Why the run ended without a result, where it did."""
        self.seconds = 0.0
        """How long the run has worked, over all its processes."""
        self.told_at: dict[int, float] = {}
        """When each trial came back, in seconds of the run's work."""
        self.refresh()

    def refresh(self) -> list[Trial]:
        """Reads what was recorded since the last reading; the trials that have come back in the meantime."""
        told = []
        ledger = Ledger.read(self.folder)
        try:
            self.seconds = ledger.elapsed()
            for event in ledger.events(self._last):
                self._take(event)
                if event.kind == "tell" and event.number is not None:
                    told.append(self._trials[event.number])
        finally:
            ledger.close()
        return told

    def _take(self, event: Event) -> None:
        self._last = event.id
        self._finished = self._finished or event.kind == "finished"
        self.failure = str(event.body["reason"]) if event.kind == "failed" else None
        if event.number is None:
            return
        if event.kind in ("ask", "final"):
            self.requests[event.number] = request_from_dict(event.body)
        elif event.kind == "tell":
            request = self.requests[event.number]
            seed = trial_seed(self.config.seed, event.number)
            self._trials[event.number] = Trial.from_dict(event.number, request, seed, event.body)
            self.told_at[event.number] = event.elapsed

    def __repr__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        return f"<Run {self.folder} ({state}, {len(self._trials)} trials)>"

    @property
    def finished(self) -> bool:
        return self._finished

    @property
    def all_trials(self) -> list[Trial]:
        """Every trial that came back, in the order of their numbers."""
        return [self._trials[number] for number in sorted(self._trials)]

    @property
    def simulated(self) -> float:
        """The seconds that the search's evaluations would have taken, where its evaluator looks them up."""
        return sum(simulated_seconds(trial) for trial in self._trials.values() if trial.purpose == "search")

    @property
    def in_flight(self) -> dict[int, Request]:
        """What was asked for and has not come back: running now, or interrupted."""
        return {number: request for number, request in self.requests.items() if number not in self._trials}

    @property
    def owner(self) -> str | None:
        """The process that works on the run now; None where none does: it is finished, or was interrupted."""
        return owner(self.folder)

    def workers(self) -> dict[int, Start]:
        """Who works on what is in flight, by the request's number; requests that wait for a worker are left out."""
        ledger = Ledger.read(self.folder)
        try:
            found = {number: ledger.start_of(number) for number in self.in_flight}
        finally:
            ledger.close()
        return {number: start for number, start in found.items() if start is not None}

    @property
    def best(self) -> Trial:
        """The final training of the architecture found; before there is one, the search's best trial so far.

        Raises RunError where nothing has been judged yet.
        """
        final = [trial for trial in self.all_trials if trial.purpose == "final" and trial.state == "done"]
        ranked = final or rank(self.all_trials, self.by_stage)
        if not ranked:
            raise RunError(f"the run {self.folder} has no result yet")
        return ranked[0]

    def front(self) -> list[Trial]:
        """The search's trials that no other beats in every objective (the Pareto front), by the first objective; of a
        funnel's, those of its last stage. What was only foreseen does not count."""
        searched = [t for t in self.all_trials if t.purpose == "search" and isinstance(t.request, Evaluate)]
        searched = [trial for trial in searched if "predicted" not in trial.metrics]
        last = max((trial.stage for trial in searched), default=0)
        objectives = self.stages[last]
        found = fronts([trial for trial in searched if trial.stage == last], objectives)
        return sorted(found[0] if found else [], key=lambda trial: (-(objectives[0].score(trial) or 0), trial.number))

    def objectives_of(self, trial: Trial) -> list[Objective]:
        """What the trial is judged by."""
        searched = trial.purpose in ("search", "preparation")
        return self.stages[min(trial.stage, len(self.stages) - 1)] if searched else self.final_objectives

    def comparison(self) -> Comparison | None:
        """The found architecture against the random baseline; None where there is no baseline to compare with."""
        objective = self.final_objectives[0]
        metric = f"test_{objective.metric}"
        done = [trial for trial in self.all_trials if trial.state == "done"]
        if not any(metric in trial.metrics for trial in done):  # an evaluator without models reads no test data
            metric = objective.metric
        found = [trial.metrics[metric] for trial in done if trial.purpose == "final" and metric in trial.metrics]
        others = [trial.metrics[metric] for trial in done if trial.purpose == "baseline" and metric in trial.metrics]
        if not found or not others:
            return None
        sign = 1 if objective.direction == "max" else -1
        spread = statistics.stdev(others) if len(others) > 1 else 0.0
        return Comparison(metric, found[0], others, sign * (found[0] - statistics.fmean(others)), spread)

    def trials(self) -> pd.DataFrame:
        """One row a trial: number, purpose, kind, state, its metrics, seconds, error, architecture's id and picks."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("number") if self._trials else pd.DataFrame()

    def rows(self) -> list[dict[str, Any]]:
        """The table of trials as JSON values."""
        rows = []
        for trial in self.all_trials:
            architecture = trial.architecture
            rows.append(
                {
                    "number": trial.number,
                    "purpose": trial.purpose,
                    "kind": type(trial.request).__name__.lower(),
                    **({"stage": trial.stage} if len(self.stages) > 1 else {}),
                    "state": trial.state,
                    **trial.metrics,
                    "seconds": round(trial.seconds, 3),
                    "error": trial.error,
                    "same_as": trial.same_as,
                    "notes": list(trial.notes),
                    "id": architecture.short if architecture else None,
                    "architecture": architecture.to_dict()["picks"] if architecture else None,
                }
            )
        return rows

    def study(self) -> optuna.Study:
        """The search as an Optuna study in memory, for Optuna's importances and plots."""
        from .integrations.optuna import study

        return study(self)

    def curve(self, number: int) -> list[dict[str, float]]:
        """A trial's metrics after each epoch, also while it runs."""
        if number in self._trials:
            return [dict(point) for point in self._trials[number].curve]
        ledger = Ledger.read(self.folder)
        try:
            return [metrics for _, metrics in ledger.reports(number)]
        finally:
            ledger.close()

    @cached_property
    def space(self) -> SearchSpace:
        """The run's search space, made again from its name and options."""
        return self._plugin("space")  # type: ignore[return-value]

    @cached_property
    def task(self) -> Task:
        """The run's task, made again from its name and options."""
        return self._plugin("task")  # type: ignore[return-value]

    def _plugin(self, kind: Any) -> Plugin:
        from .parts import restore

        return restore(kind, self.config, self.about, self._plugins)

    def describe(self, architecture: Architecture) -> str:
        """The architecture in a few lines, in its space's words where the space can be made again."""
        try:
            return self.space.describe(architecture)
        except NasError:
            return "\n".join(f"{name}: {pick}" for name, pick in architecture.picks.items())

    def best_model(self) -> nn.Module:
        """The trained model of the architecture found, in evaluation mode, on the CPU.

        Raises RunError where the run has not trained one.
        """
        trial = self.best
        architecture = trial.architecture
        if trial.purpose != "final" or architecture is None:
            raise RunError(f"the run {self.folder} has no trained model yet; finish it with: nas resume {self.folder}")
        model = self.space.model(architecture, self.task)
        model.load_state_dict(load_weights(self.folder, trial.number))
        return model.eval()

    def export(self, path: str | Path, format: str | None = None) -> Path:
        """Writes the model found: `.json`, `.safetensors`, `.onnx`, or a `.py` that needs only torch.

        Raises ExportError, or RunError where the run has no trained model.
        """
        from .export import export

        return export(self, Path(path), format)

    @property
    def has_model(self) -> bool:
        """Whether the trained model of the best trial is in the run's folder."""
        return self.best.purpose == "final" and model_path(self.folder, self.best.number).exists()

    def importance(self) -> Importance:
        """How much of the first objective's variance each decision explains; where that cannot be told, why."""
        from .report.importance import importance

        return importance(self)

    def plot_best(self, over: Literal["trials", "seconds"] = "trials") -> Figure:
        """The best value so far. These figures raise RunError where there is nothing to draw."""
        from .report.plots import best_so_far

        return best_so_far(self, over)

    def plot_curves(self) -> Figure:
        """The learning curves: of the learning in a supernet, or of the best trials."""
        from .report.plots import curves

        return curves(self)

    def calibration(self) -> list[Agreement]:
        """How well the cheap judgements of the run's funnel agree with the dear ones; empty without a funnel."""
        from .calibration import calibration

        return calibration(self) if len(self.stages) > 1 else []

    def plot_calibration(self) -> Figure:
        """The cheap judgements of the run's funnel against the dear ones, a panel each."""
        from .report.calibrated import picture

        return picture(self.calibration(), str(self.folder))

    def plot_front(self) -> Figure:
        """The Pareto front, where there are several objectives."""
        from .report.plots import front

        return front(self)

    def plot_importance(self) -> Figure:
        """The decisions that matter most, as bars."""
        from .report.plots import importance

        return importance(self)

    def draw(self, trial: int | None = None) -> Figure:
        """An architecture as a picture: a trial's, by default the one found."""
        from .report.drawing import draw_trial

        return draw_trial(self, trial)

    def _repr_html_(self) -> str:
        from .report.html import card

        return card(self)

    def summary(self) -> dict[str, Any]:
        """What the run found, as JSON values."""
        from .summary import summary

        return summary(self)
