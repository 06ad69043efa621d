"""Random search: every distinct network equally likely, without replacement while that is possible.

The baseline of everything (Li and Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture Search").
"""

from __future__ import annotations

from nasengine import Architecture, Request, Strategy, Trial

DRAWS, DRAWS_AMONG_FEW = 200, 50
ENUMERABLE = 100_000


class RandomSearch(Strategy):
    """Uniform sampling of distinct networks; the search ends when the space is exhausted."""

    several_objectives = independent = True

    def prepare(self) -> None:
        self._seen: set[str] = set()

    def ask(self) -> Request | None:
        architecture = self._unseen()
        return None if architecture is None else self.evaluate(architecture)

    def tell(self, trial: Trial) -> None:
        """Nothing to learn, but what was judged before the search asked for anything."""
        if trial.architecture is not None:
            self._noted(trial.architecture)

    def _unseen(self) -> Architecture | None:
        """A network not asked for before. Only the canonical one of isomorphic architectures is drawn, so that a
        network's chances do not grow with the number of its descriptions; under a rule or a constraint, where a draw is
        dear, any of them."""
        other, free = None, self.domain.violation is None
        for _ in range(DRAWS if free else DRAWS_AMONG_FEW):
            drawn = self.domain.sample(self.rng)
            canonical = self.domain.canonical(drawn)
            if canonical.id not in self._seen:
                if canonical == drawn or not free:
                    return self._noted(drawn)
                other = other or drawn
        if not free:
            return None  # as far as can be seen: to count what is allowed may take longer than the search
        if self.domain.size <= ENUMERABLE:
            left = {c.id: c for c in map(self.domain.canonical, self.domain.enumerate()) if c.id not in self._seen}
            return self._noted(list(left.values())[int(self.rng.integers(len(left)))]) if left else None
        # large: either canonical ones are rare, or 200 draws gave repeats only, which is all but impossible
        return self._noted(other or drawn)

    def _noted(self, architecture: Architecture) -> Architecture:
        self._seen.add(self.domain.canonical(architecture).id)
        return architecture
