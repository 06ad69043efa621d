"""ASHA: who goes up when, checked by hand and against algorithm 2 of the paper as it is written there."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.asha import ASHA
from nasengine.testing import StrategyContract


class TestASHA(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = ASHA()
        return strategy


class TestASHAOfEvolution(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = ASHA(eta=2, sampler="evolution:population=4,sample=2")
        return strategy


class InOrder(Strategy):
    """Proposes 0, 1, 2, … of a space of numbers, up to its end."""

    def prepare(self) -> None:
        self.next = 0

    def ask(self) -> Evaluate | None:
        if self.next == self.domain.size:
            return None
        self.next += 1
        return self.evaluate(self.domain.complete({"number": self.next - 1}))

    def tell(self, trial: Trial) -> None:
        pass


def numbers(count: int) -> Domain:
    return Domain("numbers", {}, [Decision("number", "value", tuple(range(count)))])


def started(count: int = 1000, full_epochs: int = 9, objective: str = "accuracy", **options: Any) -> Any:
    strategy = ASHA(**options)
    strategy.sampler = InOrder()
    objectives = [Objective.parse(objective)]
    strategy.start(numbers(count), np.random.default_rng(0), objectives, Fidelity(), 10_000, full_epochs)
    return strategy


def asked(strategy: Any, full: int = 9) -> tuple[int, int] | None:
    """The number asked for, and by how many epochs."""
    request = strategy.ask()
    return None if request is None else (int(request.architecture.picks["number"]), request.fidelity.epochs or full)


def tell(strategy: Any, number: int, epochs: int, score: float, full: int = 9, **changes: Any) -> None:
    fidelity = Fidelity() if epochs == full else Fidelity(epochs=epochs)
    request = Evaluate(strategy.domain.complete({"number": number}), fidelity)
    strategy.tell(Trial(0, request, **{"state": "done", "metrics": {"accuracy": score}, **changes}))


# By hand: η = 3, rungs of 1, 3 and 9 epochs


def test_the_best_third_goes_up_as_it_stands_at_each_ask() -> None:
    strategy = started()
    assert [asked(strategy) for _ in range(3)] == [(0, 1), (1, 1), (2, 1)]
    tell(strategy, 0, 1, 0.1)
    tell(strategy, 1, 1, 0.5)
    assert asked(strategy) == (3, 1)  # of two results none is among the best third
    tell(strategy, 2, 1, 0.3)
    assert asked(strategy) == (1, 3)
    assert asked(strategy) == (4, 1)  # there is no other place in the best third of three
    tell(strategy, 1, 3, 0.6)
    tell(strategy, 3, 1, 0.9)
    assert asked(strategy) == (3, 3)  # the best of four, though 1 went up before
    assert asked(strategy) == (5, 1)
    tell(strategy, 4, 1, 0.2)
    tell(strategy, 5, 1, 0.4)
    assert asked(strategy) == (6, 1)  # the best two of six, 3 and 1, are up already
    tell(strategy, 6, 1, 0.7)
    assert asked(strategy) == (6, 3)  # now they are 3 and 6
    tell(strategy, 3, 3, 0.7)
    assert asked(strategy) == (7, 1)
    tell(strategy, 6, 3, 0.65)
    assert asked(strategy) == (3, 9)
    assert asked(strategy) == (8, 1)


def test_the_highest_rung_with_somebody_to_promote_comes_first() -> None:
    strategy = started()
    for number in range(6):
        asked(strategy)
        tell(strategy, number, 1, float(number))
    for number in (5, 4, 0):
        tell(strategy, number, 3, float(number))
    assert asked(strategy) == (5, 9)
    assert asked(strategy) == (5, 3)


def test_whoever_is_free_gets_work_whatever_is_under_way() -> None:
    strategy = started()
    assert [asked(strategy) for _ in range(50)] == [(number, 1) for number in range(50)]
    for number in (40, 7, 23):
        tell(strategy, number, 1, float(number))
    assert asked(strategy) == (40, 3)
    assert asked(strategy) == (50, 1)


def test_a_trial_that_failed_neither_goes_up_nor_counts() -> None:
    strategy = started()
    tell(strategy, 0, 1, 9.0, state="failed")
    tell(strategy, 1, 1, 9.0, metrics={"accuracy": float("nan")})
    tell(strategy, 2, 1, 0.5)
    tell(strategy, 3, 1, 0.4)
    assert asked(strategy) == (0, 1)
    tell(strategy, 4, 1, 0.3)
    assert asked(strategy) == (2, 3)


def test_who_failed_after_going_up_does_not_go_up_again() -> None:
    strategy = started()
    for number in range(3):
        tell(strategy, number, 1, float(number))
    assert asked(strategy) == (2, 3)
    tell(strategy, 2, 3, 0.0, state="out_of_memory")
    assert asked(strategy) == (0, 1)


def test_a_network_that_comes_back_twice_counts_once() -> None:
    strategy = started()
    for _ in range(9):
        tell(strategy, 5, 1, 0.5)
    assert asked(strategy) == (0, 1)


def test_for_an_objective_to_be_minimised_the_smallest_goes_up() -> None:
    strategy = started(objective="loss:min")
    for number, loss in enumerate((3.0, 1.0, 2.0)):
        tell(strategy, number, 1, 0.0, metrics={"loss": loss})
    assert asked(strategy) == (1, 3)


def test_what_a_run_starts_from_is_a_result_of_the_highest_rung() -> None:
    strategy = started()
    for number in range(100, 109):
        tell(strategy, number, 9, 1.0)
    assert asked(strategy) == (0, 1)


def test_an_exhausted_space_ends_the_search_when_nobody_is_left_to_promote() -> None:
    strategy = started(count=4)
    assert [asked(strategy) for _ in range(5)] == [(0, 1), (1, 1), (2, 1), (3, 1), None]
    for number in range(4):
        tell(strategy, number, 1, float(number))
    assert asked(strategy) == (3, 3)
    assert asked(strategy) is None


def test_an_evaluator_that_looks_at_no_epochs_is_no_matter() -> None:
    strategy = started(count=81, full_epochs=9)
    highest = []
    while (request := asked(strategy)) is not None:
        tell(strategy, *request, float(request[0] * 37 % 81))
        if request[1] == 9:
            highest.append(request[0] * 37 % 81)
    assert max(highest) == 80
    assert 9 <= len(highest) <= 12


# Against the paper


class Paper:
    """Algorithm 2 of Li et al. 2020 as it is written there, `get_job`; trials that failed are no part of a rung."""

    def __init__(self, rungs: int, eta: int) -> None:
        self.rungs: list[list[tuple[float, int]]] = [[] for _ in range(rungs)]
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]
        self.eta, self.next = eta, 0

    def get_job(self) -> tuple[int, int]:
        for k in reversed(range(len(self.rungs) - 1)):
            ordered = [number for _, number in sorted(self.rungs[k], key=lambda result: -result[0])]
            candidates = ordered[: len(ordered) // self.eta]
            promotable = [number for number in candidates if number not in self.promoted[k]]
            if promotable:
                self.promoted[k].add(promotable[0])
                return promotable[0], k + 1
        self.next += 1
        return self.next - 1, 0


@pytest.mark.parametrize(("eta", "workers", "seed"), [(3, 1, 0), (3, 8, 1), (2, 5, 2), (4, 20, 3)])
def test_it_asks_what_algorithm_2_asks_in_any_order_of_results(eta: int, workers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    strategy, paper = started(full_epochs=eta**3, eta=eta), Paper(4, eta)
    under_way: list[tuple[int, int]] = []
    promoted = 0
    for _ in range(600):
        while len(under_way) < workers:
            number, rung = paper.get_job()
            assert asked(strategy, eta**3) == (number, eta**rung)
            promoted += rung > 0
            under_way.append((number, rung))
        number, rung = under_way.pop(int(rng.integers(len(under_way))))
        score = float(rng.normal()) + 0.01 * rung
        if rng.random() < 0.1:
            tell(strategy, number, eta**rung, score, eta**3, state="failed")
        else:
            paper.rungs[rung].append((score, number))
            tell(strategy, number, eta**rung, score, eta**3)
    assert promoted > 600 / eta / 2


def test_an_ask_stays_cheap_over_ten_thousand_results() -> None:
    strategy = started(count=20_000)
    one = strategy.domain.complete({"number": 0})
    rung = strategy._results[strategy.rungs[0]]
    for number in range(10_000):
        rung.add(str(number), one, float(number * 7919 % 10_007))
    begun = time.perf_counter()
    while isinstance(rung.promote(3), Architecture):
        pass
    assert (time.perf_counter() - begun) / 3333 < 1e-3
