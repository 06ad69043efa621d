"""Domain: the discrete side of a search space, without torch.

A domain is a list of decisions, some of them conditional on what was picked at others. Everything that a black-box
strategy does with architectures is here: sample, mutate, cross over, enumerate, encode, count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture, Pick
from .decision import Decision
from .diagram import Branch, Diagram
from .errors import ArchitectureError, near_miss

DRAWS = 30
"""How often a random architecture may turn out not to be allowed until one is searched for."""
STEPS = 1000
"""Of a walk towards an allowed architecture."""
PATIENCE = 100
"""Its steps that lead no nearer, until all edits are looked at."""
REMEMBERED = 1024
"""Canonical forms, at most."""


class Domain:
    """All architectures of a space, as decisions. Pure functions: nothing here changes after it was made.

    `canonical` maps isomorphic architectures to one of them; the space supplies it. So does it `violation`: how far an
    architecture is from being allowed, 0 where it is. Only allowed ones are sampled, found by mutation or crossover,
    enumerated and decoded. `count` gives their number, or None where it is that of the decisions. `paths` gives what
    lies on each way from a network's input to its output; None where nobody knows.
    """

    def __init__(
        self,
        space: str,
        options: Mapping[str, Any],
        decisions: Sequence[Decision],
        canonical: Callable[[Architecture], Architecture] = lambda architecture: architecture,
        violation: Callable[[Architecture], float] | None = None,
        count: Callable[[], int | None] = lambda: None,
        paths: Callable[[Architecture], frozenset[tuple[str, ...]]] | None = None,
    ) -> None:
        self.space = space
        self.options = dict(options)
        self._blank = Architecture(space, options, {})
        self.decisions = {decision.name: decision for decision in decisions}
        self._canonical = canonical
        self._canonicals: dict[str, Architecture] = {}
        self.violation = violation
        self._count = count
        self.paths = paths
        self._diagram = Diagram(decisions)
        starts = np.cumsum([0, *(len(decision.options) for decision in decisions)])
        self._slots = {decision.name: int(start) for decision, start in zip(decisions, starts, strict=False)}
        self.width = int(starts[-1])
        """The length of an encoded architecture."""

    @property
    def size(self) -> int:
        """The exact number of architectures, conditions and the space's own rules respected, isomorphic ones counted
        apart. A run's constraints are not considered."""
        known = self._count()
        return self._diagram.count if known is None else known

    def canonical(self, architecture: Architecture) -> Architecture:
        """One for all architectures that are the same network. The last ones are remembered: a trial asks often."""
        found = self._canonicals.get(architecture.id)
        if found is None:
            if len(self._canonicals) >= REMEMBERED:
                self._canonicals.clear()
            found = self._canonicals[architecture.id] = self._canonical(architecture)
        return found

    def allows(self, architecture: Architecture) -> bool:
        return self._violation(architecture) == 0

    def _violation(self, architecture: Architecture) -> float:
        return self.violation(architecture) if self.violation else 0.0

    def sample(self, rng: np.random.Generator) -> Architecture:
        """One architecture, all of them equally likely (not merely all picks of each decision).

        Where allowed ones are rare, one is walked to instead, and some way on: then not all are equally likely. Raises
        ArchitectureError where none is found.
        """
        drawn = self._drawn(rng)
        return drawn if self.allows(drawn) else self._wander(self._mended(drawn, rng), rng)

    def nearest(self, rng: np.random.Generator) -> Architecture:
        """An allowed architecture, or, where `sample` would find none, the one nearest to it that was found."""
        return self._approached(self._drawn(rng), rng)

    def _drawn(self, rng: np.random.Generator) -> Architecture:
        """One architecture, all equally likely: the first of a few that is allowed, else the last of these."""
        for _ in range(DRAWS):
            drawn = self._walk(lambda branch: branch.sample(rng))
            if self.allows(drawn):
                break
        return drawn

    def sample_different(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """So many different networks, all equally likely (canonical forms first); fewer where there are no more."""
        drawn: dict[str, Architecture] = {}
        others: dict[str, Architecture] = {}
        for _ in range(100 * count if self.violation is None else 4 * count):
            architecture = self.sample(rng)
            canonical = self.canonical(architecture)
            # under a rule or a constraint a draw is dear, and canonical ones may be rare: any description will do
            wanted = canonical == architecture or self.violation is not None
            (drawn if wanted else others).setdefault(canonical.id, architecture)
            if len(drawn) == count:
                break
        rest = [architecture for identity, architecture in others.items() if identity not in drawn]
        return [*drawn.values(), *rest][:count]

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once. Ask `size` first."""
        return filter(self.allows, (self._architecture(picks) for picks in self._diagram.enumerate()))

    def walk(self, choose: Callable[[Decision], Pick]) -> Architecture:
        """The architecture whose picks `choose` makes, asked at each decision that the picks so far leave open, in an
        order that depends on them alone. Whether it is allowed is not asked: see `allows` and `complete`."""
        return self._walk(lambda branch: choose(branch.decision))

    def active(self, architecture: Architecture) -> list[Decision]:
        """The decisions that the architecture's picks leave open, in the space's order."""
        return [decision for name, decision in self.decisions.items() if name in architecture.picks]

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Another pick at one active decision; decisions that this brings up are sampled. Always a different one.

        Raises ArchitectureError in a domain of a single architecture.
        """
        mutant = architecture
        for _ in range(DRAWS):
            mutant = self._mutant(architecture, rng)
            if self.allows(mutant):
                return mutant
        with suppress(ArchitectureError):
            for _ in range(DRAWS):
                mutant = self._mended(self._mutant(mutant, rng), rng)
                if mutant != architecture:
                    return mutant
        raise ArchitectureError(f"no other architecture of the space {self.space!r} was found that is allowed")

    def _mutant(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        open_ = [decision for decision in self.active(architecture) if decision.count > 1]
        if not open_:
            raise ArchitectureError(f"the space {self.space!r} has one architecture only: nothing to mutate")
        decision = open_[int(rng.integers(len(open_)))]
        others = decision.neighbors(architecture.picks[decision.name])
        wanted = {**architecture.picks, decision.name: others[int(rng.integers(len(others)))]}
        return self._walk(lambda branch: branch.prefer(wanted.get(branch.decision.name), rng))

    def _mended(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """An allowed architecture near this one. Raises ArchitectureError where none is found."""
        mended = self._approached(architecture, rng)
        if not self.allows(mended):
            raise ArchitectureError(f"no architecture of the space {self.space!r} was found that is allowed")
        return mended

    def _approached(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Mutations that do not lead further away from an allowed architecture, until there, or until none leads on."""
        violation, stalled = self._violation(architecture), 0
        for _ in range(STEPS):
            if violation == 0:
                break
            mutant = self._mutant(architecture, rng)
            after = self._violation(mutant)
            stalled = 0 if after < violation else stalled + 1
            if after <= violation:
                architecture, violation = mutant, after
            if stalled == PATIENCE:
                edits = [edited for edited, _, _ in self._edits(architecture)]
                shuffled = (edits[index] for index in rng.permutation(len(edits)))
                nearer = next((edited for edited in shuffled if self._violation(edited) < violation), None)
                if nearer is None:
                    break
                architecture, violation, stalled = nearer, self._violation(nearer), 0
        return architecture

    def _wander(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Some allowed mutations on, so that where one began shows less."""
        for _ in range(len(architecture.picks) // 2):
            mutant = self._mutant(architecture, rng)
            architecture = mutant if self.allows(mutant) else architecture
        return architecture

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Each active decision from one of the two parents (uniform crossover); what neither has is sampled."""

        def inherit(branch: Branch) -> Pick:
            picks = [p.picks[branch.decision.name] for p in (a, b) if branch.decision.name in p.picks]
            return branch.prefer(picks[int(rng.integers(len(picks)))] if picks else None, rng)

        child = self._walk(inherit)
        if self.allows(child):
            return child
        with suppress(ArchitectureError):
            return self._mended(child, rng)
        return a

    def neighbors(self, architecture: Architecture) -> list[Architecture]:
        """All architectures one edit away; decisions that an edit brings up take their first option."""
        return [edited for edited, _, _ in self._edits(architecture) if self.allows(edited)]

    def _edits(self, architecture: Architecture) -> list[tuple[Architecture, Decision, Pick]]:
        """What one edit makes, each once, with the edit."""
        found: dict[Architecture, tuple[Decision, Pick]] = {}
        for decision in self.active(architecture):
            for pick in decision.neighbors(architecture.picks[decision.name]):
                wanted = {**architecture.picks, decision.name: pick}
                edited = self._walk(lambda branch, wanted=wanted: branch.prefer(wanted.get(branch.decision.name)))  # type: ignore[misc]
                found.setdefault(edited, (decision, pick))
        return [(edited, *edit) for edited, edit in found.items()]

    def encode(self, architecture: Architecture) -> NDArray[np.float32]:
        """One-hot (k-hot) by decision, zeros where a decision is not active. Shape (width,)."""
        vector = np.zeros(self.width, np.float32)
        for decision in self.active(architecture):
            vector[[self._slots[decision.name] + i for i in decision.indices(architecture.picks[decision.name])]] = 1
        return vector

    def decode(self, vector: NDArray[Any]) -> Architecture:
        """The architecture whose picks have the largest entries: the inverse of `encode`, and defined everywhere."""

        def largest(branch: Branch) -> Pick:
            decision, start = branch.decision, self._slots[branch.decision.name]
            order = np.argsort(-vector[start : start + len(decision.options)], kind="stable")
            return decision.ordered(order[: decision.k]) if decision.kind == "some" else decision.options[order[0]]

        def lost(decision: Decision, before: Pick, after: Pick) -> float:
            start = self._slots[decision.name]
            of = [sum(vector[start + index] for index in decision.indices(pick)) for pick in (before, after)]
            return float(of[0] - of[1])

        return self._allowed(self._walk(largest), lost)

    def complete(
        self, picks: Mapping[str, Pick], lost: Callable[[Decision, Pick, Pick], float] = lambda *_: 0.0
    ) -> Architecture:
        """The architecture of these picks: superfluous ones are dropped, missing ones take their first option.

        Where that one is not allowed, one near it: `lost` says what is lost by another pick in place of one.
        """
        return self._allowed(self._walk(lambda branch: branch.prefer(picks.get(branch.decision.name))), lost)

    def _allowed(self, architecture: Architecture, lost: Callable[[Decision, Pick, Pick], float]) -> Architecture:
        """The architecture, or one that is allowed: edits that lead nearer, those first that lose least."""
        while not self.allows(architecture):
            violation = self._violation(architecture)
            picks = architecture.picks
            edits = sorted(self._edits(architecture), key=lambda edit: lost(edit[1], picks[edit[1].name], edit[2]))
            nearer = (edit[0] for edit in edits if self._violation(edit[0]) < violation)
            found = next(nearer, None)
            if found is None:
                return self._mended(architecture, np.random.default_rng(0))
            architecture = found
        return architecture

    def validate(self, architecture: Architecture) -> None:
        """Raises ArchitectureError, naming the decision, unless the architecture is one of this domain's."""
        if architecture.space != self.space:
            raise ArchitectureError(f"the architecture is of the space {architecture.space!r}, not {self.space!r}")
        for name, pick in architecture.picks.items():
            decision = self.decisions.get(name)
            if decision is None:
                hint = near_miss(name, self.decisions)
                raise ArchitectureError(f"the space {self.space!r} has no decision {name!r}.{hint}")
            if not decision.allows(pick):
                kept = f"{decision.k} of " if decision.kind == "some" else "one of "
                allowed = kept + ", ".join(map(str, decision.options))
                raise ArchitectureError(f"{pick!r} is no pick for the decision {name!r}; allowed: {allowed}")
        picks = architecture.picks
        expected = self._diagram.walk(lambda branch: picks.get(branch.decision.name, branch.first))
        if missing := [name for name in expected if name not in architecture.picks]:
            raise ArchitectureError(f"the architecture lacks a pick for the decision {missing[0]!r}")
        if extra := [name for name in architecture.picks if name not in expected]:
            raise ArchitectureError(f"the architecture picks {extra[0]!r}, which its other picks leave no place for")
        if not self.allows(architecture):
            raise ArchitectureError(f"the architecture {architecture.short} breaks a rule or constraint of its space")

    def _walk(self, choose: Callable[[Branch], Pick]) -> Architecture:
        return self._architecture(self._diagram.walk(choose))

    def _architecture(self, picks: Mapping[str, Pick]) -> Architecture:
        return self._blank.with_picks(picks)
