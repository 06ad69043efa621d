"""Grid search: every network once, in order, however the space is made."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasengine
from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.chain import ChainSpace
from nasengine.strategies.grid import LISTABLE, PATIENCE, GridSearch
from nasengine.testing import StrategyContract, TinySpace, TinyTask

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


class TestGridSearch(StrategyContract):
    def make(self) -> Strategy:
        return GridSearch()  # type: ignore[no-any-return]


def started(domain: Domain, trials: int = 100, fidelity: Fidelity = Fidelity()) -> Any:  # noqa: B008 (frozen)
    strategy = GridSearch()
    strategy.start(domain, np.random.default_rng(0), [Objective("accuracy")], fidelity, trials)
    return strategy


def asked(strategy: Any, at_most: int = 10_000) -> list[Architecture]:
    """What it asks for until it has nothing more."""
    found: list[Architecture] = []
    while len(found) < at_most and (request := strategy.ask()) is not None:
        assert isinstance(request, Evaluate)
        found.append(request.architecture)
    return found


def values(*counts: int, **rules: Any) -> Domain:
    """Independent numbers v0, v1, …, each below its count."""
    return Domain("numbers", {}, [Decision(f"v{i}", "value", tuple(range(n))) for i, n in enumerate(counts)], **rules)


def numbers(architecture: Architecture) -> tuple[int, ...]:
    return tuple(int(str(pick)) for _, pick in sorted(architecture.picks.items()))


def in_order(architecture: Architecture) -> Architecture:
    """Numbers that may change places: a network is a multiset of them, described by the descending sequence."""
    descending = sorted(numbers(architecture), reverse=True)
    return Architecture("numbers", {}, {f"v{index}": number for index, number in enumerate(descending)})


def test_every_architecture_is_asked_for_once_in_the_order_of_a_counter() -> None:
    strategy = started(values(3, 2, 4))
    assert [numbers(a) for a in asked(strategy)] == list(product(range(3), range(2), range(4)))
    assert [strategy.ask() for _ in range(3)] == [None] * 3


def test_conditions_between_decisions_are_respected() -> None:
    deep = frozenset({(("kind", "deep"),)})
    domain = Domain(
        "conditional",
        {},
        [
            Decision("kind", "one", ("flat", "deep")),
            Decision("edges", "some", ("a", "b", "c"), 2, when=deep),
            Decision("bias", "value", (False, True)),
        ],
    )
    found = asked(started(domain))
    assert found == list(domain.enumerate())
    assert len(set(found)) == domain.size == 2 + 3 * 2


def test_the_contracts_space_is_gone_through_to_its_last_architecture() -> None:
    domain = TinySpace().domain(TinyTask())
    assert asked(started(domain)) == list(domain.enumerate())


def test_of_isomorphic_architectures_the_first_is_judged() -> None:
    found = [numbers(a) for a in asked(started(values(3, 3, canonical=in_order)))]
    assert found == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def test_only_what_is_allowed_is_asked_for_even_where_its_canonical_form_is_not() -> None:
    def ascending(architecture: Architecture) -> float:
        first, second = numbers(architecture)
        return float(max(0, first - second))

    domain = values(4, 4, canonical=in_order, violation=ascending)
    found = [numbers(a) for a in asked(started(domain))]
    assert found == [(i, j) for i in range(4) for j in range(i, 4)]  # six of ten have a canonical form that descends


def test_what_the_run_starts_from_is_not_judged_again() -> None:
    domain = values(3, 3, canonical=in_order)
    strategy = started(domain)
    given = domain.complete({"v0": 2, "v1": 1})
    strategy.tell(Trial(0, Evaluate(given), "done", {"accuracy": 0.5}))
    assert [numbers(a) for a in asked(strategy)] == [(0, 0), (0, 1), (0, 2), (1, 1), (2, 2)]


def test_results_and_the_seed_change_nothing() -> None:
    silent, informed = started(values(3, 4)), started(values(3, 4))
    informed.rng = np.random.default_rng(7)
    states: list[Any] = ["done", "failed", "pruned"]
    for number in range(12):
        request, other = silent.ask(), informed.ask()
        assert request == other
        informed.tell(Trial(number, other, states[number % 3], {"accuracy": float("nan")}))


def test_a_space_too_large_to_be_listed_is_begun_at_its_first_corner() -> None:
    found = asked(started(values(*[5] * 200)), at_most=300)
    names = [f"v{index}" for index in range(200)]
    assert all(a.picks[name] == 0 for a in found for name in names[:-4])
    assert [tuple(a.picks[name] for name in names[-4:]) for a in found] == list(product(range(5), repeat=4))[:300]


def test_a_listable_space_is_gone_through_however_little_of_it_is_allowed() -> None:
    last = 3 * PATIENCE
    domain = values(last + 1, violation=lambda a: float(last - numbers(a)[0]))
    assert [numbers(a) for a in asked(started(domain))] == [(last,)]


def test_a_larger_one_where_nothing_new_comes_for_long_ends_with_a_sentence() -> None:
    domain = values(2, LISTABLE, violation=lambda a: float(numbers(a)[0] == 0 and numbers(a)[1] > 4))
    strategy = started(domain)
    assert len(asked(strategy, at_most=5)) == 5
    with pytest.raises(ConfigError, match=r"'grid' .* 'numbers' .* 10,000 architectures in a row .* 'random'"):
        strategy.ask()


def test_architectures_are_judged_at_the_searchs_fidelity() -> None:
    fidelity = Fidelity(epochs=3)
    assert started(values(2), fidelity=fidelity).ask().fidelity == fidelity


def test_a_run_with_budget_to_spare_ends_with_the_best_of_the_space(tmp_path: Path) -> None:
    run = nasengine.search("chain:stages=0", "grid", "digits", CHEAP, trials=1000, baseline=0, out=tmp_path / "run")
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    domain = ChainSpace(stages=0).domain(Digits())
    assert len(searched) == len(set(map(domain.canonical, domain.enumerate())))
    best = max((trial.architecture for trial in searched if trial.architecture), key=lambda a: a.id)
    assert run.best.architecture == best  # the evaluator's accuracy is the id
