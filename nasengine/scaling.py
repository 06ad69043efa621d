"""Whether a space is the same at other sizes: at a fidelity, for another task, with other options. What is found in one
is then an architecture of the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import ConfigError
from .options import check_options

if TYPE_CHECKING:
    from .config import Config
    from .domain import Domain
    from .evaluator import Fidelity
    from .space import SearchSpace
    from .task import Task


def check_fidelity(space: SearchSpace, domain: Domain, task: Task, fidelity: Fidelity) -> None:
    """Raises ConfigError where networks of that fidelity are not the space's."""
    smaller = space.at(space.reduced(fidelity, task))
    seen = task.at_fidelity(fidelity)
    if (smaller is not space or seen is not task) and (other := _difference(domain, smaller.domain(seen))):
        asked = ",".join(f"{name}={value}" for name, value in fidelity.reductions.items())
        raise ConfigError(
            f"with the fidelity {asked} the space {space.known_as!r} leaves other things open than without: {other}"
        )


def check_proxy(space: SearchSpace, domain: Domain, proxy: Task, task: Task) -> None:
    """Raises ConfigError where what is found on the stand-in cannot be built for the task."""
    if other := _difference(space.domain(task), domain):
        raise ConfigError(
            f"the space {space.known_as!r} leaves other things open on {proxy.known_as!r} than on {task.known_as!r}: "
            f"{other}; set its options so that both are alike, or choose another proxy"
        )


def final_options(space: SearchSpace, domain: Domain, task: Task, config: Config) -> Mapping[str, Any]:
    """The space's options for the final training: those asked for, and what the fidelity's layers and width make of
    them. Raises ConfigError where the decisions would be others."""
    fidelity, other = config.final_fidelity, space
    if config.final:
        other = space.at(check_options("space", space.known_as, type(space), config.final))
    other = other.at(other.reduced(replace(fidelity, resolution=None), task))
    seen = task.at_fidelity(fidelity)
    if other is space and seen is task:
        return domain.options
    if differs := _difference(domain, other.domain(seen)):
        asked = ", ".join(f"{name}={value}" for name, value in {**config.final, **fidelity.reductions}.items())
        raise ConfigError(
            f"with {asked} the space {space.known_as!r} leaves other things open than without: {differs}; expected "
            f"options that only change the size"
        )
    return domain.options if other is space else other.recorded_settings()


def _difference(domain: Domain, other: Domain) -> str:
    """The first decision that is not the same in the other, in a fragment of a sentence; empty where all are."""
    here, there = domain.decisions, other.decisions
    for name in {**here, **there}:
        if name not in there:
            return f"there is no decision {name!r}"
        if name not in here:
            return f"there is another decision, {name!r}"
        if here[name].options != there[name].options:
            return f"the decision {name!r} has other options"
    return "" if here == there else "decisions depend on each other in another way"
