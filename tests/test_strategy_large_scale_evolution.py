"""Large-scale evolution: who dies, who is parent, whose weights a child begins with, and what that comes to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasengine
from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.large_scale_evolution import LargeScaleEvolution
from nasengine.testing import StrategyContract, TinySpace, TinyTask

WIDE = Domain("wide", {}, [Decision(f"v{index}", "value", tuple(range(5))) for index in range(16)])
ONLY: dict[str, Any] = {"keep_training": 0.0, "reset_weights": 0.0}
"""Mutations only."""


class TestLargeScaleEvolution(StrategyContract):
    def make(self) -> Strategy:
        return LargeScaleEvolution(population=5)  # type: ignore[no-any-return]


def started(domain: Domain = WIDE, seed: int = 0, trials: int = 400, **options: Any) -> Any:
    strategy = LargeScaleEvolution(**options)
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)
    return strategy


class Play:
    """A search without an engine: trials are numbered in the order in which they were asked for."""

    def __init__(self, strategy: Any) -> None:
        self.strategy, self.requests = strategy, list[Evaluate]()

    def ask(self) -> int:
        request = self.strategy.ask()
        assert isinstance(request, Evaluate)
        self.requests.append(request)
        return len(self.requests) - 1

    def tell(self, number: int, score: float, **changes: Any) -> None:
        given = {"state": "done", "metrics": {"accuracy": score}, **changes}
        self.strategy.tell(Trial(number, self.requests[number], **given))

    def architecture(self, number: int) -> Architecture:
        return self.requests[number].architecture

    def alive(self) -> list[int]:
        return sorted(self.strategy.parents())


def filled(scores: Sequence[float], seed: int = 0, **options: Any) -> Play:
    play = Play(started(seed=seed, population=len(scores), **{**ONLY, **options}))
    for score in scores:
        play.tell(play.ask(), score)
    return play


def edits(a: Architecture, b: Architecture) -> int:
    return sum(a.picks[name] != b.picks[name] for name in a.picks)


# Tournaments of two


def test_of_two_the_worse_dies_and_the_better_has_a_child_that_inherits_its_weights() -> None:
    play = filled([0.2, 0.8])
    child = play.ask()
    assert play.requests[child].parent == 1
    assert edits(play.architecture(child), play.architecture(1)) == 1
    assert play.alive() == [1]
    play.tell(child, 0.5)
    assert play.alive() == [1, 2]


def test_every_pair_meets_as_often_as_every_other() -> None:
    """Of 4, the r-th best is parent in (4 − r) of 6 pairs, and the r-th best dies in (r − 1) of 6."""
    parents: Counter[int] = Counter()
    dead: Counter[int] = Counter()
    for seed in range(1200):
        play = filled([0.3, 0.1, 0.4, 0.2], seed)
        parents[play.requests[play.ask()].parent or 0] += 1
        dead[({0, 1, 2, 3} - set(play.alive())).pop()] += 1
    for counts, order in ((parents, (2, 0, 3)), (dead, (1, 3, 0))):
        assert sum(counts[i] for i in order) == 1200
        expected = (600, 400, 200)
        # two degrees of freedom
        assert sum((counts[i] - e) ** 2 / e for i, e in zip(order, expected, strict=True)) < 28


def test_the_population_keeps_its_size_with_several_under_way() -> None:
    play = filled([0.1 * index for index in range(10)])
    under_way = [play.ask() for _ in range(4)]
    assert len(play.alive()) == 6
    for number in reversed(under_way):
        play.tell(number, 0.5)
    assert len(play.alive()) == 10
    for _ in range(50):
        play.tell(play.ask(), 0.5)
    assert len(play.alive()) == 10


def test_an_individual_that_failed_is_replaced_by_a_random_one() -> None:
    play = filled([0.3, 0.6, 0.9])
    for changes in ({"state": "failed"}, {"metrics": {"accuracy": math.nan}}):
        child = play.ask()
        assert play.requests[child].parent is not None
        play.tell(child, 0.5, **changes)
        other = play.ask()
        assert play.requests[other].parent is None
        assert min(edits(play.architecture(other), play.architecture(i)) for i in range(3)) > 3
        play.tell(other, 0.4)
        assert len(play.alive()) == 3


def test_architectures_that_were_not_asked_for_join_the_population() -> None:
    play = Play(started(population=3, **ONLY))
    given = WIDE.sample(np.random.default_rng(7))
    play.requests.append(Evaluate(given))
    play.tell(0, 0.9)
    asked = [play.ask() for _ in range(2)]
    for number in asked:
        play.tell(number, 0.1)
    child = play.ask()
    assert play.requests[child].parent in (0, 1, 2)
    assert len(play.alive()) == 2


# Weights


def test_a_child_may_be_its_parent_trained_further() -> None:
    play = filled([0.2, 0.8], keep_training=1.0)
    child = play.ask()
    assert (play.architecture(child), play.requests[child].parent) == (play.architecture(1), 1)


def test_a_child_may_be_its_parent_trained_from_scratch_where_that_is_something_else() -> None:
    play = filled([0.2, 0.8], reset_weights=1.0)
    child = play.ask()
    assert edits(play.architecture(child), play.architecture(1)) == 1  # the parent itself began from scratch
    play.tell(child, 0.9)
    again = play.ask()
    assert (play.architecture(again), play.requests[again].parent) == (play.architecture(child), None)


def test_the_three_kinds_of_children_come_as_often_as_they_should() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(600):
        play = filled([0.2, 0.8], seed, keep_training=0.2, reset_weights=0.3)
        first = play.ask()
        play.tell(first, 0.9)
        child = play.requests[play.ask()]
        same = child.architecture == play.architecture(first)
        kinds["mutated" if not same else "further" if child.parent is not None else "anew"] += 1
    expected = {"mutated": 300, "further": 120, "anew": 180}
    assert kinds.total() == 600
    assert sum((kinds[kind] - count) ** 2 / count for kind, count in expected.items()) < 28  # two degrees of freedom


def test_where_a_result_was_somebody_elses_so_are_the_weights_as_long_as_there_are_any() -> None:
    play = filled([0.2, 0.8])
    twin = play.ask()
    play.tell(twin, 0.8, same_as=1)
    assert [individual.weights for individual in play.strategy.alive] == [1, 1]
    play = filled([0.2, 0.8])
    twin = play.ask()
    play.tell(twin, 0.9, same_as=0)  # who is dead
    assert [individual.weights for individual in play.strategy.alive] == [1, None]
    child = play.ask()
    assert play.requests[child].parent is None
    assert edits(play.architecture(child), play.architecture(twin)) == 1


def test_a_whole_search_names_only_parents_that_live_and_trains_its_find_from_scratch(tmp_path: Path) -> None:
    strategy = LargeScaleEvolution(population=4, keep_training=0.3, reset_weights=0.2)
    settings: dict[str, Any] = {"trials": 20, "baseline": 1, "out": tmp_path / "run"}
    run = nasengine.search(TinySpace(), strategy, TinyTask(), "train:epochs=1", **settings)
    requests = [t.request for t in run.all_trials if t.purpose == "search" and isinstance(t.request, Evaluate)]
    assert sum(request.parent is not None for request in requests) > 10
    assert all(getattr(trial.request, "parent", None) is None for trial in run.all_trials if trial.purpose != "search")
    assert run.finished
    assert not list((tmp_path / "run").glob("weights/*"))


def test_children_gain_from_their_parents_training(tmp_path: Path) -> None:
    """Trained further, an epoch at a time, each has a smaller loss than its parent had."""
    strategy = LargeScaleEvolution(population=2, keep_training=1.0, reset_weights=0.0)
    settings: dict[str, Any] = {"trials": 12, "baseline": 0, "seed": 1, "out": tmp_path / "run"}
    evaluator = "train:epochs=1,learning_rate=0.05"
    trials = nasengine.search(TinySpace(), strategy, TinyTask(), evaluator, **settings).all_trials
    losses = [trial.curve[-1]["train_loss"] for trial in trials if trial.curve]
    children = [(t.number, t.request.parent) for t in trials if isinstance(t.request, Evaluate)]
    gains = [losses[parent] - losses[child] for child, parent in children if parent is not None]
    assert len(gains) > 5
    assert min(gains) > 0


# Options and odd spaces


@pytest.mark.parametrize(("trials", "places"), [(10_000, 1000), (4_000, 1000), (200, 50), (20, 5), (3, 2)])
def test_the_population_is_the_papers_where_the_budget_allows_it(trials: int, places: int) -> None:
    assert started(trials=trials).places == places


@pytest.mark.parametrize(
    "options", [{"population": 1}, {"keep_training": -0.1}, {"keep_training": 0.7, "reset_weights": 0.7}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"has {next(iter(options))} = "):
        LargeScaleEvolution(**options)


def test_a_space_of_one_architecture_is_trained_on_and_on() -> None:
    play = Play(started(Domain("one", {}, [Decision("only", "value", (1,))]), population=2))
    for _ in range(6):
        play.tell(play.ask(), 0.5)
    assert {request.architecture.picks["only"] for request in play.requests} == {1}
    assert [request.parent for request in play.requests[:2]] == [None, None]


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_one_best_of_4096(seed: int) -> None:
    """300 random architectures would contain it 7 times in 100."""
    target = np.random.default_rng(seed + 100).integers(4, size=6).tolist()
    domain = Domain("tiny", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])
    play = Play(started(domain, seed, population=20))
    best = 0.0
    for _ in range(300):
        number = play.ask()
        score = sum(play.architecture(number).picks[f"v{i}"] == wanted for i, wanted in enumerate(target))
        best = max(best, score)
        play.tell(number, score)
    assert best == 6
