"""Random search: every network once, all equally likely, whatever their number of descriptions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import networkx as nx
import numpy as np
import pytest

from nasengine import Architecture, Decision, Domain, Evaluate, Fidelity, Objective, Trial
from nasengine.search_spaces.cell import CellSpace
from nasengine.strategies.random import ENUMERABLE, RandomSearch
from nasengine.testing import TinyTask


def started(domain: Domain, seed: int = 0, fidelity: Fidelity = Fidelity()) -> Any:  # noqa: B008 (frozen)
    strategy = RandomSearch()
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], fidelity, 100)
    return strategy


def asked(strategy: Any, at_most: int) -> list[Architecture]:
    """What it asks for until it has nothing more."""
    found: list[Architecture] = []
    while len(found) < at_most and (request := strategy.ask()) is not None:
        assert isinstance(request, Evaluate)
        found.append(request.architecture)
    return found


def chi_square(counts: Sequence[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 / mean for count in counts)


def limit(cells: int) -> float:
    """Exceeded about once in a million times."""
    return cells - 1 + 5 * math.sqrt(2 * (cells - 1)) + 15


def conditional() -> Domain:
    """20 architectures; picks drawn one by one would give `flat` half of all draws, not one in ten."""
    deep = frozenset({(("kind", "deep"),)})
    return Domain(
        "conditional",
        {},
        [
            Decision("kind", "one", ("flat", "deep")),
            Decision("bias", "value", (False, True)),
            Decision("width", "value", (1, 2, 3), when=deep),
            Decision("edges", "some", ("a", "b", "c"), 2, when=deep),
        ],
    )


def numbers(count: int) -> Domain:
    return Domain("numbers", {}, [Decision("number", "value", tuple(range(count)))])


def symmetric(places: int, values: int) -> Domain:
    """Places that may change with each other: a network is a multiset of values."""

    def canonical(architecture: Architecture) -> Architecture:
        ordered = sorted(int(str(pick)) for pick in architecture.picks.values())
        return Architecture("symmetric", {}, {f"v{index}": pick for index, pick in enumerate(ordered)})

    decisions = [Decision(f"v{index}", "value", tuple(range(values))) for index in range(places)]
    return Domain("symmetric", {}, decisions, canonical)


@pytest.fixture(params=[200, 1], ids=["drawing", "enumerating"])
def draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many draws are tried before what is left is listed: with one, most asks go by the list."""
    monkeypatch.setattr("nasengine.strategies.random.DRAWS", request.param)
    return int(request.param)


# Without replacement


@pytest.mark.usefixtures("draws")
@pytest.mark.parametrize("domain", [conditional(), numbers(1), numbers(150)], ids=["conditional", "one", "150"])
def test_every_architecture_is_asked_for_once_and_then_nothing(domain: Domain) -> None:
    strategy = started(domain)
    found = asked(strategy, at_most=1_000)
    assert len(found) == len(set(found)) == domain.size
    assert set(found) == set(domain.enumerate())
    assert [strategy.ask() for _ in range(3)] == [None] * 3


def test_a_space_is_exhausted_to_the_last_architecture() -> None:
    """200 draws find the last of 2,000 once in ten times: the list must."""
    assert len(set(asked(started(numbers(2_000)), at_most=5_000))) == 2_000


@pytest.mark.usefixtures("draws")
def test_of_a_space_with_symmetries_every_network_is_asked_for_once() -> None:
    domain = symmetric(places=3, values=4)
    strategy = started(domain)
    found = asked(strategy, at_most=1_000)
    networks = {domain.canonical(a) for a in domain.enumerate()}
    assert domain.size == 64
    assert len(found) == len(networks) == math.comb(4 + 3 - 1, 3)
    assert {domain.canonical(a) for a in found} == networks
    assert strategy.ask() is None


def test_cells_of_two_nodes_have_as_many_canonical_forms_as_networks() -> None:
    """Where the second node uses the first, their order is fixed: 64 · 2 · 64. Where it does not, both add up the two
    inputs, each in one of 64 ways, in any order: 64 · 65 / 2."""
    space = CellSpace(layers=1, nodes=2)
    domain = space.domain(TinyTask())
    assert domain.size == 64 * 3 * 64
    canonical = {space.canonical(architecture) for architecture in domain.enumerate()}
    assert len(canonical) == 64 * 2 * 64 + 64 * 65 // 2
    assert all(space.canonical(architecture) == architecture for architecture in canonical)


def test_a_cell_is_isomorphic_to_its_canonical_form() -> None:
    """As networkx judges it: inputs and outputs keep their labels, edges their operations, nodes may change places."""
    space = CellSpace()
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    moved = 0
    for _ in range(60):
        architecture = domain.sample(rng)
        canonical = space.canonical(architecture)
        domain.validate(canonical)
        moved += canonical != architecture
        assert nx.is_isomorphic(
            space.graph(architecture),
            space.graph(canonical),
            node_match=lambda a, b: a["part"] == b["part"] and _end(a) == _end(b),
            edge_match=lambda a, b: a.get("label") == b.get("label"),
        )
    assert moved > 20


def _end(node: dict[str, str]) -> str:
    return "" if node["label"].startswith("node") else node["label"]


def test_no_two_cells_asked_for_are_isomorphic() -> None:
    space = CellSpace(layers=1, nodes=2)
    domain = space.domain(TinyTask())
    found = asked(started(domain), at_most=400)
    assert len({space.canonical(a).id for a in found}) == len(found) == 400
    for architecture in found:
        domain.validate(architecture)


# Uniformly


@pytest.mark.usefixtures("draws")
def test_the_first_is_any_architecture_equally_often() -> None:
    domain = conditional()
    firsts = Counter(asked(started(domain, seed), 1)[0] for seed in range(100 * domain.size))
    assert chi_square([firsts[a] for a in domain.enumerate()]) < limit(domain.size)


@pytest.mark.usefixtures("draws")
def test_all_orders_are_equally_likely() -> None:
    orders = Counter(
        tuple(a.picks["number"] for a in asked(started(numbers(4), seed), at_most=4)) for seed in range(24 * 60)
    )
    assert set(orders) == set(permutations(range(4)))
    assert chi_square(list(orders.values())) < limit(24)


@pytest.mark.usefixtures("draws")
def test_a_network_with_many_descriptions_is_as_likely_as_one_with_few() -> None:
    """Two places, three values: (0, 1) and (1, 0) are one network, (0, 0) is another; six of them, from nine."""
    domain = symmetric(places=2, values=3)
    firsts = Counter(domain.canonical(asked(started(domain, seed), 1)[0]) for seed in range(1_800))
    assert len(firsts) == 6
    assert chi_square(list(firsts.values())) < limit(6)
    described = Counter(domain.canonical(a) for a in domain.enumerate())
    by_description = [200 * described[network] for network in firsts]
    assert chi_square(by_description) > 3 * limit(6)  # the test sees the difference


def test_the_cells_operations_are_drawn_equally_often() -> None:
    """No isomorphism exchanges operations of a cell of one node: 64 networks, of which 8 have each first operation."""
    domain = CellSpace(layers=1, nodes=1).domain(TinyTask())
    strategy_draws = [asked(started(domain, seed), 1)[0] for seed in range(1_600)]
    pairs = Counter((a.picks["reduce.node0.from0"], a.picks["reduce.node0.from1"]) for a in strategy_draws)
    assert len(pairs) == 64
    assert chi_square(list(pairs.values())) < limit(64)


# Large spaces


def test_a_large_space_with_few_networks_repeats_them_rather_than_ends() -> None:
    """What is left cannot be listed, so nobody knows that nothing is."""
    domain = symmetric(places=17, values=2)
    assert domain.size > ENUMERABLE
    found = asked(started(domain), at_most=25)
    assert len(found) == 25
    networks = [domain.canonical(a) for a in found]
    assert len(set(networks)) >= 10  # of 18, some of them one in 65,536


def test_a_large_space_whose_canonical_descriptions_are_rare_still_gives_new_networks() -> None:
    """One in 3,600 architectures is canonical: 200 draws rarely meet one."""
    domain = symmetric(places=10, values=4)
    assert domain.size > ENUMERABLE
    assert domain.size / math.comb(13, 3) > 3_600
    found = asked(started(domain), at_most=40)
    assert len({domain.canonical(a) for a in found}) == 40


# What it does not depend on


def test_results_change_nothing() -> None:
    silent, informed = started(conditional(), seed=5), started(conditional(), seed=5)
    for number in range(20):
        request, other = silent.ask(), informed.ask()
        assert request == other
        states: list[Any] = ["done", "failed", "pruned"]
        informed.tell(Trial(number, other, states[number % 3], {"accuracy": float(number)}))


def test_seeds_differ_and_repeat() -> None:
    domain = CellSpace().domain(TinyTask())
    first, again, other = (asked(started(domain, seed), at_most=10) for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


def test_architectures_are_judged_at_the_searchs_fidelity() -> None:
    fidelity = Fidelity(epochs=3, data=0.5)
    request = started(conditional(), fidelity=fidelity).ask()
    assert (request.fidelity, request.purpose) == (fidelity, "search")


def test_the_reference_domain_has_what_it_says() -> None:
    architectures = list(conditional().enumerate())
    assert len(architectures) == 2 + 2 * 3 * 3 == 20
    assert Counter(a.picks["kind"] for a in architectures) == {"flat": 2, "deep": 18}


def test_what_the_search_started_from_is_not_drawn_again() -> None:
    domain = CellSpace(layers=1, channels=2, nodes=1).domain(TinyTask())
    strategy = started(domain)
    given = next(domain.enumerate())
    strategy.tell(Trial(0, Evaluate(given), "done", {"accuracy": 0.5}))
    drawn = {domain.canonical(architecture) for architecture in asked(strategy, 10_000)}
    everything = {domain.canonical(architecture) for architecture in domain.enumerate()}
    assert drawn == everything - {domain.canonical(given)}
