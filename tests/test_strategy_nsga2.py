"""NSGA-II against the definitions of Deb et al. 2002, by brute force and by hand, and against random search."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.nsga2 import NSGA2, crowding_of, ranks_of
from nasengine.strategies.random import RandomSearch
from nasengine.testing import StrategyContract

Point = tuple[float, float]
WIDE = Domain("wide", {}, [Decision(f"v{index}", "value", tuple(range(5))) for index in range(16)])
"""5¹⁶ architectures: random ones are many edits apart."""


class TestNSGA2(StrategyContract):
    def make(self) -> Strategy:
        return NSGA2(population=6)  # type: ignore[no-any-return]


class TestNSGA2OfTwo(StrategyContract):
    def make(self) -> Strategy:
        return NSGA2(population=2, crossover=0.0, mutation=0.0)  # type: ignore[no-any-return]


def started(
    domain: Domain = WIDE,
    seed: int = 0,
    trials: int = 400,
    objectives: Sequence[str] = ("a:max", "b:max"),
    **options: Any,
) -> Any:
    strategy = NSGA2(**options)
    parsed = [Objective.parse(text) for text in objectives]
    strategy.start(domain, np.random.default_rng(seed), parsed, Fidelity(), trials)
    return strategy


def told(strategy: Any, architecture: Architecture, *scores: float, **changes: Any) -> None:
    metrics = dict(zip("ab", scores, strict=False))
    strategy.tell(
        Trial(**{"number": 0, "request": Evaluate(architecture), "state": "done", "metrics": metrics, **changes})
    )


def generation(strategy: Any) -> list[Architecture]:
    """All that it asks for before it waits."""
    found: list[Architecture] = []
    while len(found) < 1000 and (request := strategy.ask()) is not None:
        found.append(request.architecture)
    return found


def edits(a: Architecture, b: Architecture) -> int:
    return sum(a.picks[name] != b.picks[name] for name in a.picks)


def values(*counts: int, **rules: Any) -> Domain:
    """Independent numbers v0, v1, …, each below its count."""
    return Domain("numbers", {}, [Decision(f"v{i}", "value", tuple(range(n))) for i, n in enumerate(counts)], **rules)


def numbers(architecture: Architecture) -> tuple[int, ...]:
    return tuple(int(str(pick)) for _, pick in sorted(architecture.picks.items()))


# Non-dominated sorting and crowding distance


def dominates(p: Sequence[float], q: Sequence[float]) -> bool:
    """No worse in all objectives, better in one."""
    return all(x >= y for x, y in zip(p, q, strict=True)) and any(x > y for x, y in zip(p, q, strict=True))


def ranks_by_definition(points: list[tuple[float, ...]]) -> list[int]:
    """Front by front: who is dominated by nobody that is left."""
    ranks, left, rank = [-1] * len(points), set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for index in front:
            ranks[index] = rank
        left, rank = left - front, rank + 1
    return ranks


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("levels", [2, 6, 1000])
def test_ranks_are_those_of_the_definition(objectives: int, levels: int) -> None:
    rng = np.random.default_rng(objectives * levels)
    for count in (1, 2, 7, 40):
        scores = rng.integers(-levels, levels, size=(count, objectives)).astype(float)
        assert ranks_of(scores).tolist() == ranks_by_definition([tuple(row) for row in scores.tolist()])


def test_equal_points_are_of_one_rank() -> None:
    assert ranks_of(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0], [1.0, 1.0]])).tolist() == [0, 0, 1, 1]


def test_crowding_is_the_papers_sum_of_sides() -> None:
    """A front from (0, 10) to (10, 0). By hand: of (1, 6), (4 − 0)/10 + (10 − 3)/10; of (4, 3), (10 − 1)/10 +
    (6 − 0)/10."""
    front = np.array([[4.0, 3.0], [0.0, 10.0], [10.0, 0.0], [1.0, 6.0]])
    assert crowding_of(front) == pytest.approx([0.9 + 0.6, math.inf, math.inf, 0.4 + 0.7])


def test_crowding_does_not_depend_on_an_objectives_unit_or_direction() -> None:
    front = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 3.0], [10.0, 0.0]])
    assert crowding_of(front * [1e6, -0.01] + [3, -7]) == pytest.approx(crowding_of(front))


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_points_have_all_the_room(count: int) -> None:
    assert crowding_of(np.random.default_rng(0).random((count, 3))).tolist() == [math.inf] * count


def test_points_that_are_all_alike_in_an_objective_are_told_apart_by_the_others() -> None:
    front = np.array([[5.0, 0.0, 9.0], [5.0, 1.0, 6.0], [5.0, 3.0, 0.0]])
    assert crowding_of(front)[1] == pytest.approx(0 + 1 + 1)
    assert not np.isnan(crowding_of(front)).any()


# Generations


def test_a_generation_waits_for_the_results_of_the_one_before() -> None:
    strategy = started(population=5)
    first = generation(strategy)
    assert len(first) == len(set(first)) == 5
    for index, architecture in enumerate(reversed(first)):
        assert strategy.ask() is None
        told(strategy, architecture, index, -index)
    second = generation(strategy)
    assert len(second) == 5
    assert not set(first) & set(second)


def test_parents_and_children_survive_by_rank_and_then_by_the_room_around_them() -> None:
    """Four on the front, of which (4, 3) and (6, 2) are the most crowded; three that are dominated."""
    strategy = started(population=4)
    told(strategy, WIDE.complete({"v0": 1}), 0, 10)
    points: list[Point] = [(10, 0), (1, 6), (0, 0)]
    for architecture, point in zip(generation(strategy), points, strict=True):
        told(strategy, architecture, *point)
    points = [(4, 3), (6, 2), (1, 5), (-1, -1)]
    for architecture, point in zip(generation(strategy), points, strict=True):
        told(strategy, architecture, *point)
    strategy.ask()
    survivors = {member.scores: (member.rank, member.crowding) for member in strategy.survivors}
    # on the front: (1, 6) has (4 − 0)/10 + (10 − 3)/10 = 1.1, (4, 3) 0.5 + 0.4 = 0.9, (6, 2) 0.6 + 0.3 = 0.9
    assert set(survivors) in ({(0, 10), (10, 0), (1, 6), (4, 3)}, {(0, 10), (10, 0), (1, 6), (6, 2)})
    assert survivors[1, 6] == (0, pytest.approx(1.1))
    assert survivors[0, 10] == survivors[10, 0] == (0, math.inf)


@pytest.mark.parametrize("seed", range(3))
def test_nobody_who_died_was_of_a_better_rank_than_a_survivor(seed: int) -> None:
    strategy, rng = started(seed=seed, population=12), np.random.default_rng(seed)
    scores: dict[Architecture, Point] = {}
    pending: list[Architecture] = []
    for _ in range(6):
        children = pending + generation(strategy)
        for child in children:
            scores[child] = (float(rng.integers(8)), float(rng.integers(8)))
            told(strategy, child, *scores[child])
        pool = [member.architecture for member in strategy.survivors] + children
        pending = [strategy.ask().architecture]  # the next generation begins
        alive = [member.architecture for member in strategy.survivors]
        ranks = dict(zip(pool, ranks_by_definition([scores[a] for a in pool]), strict=True))
        dead = [ranks[architecture] for architecture in pool if architecture not in alive]
        assert len(alive) == 12
        assert max(ranks[architecture] for architecture in alive) <= min(dead, default=math.inf)
        assert all(member.rank == ranks[member.architecture] for member in strategy.survivors)


def test_the_order_in_which_results_come_does_not_matter_to_who_survives() -> None:
    orders: list[Callable[[list[Any]], list[Any]]] = [lambda found: found, lambda found: found[::-1]]
    survivors = []
    for order in orders:
        strategy = started(population=6)
        told(strategy, WIDE.complete({}), 0.5, 0.5)
        points = dict(zip(generation(strategy), np.random.default_rng(1).random((5, 2)), strict=True))
        for architecture in order(list(points)):
            told(strategy, architecture, *points[architecture])
        strategy.ask()
        survivors.append({member.architecture: (member.rank, member.crowding) for member in strategy.survivors})
    assert survivors[0] == survivors[1]


# Parents and children


def bred(
    seed: int, points: Sequence[Point], children: int, **options: Any
) -> tuple[list[Architecture], list[Architecture]]:
    """A first generation with these scores, and so many children of it."""
    strategy = started(seed=seed, population=len(points), **options)
    parents = generation(strategy)
    for architecture, point in zip(parents, points, strict=True):
        told(strategy, architecture, *point)
    strategy.population = children  # all parents survive
    return parents, generation(strategy)


def nearest(child: Architecture, parents: Sequence[Architecture]) -> int:
    return min(range(len(parents)), key=lambda index: edits(child, parents[index]))


def test_the_better_of_two_becomes_parent() -> None:
    """Of two members, the better one loses only where the other meets itself: one time in four."""
    parents, children = bred(0, [(1, 1), (0, 0)], 600, crossover=0.0)
    share = sum(nearest(child, parents) == 0 for child in children) / 600
    assert share == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 600))


def test_of_equal_rank_the_less_crowded_becomes_parent() -> None:
    """Three on a front: the two ends have all the room, and the middle one wins against itself only."""
    parents, children = bred(0, [(0, 2), (1, 1), (2, 0)], 600, crossover=0.0)
    share = sum(nearest(child, parents) == 1 for child in children) / 600
    assert share == pytest.approx(1 / 9, abs=4 * math.sqrt(8 / 81 / 600))


def test_crossover_takes_each_decision_from_either_parent() -> None:
    parents, children = bred(0, [(0, 2), (1, 1), (2, 0)], 60, crossover=1.0, mutation=0.0)
    mixed = [child for child in children if min(edits(child, parent) for parent in parents) > 3]
    assert len(mixed) > 20
    for child in mixed:  # the others have one parent twice, which is known, and so are mutated
        assert all(any(child.picks[name] == parent.picks[name] for parent in parents) for name in child.picks)


def test_without_crossover_and_mutation_a_child_is_one_edit_from_its_parent_since_that_is_known() -> None:
    parents, children = bred(0, [(0, 2), (1, 1), (2, 0)], 20, crossover=0.0, mutation=0.0)
    assert [min(edits(child, parent) for parent in parents) for child in children] == [1] * 20


def test_one_decision_of_a_child_is_mutated_on_average() -> None:
    """16 decisions, each with probability 1/16. Those without any, (15/16)¹⁶ of them, get one since they are known; of
    two edits, one in 16 meets the same decision again, and in one of four cases undoes the first."""
    counts = []
    for seed in range(30):
        parents, children = bred(seed, [(0, 2), (1, 1), (2, 0)], 20, crossover=0.0)
        counts += [edits(child, parents[nearest(child, parents)]) for child in children]
    assert sum(counts) / 600 == pytest.approx(1 + (15 / 16) ** 16, abs=0.12)
    parents, children = bred(0, [(0, 2), (1, 1), (2, 0)], 100, crossover=0.0, mutation=1.0)
    assert min(edits(child, parent) for child in children for parent in parents) > 3


# Failures, and what the run starts from


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "failed"},
        {"metrics": {"a": 9.0}},
        {"metrics": {"a": 9.0, "b": math.nan}},
        {"metrics": {"a": math.inf, "b": 9}},
    ],
)
def test_a_trial_without_a_value_for_each_objective_is_nobodys_parent(changes: dict[str, Any]) -> None:
    strategy = started(population=4)
    first = generation(strategy)
    for architecture in first[:2]:
        told(strategy, architecture, 9, 9, **changes)
    for architecture in first[2:]:
        told(strategy, architecture, 0.1, 0.1)
    strategy.ask()
    assert {member.architecture for member in strategy.survivors} == set(first[2:])


def test_where_all_failed_random_architectures_follow() -> None:
    strategy = started(population=4)
    asked: list[Architecture] = []
    for _ in range(3):
        new = generation(strategy)
        for architecture in new:
            told(strategy, architecture, state="failed")
        asked += new
    assert len(asked) == len(set(asked)) == 12
    assert min(edits(a, b) for i, a in enumerate(asked) for b in asked[:i]) > 3


def test_what_the_run_starts_from_is_of_the_first_generation() -> None:
    strategy = started(population=4)
    given = [WIDE.complete({}), WIDE.complete({"v0": 3})]
    told(strategy, given[0], 5, 5)
    told(strategy, given[1], state="failed")
    first = generation(strategy)
    assert len(first) == 3
    for architecture in first:
        told(strategy, architecture, 1, 1)
    strategy.ask()
    assert {member.architecture for member in strategy.survivors} == {given[0], *first}


def test_more_than_a_population_to_start_from_is_selected_from_at_once() -> None:
    strategy = started(population=2, crossover=0.0)
    given = [WIDE.complete({f"v{index}": 4 for index in range(4 * number)}) for number in range(4)]
    for number, architecture in enumerate(given):
        told(strategy, architecture, number, number)
    children = generation(strategy)
    assert {member.architecture for member in strategy.survivors} == set(given[2:])
    assert {nearest(child, given) for child in children} <= {2, 3}


def test_a_later_result_of_a_network_replaces_the_earlier() -> None:
    """As of a candidate that is judged by more epochs."""
    strategy = started(population=2)
    first = generation(strategy)
    told(strategy, first[0], 9, 9)
    told(strategy, first[1], 1, 1)
    told(strategy, first[0], 0, 0)
    strategy.ask()
    assert {member.scores: member.rank for member in strategy.survivors} == {(1, 1): 0, (0, 0): 1}


# Small spaces and constraints


@pytest.mark.parametrize("domain", [values(1), values(3, 3), values(4, 4, 4)])
def test_no_network_is_asked_for_twice_and_the_search_ends(domain: Domain) -> None:
    strategy, asked = started(domain, population=4), []
    while new := generation(strategy):
        asked += new
        for architecture in new:
            told(strategy, architecture, sum(numbers(architecture)), -numbers(architecture)[0])
    assert len(asked) == len(set(asked)) >= 0.9 * domain.size
    assert strategy.ask() is None


def test_of_isomorphic_architectures_one_is_asked_for() -> None:
    def canonical(architecture: Architecture) -> Architecture:
        return Architecture("numbers", {}, {f"v{i}": n for i, n in enumerate(sorted(numbers(architecture)))})

    strategy, asked = started(values(4, 4, 4, canonical=canonical), population=4), []
    while new := generation(strategy):
        asked += new
        for architecture in new:
            told(strategy, architecture, sum(numbers(architecture)), -max(numbers(architecture)))
    assert len(set(map(canonical, asked))) == len(asked) >= 18  # of 20


def test_only_what_is_allowed_is_asked_for() -> None:
    domain = values(*[4] * 6, violation=lambda a: float(max(0, sum(numbers(a)) - 5)))
    strategy = started(domain, population=8)
    for _ in range(30):
        for architecture in generation(strategy):
            assert domain.allows(architecture)
            told(strategy, architecture, numbers(architecture)[0], numbers(architecture)[1])
    best = {member.scores for member in strategy.survivors if member.rank == 0}
    assert best >= {(3, 2), (2, 3)}  # no more than 5 are allowed


# Options


@pytest.mark.parametrize(("trials", "population"), [(400, 100), (5_000, 100), (200, 50), (20, 5), (3, 2)])
def test_the_population_is_the_papers_where_the_budget_allows_it(trials: int, population: int) -> None:
    assert len(generation(started(trials=trials))) == population
    assert len(generation(started(trials=trials, population=7))) == 7


@pytest.mark.parametrize("options", [{"population": 1}, {"crossover": 1.5}, {"mutation": -0.1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        NSGA2(**options)


# What it finds


ZDT = values(32, *[4] * 7)
"""524,288 points of a grid. The front is where all numbers but the first are 0: 32 points."""


def zdt1(architecture: Architecture) -> Point:
    """Zitzler, Deb, Thiele 2000, "Comparison of Multiobjective Evolutionary Algorithms", T1; to be minimised."""
    first, *rest = numbers(architecture)
    f1, g = first / 31, 1 + 9 * sum(rest) / 3 / len(rest)
    return f1, g * (1 - math.sqrt(f1 / g))


def hypervolume(points: Sequence[Point], reference: Point = (1.1, 8.0)) -> float:
    """The area that is dominated, both objectives to be minimised."""
    inside = sorted({point for point in points if point[0] < reference[0] and point[1] < reference[1]})
    steps, lowest = [(reference[0], 0.0)], reference[1]
    area = 0.0
    for (x, y), (following, _) in pairwise([*inside, *steps]):
        lowest = min(lowest, y)
        area += (following - x) * (reference[1] - lowest)
    return area


def test_the_hypervolume_of_two_points_is_the_area_of_their_union() -> None:
    assert hypervolume([(1, 3), (2, 1), (2.5, 3.5), (9, 0)], (4, 4)) == 3 * 1 + 2 * 3 - 2 * 1


def front_of(strategy: Any, seed: int, trials: int) -> list[Point]:
    objectives = [Objective("a", "min"), Objective("b", "min")]
    strategy.start(ZDT, np.random.default_rng(seed), objectives, Fidelity(), trials)
    found: list[Point] = []
    while len(found) < trials:
        architecture = strategy.ask().architecture
        found.append(zdt1(architecture))
        told(strategy, architecture, *found[-1])
    return found


def test_its_front_dominates_more_than_random_searchs() -> None:
    """600 evaluations; of the hypervolume of the whole front, measured over 3 seeds: 0.866 at random, 0.999 here."""
    whole = hypervolume([(i / 31, 1 - math.sqrt(i / 31)) for i in range(32)])
    random = [hypervolume(front_of(RandomSearch(), seed, 600)) / whole for seed in range(3)]
    nsga2 = [hypervolume(front_of(NSGA2(population=20), seed, 600)) / whole for seed in range(3)]
    assert min(nsga2) > max(random)
    assert min(nsga2) > 0.98


@pytest.mark.parametrize("seed", range(4))
def test_with_one_objective_it_finds_the_best_of_4096(seed: int) -> None:
    """400 random architectures would contain it once in ten times."""
    domain, target = values(*[4] * 6), np.random.default_rng(seed + 100).integers(4, size=6).tolist()
    strategy = started(domain, seed, objectives=["a:min"], population=20)
    found = math.inf
    for _ in range(400):
        architecture = strategy.ask().architecture
        distance = sum(number != wanted for number, wanted in zip(numbers(architecture), target, strict=True))
        found = min(found, distance)
        told(strategy, architecture, distance)
    assert found == 0


def test_of_an_enumerated_conditional_space_it_finds_the_whole_front() -> None:
    """More operations are better and cost more: the front has one architecture a number of good operations."""
    deep = {depth: frozenset({(("depth", depth),)}) for depth in range(4)}
    operations = [Decision(f"op{i}", "one", ("good", "poor", "bad"), when=deep[i]) for i in range(4)]
    domain = Domain("conditional", {}, [Decision("depth", "depth", (1, 2, 3, 4)), *operations])

    def scores(architecture: Architecture) -> Point:
        picks = [str(pick) for name, pick in architecture.picks.items() if name != "depth"]
        return sum({"good": 2.0, "poor": 1.0, "bad": 0.0}[pick] for pick in picks), len(picks)

    strategy = started(domain, objectives=["a:max", "b:min"], population=10)
    found: set[Point] = set()
    for _ in range(60):
        if (request := strategy.ask()) is not None:
            found.add(scores(request.architecture))
            told(strategy, request.architecture, *scores(request.architecture))
    front = {(2.0 * depth, depth) for depth in range(1, 5)}
    everything = [scores(architecture) for architecture in domain.enumerate()]
    assert {p for p in everything if not any(dominates((q[0], -q[1]), (p[0], -p[1])) for q in everything)} == front
    assert front <= found
