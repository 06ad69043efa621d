"""The decision diagram behind a Domain: what makes counting exact and sampling uniform.

A domain's decisions fall into groups that know nothing of each other: a *product*. In a group, one decision is always
open; each of its picks leaves a smaller problem of the same kind: a *branch*. Equal problems are one node, so the
diagram stays small where the number of architectures is astronomic. (In the literature: an AND/OR search graph,
Dechter and Mateescu 2007, "AND/OR search spaces for graphical models", section 5.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .architecture import Pick

if TYPE_CHECKING:
    from .decision import Decision, Path

Problem: TypeAlias = dict[str, "frozenset[Path]"]
"""The decisions still to make, each with what is left of its conditions."""


class Branch:
    """A decision that is open, and what each of its picks leaves. `arms` is empty where no pick matters to others."""

    __slots__ = ("arms", "bounds", "count", "decision", "first", "picks")

    def __init__(self, decision: Decision, arms: dict[Pick, Product]) -> None:
        self.decision = decision
        self.arms = arms
        self.picks = list(arms)
        self.first = next(decision.picks())
        self.bounds = list(accumulate(product.count for product in arms.values()))
        self.count: int = self.bounds[-1] if arms else decision.count

    def sample(self, rng: np.random.Generator) -> Pick:
        """A pick, with the probability of its share of the architectures below."""
        if not self.arms:
            return self.decision.sample(rng)
        return self.picks[bisect_right(self.bounds, _below(rng, self.count))]

    def prefer(self, pick: Pick | None, rng: np.random.Generator | None = None) -> Pick:
        """`pick` where there is one, else a sampled one, else (without a generator) the first."""
        if pick is not None and self.decision.allows(pick):
            return pick
        return self.sample(rng) if rng is not None else self.first


class Product:
    """Groups of decisions that are independent of each other."""

    __slots__ = ("count", "factors")

    def __init__(self, factors: Sequence[Branch]) -> None:
        self.factors = factors
        self.count: int = prod(branch.count for branch in factors)


class Diagram:
    """All ways to make the decisions."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = {decision.name: decision for decision in decisions}
        self._branches: dict[frozenset[tuple[str, frozenset[Path]]], Branch] = {}
        self._root: Product | None = None

    @property
    def root(self) -> Product:
        if self._root is None:  # built on first use: a run of DARTS never counts
            self._root = self._product({name: decision.when for name, decision in self._decisions.items()})
        return self._root

    @property
    def count(self) -> int:
        return self.root.count

    def walk(self, choose: Callable[[Branch], Pick]) -> dict[str, Pick]:
        """The picks met on one way through the diagram, `choose` deciding at each branch."""
        picks: dict[str, Pick] = {}
        stack = list(reversed(self.root.factors))
        while stack:
            branch = stack.pop()
            picks[branch.decision.name] = pick = choose(branch)
            if branch.arms:
                stack.extend(reversed(branch.arms[pick].factors))
        return picks

    def enumerate(self) -> Iterator[dict[str, Pick]]:
        return self._enumerate(list(self.root.factors))

    def _enumerate(self, branches: list[Branch]) -> Iterator[dict[str, Pick]]:
        if not branches:
            yield {}
            return
        branch, *rest = branches
        for pick in branch.decision.picks():
            below = branch.arms[pick].factors if branch.arms else ()
            for picks in self._enumerate([*below, *rest]):
                yield {branch.decision.name: pick, **picks}

    def _product(self, problem: Problem) -> Product:
        return Product([self._branch(group) for group in _groups(problem)])

    def _branch(self, group: Problem) -> Branch:
        key = frozenset(group.items())
        if key not in self._branches:
            name = next(name for name, when in group.items() if () in when)
            decision = self._decisions[name]
            arms = {}
            if len(group) > 1:
                arms = {pick: self._product(_after(group, decision, pick)) for pick in decision.picks()}
            self._branches[key] = Branch(decision, arms)
        return self._branches[key]


def _groups(problem: Problem) -> Iterator[Problem]:
    """The problem's independent parts: decisions that no chain of conditions connects."""
    leader = {name: name for name in problem}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for name, when in problem.items():
        for other in {decision for path in when for decision, _ in path}:
            leader[find(name)] = find(other)
    groups: dict[str, Problem] = {}
    for name, when in problem.items():
        groups.setdefault(find(name), {})[name] = when
    yield from groups.values()


def _after(problem: Problem, decision: Decision, pick: Pick) -> Problem:
    """What is left to decide once `pick` was made: conditions met are struck out, decisions out of reach dropped."""
    left: Problem = {}
    known: dict[frozenset[Path], frozenset[Path]] = {}
    for name, when in problem.items():
        if name == decision.name:
            continue
        if when not in known:  # many decisions are met in the same places
            paths = {
                tuple(step for step in path if step[0] != decision.name)
                for path in when
                if all(decision.includes(pick, option) for other, option in path if other == decision.name)
            }
            known[when] = frozenset({()}) if () in paths else frozenset(paths)
        if known[when]:
            left[name] = known[when]
    return left


def _below(rng: np.random.Generator, bound: int) -> int:
    """A uniform integer in [0, bound), for bounds of any size."""
    if bound < 2**63:
        return int(rng.integers(bound))
    bits = bound.bit_length()
    while True:  # each try succeeds with probability over a half
        value = 0
        for _ in range(0, bits, 62):
            value = value << 62 | int(rng.integers(1 << 62))
        value >>= -bits % 62
        if value < bound:
            return value
