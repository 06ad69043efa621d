"""Hyperband: the paper's brackets, in its order, and those that a small budget suffices for."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.hyperband import Hyperband
from nasengine.testing import StrategyContract

MANY = Domain("many", {}, [Decision(f"v{index}", "value", tuple(range(10))) for index in range(4)])
# Li et al. 2017, algorithm 1, with R = 81 and η = 3: candidates and epochs of each rung of the brackets s = 4, …, 0
TABLE = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


class TestHyperband(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = Hyperband()
        return strategy


def started(full_epochs: int = 81, trials: int = 10_000, **options: Any) -> Any:
    strategy = Hyperband(**options)
    strategy.start(MANY, np.random.default_rng(0), [Objective("accuracy")], Fidelity(), trials, full_epochs)
    return strategy


def worth(architecture: Architecture) -> float:
    return float(sum(int(str(pick)) for pick in architecture.picks.values()))


def rungs_asked(strategy: Any, count: int, full: int = 81) -> list[tuple[int, int]]:
    """How many requests of which epochs follow each other."""
    epochs = []
    for number in range(count):
        request = strategy.ask()
        assert isinstance(request, Evaluate)
        epochs.append(request.fidelity.epochs or full)
        strategy.tell(Trial(number, request, "done", {"accuracy": worth(request.architecture)}))
    return [(len(list(group)), of) for of, group in groupby(epochs)]


def test_brackets_are_the_papers_for_81_epochs_and_a_third() -> None:
    strategy = started()
    assert [[(n, r.epochs or 81) for n, r in strategy.bracket_of(s)] for s in (4, 3, 2, 1, 0)] == TABLE


def test_brackets_are_run_from_the_most_candidates_to_the_fewest_and_then_again() -> None:
    flat = [rung for bracket in TABLE for rung in bracket]
    *table, (last, whole) = flat
    assert table[-1] == (2, 81)  # the last bracket's five follow two of as many epochs: one run of seven
    expected = [*table[:-1], (2 + last, whole), *TABLE[0]]
    count = sum(n for n, _ in expected)
    assert rungs_asked(started(), count) == expected


def test_only_those_brackets_are_begun_that_the_budget_suffices_for() -> None:
    """With R = 30 they take 40, 17, 8 and 4 trials."""
    assert rungs_asked(started(30, trials=20), 20, 30) == [(12, 3), (4, 10), (1 + 3, 30)]
    assert rungs_asked(started(30, trials=60), 60, 30)[:4] == [(27, 1), (9, 3), (3, 10), (1, 30)]


@pytest.mark.parametrize("trials", [1, 3, 7, 20, 45, 100])
def test_the_last_trials_of_a_budget_are_of_full_length(trials: int) -> None:
    assert rungs_asked(started(30, trials=trials), trials, 30)[-1][1] == 30


def test_more_trials_than_were_said_do_no_harm() -> None:
    assert sum(n for n, _ in rungs_asked(started(30, trials=5), 90, 30)) == 90


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_a_network_of_the_best_hundredth_where_few_epochs_are_noisy(seed: int) -> None:
    """70 of the 10,000 have 32 or more of 36; 600 trials are some 200 of full length's worth of epochs."""
    strategy = Hyperband(sampler="evolution:population=20,sample=5")
    domain, rng = MANY, np.random.default_rng(seed)
    strategy.start(domain, rng, [Objective("accuracy")], Fidelity(), 600, 27)
    best = (0, 0.0)
    for number in range(600):
        request = strategy.ask()
        assert request is not None
        epochs, true = request.fidelity.epochs or 27, worth(request.architecture)
        best = max(best, (epochs, true))
        noisy = true + float(rng.normal()) * 3 / epochs
        strategy.tell(Trial(number, request, "done", {"accuracy": noisy}))
    assert best[0] == 27
    assert best[1] >= 32


def test_a_depth_and_a_conditional_decision_are_no_matter() -> None:
    inner = [Decision(f"rate{i}", "value", (0.1, 0.2), when=frozenset({(("depth", i),)})) for i in range(2)]
    strategy = Hyperband()
    domain = Domain("conditional", {}, [Decision("depth", "depth", (1, 2)), *inner])
    strategy.start(domain, np.random.default_rng(0), [Objective("accuracy")], Fidelity(), 100, 9)
    for number in range(100):
        request = strategy.ask()
        if request is None:
            break
        domain.validate(request.architecture)
        strategy.tell(Trial(number, request, "done", {"accuracy": 1.0}))
    assert number >= domain.size
