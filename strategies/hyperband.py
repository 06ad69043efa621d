"""Hyperband: brackets of successive halving that range from many candidates and few epochs to few and all of them.

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar 2017, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization", JMLR 18: algorithm 1.
"""

from __future__ import annotations

from typing import Any

from nasengine import Fidelity

from .successive_halving import SuccessiveHalving


class Hyperband(SuccessiveHalving):
    """Hyperband (Li et al. 2017): for when nobody knows how soon a bad candidate can be told from a good one.

    The brackets s_max, …, 0 follow each other, again and again while the budget of trials lasts; one that the trials
    left do not suffice for is passed over. Bracket s has ⌈(s_max + 1) / (s + 1) · η^s⌉ candidates, of which s times the
    best 1/η go up. Within a bracket all is as in successive halving: synchronous, a promoted candidate is trained anew,
    from scratch, and trials that failed are never promoted.

    Options:
        eta: η, of how many candidates one goes up; each rung has as many times the epochs of the one below.
        min_epochs: the fewest that a candidate is judged by.
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
        self._next = len(self.rungs) - 1

    def bracket(self) -> list[tuple[int, Fidelity]]:
        rungs: list[tuple[int, Fidelity]] = []
        for _ in self.rungs:
            rungs = self.bracket_of(self._next)
            self._next = (self._next - 1) % len(self.rungs)
            if sum(size for size, _ in rungs) <= self.left:
                return rungs
        return self.bracket_of(0)

    def bracket_of(self, s: int) -> list[tuple[int, Fidelity]]:
        """The rungs of bracket s, in which candidates may go up s times."""
        n = -(-len(self.rungs) * self.eta**s // (s + 1))
        return list(zip(self.sizes(n, s + 1), self.rungs[-s - 1 :], strict=True))
