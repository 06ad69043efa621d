"""Architectures as Optuna parameters: one categorical a decision, and every architecture has all of them.

A decision that an architecture's other picks leave no place for takes the category `not active`; importance analysis
(fANOVA) needs every trial to have every parameter. A k-of-n choice becomes one `in` or `out` for each of its n options,
named `decision: option`: a category for each of the k-of-n subsets would be too many to learn anything from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optuna.distributions import CategoricalDistribution

from ..architecture import Architecture, Pick
from ..decision import ALWAYS, Decision, Option
from ..domain import Domain

NOT_ACTIVE = "not active"
IN, OUT = "in", "out"


def distributions(decisions: Iterable[Decision]) -> dict[str, CategoricalDistribution]:
    """The parameters of these decisions, in their order."""
    found: dict[str, CategoricalDistribution] = {}
    for decision in decisions:
        absent = () if decision.when >= ALWAYS else (NOT_ACTIVE,)
        if decision.kind == "some":
            found |= {name: CategoricalDistribution((IN, OUT, *absent)) for name in _members(decision).values()}
        else:
            found[decision.name] = CategoricalDistribution((*decision.options, *absent))
    return found


def encode(decisions: Iterable[Decision], architecture: Architecture) -> dict[str, Option]:
    """The architecture's value of every parameter that `distributions` gives."""
    values: dict[str, Option] = {}
    for decision in decisions:
        pick = architecture.picks.get(decision.name)
        if decision.kind != "some":
            values[decision.name] = NOT_ACTIVE if pick is None or isinstance(pick, tuple) else pick
            continue
        for option, name in _members(decision).items():
            values[name] = NOT_ACTIVE if not isinstance(pick, tuple) else IN if option in pick else OUT
    return values


def decode(domain: Domain, values: Mapping[str, object]) -> Architecture:
    """The architecture that has these values: the inverse of `encode`; what it does not know of is left aside.

    Raises ArchitectureError where no architecture of the domain has them.
    """
    picks: dict[str, Pick] = {}
    for decision in domain.decisions.values():
        if decision.kind == "some":
            members = _members(decision)
            if any(values.get(name) in (IN, OUT) for name in members.values()):
                picks[decision.name] = tuple(str(o) for o, name in members.items() if values.get(name) == IN)
            continue
        value = values.get(decision.name, NOT_ACTIVE)
        if value != NOT_ACTIVE and isinstance(value, str | int | float):
            picks[decision.name] = value
    architecture = Architecture(domain.space, domain.options, picks)
    domain.validate(architecture)
    return architecture


def observed(architectures: Sequence[Architecture]) -> list[Decision]:
    """The decisions that these architectures show: for a space that cannot be made again, only what was tried."""
    picks: dict[str, list[Pick]] = {}
    for architecture in architectures:
        for name, pick in architecture.picks.items():
            picks.setdefault(name, []).append(pick)
    decisions = []
    for name, made in picks.items():
        when = ALWAYS if len(made) == len(architectures) else frozenset({((name, "sometimes"),)})
        subsets = [pick for pick in made if isinstance(pick, tuple)]
        if subsets:
            options: tuple[Option, ...] = tuple(dict.fromkeys(option for subset in subsets for option in subset))
            decisions.append(Decision(name, "some", options, len(subsets[0]), when))
        else:
            options = tuple(dict.fromkeys(pick for pick in made if not isinstance(pick, tuple)))
            decisions.append(Decision(name, "one", options, when=when))
    return decisions


def _members(decision: Decision) -> dict[Option, str]:
    """A k-of-n choice's options and the names of their parameters."""
    return {option: f"{decision.name}: {option}" for option in decision.options}
