"""ASHA: successive halving that waits for nobody. Whoever is free promotes a candidate, or begins a new one.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar 2020, "A System for Massively Parallel
Hyperparameter Tuning", MLSys: algorithm 2. Its early-stopping rate s is `min_epochs` here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from typing import Any

from nasengine import Architecture, Evaluate, Trial

from .fidelities import MultiFidelity


class Rung:
    """The results at one fidelity, and which of them went up."""

    def __init__(self) -> None:
        self._scores: list[tuple[float, int]] = []  # of all, best first: the negative score, the order of arrival
        self._waiting: list[tuple[float, int, Architecture]] = []  # a heap of those that did not go up yet
        self._networks: set[str] = set()

    def add(self, network: str, architecture: Architecture, score: float) -> None:
        """A result; the second of a network changes nothing."""
        if network not in self._networks:
            place = (-score, len(self._networks))
            self._networks.add(network)
            insort(self._scores, place)
            heappush(self._waiting, (*place, architecture))

    def promote(self, eta: int) -> Architecture | None:
        """The best that did not go up yet, if it is among the best 1/η of all; it has gone up then."""
        if not self._waiting:
            return None
        rank = bisect_left(self._scores, self._waiting[0][:2])
        return heappop(self._waiting)[2] if rank < len(self._scores) // eta else None


class ASHA(MultiFidelity):
    """Asynchronous successive halving (Li et al. 2020): takes every worker, and has results of full length early.

    A promoted candidate is trained anew, from scratch, for the higher rung's epochs. Trials that failed are never
    promoted, and do not count among those of which the best 1/η go up. That a candidate reaches the k-th rung above the
    lowest takes η^k candidates at least.

    Options:
        eta: η, of how many candidates one goes up; each rung has as many times the epochs of the one below. 3 or 4.
        min_epochs: r, the fewest that a candidate is judged by.
        max_epochs: R, the most; by default those of a full evaluation.
        sampler: the strategy that proposes candidates, as `--strategy` names it: `random`, `evolution:population=20`,
            or `{evolution: {population: 20, sample: 5}}`.
    """

    def __init__(
        self,
        *,
        eta: int = 3,
        min_epochs: int = 1,
        max_epochs: int | None = None,
        sampler: str | dict[str, Any] = "random",
    ) -> None:
        super().__init__(eta=eta, min_epochs=min_epochs, max_epochs=max_epochs, sampler=sampler)

    def prepare(self) -> None:
        super().prepare()
        self._results = {fidelity: Rung() for fidelity in self.rungs}

    def ask(self) -> Evaluate | None:
        for below, above in reversed(list(zip(self.rungs, self.rungs[1:], strict=False))):
            promoted = self._results[below].promote(self.eta)
            if promoted is not None:
                return Evaluate(promoted, above)
        new = self.candidate()
        return None if new is None else Evaluate(new, self.rungs[0])

    def tell(self, trial: Trial) -> None:
        score = self.score(trial)
        if score is not None and isinstance(trial.request, Evaluate):
            architecture, rung = trial.request.architecture, self._results.get(trial.request.fidelity)
            if rung is not None:
                rung.add(self.network(architecture), architecture, score)
        self.inform(trial)
