"""Successive halving: rungs that are complete before the next begins, brackets that fit the budget, and samplers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from nasengine import (
    Architecture,
    ConfigError,
    Decision,
    Domain,
    Evaluate,
    Fidelity,
    Objective,
    PluginError,
    Strategy,
    Trial,
    strategy_named,
)
from nasengine.strategies.evolution import RegularizedEvolution
from nasengine.strategies.successive_halving import SuccessiveHalving
from nasengine.testing import StrategyContract

MANY = Domain("many", {}, [Decision(f"v{index}", "value", tuple(range(10))) for index in range(4)])


class TestSuccessiveHalving(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = SuccessiveHalving(candidates=9)
        return strategy


class TestSuccessiveHalvingOfEvolution(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = SuccessiveHalving(eta=2, sampler={"evolution": {"population": 4, "sample": 2}})
        return strategy


def started(
    domain: Domain = MANY,
    full_epochs: int = 27,
    trials: int = 10_000,
    fidelity: Fidelity = Fidelity(),  # noqa: B008 (frozen)
    sampler: Strategy | None = None,
    **options: Any,
) -> Any:
    strategy = SuccessiveHalving(**options)
    if sampler is not None:
        strategy.sampler = sampler
    strategy.start(domain, np.random.default_rng(0), [Objective("accuracy")], fidelity, trials, full_epochs)
    return strategy


def result(request: Any, score: float, number: int = 0, **changes: Any) -> Trial:
    return Trial(number, request, **{"state": "done", "metrics": {"accuracy": score}, **changes})


def numbers(count: int) -> Domain:
    return Domain("numbers", {}, [Decision("number", "value", tuple(range(count)))])


def worth(architecture: Architecture) -> float:
    return float(sum(int(str(pick)) for pick in architecture.picks.values()))


def epochs(request: Evaluate, full: int) -> int:
    return request.fidelity.epochs or full


def played(strategy: Any, count: int) -> list[Evaluate]:
    """What it asks for, each result told at once: the sum of the picks, whatever the epochs."""
    asked: list[Evaluate] = []
    while len(asked) < count and (request := strategy.ask()) is not None:
        asked.append(request)
        strategy.tell(result(request, worth(request.architecture), len(asked) - 1))
    return asked


# The rungs


@pytest.mark.parametrize(
    ("full", "options", "expected"),
    [
        (81, {}, [1, 3, 9, 27, 81]),
        (30, {}, [1, 3, 10, 30]),
        (50, {}, [2, 6, 17, 50]),
        (30, {"min_epochs": 5}, [10, 30]),
        (30, {"max_epochs": 9}, [1, 3, 9]),
        (64, {"eta": 4}, [1, 4, 16, 64]),
        (2, {}, [2]),
        (2, {"min_epochs": 5}, [2]),
        (1, {"eta": 2}, [1]),
        (243, {}, [1, 3, 9, 27, 81, 243]),
    ],
)
def test_rungs_are_counted_down_from_a_full_evaluation(full: int, options: dict[str, Any], expected: list[int]) -> None:
    assert started(full_epochs=full, **options).epochs == expected


def test_the_highest_rung_is_the_searchs_own_fidelity_and_the_others_differ_in_epochs_only() -> None:
    strategy = started(fidelity=Fidelity(data=0.5), full_epochs=9)
    assert strategy.rungs == [Fidelity(epochs=1, data=0.5), Fidelity(epochs=3, data=0.5), Fidelity(data=0.5)]


def test_a_bracket_has_27_9_3_and_1_candidates() -> None:
    asked = played(started(), 40)
    assert [epochs(request, 27) for request in asked] == [1] * 27 + [3] * 9 + [9] * 3 + [27]


def test_the_best_of_each_rung_go_up_best_first() -> None:
    asked = played(started(), 40)
    below, above = asked[:27], asked[27:36]
    best = sorted((request.architecture for request in below), key=worth, reverse=True)[:9]
    assert [request.architecture for request in above] == best
    assert asked[-1].architecture == best[0]


def test_among_equals_the_first_to_come_back_goes_up() -> None:
    strategy = started(candidates=3, max_epochs=3)
    requests = [strategy.ask() for _ in range(3)]
    for index in (1, 0, 2):
        strategy.tell(result(requests[index], 0.5))
    assert strategy.ask().architecture == requests[1].architecture


def test_a_rung_waits_for_its_slowest_and_the_order_of_results_does_not_matter() -> None:
    strategy = started(candidates=6, max_epochs=3)
    requests = [strategy.ask() for _ in range(6)]
    assert strategy.ask() is None
    for index in (5, 2, 0, 3, 1):
        strategy.tell(result(requests[index], float(index)))
        assert strategy.ask() is None
    strategy.tell(result(requests[4], 4.0))
    promoted = [strategy.ask(), strategy.ask()]
    assert [request.architecture for request in promoted] == [requests[5].architecture, requests[4].architecture]
    assert strategy.ask() is None


@pytest.mark.parametrize("changes", [{"state": "failed"}, {"state": "timed_out"}, {"metrics": {"accuracy": np.nan}}])
def test_a_trial_that_failed_never_goes_up(changes: dict[str, Any]) -> None:
    strategy = started(candidates=9, max_epochs=3)
    requests = [strategy.ask() for _ in range(9)]
    for index, request in enumerate(requests):
        strategy.tell(result(request, 9.0, **changes) if index else result(request, 0.1))
    assert strategy.ask().architecture == requests[0].architecture
    assert strategy.ask() is None  # two places stay empty


def test_where_all_failed_the_next_bracket_begins() -> None:
    strategy = started(candidates=3, max_epochs=3)
    for _ in range(12):
        request = strategy.ask()
        assert epochs(request, 27) == 1
        strategy.tell(result(request, 1.0, state="failed"))


def test_a_network_that_was_proposed_twice_takes_one_place() -> None:
    class Twice(Strategy):
        def prepare(self) -> None:
            self.proposals = iter([0, 0, 0, 1, 2, 3])

        def ask(self) -> Evaluate:
            return self.evaluate(self.domain.complete({"number": next(self.proposals)}))

        def tell(self, trial: Trial) -> None:
            pass

    asked = played(started(numbers(9), candidates=6, max_epochs=3, sampler=Twice()), 8)
    assert [request.architecture.picks["number"] for request in asked[6:]] == [3, 2]


# Brackets and the budget


def test_brackets_follow_each_other_while_the_budget_lasts() -> None:
    asked = played(started(max_epochs=3, trials=12), 12)
    assert [epochs(request, 27) for request in asked] == [1, 1, 1, 3] * 3


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (40, [27, 9, 3, 1]),
        (39, [26, 8, 2, 1]),
        (20, [14, 4, 1, 1]),
        (4, [1, 1, 1, 1]),
        (44, [27, 9, 3, 1, 1, 1, 1, 1]),
    ],
)
def test_a_bracket_is_made_small_enough_for_the_trials_left(trials: int, expected: list[int]) -> None:
    asked = played(started(trials=trials), trials)
    runs: list[list[int]] = []
    for request in asked:
        if not runs or runs[-1][0] != epochs(request, 27):
            runs.append([epochs(request, 27)])
        else:
            runs[-1].append(epochs(request, 27))
    assert [len(run) for run in runs][: len(expected)] == expected


def test_what_a_run_starts_from_counts_as_spent() -> None:
    strategy = started(trials=5, max_epochs=3)
    first = MANY.sample(np.random.default_rng(9))
    strategy.tell(result(Evaluate(first), 99.0))
    assert [epochs(request, 27) for request in played(strategy, 4)] == [1, 1, 1, 3]


def test_a_space_that_is_exhausted_ends_the_search_after_its_last_bracket() -> None:
    asked = played(started(numbers(5), candidates=9, max_epochs=9), 100)
    assert Counter(epochs(request, 27) for request in asked) == {1: 5, 3: 3, 9: 1}
    assert asked[-1].architecture.picks["number"] == 4


# The sampler


class Recorder(Strategy):
    """Proposes 0, 1, 2, …, at most `ahead` results ahead, and notes what it is told."""

    def __init__(self, ahead: int = 100) -> None:
        self.ahead, self.next = ahead, 0

    def prepare(self) -> None:
        self.told: list[tuple[object, int | None, float | None]] = []
        self.waiting: set[object] = set()

    def ask(self) -> Evaluate | None:
        if len(self.waiting) >= self.ahead:
            return None
        self.next += 1
        self.waiting.add(self.next - 1)
        return self.evaluate(self.domain.complete({"number": self.next - 1}))

    def tell(self, trial: Trial) -> None:
        assert trial.architecture is not None
        assert isinstance(trial.request, Evaluate)
        number = trial.architecture.picks["number"]
        self.waiting.discard(number)
        self.told.append((number, trial.request.fidelity.epochs, self.score(trial)))


def test_a_sampler_is_told_each_result_and_again_when_it_went_up() -> None:
    sampler = Recorder()
    played(started(numbers(99), candidates=3, max_epochs=3, sampler=sampler), 5)
    assert sampler.told == [(0, 1, 0.0), (1, 1, 1.0), (2, 1, 2.0), (2, 3, 2.0), (3, 1, 3.0)]


def test_a_network_known_at_a_higher_rung_is_told_with_that_result() -> None:
    sampler = Recorder()
    strategy = started(numbers(99), candidates=3, max_epochs=3, sampler=sampler)
    strategy.tell(result(Evaluate(numbers(99).complete({"number": 0})), 0.7))
    request = strategy.ask()
    assert request.architecture.picks["number"] == 0
    strategy.tell(result(request, 0.2, number=7))
    assert sampler.told == [(0, None, 0.7), (0, None, 0.7)]
    assert not sampler.waiting


def test_a_sampler_that_waits_for_results_is_waited_for() -> None:
    strategy = started(numbers(99), candidates=3, max_epochs=3, sampler=Recorder(ahead=2))
    first, second = strategy.ask(), strategy.ask()
    assert strategy.ask() is None
    strategy.tell(result(second, 0.5))
    third = strategy.ask()
    assert epochs(third, 27) == 1
    assert strategy.ask() is None
    for request in (first, third):
        strategy.tell(result(request, 0.1))
    assert strategy.ask().architecture == second.architecture


@pytest.mark.parametrize(
    ("sampler", "population"),
    [
        ("evolution", None),
        ("evolution:population=7", 7),
        ({"evolution": {"population": 7, "sample": 2}}, 7),
    ],
)
def test_a_sampler_is_named_as_a_strategy_is(sampler: Any, population: int | None) -> None:
    strategy: Any = strategy_named({"successive_halving": {"sampler": sampler}})
    assert isinstance(strategy.sampler, RegularizedEvolution)
    assert strategy.sampler.settings["population"] == population


def test_a_samplers_options_can_be_given_in_one_line() -> None:
    one: Any = strategy_named("successive_halving:sampler=evolution:population=7,eta=4")
    several: Any = strategy_named("successive_halving:sampler={evolution: {population: 7, sample: 2}},eta=4")
    assert (one.eta, one.sampler.settings) == (4, {"population": 7, "sample": None})
    assert (several.eta, several.sampler.settings) == (4, {"population": 7, "sample": 2})


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ("darts", "'darts' learns inside a supernet"),
        ("hyperband", "'hyperband' has rungs of its own"),
        ({"random": {}, "evolution": {}}, "expected its name"),
        ({"random": 3}, "expected its name"),
        ("evolution:popularity=3", "no option 'popularity'"),
    ],
)
def test_a_sampler_that_cannot_be_one_is_refused(sampler: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SuccessiveHalving(sampler=sampler)


def test_a_sampler_that_is_not_known_is_refused() -> None:
    with pytest.raises(PluginError, match=r"no strategy named 'evolutoin'\. Did you mean 'evolution'"):
        SuccessiveHalving(sampler="evolutoin")


@pytest.mark.parametrize(
    "options", [{"eta": 1}, {"min_epochs": 0}, {"min_epochs": 5, "max_epochs": 4}, {"candidates": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        SuccessiveHalving(**options)


def test_more_epochs_than_a_full_evaluation_are_refused() -> None:
    with pytest.raises(ConfigError, match="--fidelity epochs=81"):
        started(max_epochs=81, full_epochs=30)
