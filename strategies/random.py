"""Random search: every distinct architecture equally likely, without replacement while that is possible.

The baseline of everything (Li and Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture Search").
"""

from __future__ import annotations

from nasengine import Architecture, Request, Strategy, Trial

DRAWS = 200
ENUMERABLE = 100_000


class RandomSearch(Strategy):
    """Uniform sampling of distinct architectures; the search ends when the space is exhausted."""

    several_objectives = True

    def prepare(self) -> None:
        self._seen: set[str] = set()

    def ask(self) -> Request | None:
        architecture = self._unseen()
        return None if architecture is None else self.evaluate(architecture)

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""

    def _unseen(self) -> Architecture | None:
        for _ in range(DRAWS):
            architecture = self.domain.sample(self.rng)
            if self._new(architecture):
                return architecture
        if self.domain.size > ENUMERABLE:
            return architecture  # all but impossible: 200 repeats in a large space
        left = [a for a in self.domain.enumerate() if self.domain.canonical(a).id not in self._seen]
        if not left:
            return None
        architecture = left[int(self.rng.integers(len(left)))]
        self._new(architecture)
        return architecture

    def _new(self, architecture: Architecture) -> bool:
        identity = self.domain.canonical(architecture).id
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True
