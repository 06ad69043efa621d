"""Hill climbing against the contract of strategies, and against random search where the optimum is known."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from nasengine_hillclimb import HillClimb

from nasengine import Architecture, ConfigError, Evaluate, Strategy, Trial
from nasengine.testing import StrategyContract, TinySpace, TinyTask

DOMAIN = TinySpace().domain(TinyTask())
EVERYTHING = list(DOMAIN.enumerate())


class TestHillClimb(StrategyContract):
    def make(self) -> Strategy:
        return HillClimb(patience=5)


def climb(seed: int = 0, patience: int = 30) -> HillClimb:
    strategy = HillClimb(patience=patience)
    strategy.start(DOMAIN, np.random.default_rng(seed), trials=1000)
    return strategy


def asked(strategy: HillClimb) -> Architecture:
    request = strategy.ask()
    assert isinstance(request, Evaluate)
    return request.architecture


def tell(strategy: HillClimb, architecture: Architecture, accuracy: float) -> None:
    strategy.tell(Trial(0, Evaluate(architecture), "done", {"accuracy": accuracy}))


def trials_to_the_best(seed: int) -> int:
    """How many architectures are judged until the best of all; each pick adds a made-up worth of its own."""
    worth = np.random.default_rng(seed).normal(size=DOMAIN.width)
    scores = {architecture: float(DOMAIN.encode(architecture) @ worth) for architecture in EVERYTHING}
    best, strategy = max(scores.values()), climb(seed)
    for count in range(1, 1001):
        architecture = asked(strategy)
        if scores[architecture] == best:
            return count
        tell(strategy, architecture, scores[architecture])
    return 1000


def test_it_finds_the_best_of_324_in_less_than_a_third_of_the_trials_of_random_search() -> None:
    # random search without repetition meets one of n architectures after (n + 1) / 2 trials on average
    assert len(EVERYTHING) == 324
    assert statistics.mean(map(trials_to_the_best, range(40))) < (324 + 1) / 2 / 3


def test_it_moves_to_what_is_better_and_proposes_its_neighbours() -> None:
    strategy = climb()
    start = asked(strategy)
    tell(strategy, start, 0.5)
    worse, better = asked(strategy), asked(strategy)
    assert {worse, better} <= set(DOMAIN.neighbors(start))
    tell(strategy, worse, 0.4)
    tell(strategy, better, 0.6)
    assert asked(strategy) in DOMAIN.neighbors(better)


def test_neighbours_come_in_random_order() -> None:
    positions = set()
    for seed in range(10):
        strategy = climb(seed)
        start = asked(strategy)
        tell(strategy, start, 0.5)
        positions.add(DOMAIN.neighbors(start).index(asked(strategy)))
    assert len(positions) > 3


def test_what_was_tried_is_passed_over() -> None:
    strategy = climb()
    start = asked(strategy)
    tell(strategy, start, 0.5)
    better = asked(strategy)
    tell(strategy, better, 0.6)
    assert start in DOMAIN.neighbors(better)
    proposed = []
    while (request := strategy.ask()) is not None:
        assert isinstance(request, Evaluate)
        proposed.append(request.architecture)
    assert set(proposed) == set(DOMAIN.neighbors(better)) - {start}


def test_it_begins_anew_when_patience_is_at_an_end_and_ignores_what_the_old_climb_still_brings() -> None:
    strategy = climb(patience=2)
    tell(strategy, asked(strategy), 0.5)
    late, *tried = (asked(strategy) for _ in range(3))
    for architecture in tried:
        tell(strategy, architecture, 0.4)
    start = asked(strategy)  # at random, so that anything is better than nothing
    tell(strategy, late, 0.9)
    tell(strategy, start, 0.1)
    assert asked(strategy) in DOMAIN.neighbors(start)


def test_it_waits_for_what_is_under_way_before_it_gives_up_a_summit() -> None:
    strategy = climb()
    start = asked(strategy)
    tell(strategy, start, 0.5)
    neighbors = [asked(strategy) for _ in DOMAIN.neighbors(start)]
    assert set(neighbors) == set(DOMAIN.neighbors(start))
    assert strategy.ask() is None
    for architecture in neighbors:
        tell(strategy, architecture, 0.4)
    assert strategy.ask() is not None


def test_a_patience_of_none_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience = 0; expected at least 1"):
        HillClimb(patience=0)
