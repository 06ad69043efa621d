"""Standing: what the loop remembers of the trials that have ended. Little enough to stay flat over 100,000 of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from .architecture import Architecture
from .domain import Domain
from .errors import RunFailed
from .fronts import fronts
from .plan import Plan, rank, simulated_seconds, standing_of
from .trial import Evaluate, Objective, Trial

FINALISTS = 3
TRIALS_BEFORE_GIVING_UP = 10


class Standing:
    """Counts by state, the first failure, the best few architectures, and where each network's result is on record."""

    def __init__(
        self,
        domain: Domain,
        by_stage: Sequence[Objective],
        max_failures: float,
        given: Sequence[Architecture] = (),
        funnel: bool = False,
    ) -> None:
        """by_stage: the first objective of each stage. given: what is trained in the end where there is no search.
        funnel: whether the trials of a stage must be at hand when it is over."""
        self._given = given
        self._domain, self._by_stage, self._max_failures = domain, by_stage, max_failures
        self._funnel = funnel
        self._judged: dict[int, list[Trial]] = {}
        self._states: Counter[str] = Counter()
        self._first_failure: Trial | None = None
        self._best: list[Trial] = []
        self._results: dict[bytes, int] = {}
        self.simulated = 0.0
        """The seconds that the search's evaluations would have taken, where the evaluator simulates them."""
        self.final: list[Trial] = []
        """The trainings of what was found that have ended."""

    @classmethod
    def of(cls, plan: Plan) -> Standing:
        """At the beginning of a run."""
        given = () if plan.config.trials else plan.start_from
        return cls(plan.domain, plan.by_stage, plan.config.max_failures, given, len(plan.funnel) > 1)

    def add(self, trial: Trial, event: int) -> None:
        """A trial ended, which the event of that id tells."""
        if trial.purpose == "final":
            self.final.append(trial)
        if trial.purpose != "search":
            return
        self._states[trial.state] += 1
        self.simulated += simulated_seconds(trial)
        if trial.state not in ("done", "pruned"):
            self._first_failure = self._first_failure or trial
        elif isinstance(trial.request, Evaluate):
            self._results.setdefault(self.network(trial.request), event)
        if self._funnel:
            self._judged.setdefault(trial.stage, []).append(trial)
        if trial.architecture is not None and self._could_be_best(trial):
            self._best = self._distinct([*self._best, trial])[:FINALISTS]

    def network(self, request: Evaluate) -> bytes:
        """What is the same for two requests of which one result is enough: isomorphic networks that begin alike and are
        judged alike."""
        identity = self._domain.canonical(request.architecture).id
        begun = "" if request.parent is None else f" {request.parent}"
        stage = f" in stage {request.stage}" if request.stage else ""
        return hashlib.blake2b(f"{identity} {request.fidelity}{begun}{stage}".encode(), digest_size=16).digest()

    def known(self, network: bytes) -> int | None:
        """The event that tells the network's result."""
        return self._results.get(network)

    def promoted(self, stage: int, count: int, objectives: Sequence[Objective]) -> list[Architecture]:
        """What goes on from a stage, best first: by the objective; where there are several, front by front."""
        judged = self._distinct(self._judged.get(stage, []))
        if len(objectives) > 1:
            judged = [trial for front in fronts(judged, objectives) for trial in front]
            judged.sort(key=lambda trial: "predicted" in trial.metrics)  # what was only foreseen comes last
        return [trial.architecture for trial in judged[:count] if trial.architecture is not None]

    def candidates(self) -> list[Architecture]:
        """The search's best architectures, best first, each once. Raises RunFailed where there is none."""
        if self._given:
            return list(self._given)
        if not self._best:
            raise RunFailed(f"no candidate could be judged. {self.failures()}")
        return [trial.architecture for trial in self._best if trial.architecture is not None]

    def check(self) -> None:
        """Raises RunFailed where more trials failed than may."""
        searched = self._states.total()
        failed = searched - self._states["done"] - self._states["pruned"]
        if searched >= TRIALS_BEFORE_GIVING_UP and failed > self._max_failures * searched:
            raise RunFailed(f"too many candidates failed. {self.failures()}")

    def failures(self) -> str:
        """How many trials failed, how, and the first one's cause."""
        searched, first = self._states.total(), self._first_failure
        if first is None:
            return f"{searched} trials ended."
        failed = searched - self._states["done"] - self._states["pruned"]
        return f"{failed} of {searched} trials failed, the first ({first.number}) with: {first.error}"

    def _could_be_best(self, trial: Trial) -> bool:
        """False for the many that are no better than the few that are kept: these need not be ranked."""
        standing = standing_of(trial, self._by_stage)
        if standing is None or len(self._best) < FINALISTS:
            return True
        worst = standing_of(self._best[-1], self._by_stage)
        return worst is None or standing > worst

    def _distinct(self, trials: list[Trial]) -> list[Trial]:
        """The best first, each network once."""
        found: dict[str, Trial] = {}
        for trial in rank(trials, self._by_stage):
            if trial.architecture is not None:
                found.setdefault(self._domain.canonical(trial.architecture).id, trial)
        return list(found.values())
