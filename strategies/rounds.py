"""InRounds: what strategies share that learn from all results so far, propose a batch of networks, and begin again."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from nasengine import Architecture, ConfigError, Request, Strategy, Trial

DRAWS, DRAWS_AMONG_FEW = 100, 20
"""How often a network not seen before is drawn for, without and with a rule or a constraint."""
ENUMERABLE = 2_000
"""Of a space so small, what is left is listed where draws find nothing new."""


class InRounds(Strategy):
    """Random architectures first, then batches that the subclass's `propose` finds. No network is asked for twice.

    A batch is proposed when the one before is asked for, with the results known by then: workers never wait for it.
    Where `propose` finds fewer than are wanted, random ones make up for them. The search ends when there is nothing
    new, as far as can be seen.
    """

    def __init__(self, name: str, k: int, initial: int | None, **counts: int) -> None:
        """initial: how many are random; by default k, or a quarter of the run's trials where these are few. counts:
        the strategy's other options that must be at least 1. Raises ConfigError, naming the strategy."""
        for option, value in {"k": k, "initial": initial, **counts}.items():
            if value is not None and value < 1:
                raise ConfigError(f"the strategy {name!r} has {option} = {value}; expected at least 1")
        self.k, self.initial = k, initial

    def prepare(self) -> None:
        self.first = self.initial or min(self.k, max(2, self.trials // 4))
        """So many are random."""
        self._batch: deque[Architecture] = deque()
        self._seen: set[str] = set()
        self._known: dict[str, tuple[Architecture, float]] = {}

    @abstractmethod
    def propose(self, count: int) -> list[Architecture]:
        """About so many networks that are `new`, the most promising first."""

    def ask(self) -> Request | None:
        if not self._batch:
            random = len(self._seen) < self.first or len(self._known) < 2
            wanted = 1 if random else self.k
            found = [] if random else self.propose(wanted)[:wanted]
            for architecture in found:
                self.note(architecture)
            while len(found) < wanted and (drawn := self.unseen()) is not None:
                found.append(drawn)
            self._batch.extend(found)
        return self.evaluate(self._batch.popleft()) if self._batch else None

    def tell(self, trial: Trial) -> None:
        if trial.architecture is None:
            return
        self.note(trial.architecture)
        score = self.score(trial)
        if score is not None:
            self._known[self.domain.canonical(trial.architecture).id] = (trial.architecture, score)

    def results(self, most: int | None = None) -> tuple[list[Architecture], NDArray[np.float64]]:
        """One architecture of each network that was judged, the best first, at most so many; and their scores."""
        known = sorted(self._known.values(), key=lambda result: -result[1])[:most]
        return [architecture for architecture, _ in known], np.array([score for _, score in known])

    def new(self, architecture: Architecture) -> bool:
        """Whether no such network was asked for, or told of, or proposed."""
        return self.domain.canonical(architecture).id not in self._seen

    def note(self, architecture: Architecture) -> None:
        self._seen.add(self.domain.canonical(architecture).id)

    def unseen(self) -> Architecture | None:
        """A random network that is new, and noted; None where none was found."""
        free = self.domain.violation is None
        for _ in range(DRAWS if free else DRAWS_AMONG_FEW):
            if self.new(drawn := self.domain.sample(self.rng)):
                self.note(drawn)
                return drawn
        left = self.domain.enumerate() if free and self.domain.size <= ENUMERABLE else iter(())
        found = next((architecture for architecture in left if self.new(architecture)), None)
        if found is not None:
            self.note(found)
        return found

    def generator(self) -> torch.Generator:
        """For torch, seeded by the search's own generator."""
        return torch.Generator().manual_seed(int(self.rng.integers(2**63 - 1)))


def standardised(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Of mean 0 and standard deviation 1; zeros where all are equal."""
    deviation = float(scores.std()) or 1.0
    return np.asarray((scores - scores.mean()) / deviation, np.float32)


def ranked(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """From 1 for the best to 0 for the worst, in even steps; equals share the mean of theirs."""
    below = (scores[:, None] > scores).sum(1) + 0.5 * ((scores[:, None] == scores).sum(1) - 1)
    return np.asarray(below / max(1, len(scores) - 1), np.float32)
