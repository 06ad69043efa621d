"""Regularized evolution: the best of a random sample is mutated, and the oldest dies, not the worst.

Real, Aggarwal, Huang, Le 2019, "Regularized Evolution for Image Classifier Architecture Search", AAAI: algorithm 1.
Asynchronous, as there: a child joins the population when its evaluation ends; age is the order of joining.
"""

from __future__ import annotations

from collections import deque

from nasengine import Architecture, ArchitectureError, ConfigError, Request, Strategy, Trial


class RegularizedEvolution(Strategy):
    """Aging evolution with tournaments and one mutation a child, without crossover (Real et al. 2019).

    Options:
        population: P, how many are alive; 100 in the paper, and here by default where the run has 400 trials or more,
            else a quarter of them. While the population fills, architectures are random.
        sample: S, how many meet in a tournament, drawn with replacement; by default a quarter of P, 25 in the paper.
    """

    def __init__(self, *, population: int | None = None, sample: int | None = None) -> None:
        for name, value in (("population", population), ("sample", sample)):
            if value is not None and value < 1:
                raise ConfigError(f"the strategy 'evolution' has {name} = {value}; expected at least 1")
        self.size, self.sample = population, sample

    def prepare(self) -> None:
        size = self.size or max(2, min(100, self.trials // 4))
        self.rivals = self.sample or max(2, size // 4)
        self.population: deque[tuple[float, Architecture]] = deque(maxlen=size)  # the oldest falls out
        self._to_fill = size

    def ask(self) -> Request:
        if self._to_fill > 0 or not self.population:
            self._to_fill -= 1
            return self.evaluate(self.domain.sample(self.rng))
        tournament = self.rng.integers(len(self.population), size=self.rivals)
        _, parent = max((self.population[i] for i in tournament), key=lambda member: member[0])
        try:
            return self.evaluate(self.domain.mutate(parent, self.rng))
        except ArchitectureError:  # the only one that there is, or that is allowed
            return self.evaluate(parent)

    def tell(self, trial: Trial) -> None:
        score = self.score(trial)
        if score is not None and trial.architecture is not None:
            self.population.append((score, trial.architecture))
