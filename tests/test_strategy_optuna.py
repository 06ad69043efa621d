"""Optuna's samplers as strategies: parameters that lose nothing, results that reach the sampler, and silence."""

from __future__ import annotations

import importlib
import logging
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
import pytest

from nasengine import (
    Architecture,
    ConfigError,
    Decision,
    Domain,
    Evaluate,
    Fidelity,
    Objective,
    Strategy,
    Trial,
    strategy_named,
)
from nasengine.strategies.optuna import SAMPLERS, OptunaSampler
from nasengine.strategies.optuna_parameters import form_of, parameters, pick_of, values_of
from nasengine.testing import StrategyContract

needs_cmaes = pytest.mark.skipif(find_spec("cmaes") is None, reason="the package cmaes is not installed")
AVAILABLE = [pytest.param(name, marks=needs_cmaes) if name == "cmaes" else name for name in SAMPLERS]
FLAT = Domain("flat", {}, [Decision(f"v{index}", "one", ("a", "b", "c", "d")) for index in range(5)])


class TestTPE(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(options={"n_startup_trials": 5})
        return strategy


class TestGP(StrategyContract):
    trials = 10

    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="gp", options={"n_startup_trials": 5})
        return strategy


class TestNSGA2(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="nsga2", options={"population_size": 6})
        return strategy


class TestNSGA3(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="nsga3", options={"population_size": 6})
        return strategy


class TestQMC(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="qmc")
        return strategy


class TestRandom(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="random")
        return strategy


@needs_cmaes
class TestCMAES(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = OptunaSampler(sampler="cmaes")
        return strategy


def conditional() -> Domain:
    """With a decision of each form: categories, numbers, sets, many sets, and some that are not always met."""
    deep = frozenset({(("kind", "deep"),)})
    return Domain(
        "conditional",
        {},
        [
            Decision("kind", "one", ("flat", "deep")),
            Decision("width", "value", (8, 16, 32), when=deep),
            Decision("depth", "depth", (1, 2, 3), when=deep),
            Decision("bias", "value", (False, True)),
            Decision("edges", "some", ("a", "b", "c", "d"), 2),
            Decision("many", "some", tuple(f"o{index}" for index in range(12)), 3),
            Decision("only", "one", ("this",)),
        ],
    )


def started(
    domain: Domain = FLAT, seed: int = 0, objectives: tuple[str, ...] = ("accuracy:max",), **options: Any
) -> Any:
    strategy = OptunaSampler(**options)
    found = [Objective.parse(objective) for objective in objectives]
    strategy.start(domain, np.random.default_rng(seed), found, Fidelity(), 100)
    return strategy


def tell(strategy: Any, request: Any, score: float, **changes: Any) -> None:
    strategy.tell(Trial(0, request, **{"state": "done", "metrics": {"accuracy": score}, **changes}))


def count_of_a(architecture: Architecture) -> float:
    return float(sum(pick == "a" for pick in architecture.picks.values()))


# Parameters


@pytest.mark.parametrize("numbers_only", [False, True])
def test_every_pick_survives_its_parameters(numbers_only: bool) -> None:
    for decision in conditional().decisions.values():
        form = form_of(decision, numbers_only)
        kinds = parameters(decision, form)
        for pick in decision.picks():
            values = values_of(decision, form, pick)
            assert len(values) == len(kinds)
            assert all(kind._contains(kind.to_internal_repr(v)) for kind, v in zip(kinds.values(), values, strict=True))
            assert pick_of(decision, form, values) == pick


def test_a_decision_takes_the_form_that_says_most_of_it() -> None:
    forms = {name: form_of(decision, numbers_only=False) for name, decision in conditional().decisions.items()}
    assert forms == {
        "kind": "category", "width": "number", "depth": "number", "bias": "category", "edges": "sets",
        "many": "places", "only": "fixed",
    }  # fmt: skip
    assert form_of(Decision("falling", "value", (32, 16, 8)), numbers_only=False) == "number"
    assert form_of(Decision("mixed", "value", (8, 32, 16)), numbers_only=False) == "category"
    numbers = {form_of(decision, numbers_only=True) for decision in conditional().decisions.values()}
    assert numbers == {"number", "weights", "fixed"}


def test_places_that_are_taken_go_to_the_next_option() -> None:
    many = Decision("many", "some", tuple("abcdefghijkl"), 3)
    assert pick_of(many, "places", ["l", "l", "c"]) == ("a", "c", "l")


def test_weights_keep_the_largest() -> None:
    edges = Decision("edges", "some", tuple("abcd"), 2)
    assert pick_of(edges, "weights", [0.1, 0.9, 0.3, 0.5]) == ("b", "d")
    assert pick_of(Decision("one", "one", ("a", "b")), "weights", [0.1, 0.9]) == "b"


# What reaches the sampler


@pytest.mark.parametrize("sampler", AVAILABLE)
def test_all_samplers_search_a_space_with_conditions_and_every_form(sampler: str) -> None:
    domain = conditional()
    strategy = started(domain, sampler=sampler)
    for _ in range(14):
        request = strategy.ask()
        domain.validate(request.architecture)
        tell(strategy, request, float(request.architecture.picks["kind"] == "deep"))
    other = domain.sample(np.random.default_rng(7))
    tell(strategy, Evaluate(other), 0.5)  # as what a run starts from
    domain.validate(strategy.ask().architecture)


def test_only_the_decisions_that_were_met_are_suggested() -> None:
    domain = conditional()
    strategy = started(domain, sampler="random")
    for _ in range(20):
        request = strategy.ask()
        tell(strategy, request, 1.0)
    for trial in strategy._study.trials:
        assert ("width" in trial.params) == (trial.params["kind"] == "deep")


def test_a_result_is_told_with_its_state_and_what_was_not_asked_for_is_added() -> None:
    strategy = started(sampler="random")
    requests = [strategy.ask() for _ in range(3)]
    assert len({request.architecture for request in requests}) == 3
    tell(strategy, requests[2], 0.7)
    tell(strategy, requests[0], 0.2, state="pruned")
    tell(strategy, requests[1], 0.9, state="failed")
    known = Evaluate(FLAT.complete({f"v{index}": "d" for index in range(5)}))
    tell(strategy, known, 0.6)
    tell(strategy, Evaluate(FLAT.complete({"v0": "b"})), 0.6, state="failed")
    trials = strategy._study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.value for trial in trials] == [0.2, None, 0.7, 0.6]
    assert trials[3].params == {f"v{index}": "d" for index in range(5)}
    assert trials[2].params == dict(requests[2].architecture.picks)


def test_a_result_without_a_finite_value_is_a_failure() -> None:
    strategy = started(sampler="random")
    tell(strategy, strategy.ask(), float("nan"))
    assert strategy._study.trials[0].state.name == "FAIL"


def test_an_objective_to_be_minimised_is() -> None:
    strategy = started(objectives=("loss:min",))
    counts = []
    for _ in range(60):
        request = strategy.ask()
        counts.append(count_of_a(request.architecture))
        tell(strategy, request, 0.0, metrics={"loss": -counts[-1]})
    assert np.mean(counts[-20:]) > 2.5  # random ones have 1.25


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "nsga3", "qmc", "random"])
def test_several_objectives_are_looked_at(sampler: str) -> None:
    strategy = started(objectives=("accuracy:max", "size:min"), sampler=sampler)
    assert strategy.several_objectives
    for number in range(12):
        request = strategy.ask()
        size = float(sum(pick == "b" for pick in request.architecture.picks.values()))
        metrics = {"accuracy": count_of_a(request.architecture), **({"size": size} if number != 3 else {})}
        tell(strategy, request, 0.0, metrics=metrics)
    assert [direction.name for direction in strategy._study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [trial.state.name for trial in strategy._study.trials].count("FAIL") == 1


@needs_cmaes
def test_cmaes_looks_at_one_objective_and_says_so() -> None:
    assert not OptunaSampler(sampler="cmaes").several_objectives


# What is proposed


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("cmaes", marks=needs_cmaes)])
def test_it_finds_the_best_of_1024(sampler: str) -> None:
    """150 random architectures would contain it 14 times in 100."""
    for seed in range(3):
        strategy = started(seed=seed, sampler=sampler)
        best = 0.0
        for _ in range(150):
            request = strategy.ask()
            worth = count_of_a(request.architecture)
            best = max(best, worth)
            tell(strategy, request, worth)
            if best == 5:
                break
        assert best == 5


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", pytest.param("cmaes", marks=needs_cmaes)])
def test_what_is_known_is_not_asked_for_again(sampler: str) -> None:
    domain = Domain("small", {}, [Decision(f"v{index}", "one", ("a", "b", "c")) for index in range(4)])
    strategy = started(domain, sampler=sampler)
    asked = []
    for _ in range(60):
        request = strategy.ask()
        asked.append(request.architecture)
        tell(strategy, request, count_of_a(request.architecture))
    assert len(set(asked)) >= 57  # of 81; to the last ones the way may be too long


def test_a_space_that_is_exhausted_or_has_one_architecture_is_survived() -> None:
    for domain in (Domain("one", {}, [Decision("only", "value", (1,))]), Domain("two", {}, [FLAT.decisions["v0"]])):
        strategy = started(domain)
        for _ in range(15):
            request = strategy.ask()
            domain.validate(request.architecture)
            tell(strategy, request, 1.0)


def test_a_space_with_rules_is_kept_to() -> None:
    def violation(architecture: Architecture) -> float:
        return max(0.0, count_of_a(architecture) - 2)

    domain = Domain("ruled", {}, list(FLAT.decisions.values()), violation=violation)
    strategy = started(domain)
    for _ in range(40):
        request = strategy.ask()
        assert domain.allows(request.architecture)
        tell(strategy, request, count_of_a(request.architecture))


def test_another_seed_is_another_search() -> None:
    for sampler in ("tpe", "qmc", "nsga2", "random"):
        first, second = ([started(seed=seed, sampler=sampler).ask().architecture for _ in range(1)] for seed in (0, 1))
        assert first != second


# The surroundings


def test_the_module_does_not_hide_the_package_of_its_name() -> None:
    ours = importlib.import_module("nasengine.strategies.optuna")
    assert ours.__name__ == "nasengine.strategies.optuna"
    assert importlib.import_module("optuna") is optuna
    assert hasattr(optuna, "create_study")
    assert isinstance(strategy_named("optuna:sampler=random"), OptunaSampler)


def test_optuna_keeps_silent_and_its_verbosity(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.INFO)
    try:
        for sampler in ("tpe", "qmc"):
            strategy = started(
                conditional(), sampler=sampler, options={"multivariate": True} if sampler == "tpe" else {}
            )
            for _ in range(12):
                tell(strategy, strategy.ask(), 1.0)
        assert optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


def test_a_sampler_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasengine.strategies.optuna.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="'cmaes' needs the package cmaes: pip install cmaes"):
        OptunaSampler(sampler="cmaes")


def test_a_sampler_that_is_not_known_and_options_that_it_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'bayes'; expected one of tpe, gp, cmaes"):
        OptunaSampler(sampler="bayes")
    with pytest.raises(ConfigError, match=r"'tpe' does not accept its options: .*'n_startup'"):
        OptunaSampler(options={"n_startup": 3})
