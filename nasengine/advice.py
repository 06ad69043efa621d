"""What plugins advise where the loop is: stoppers, who end trials early, and evaluators that foresee.

What they raise ends the run in their name. A resumed run tells them all over again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .errors import NasError, RunFailed, one_line
from .evaluator import ForeseeingEvaluator, Metrics
from .plan import Plan, Stage
from .plugin import Plugin
from .trial import Evaluate, Report, Request, Trial


class Advice:
    """The stoppers and the foreseeing evaluators of a run, stage by stage; and the curves of what runs."""

    def __init__(self, plan: Plan) -> None:
        self._stages = plan.funnel
        self._curves: dict[int, list[Metrics]] = {}
        self.foresees = any(isinstance(stage.evaluator, ForeseeingEvaluator) for stage in self._stages)
        """Whether any evaluator foretells results by those of the trials before."""
        for index, stage in enumerate(self._stages):
            for place, stopper in enumerate(stage.stoppers):
                with _blaming("stopper", stopper):
                    stopper.start(stage.objectives, plan.rng(100 * index + place + 50), plan.full_epochs)
            if isinstance(stage.evaluator, ForeseeingEvaluator):
                with _blaming("evaluator", stage.evaluator):
                    stage.evaluator.start(plan.domain, plan.rng(100 * index + 49), stage.objectives)

    def remember(self, number: int, curve: Sequence[Metrics]) -> None:
        """What a trial that goes on has reported before."""
        self._curves[number] = list(curve)

    def stop(self, request: Request, report: Report) -> str | None:
        """Why the trial is to end with this epoch; None where it is to go on."""
        if not isinstance(request, Evaluate) or request.purpose != "search":
            return None
        stoppers = self._stage(request).stoppers
        if not stoppers:
            return None
        curve = self._curves.setdefault(report.number, [])
        curve[report.epoch - 1 :] = [report.metrics]
        for stopper in stoppers:
            with _blaming("stopper", stopper):
                why = stopper.stop(report.number, request, tuple(curve), report.epochs)
            if why is not None:
                return f"stopped by {stopper.known_as}: {why}"
        return None

    def foresee(self, request: Request) -> Metrics | None:
        """What the evaluator knows without a worker."""
        if not isinstance(request, Evaluate) or request.purpose != "search":
            return None
        evaluator = self._stage(request).evaluator
        if not isinstance(evaluator, ForeseeingEvaluator):
            return None
        with _blaming("evaluator", evaluator):
            foreseen = evaluator.foresee(request.architecture, request.fidelity)
        return None if foreseen is None else {**foreseen, "predicted": 1.0}

    def tell(self, trial: Trial) -> None:
        """A trial of the search has ended. Where another's result was taken, that is no news; where it was foreseen, it
        is none to the stoppers."""
        self._curves.pop(trial.number, None)
        request = trial.request
        if not isinstance(request, Evaluate) or trial.same_as is not None:
            return
        stage = self._stage(request)
        for stopper in stage.stoppers if "predicted" not in trial.metrics else ():
            with _blaming("stopper", stopper):
                stopper.tell(trial)
        if isinstance(stage.evaluator, ForeseeingEvaluator):
            with _blaming("evaluator", stage.evaluator):
                stage.evaluator.tell(trial)

    def _stage(self, request: Evaluate) -> Stage:
        return self._stages[request.stage]


@contextmanager
def _blaming(kind: str, plugin: Plugin) -> Iterator[None]:
    try:
        yield
    except NasError:
        raise
    except (Exception, SystemExit) as error:
        raise RunFailed(f"the {kind} {plugin.known_as!r} failed: {one_line(error)}") from error
