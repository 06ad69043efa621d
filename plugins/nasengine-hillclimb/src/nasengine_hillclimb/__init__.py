"""Hill climbing: from a random architecture to a neighbour that scores better, and on from there.

Russell and Norvig, "Artificial Intelligence: A Modern Approach", section 4.1, in two of its variants: first choice
(neighbours are tried in random order, and the first that is better is moved to) and random restart.
"""

from __future__ import annotations

from nasengine import Architecture, ConfigError, Request, Strategy, Trial


class HillClimb(Strategy):
    """First-choice hill climbing with random restarts. A neighbour that was tried before is passed over.

    Options:
        patience: how many results in a row may bring no improvement before the climb is given up and another one
            begins at a random architecture; it begins sooner where no untried neighbour is left.
    """

    def __init__(self, *, patience: int = 30) -> None:
        if patience < 1:
            raise ConfigError(f"the strategy 'hillclimb' has patience = {patience}; expected at least 1")
        self.patience = patience

    def prepare(self) -> None:
        self._tried: set[Architecture] = set()
        self._begin()

    def _begin(self) -> None:
        self._height: float | None = None  # until a first result is there, random architectures are tried
        self._neighbors: list[Architecture] = []
        self._under_way: set[Architecture] = set()
        self._failures = 0

    def ask(self) -> Request | None:
        if self._failures >= self.patience:
            self._begin()
        if self._height is not None:
            while self._neighbors:
                neighbor = self._neighbors.pop()
                if neighbor not in self._tried:
                    return self._propose(neighbor)
            if self._under_way:
                return None  # one of these may yet lead higher
            self._begin()
        return self._propose(self.domain.sample(self.rng))

    def tell(self, trial: Trial) -> None:
        if trial.architecture not in self._under_way:
            return  # of a climb that was given up
        self._under_way.remove(trial.architecture)
        score = self.score(trial)  # None where the trial failed
        if score is not None and (self._height is None or score > self._height):
            neighbors = self.domain.neighbors(trial.architecture)
            self._neighbors = [neighbors[index] for index in self.rng.permutation(len(neighbors))]
            self._height, self._failures = score, 0
        else:
            self._failures += 1

    def _propose(self, architecture: Architecture) -> Request:
        self._tried.add(architecture)
        self._under_way.add(architecture)
        return self.evaluate(architecture)
