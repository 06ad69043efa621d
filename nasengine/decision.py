"""Decision: one thing that a search space leaves open, its options, and where it is met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .architecture import Pick

Option: TypeAlias = str | int | float
Path: TypeAlias = tuple[tuple[str, Option], ...]
"""The options inside which a decision was met, outermost first: ((decision, option), …)."""

ALWAYS: frozenset[Path] = frozenset({()})


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that a space leaves open.

    kind: `one` of the options, `some` (k of them), a `depth` (how many of a list of layers) or a `value`.
    options: the options' names, the possible depths, or the values, in the space's order.
    k: how many a `some` keeps; 1 for the other kinds.
    when: the paths to the places where it was met; it is active when every pick on one of them was made.
    """

    name: str
    kind: Literal["one", "some", "depth", "value"]
    options: tuple[Option, ...]
    k: int = 1
    when: frozenset[Path] = ALWAYS

    @property
    def count(self) -> int:
        """The number of different picks."""
        return math.comb(len(self.options), self.k)

    def picks(self) -> Iterator[Pick]:
        if self.kind == "some":
            yield from (tuple(map(str, kept)) for kept in combinations(self.options, self.k))
        else:
            yield from self.options

    def sample(self, rng: np.random.Generator) -> Pick:
        """One of the picks, all equally likely."""
        if self.kind == "some":
            return self.ordered(rng.choice(len(self.options), self.k, replace=False))
        return self.options[int(rng.integers(len(self.options)))]

    def ordered(self, indices: Sequence[int] | NDArray[Any]) -> tuple[str, ...]:
        return tuple(str(self.options[index]) for index in sorted(int(index) for index in indices))

    def neighbors(self, pick: Pick) -> list[Pick]:
        """The picks one edit away: another option; for k of n, one kept option exchanged for another."""
        if not isinstance(pick, tuple):
            return [other for other in self.options if other != pick]
        kept = [self.options.index(name) for name in pick]
        others = [index for index in range(len(self.options)) if index not in kept]
        return [self.ordered([i for i in kept if i != out] + [into]) for out in kept for into in others]

    def indices(self, pick: Pick) -> list[int]:
        """Where the pick stands among the options: one index, or k of them."""
        return [self.options.index(name) for name in (pick if isinstance(pick, tuple) else (pick,))]

    def allows(self, pick: object) -> bool:
        if self.kind != "some":
            # bool is an int in Python, and 1 == 1.0: a pick is of the very type of its option
            for option in self.options:  # noqa: SIM110 (asked of every pick of every architecture; a generator is slow)
                if pick == option and type(pick) is type(option):
                    return True
            return False
        if not isinstance(pick, tuple) or not all(name in self.options for name in pick):
            return False
        return len(pick) == len(set(pick)) == self.k and self.ordered(self.indices(pick)) == pick

    def includes(self, pick: Pick, option: Option) -> bool:
        """Whether what stands inside `option` (for a depth: the layer of that index) is kept by `pick`."""
        if self.kind == "some":
            return isinstance(pick, tuple) and option in pick
        if self.kind == "depth":
            return int(pick) > int(option)  # type: ignore[arg-type]
        return pick == option
