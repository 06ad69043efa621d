"""What a run asks for itself, beside what its strategy asks for: lessons, a funnel's stages, the final trainings."""

from __future__ import annotations

from collections import Counter

import numpy as np

from .errors import RunFailed
from .plan import Plan
from .standing import FINALISTS, Standing
from .trial import Evaluate, Request, Teach, Trial


class Phases:
    """Plans these requests, each phase once, from what is known of the trials that have ended."""

    def __init__(self, plan: Plan, standing: Standing) -> None:
        self._plan, self._standing = plan, standing
        self._asked: Counter[int] = Counter()
        self.taught: dict[int, Trial | None] = {}
        """By stage, what came of its evaluator's lesson; None while it goes on."""

    def admit(self, request: Request) -> None:
        """A request was made, now or in what is played back."""
        if isinstance(request, Teach):
            self.taught.setdefault(request.stage, None)
        elif isinstance(request, Evaluate) and request.purpose == "search":
            self._asked[request.stage] += 1

    def learns(self, stage: int) -> bool:
        """Whether the stage's evaluator must learn before its first candidate, and has not yet."""
        wanted = self._plan.funnel[stage].evaluator.learns and self._plan.config.trials > 0
        return wanted and self.taught.get(stage) is None

    def lesson(self, stage: int) -> list[Request]:
        """The request to let the stage's evaluator learn."""
        return [] if stage in self.taught else [Teach(stage)]

    def check(self, stage: int) -> None:
        """Raises RunFailed where the stage's evaluator could not learn."""
        taught = self.taught.get(stage)
        if taught is not None and taught.state != "done":
            name = self._plan.funnel[stage].evaluator.known_as
            raise RunFailed(f"the evaluator {name!r} could not learn: {taught.error or taught.state}")

    def promoted(self, stage: int) -> list[Request]:
        """A stage of the funnel: the best of the one before. Raises RunFailed where there are none."""
        if self._asked[stage]:
            return []
        before, here = self._plan.funnel[stage - 1], self._plan.funnel[stage]
        chosen = self._standing.promoted(stage - 1, here.candidates, before.objectives)
        if not chosen:
            raise RunFailed(f"no candidate could be judged. {self._standing.failures()}")
        fidelity = self._plan.config.fidelity
        return [Evaluate(architecture, fidelity, stage=stage) for architecture in chosen]

    def final(self, rng: np.random.Generator) -> list[Request]:
        """The final trainings: once all of them, later another candidate for one that failed. Raises RunFailed where
        there is none, or too many failed."""
        ended = self._standing.final
        if any(trial.state == "done" for trial in ended):
            return []
        candidates = self._standing.candidates()
        if len(ended) >= FINALISTS:
            raise RunFailed(f"the final training failed {len(ended)} times, last with: {ended[-1].error}")
        chosen = candidates[min(len(ended), len(candidates) - 1)]
        plan = self._plan
        planned: list[Request] = [Evaluate(plan.final(chosen), plan.final_fidelity, "final")]
        if not ended:
            drawn = plan.domain.sample_different(plan.config.baseline, rng)
            planned += [Evaluate(plan.final(one), plan.final_fidelity, "baseline") for one in drawn]
        return planned
