"""Large-scale evolution: of two drawn at random the worse dies, and the better has a child that inherits its weights.

Real, Moore, Selle, Saxena, Suematsu, Tan, Le, Kurakin 2017, "Large-Scale Evolution of Image Classifiers", ICML:
sections 3.1 (tournaments of two, asynchronous), 3.3 (mutations) and 3.4 (weight inheritance).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from nasengine import Architecture, ArchitectureError, ConfigError, Evaluate, Request, Strategy, Trial


@dataclass(frozen=True, slots=True)
class Individual:
    """Somebody alive. weights: the trial that left its weights, None where they are gone. inherited: whether it began
    with somebody's."""

    score: float
    architecture: Architecture
    weights: int | None
    inherited: bool


class LargeScaleEvolution(Strategy):
    """Evolution by tournaments of two, without an age; children begin with their parents' weights (Real et al. 2017).

    What is found is trained from scratch in the end. In the paper the first individuals are the simplest there are, and
    mutations change the learning rate, too; here they are random, and the recipe is the task's.

    Options:
        population: how many are alive or being trained; 1,000 in the paper, and here by default where the run has 4,000
            trials or more, else a quarter of them.
        keep_training: how often a child is its parent, trained further: one of the paper's ten other mutations.
        reset_weights: how often a child is its parent, trained from scratch: another one of them. Where the parent
            itself began so, the child is mutated.
    """

    inherits = True

    def __init__(
        self, *, population: int | None = None, keep_training: float = 0.1, reset_weights: float = 0.1
    ) -> None:
        if population is not None and population < 2:
            raise ConfigError(
                f"the strategy 'large_scale_evolution' has population = {population}; expected at least 2"
            )
        if min(keep_training, reset_weights) < 0 or keep_training + reset_weights > 1:
            raise ConfigError(
                f"the strategy 'large_scale_evolution' has keep_training = {keep_training} and reset_weights = "
                f"{reset_weights}; expected two probabilities that add up to 1 at most"
            )
        self.size, self.keep_training, self.reset_weights = population, keep_training, reset_weights

    def prepare(self) -> None:
        self.places = self.size or max(2, min(1000, self.trials // 4))
        self.alive: list[Individual] = []
        self.under_way = 0

    def parents(self) -> Collection[int]:
        return {individual.weights for individual in self.alive if individual.weights is not None}

    def ask(self) -> Request:
        few = len(self.alive) + self.under_way < self.places  # at the beginning, or where trials failed
        self.under_way += 1
        if few or len(self.alive) < 2:
            return self.evaluate(self.domain.sample(self.rng))
        pair = self.rng.choice(len(self.alive), 2, replace=False)
        worse, better = sorted((int(index) for index in pair), key=lambda index: self.alive[index].score)
        parent = self.alive[better]
        del self.alive[worse]
        return self.child(parent)

    def child(self, parent: Individual) -> Evaluate:
        drawn = self.rng.random()
        if drawn < self.keep_training and parent.weights is not None:
            return self.evaluate(parent.architecture, parent.weights)
        if self.keep_training <= drawn < self.keep_training + self.reset_weights and parent.inherited:
            return self.evaluate(parent.architecture)
        try:
            return self.evaluate(self.domain.mutate(parent.architecture, self.rng), parent.weights)
        except ArchitectureError:  # the only one that there is, or that is allowed
            return self.evaluate(parent.architecture, parent.weights)

    def tell(self, trial: Trial) -> None:
        self.under_way = max(0, self.under_way - 1)
        score = self.score(trial)
        if score is None or not isinstance(trial.request, Evaluate):
            return
        # where it took the result of somebody who is dead, that one's weights are gone
        weights = trial.number if trial.same_as is None else trial.same_as if trial.same_as in self.parents() else None
        inherited = trial.request.parent is not None
        self.alive.append(Individual(score, trial.request.architecture, weights, inherited))
