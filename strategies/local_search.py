"""Local search: from a random architecture to a better neighbour, as long as there is one; then anew.

White, Nolen, Savani 2021, "Exploring the Loss Landscape in Neural Architecture Search", UAI: algorithm 1, and its
variant `query_until_lower`. A neighbour is one edit away.
"""

from __future__ import annotations

from nasengine import Architecture, ConfigError, Request, Strategy, Trial

DRAWS, DRAWS_AMONG_FEW = 200, 50
ENUMERABLE = 100_000


class LocalSearch(Strategy):
    """Hill climbing over single edits, with random restarts (White, Nolen, Savani 2021).

    The neighbours are asked for in random order, any number at a time. No network is asked for twice: a neighbour that
    was judged before counts with its result. Where none is better, the results under way are awaited, and a new climb
    begins. The search ends where all networks are known, or in a large space 200 random ones in a row are (under a rule
    or constraint, 50).

    Options:
        initial: how many random architectures each climb begins with; it goes on from the best of them. What the run
            starts from counts among those of the first climb.
        query_until_lower: whether to move to the first neighbour that is better, as in the authors' library; if not, to
            the best of all neighbours, as in the paper's algorithm 1. That takes a budget of many neighbourhoods: one
            has 24 networks in the space of NAS-Bench-201, and far over 100 in a space of cells.
    """

    def __init__(self, *, initial: int = 1, query_until_lower: bool = True) -> None:
        if initial < 1:
            raise ConfigError(f"the strategy 'local_search' has initial = {initial}; expected at least 1")
        self.initial, self.query_until_lower = initial, query_until_lower

    def prepare(self) -> None:
        self._results: dict[str, float | None] = {}  # None: it failed, or is awaited
        self._awaited: set[str] = set()
        self._left: list[Architecture] | None = None
        self._exhausted = False
        self._begin()

    def ask(self) -> Request | None:
        while True:
            architecture = self._next()
            if architecture is not None:
                identity = self.domain.canonical(architecture).id
                self._results[identity] = None
                self._awaited.add(identity)
                return self.evaluate(architecture)
            if self._awaited:
                return None
            if self._best is not None and self._best is not self._incumbent:
                self._move(self._best)
            elif self._exhausted:
                return None
            else:
                self._begin()

    def tell(self, trial: Trial) -> None:
        if trial.architecture is None:
            return
        identity, score = self.domain.canonical(trial.architecture).id, self.score(trial)
        if identity not in self._results and self._incumbent is None and score is not None:
            self._to_draw -= 1  # what the run starts from
        self._awaited.discard(identity)
        self._results[identity] = score
        self._compare(score, trial.architecture)

    def _begin(self) -> None:
        self._to_draw = self.initial
        self._neighbors: list[Architecture] = []
        self._best: tuple[float, Architecture] | None = None
        self._incumbent: tuple[float, Architecture] | None = None

    def _move(self, to: tuple[float, Architecture]) -> None:
        self._incumbent = to
        neighbors = self.domain.neighbors(to[1])
        self._neighbors = [neighbors[index] for index in self.rng.permutation(len(neighbors))]

    def _compare(self, score: float | None, architecture: Architecture) -> None:
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = score, architecture
            if self.query_until_lower and self._incumbent is not None:
                self._move(self._best)

    def _next(self) -> Architecture | None:
        """An unknown neighbour, or a random architecture where a climb begins; None where nothing is left to ask for
        before all results are there."""
        while self._neighbors:
            architecture = self._neighbors.pop()
            identity = self.domain.canonical(architecture).id
            if identity not in self._results:
                return architecture
            self._compare(self._results[identity], architecture)
        if self._to_draw <= 0 or self._exhausted:
            return None
        self._to_draw -= 1
        drawn = self._unknown()
        self._exhausted = drawn is None
        return drawn

    def _unknown(self) -> Architecture | None:
        """A random architecture whose network was not asked for; None where none is found."""
        free = self.domain.violation is None
        for _ in range(DRAWS if free else DRAWS_AMONG_FEW):
            drawn = self.domain.sample(self.rng)
            if self._is_unknown(drawn):
                return drawn
        if self._left is None:  # listed once; under a constraint that may take longer than the search
            self._left = list(self.domain.enumerate()) if free and self.domain.size <= ENUMERABLE else []
            self._left = [self._left[index] for index in self.rng.permutation(len(self._left))]
        while self._left:
            drawn = self._left.pop()
            if self._is_unknown(drawn):
                return drawn
        return None

    def _is_unknown(self, architecture: Architecture) -> bool:
        return self.domain.canonical(architecture).id not in self._results
