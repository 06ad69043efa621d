"""Local search against the paper's algorithm, line by line, and on tables and spaces whose best is known."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.search_spaces.nasbench201 import NASBench201Space, to_nasbench201
from nasengine.strategies.local_search import LocalSearch
from nasengine.strategies.random import RandomSearch
from nasengine.testing import StrategyContract, TinyTask

TABLE = Path(__file__).parents[1].parent / "shared" / "data" / "nas" / "nas_bench_201.csv.gz"
needs_table = pytest.mark.skipif(not TABLE.is_file(), reason=f"needs the benchmark's table, {TABLE}")

Fitness = Callable[[Architecture], float]
MODES = pytest.mark.parametrize("until_lower", [True, False], ids=["the first better one", "the best of all"])


class TestLocalSearch(StrategyContract):
    def make(self) -> Strategy:
        return LocalSearch()  # type: ignore[no-any-return]


class TestLocalSearchOverWholeNeighbourhoods(StrategyContract):
    def make(self) -> Strategy:
        return LocalSearch(initial=3, query_until_lower=False)  # type: ignore[no-any-return]


def started(domain: Domain, seed: int = 0, trials: int = 100, objective: str = "accuracy", **options: Any) -> Any:
    strategy = LocalSearch(**options)
    strategy.start(domain, np.random.default_rng(seed), [Objective.parse(objective)], Fidelity(), trials)
    return strategy


def told(strategy: Any, architecture: Architecture, score: float, **changes: Any) -> None:
    fields: dict[str, Any] = {"state": "done", "metrics": {"accuracy": score}, **changes}
    strategy.tell(Trial(0, Evaluate(architecture), **fields))


def searched(strategy: Any, fitness: Fitness, at_most: int = 10_000) -> list[Architecture]:
    """What it asks for, one at a time, until it has nothing more."""
    found: list[Architecture] = []
    while len(found) < at_most and (request := strategy.ask()) is not None:
        found.append(request.architecture)
        told(strategy, request.architecture, fitness(request.architecture))
    return found


def values(*counts: int, **rules: Any) -> Domain:
    """Independent numbers v0, v1, …, each below its count."""
    return Domain("numbers", {}, [Decision(f"v{i}", "value", tuple(range(n))) for i, n in enumerate(counts)], **rules)


def numbers(architecture: Architecture) -> tuple[int, ...]:
    return tuple(int(str(pick)) for _, pick in sorted(architecture.picks.items()))


def conditional() -> Domain:
    """39 · 6 · 9 architectures."""
    inner = [Decision(f"rate{i}", "value", (0.1, 0.2, 0.5), when=frozenset({(("depth", i),)})) for i in range(3)]
    edges = Decision("edges", "some", ("a", "b", "c", "d"), 2)
    operations = [
        Decision(f"op.{edge}", "one", ("conv", "pool", "skip"), when=frozenset({(("edges", edge),)})) for edge in "abcd"
    ]
    return Domain("conditional", {}, [Decision("depth", "depth", (1, 2, 3)), *inner, edges, *operations])


def small_conditional() -> Domain:
    deep = frozenset({(("kind", "deep"),)})
    width = Decision("width", "value", (1, 2, 3), when=deep)
    edges = Decision("edges", "some", ("a", "b", "c"), 2, when=deep)
    return Domain("small", {}, [Decision("kind", "one", ("flat", "deep")), width, edges])


def rugged(seed: int) -> Fitness:
    """An arbitrary landscape full of local optima: any two architectures have nothing to do with each other."""
    return cache(lambda architecture: np.random.default_rng([seed, int(architecture.id[:12], 16)]).random())


def sloping(seed: int) -> Fitness:
    """Every pick has a worth of its own, so that what no edit betters is the best of all."""
    worths = np.random.default_rng(seed).random((6, 4))
    return lambda architecture: float(sum(worths[place, number] for place, number in enumerate(numbers(architecture))))


def algorithm_1(domain: Domain, start: Architecture, fitness: Fitness) -> tuple[list[Architecture], set[Architecture]]:
    """White et al. 2021, algorithm 1: all incumbents, and what was evaluated. Losses are negative fitness."""
    v, evaluated = [start], {start}
    while True:
        u = domain.neighbors(v[-1])
        evaluated |= set(u)
        best = min(u, key=lambda neighbor: -fitness(neighbor))
        if -fitness(best) >= -fitness(v[-1]):
            return v, evaluated
        v.append(best)


# The climb


@pytest.mark.parametrize("domain", [values(*[4] * 5), conditional()], ids=["independent", "conditional"])
@pytest.mark.parametrize("seed", range(3))
def test_the_first_climb_evaluates_what_algorithm_1_evaluates(domain: Domain, seed: int) -> None:
    fitness = rugged(seed)
    strategy = started(domain, seed, query_until_lower=False)
    asked = searched(strategy, fitness, at_most=400)
    incumbents, evaluated = algorithm_1(domain, asked[0], fitness)
    assert set(asked[: len(evaluated)]) == evaluated
    before = 1
    for incumbent in incumbents:  # neighbourhood by neighbourhood
        expected = set(domain.neighbors(incumbent)) - set(asked[:before])
        assert set(asked[before : before + len(expected)]) == expected
        before += len(expected)
    assert before == len(evaluated)


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_until_lower_goes_on_from_the_first_better_neighbour(seed: int) -> None:
    domain, even, uneven = values(*[4] * 5), sloping(seed), rugged(seed)
    fitness = cache(lambda architecture: even(architecture) + uneven(architecture))
    asked = searched(started(domain, seed), fitness, at_most=400)
    incumbent, moves = asked[0], 0
    for number, architecture in enumerate(asked[1:], 1):
        left = set(domain.neighbors(incumbent)) - set(asked[:number])
        if not left:
            break
        assert architecture in left
        if fitness(architecture) > fitness(incumbent):
            incumbent, moves = architecture, moves + 1
    assert not left
    assert moves > 0
    assert all(fitness(neighbor) < fitness(incumbent) for neighbor in domain.neighbors(incumbent))


def test_neighbours_are_asked_for_in_random_order() -> None:
    domain = values(*[4] * 5)
    start = domain.complete({})
    firsts = set()
    for seed in range(60):
        strategy = started(domain, seed)
        told(strategy, start, 0.5)
        firsts.add(strategy.ask().architecture)
    assert len(firsts) > 10  # of 15 neighbours
    assert firsts <= set(domain.neighbors(start))


@MODES
def test_at_a_local_optimum_a_random_network_that_is_new_follows(until_lower: bool) -> None:
    domain = values(*[5] * 6)
    strategy = started(domain, query_until_lower=until_lower)
    top = domain.complete({})
    told(strategy, top, 1.0)
    neighbors = domain.neighbors(top)
    around = searched(strategy, lambda _: 0.0, at_most=len(neighbors))
    assert set(around) == set(neighbors)
    anew = strategy.ask().architecture
    assert anew not in {top, *around}
    assert strategy.ask() is None  # its result decides where the climb goes
    told(strategy, anew, 0.1)
    assert strategy.ask().architecture in domain.neighbors(anew)  # though it is worse than the first climb's end


def test_a_known_neighbour_counts_with_its_result_and_is_not_asked_for_again() -> None:
    """A board of 4 × 4 and a rook. The first climb knows the edges; the second begins inside, and its best neighbours
    stand there: over them it gets to the corner where the first ended, without anything to ask for, and a third begins.
    """
    domain = values(4, 4)
    strategy = started(domain, query_until_lower=False)
    told(strategy, domain.complete({}), 1.0)
    edges = searched(strategy, lambda _: 0.5, at_most=6)
    assert all(0 in numbers(architecture) for architecture in edges)
    (inside,) = searched(strategy, lambda _: 0.0, at_most=1)
    around = searched(strategy, lambda _: 0.1, at_most=4)
    assert set(around) == set(domain.neighbors(inside)) - set(edges)
    third = strategy.ask().architecture
    assert third not in {inside, *around, *edges}
    assert strategy.ask() is None  # it is a climb's first: its result is awaited


# Several at a time


@pytest.mark.parametrize("seed", range(5))
def test_with_several_under_way_a_climb_over_whole_neighbourhoods_is_the_same(seed: int) -> None:
    """Results come back in any order, and moves wait for all of them."""
    domain, fitness, rng = values(*[4] * 5), rugged(seed), np.random.default_rng(seed)
    strategy = started(domain, seed, query_until_lower=False)
    waiting: list[Architecture] = []
    asked: list[Architecture] = []
    for _ in range(200):
        while len(waiting) < 7 and (request := strategy.ask()) is not None:
            waiting.append(request.architecture)
            asked.append(request.architecture)
        architecture = waiting.pop(int(rng.integers(len(waiting))))
        told(strategy, architecture, fitness(architecture))
    _, evaluated = algorithm_1(domain, asked[0], fitness)
    assert len(asked) > len(evaluated)
    assert set(asked[: len(evaluated)]) == evaluated


@MODES
def test_nothing_is_asked_for_twice_while_it_is_under_way(until_lower: bool) -> None:
    domain, fitness, rng = values(4, 4, 4), rugged(0), np.random.default_rng(0)
    strategy = started(domain, query_until_lower=until_lower)
    waiting: list[Architecture] = []
    asked: list[Architecture] = []
    for _ in range(domain.size):
        while len(waiting) < 6 and (request := strategy.ask()) is not None:
            waiting.append(request.architecture)
            asked.append(request.architecture)
        architecture = waiting.pop(int(rng.integers(len(waiting))))
        told(strategy, architecture, fitness(architecture))
    assert len(asked) == len(set(asked)) == domain.size


def test_until_lower_a_late_better_result_of_the_same_climb_is_moved_to_as_well() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain)
    told(strategy, domain.complete({}), 0.0)
    first, second, third = (strategy.ask().architecture for _ in range(3))
    told(strategy, second, 0.5)
    assert strategy.ask().architecture in domain.neighbors(second)
    told(strategy, first, 0.9)
    assert strategy.ask().architecture in domain.neighbors(first)
    told(strategy, third, 0.7)
    assert strategy.ask().architecture in domain.neighbors(first)


# No network twice, and an end


@MODES
@pytest.mark.parametrize("domain", [small_conditional(), values(1), values(300), values(2, 2)])
def test_a_space_is_exhausted_without_a_network_asked_for_twice(domain: Domain, until_lower: bool) -> None:
    strategy = started(domain, initial=2, query_until_lower=until_lower)
    asked = searched(strategy, rugged(0))
    assert len(asked) == len(set(asked)) == domain.size
    assert [strategy.ask() for _ in range(3)] == [None] * 3


@MODES
def test_of_isomorphic_architectures_one_is_asked_for(until_lower: bool) -> None:
    def canonical(architecture: Architecture) -> Architecture:
        return Architecture("numbers", {}, {f"v{i}": n for i, n in enumerate(sorted(numbers(architecture)))})

    domain = values(4, 4, 4, canonical=canonical)
    asked = searched(started(domain, query_until_lower=until_lower), lambda a: rugged(0)(canonical(a)))
    assert len(asked) == len(set(map(canonical, asked))) == math.comb(4 + 3 - 1, 3)


@MODES
def test_only_what_is_allowed_is_asked_for_and_the_search_ends(until_lower: bool) -> None:
    domain = values(4, 4, 4, violation=lambda a: float(max(0, sum(numbers(a)) - 4)))
    allowed = set(domain.enumerate())
    asked = searched(started(domain, query_until_lower=until_lower), rugged(0))
    assert len(asked) == len(set(asked))
    assert set(asked) <= allowed
    assert len(asked) > 0.9 * len(allowed)


# Failures


@pytest.mark.parametrize(
    "changes",
    [{"state": "failed"}, {"state": "timed_out"}, {"metrics": {"accuracy": math.nan}}, {"metrics": {}}],
)
@MODES
def test_a_neighbour_that_failed_is_no_step_and_is_not_asked_for_again(
    changes: dict[str, Any], until_lower: bool
) -> None:
    domain = values(*[3] * 4)
    strategy = started(domain, query_until_lower=until_lower)
    told(strategy, domain.complete({}), 0.5)
    asked = []
    while (request := strategy.ask()) is not None:
        asked.append(request.architecture)
        told(strategy, request.architecture, 9.0, **changes)
    assert set(asked[:8]) == set(domain.neighbors(domain.complete({})))
    assert len(asked) == len(set(asked)) == domain.size - 1


def test_where_the_first_of_a_climb_fails_another_is_drawn() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain)
    first = strategy.ask().architecture
    told(strategy, first, 0.0, state="failed")
    second = strategy.ask().architecture
    told(strategy, second, 0.1)
    assert strategy.ask().architecture in domain.neighbors(second)


# Where it starts


def test_a_climb_goes_on_from_the_best_of_its_random_draws() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain, initial=4)
    drawn = [strategy.ask().architecture for _ in range(4)]
    assert strategy.ask() is None
    for architecture, score in zip(drawn, (0.1, 0.4, 0.3, 0.2), strict=True):
        told(strategy, architecture, score)
    assert strategy.ask().architecture in domain.neighbors(drawn[1])


def test_what_the_run_starts_from_is_where_it_climbs_from() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain)
    worse, better = domain.complete({}), domain.complete({f"v{index}": 4 for index in range(6)})
    told(strategy, worse, 0.2)
    told(strategy, better, 0.6)
    assert strategy.ask().architecture in domain.neighbors(better)


def test_what_the_run_starts_from_counts_among_the_initial_draws_unless_it_failed() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain, initial=3)
    told(strategy, domain.complete({}), 0.9)
    told(strategy, domain.complete({"v0": 4}), 0.0, state="failed")
    for architecture in [strategy.ask().architecture for _ in range(2)]:
        told(strategy, architecture, 0.1)
    assert strategy.ask().architecture in domain.neighbors(domain.complete({}))


def test_a_result_that_nobody_asked_for_is_moved_to_where_it_is_better() -> None:
    domain = values(*[5] * 6)
    strategy = started(domain)
    first = strategy.ask().architecture
    told(strategy, first, 0.3)
    strategy.ask()
    given = domain.complete({f"v{index}": 4 for index in range(6)})
    told(strategy, given, 0.8)
    assert strategy.ask().architecture in domain.neighbors(given)


def test_an_initial_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="initial = 0"):
        LocalSearch(initial=0)


# What it finds


@MODES
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_an_enumerated_space_without_local_optima_is_found_in_one_climb(
    seed: int, until_lower: bool
) -> None:
    domain, fitness = values(*[4] * 6), sloping(seed)
    asked = searched(started(domain, seed, query_until_lower=until_lower), fitness, at_most=120)
    # six moves lead there at most if each is the best one, and so seven neighbourhoods of 18
    assert asked.index(max(domain.enumerate(), key=fitness)) < (60 if until_lower else 1 + 7 * 18)


def test_a_metric_to_be_minimised_is() -> None:
    domain, fitness = values(*[4] * 6), sloping(0)
    asked = searched(started(domain, objective="accuracy:min"), fitness, at_most=100)
    assert min(domain.enumerate(), key=fitness) in asked


@cache
def nasbench201() -> tuple[Domain, dict[str, dict[str, str]]]:
    """The benchmark's space, with canonical forms remembered, and its table by cell."""
    domain = NASBench201Space().domain(TinyTask())
    domain.canonical = cache(domain.canonical)
    with gzip.open(TABLE, "rt", encoding="utf-8") as lines:
        return domain, {row["arch_str"]: row for row in csv.DictReader(lines)}


def scores_of(strategy: Any, column: str, seed: int, trials: int) -> list[float]:
    domain, table = nasbench201()
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)

    def fitness(architecture: Architecture) -> float:
        return float(table[to_nasbench201(architecture)][column])

    return [fitness(architecture) for architecture in searched(strategy, fitness, trials)]


def mean(found: Sequence[float]) -> float:
    return sum(found) / len(found)


@needs_table
@MODES
def test_it_beats_random_search_on_nas_bench_201(until_lower: bool) -> None:
    """Best validation accuracy after 12 epochs, 150 evaluations; measured over 20 seeds: 84.12 ± 0.38 at random,
    84.81 ± 0.20 until lower, 84.66 ± 0.35 over whole neighbourhoods. The table's best is 84.89."""
    random = [max(scores_of(RandomSearch(), "c10_valid_ep12", seed, 150)) for seed in range(10)]
    local = [
        max(scores_of(LocalSearch(query_until_lower=until_lower), "c10_valid_ep12", seed, 150)) for seed in range(10)
    ]
    assert mean(local) > mean(random) + 0.2


@needs_table
def test_it_needs_about_as_many_evaluations_as_the_paper_says() -> None:
    """To the global optimum of NAS-Bench-201 for CIFAR-100: 127 on average (the paper's first version, arXiv
    2005.02960v1, abstract). Here isomorphic cells are not trained again: 106 on average of 60 seeds."""
    best = max(float(row["c100_test_ep200"]) for row in nasbench201()[1].values())
    needed = []
    for seed in range(15):
        scores = scores_of(LocalSearch(query_until_lower=False), "c100_test_ep200", seed, 600)
        needed.append(scores.index(best) + 1)
    assert 60 < mean(needed) < 160
