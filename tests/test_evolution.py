"""Regularized evolution against algorithm 1 of Real et al. 2019, and against what follows from it in closed form."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Request, Trial
from nasengine.strategies.evolution import RegularizedEvolution

WIDE = Domain("wide", {}, [Decision(f"v{index}", "value", tuple(range(5))) for index in range(16)])
"""5¹⁶ architectures: random ones are many edits apart, so that a child shows who its parent is."""


def started(
    domain: Domain = WIDE, seed: int = 0, trials: int = 400, objective: str = "accuracy", **options: Any
) -> Any:
    strategy = RegularizedEvolution(**options)
    strategy.start(domain, np.random.default_rng(seed), [Objective.parse(objective)], Fidelity(), trials)
    return strategy


def architecture_of(request: Request | None) -> Architecture:
    assert isinstance(request, Evaluate)
    return request.architecture


def told(strategy: Any, request: Request, score: float, **changes: Any) -> None:
    strategy.tell(
        Trial(**{"number": 0, "request": request, "state": "done", "metrics": {"accuracy": score}, **changes})
    )


def filled(
    scores: Sequence[float], sample: int, domain: Domain = WIDE, seed: int = 0
) -> tuple[Any, list[Architecture]]:
    """A strategy whose population is as large as the scores are many, and has them; and who they are."""
    strategy = started(domain, seed, population=len(scores), sample=sample)
    members = []
    for score in scores:
        request = strategy.ask()
        members.append(architecture_of(request))
        told(strategy, request, score)
    return strategy, members


def edits(a: Architecture, b: Architecture) -> int:
    return sum(a.picks[name] != b.picks[name] for name in a.picks)


def parent_of(child: Architecture, members: Sequence[Architecture]) -> int:
    """The index of the one member that is a single edit away."""
    near = [index for index, member in enumerate(members) if edits(child, member) == 1]
    assert len(near) == 1
    return near[0]


EVERYBODY = 400
"""A tournament so large that nobody is missing: of 5, one in 10³⁸ times."""


def algorithm_1(
    domain: Domain, rng: np.random.Generator, fitness: Callable[[Architecture], float], p: int, s: int, c: int
) -> list[Architecture]:
    """Real et al. 2019, algorithm 1, line by line; `history` is returned whole."""
    population: deque[tuple[Architecture, float]] = deque()
    history: list[Architecture] = []
    while len(population) < p:
        model = domain.sample(rng)
        population.append((model, fitness(model)))
        history.append(model)
    while len(history) < c:
        sample = []
        for index in rng.integers(len(population), size=s):
            sample.append(population[index])  # the element stays in the population
        parent = sample[0]
        for candidate in sample:
            if candidate[1] > parent[1]:
                parent = candidate
        child = domain.mutate(parent[0], rng)
        population.append((child, fitness(child)))
        history.append(child)
        population.popleft()
    return history


def conditional() -> Domain:
    inner = [Decision(f"rate{i}", "value", (0.1, 0.2, 0.5), when=frozenset({(("depth", i),)})) for i in range(3)]
    edges = Decision("edges", "some", ("a", "b", "c", "d"), 2)
    operations = [
        Decision(f"op.{edge}", "one", ("conv", "pool", "skip"), when=frozenset({(("edges", edge),)})) for edge in "abcd"
    ]
    return Domain("conditional", {}, [Decision("depth", "depth", (1, 2, 3)), *inner, edges, *operations])


def value_of(architecture: Architecture) -> float:
    """An arbitrary but fixed worth of each pick, added up."""
    worth = 0.0
    for name, pick in architecture.picks.items():
        for part in pick if isinstance(pick, tuple) else (pick,):
            worth += (hash_free(f"{name}={part}") % 1000) / 1000
    return worth


def hash_free(text: str) -> int:
    """A number that a text has in every process."""
    number = 7
    for letter in text.encode():
        number = (31 * number + letter) % 1_000_003
    return number


@pytest.mark.parametrize("domain", [WIDE, conditional()], ids=["wide", "conditional"])
@pytest.mark.parametrize(("population", "sample"), [(10, 3), (5, 5), (1, 1), (20, 40)])
def test_it_asks_what_algorithm_1_asks(domain: Domain, population: int, sample: int) -> None:
    expected = algorithm_1(domain, np.random.default_rng(4), value_of, population, sample, 120)
    strategy = started(domain, seed=4, population=population, sample=sample)
    asked = []
    for _ in range(120):
        request = strategy.ask()
        asked.append(architecture_of(request))
        told(strategy, request, value_of(asked[-1]))
    assert asked == expected
    assert len(set(asked)) > 60


# Who is parent


def test_a_child_is_a_single_mutation_of_the_tournaments_best() -> None:
    strategy, members = filled([0.1, 0.5, 0.9, 0.3, 0.2], EVERYBODY)
    children = [architecture_of(strategy.ask()) for _ in range(50)]
    assert {parent_of(child, members) for child in children} == {2}
    assert len(set(children)) > 30


def test_ranks_become_parents_as_often_as_tournaments_with_replacement_say() -> None:
    """Of P = 4 with S = 2, the r-th best wins with ((5 − r)² − (4 − r)²) / 16: 7, 5, 3 and 1 in 16 times. Without
    replacement it would be 3, 2, 1 and 0 in 6."""
    strategy, members = filled([0.4, 0.1, 0.3, 0.2], sample=2)
    wins = Counter(parent_of(architecture_of(strategy.ask()), members) for _ in range(4_000))
    observed = [wins[index] for index in (0, 2, 3, 1)]
    expected = [4_000 * share / 16 for share in (7, 5, 3, 1)]
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    assert statistic < 30  # three degrees of freedom: once in a million times


def test_a_tournament_of_one_makes_anybody_parent_equally_often() -> None:
    strategy, members = filled([0.4, 0.1, 0.3, 0.2], sample=1)
    wins = Counter(parent_of(architecture_of(strategy.ask()), members) for _ in range(2_000))
    assert sum((wins[index] - 500) ** 2 / 500 for index in range(4)) < 30


def test_for_an_objective_to_be_minimised_the_smallest_is_the_best() -> None:
    strategy = started(objective="loss:min", population=4, sample=EVERYBODY)
    members = []
    for loss in (3.0, 1.0, 4.0, 2.0):
        request = strategy.ask()
        members.append(architecture_of(request))
        told(strategy, request, 0.0, metrics={"loss": loss, "accuracy": loss})
    assert parent_of(architecture_of(strategy.ask()), members) == 1


# Who dies


def test_the_oldest_dies_and_not_the_worst() -> None:
    """The best is the oldest: it is parent until three younger ones have come, however bad they are."""
    strategy, members = filled([0.9, 0.1, 0.5], EVERYBODY)
    scores = [0.9, 0.1, 0.5]
    for score in (0.3, 0.2, 0.15, 0.05, 0.01):
        request = strategy.ask()
        child = architecture_of(request)
        alive = range(len(members) - 3, len(members))
        best = max(alive, key=lambda index: scores[index])
        assert edits(child, members[best]) == 1
        members.append(child)
        scores.append(score)
        told(strategy, request, score)
    assert [score for score, _ in strategy.population] == [0.15, 0.05, 0.01]


def test_age_is_the_order_of_coming_back_and_not_of_asking() -> None:
    strategy = started(population=3, sample=EVERYBODY)
    requests = [strategy.ask() for _ in range(4)]  # the fourth before any result: there is no parent yet
    members = [architecture_of(request) for request in requests]
    assert min(edits(a, b) for a in members for b in members if a != b) > 3
    for index, score in ((2, 0.9), (0, 0.1), (1, 0.5)):
        told(strategy, requests[index], score)
    assert parent_of(architecture_of(strategy.ask()), members) == 2
    told(strategy, requests[3], 0.2)
    assert parent_of(architecture_of(strategy.ask()), members) == 1  # the third asked for has come first, and is dead


def test_a_population_begins_to_breed_when_all_of_it_was_asked_for_and_somebody_is_there() -> None:
    strategy = started(population=4, sample=EVERYBODY)
    requests = [strategy.ask() for _ in range(4)]
    told(strategy, requests[1], 0.5)
    assert edits(architecture_of(strategy.ask()), architecture_of(requests[1])) == 1


# Who never enters


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "failed"},
        {"state": "out_of_memory"},
        {"state": "timed_out"},
        {"metrics": {"accuracy": math.nan}},
        {"metrics": {"accuracy": math.inf}},
        {"metrics": {"loss": 9.0}},
        {"metrics": {}},
    ],
)
def test_a_trial_that_failed_never_enters_the_population(changes: dict[str, Any]) -> None:
    strategy, members = filled([0.1, 0.5, 0.3], EVERYBODY)
    before = list(strategy.population)
    for _ in range(5):  # more than there are places
        told(strategy, strategy.ask(), 9.0, **changes)
    assert list(strategy.population) == before
    assert parent_of(architecture_of(strategy.ask()), members) == 1


def test_a_trial_that_was_stopped_early_counts_with_what_it_reached() -> None:
    strategy, _ = filled([0.1, 0.5, 0.3], EVERYBODY)
    request = strategy.ask()
    told(strategy, request, 0.8, state="pruned")
    assert strategy.population[-1] == (0.8, architecture_of(request))


def test_where_all_failed_random_architectures_follow() -> None:
    strategy = started(population=3, sample=2)
    asked = []
    for _ in range(12):
        request = strategy.ask()
        asked.append(architecture_of(request))
        told(strategy, request, 1.0, state="failed")
    assert min(edits(a, b) for i, a in enumerate(asked) for b in asked[:i]) > 3
    request = strategy.ask()
    told(strategy, request, 0.1)
    assert edits(architecture_of(strategy.ask()), architecture_of(request)) == 1


# Options


@pytest.mark.parametrize(
    ("trials", "population", "sample"), [(400, 100, 25), (5_000, 100, 25), (200, 50, 12), (20, 5, 2), (3, 2, 2)]
)
def test_defaults_are_the_papers_where_the_budget_allows_them(trials: int, population: int, sample: int) -> None:
    strategy = started(trials=trials)
    assert strategy.population.maxlen == population
    assert strategy.rivals == sample
    members = []
    for _ in range(population):
        request = strategy.ask()
        members.append(architecture_of(request))
        told(strategy, request, 0.5)
    assert min(edits(a, b) for i, a in enumerate(members) for b in members[:i]) > 1  # all of them random
    child = architecture_of(strategy.ask())
    assert min(edits(child, member) for member in members) == 1


def test_options_given_are_kept_whatever_the_budget() -> None:
    strategy = started(trials=10, population=30, sample=7)
    assert (strategy.population.maxlen, strategy.rivals) == (30, 7)
    assert started(trials=1000, population=40).rivals == 10


@pytest.mark.parametrize("options", [{"population": 0}, {"sample": 0}, {"population": -3}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        RegularizedEvolution(**options)


def test_a_space_of_one_architecture_is_survived() -> None:
    strategy = started(Domain("one", {}, [Decision("only", "value", (1,))]), population=2)
    for _ in range(5):
        request = strategy.ask()
        assert architecture_of(request).picks == {"only": 1}
        told(strategy, request, 1.0)


# What it finds


def searched(domain: Domain, fitness: Callable[[Architecture], float], seed: int, trials: int, **options: Any) -> float:
    strategy = started(domain, seed, trials, **options)
    best = -math.inf
    for _ in range(trials):
        request = strategy.ask()
        score = fitness(architecture_of(request))
        best = max(best, score)
        told(strategy, request, score)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_the_one_best_of_4096(seed: int) -> None:
    """300 random architectures would contain it 7 times in 100."""
    target = np.random.default_rng(seed + 100).integers(4, size=6).tolist()
    domain = Domain("tiny", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])
    found = searched(
        domain,
        lambda a: sum(a.picks[f"v{index}"] == wanted for index, wanted in enumerate(target)),
        seed,
        300,
        population=20,
        sample=5,
    )
    assert found == 6


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_the_best_of_a_conditional_space_that_was_enumerated(seed: int) -> None:
    domain = conditional()
    worths = sorted(value_of(a) for a in domain.enumerate())
    assert domain.size == len(worths) == (3 + 9 + 27) * 6 * 9
    assert searched(domain, value_of, seed, 300, population=20, sample=5) == worths[-1]
