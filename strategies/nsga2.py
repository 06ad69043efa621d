"""NSGA-II: evolution towards all best compromises between objectives at once, and spread out among them.

Deb, Pratap, Agarwal, Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions
on Evolutionary Computation 6(2): section III-A (non-dominated sorting), III-B (crowding distance, crowded comparison),
III-C (main loop).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nasengine import Architecture, ArchitectureError, ConfigError, Request, Strategy, Trial

TRIES, MUTATIONS = 50, 5
"""How many children are tried for one that is new, and mutated how often."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Member:
    """An evaluated architecture. scores: one an objective, higher is better. rank: 0 where nobody dominates it."""

    architecture: Architecture
    scores: tuple[float, ...]
    rank: int = 0
    crowding: float = np.inf


class NSGA2(Strategy):
    """Elitist evolution by non-dominated sorting and crowding distance (Deb et al. 2002); for several objectives.

    Generation by generation: when one has been asked for, its results are awaited, and workers may be idle. Of parents
    and children the best survive, by rank, and within a rank those with most room around them. No network is asked for
    twice: a child that is known is mutated further. Where 50 children in a row, and 4 mutations of each, are all known,
    the generation is complete without them; if it has no other, the search ends.

    Options:
        population: N, how many survive and how many children they have; 100 in the paper, and here by default where the
            run has 400 trials or more, else a quarter of them. The first ones are random, next to what the run starts
            from.
        crossover: the probability that a child has two parents and not one.
        mutation: the probability of each decision of a child to be mutated; by default 1 / (number of its decisions).
    """

    several_objectives = True

    def __init__(self, *, population: int | None = None, crossover: float = 0.9, mutation: float | None = None) -> None:
        if population is not None and population < 2:
            raise ConfigError(f"the strategy 'nsga2' has population = {population}; expected at least 2")
        for name, value in (("crossover", crossover), ("mutation", mutation)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"the strategy 'nsga2' has {name} = {value}; expected a probability, 0 <= x <= 1")
        self.size, self.crossover, self.mutation = population, crossover, mutation

    def prepare(self) -> None:
        self.population = self.size or max(2, min(100, self.trials // 4))
        self.survivors: list[Member] = []
        self._judged: dict[str, Member] = {}  # survivors, and children of theirs
        self._seen: set[str] = set()
        self._awaited: set[str] = set()
        self._to_ask = self.population

    def ask(self) -> Request | None:
        if self._to_ask <= 0:
            if self._awaited:
                return None
            self._survive()
        child = self._child()
        if child is None:
            self._to_ask = 0
            return None
        identity = self.domain.canonical(child).id
        self._to_ask -= 1
        self._seen.add(identity)
        self._awaited.add(identity)
        return self.evaluate(child)

    def tell(self, trial: Trial) -> None:
        if trial.architecture is None:
            return
        identity = self.domain.canonical(trial.architecture).id
        scores = tuple(score for objective in self.objectives if (score := objective.score(trial)) is not None)
        if len(scores) == len(self.objectives):
            self._judged[identity] = Member(trial.architecture, scores)
            if identity not in self._seen and not self.survivors:
                self._to_ask -= 1  # what the run starts from is of the first generation
        self._seen.add(identity)
        self._awaited.discard(identity)

    def _survive(self) -> None:
        """The population's next generation: the best fronts, and of the last one that has room the least crowded."""
        judged = list(self._judged.items())
        self._judged = {}
        if judged:
            scores = np.array([member.scores for _, member in judged])
            ranks = ranks_of(scores)
            for rank in range(int(ranks.max()) + 1):
                front = np.flatnonzero(ranks == rank)
                crowding = crowding_of(scores[front])
                for index in np.argsort(-crowding, kind="stable")[: self.population - len(self._judged)]:
                    identity, member = judged[front[index]]
                    self._judged[identity] = replace(member, rank=rank, crowding=float(crowding[index]))
        self.survivors = list(self._judged.values())
        self._to_ask = self.population

    def _child(self) -> Architecture | None:
        """A network not seen before; None where none is found."""
        for _ in range(TRIES):
            child = self._offspring() if self.survivors else self.domain.sample(self.rng)
            with suppress(ArchitectureError):  # nothing to mutate it to
                for _ in range(MUTATIONS):
                    if self.domain.canonical(child).id not in self._seen:
                        return child
                    child = self.domain.mutate(child, self.rng)
        return None

    def _offspring(self) -> Architecture:
        child = self._tournament().architecture
        if self.rng.random() < self.crossover:
            child = self.domain.crossover(child, self._tournament().architecture, self.rng)
        decisions = sum(decision.count > 1 for decision in self.domain.active(child))
        probability = 1 / max(decisions, 1) if self.mutation is None else self.mutation
        with suppress(ArchitectureError):
            for _ in range(int(self.rng.binomial(decisions, probability))):
                child = self.domain.mutate(child, self.rng)
        return child

    def _tournament(self) -> Member:
        """The better of two, by the crowded comparison: of lower rank, or of the same and less crowded."""
        pair = [self.survivors[int(index)] for index in self.rng.integers(len(self.survivors), size=2)]
        return min(pair, key=lambda member: (member.rank, -member.crowding))


def ranks_of(scores: Floats) -> NDArray[np.int64]:
    """The front of each point, 0 for the non-dominated ones (section III-A). scores: (points, objectives), higher is
    better. In O(objectives · points²), as in the paper."""
    no_worse = np.all(scores[:, None] >= scores[None], axis=2)
    dominates = no_worse & ~no_worse.T
    dominators = dominates.sum(0)
    ranks = np.full(len(scores), -1)
    rank = 0
    while (front := np.flatnonzero(dominators == 0)).size:
        ranks[front] = rank
        dominators -= dominates[front].sum(0)
        dominators[front] = -1
        rank += 1
    return ranks


def crowding_of(scores: Floats) -> Floats:
    """The crowding distance of each point of a front (section III-B): over the objectives, the sum of the distances
    between its two neighbours, as fractions of the front's extent; infinite for both ends. scores: (points,
    objectives)."""
    distances = np.zeros(len(scores))
    for values in scores.T:
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        extent = ordered[-1] - ordered[0]
        distances[order[[0, -1]]] = np.inf
        if extent > 0:
            distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / extent
    return distances
