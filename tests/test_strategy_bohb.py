"""BOHB: the densities against plain sums, which results they are of, and what is drawn from them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.bohb import BOHB, INACTIVE, Density, code_of, pick_of
from nasengine.testing import StrategyContract

FLAT = Domain("flat", {}, [Decision(f"v{index}", "one", ("a", "b", "c", "d")) for index in range(4)])


class TestBOHB(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = BOHB(max_epochs=3, min_points_in_model=3)
        return strategy


def conditional() -> Domain:
    deep = frozenset({(("kind", "deep"),)})
    edges = Decision("edges", "some", ("a", "b", "c", "d"), 2)
    return Domain(
        "conditional",
        {},
        [Decision("kind", "one", ("flat", "deep")), Decision("width", "value", (1, 2, 3), when=deep), edges],
    )


def started(domain: Domain = FLAT, seed: int = 0, full_epochs: int = 9, trials: int = 10_000, **options: Any) -> Any:
    strategy = BOHB(**options)
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials, full_epochs)
    return strategy


def model_of(strategy: Any) -> Any:
    return strategy.sampler


def learn(strategy: Any, architecture: Architecture, score: float, epochs: int | None = None, **changes: Any) -> None:
    request = Evaluate(architecture, Fidelity(epochs=epochs))
    strategy.tell(Trial(0, request, **{"state": "done", "metrics": {"accuracy": score}, **changes}))


def flat(text: str) -> Architecture:
    return FLAT.complete({f"v{index}": letter for index, letter in enumerate(text)})


# Codes


@pytest.mark.parametrize(
    "decision",
    [
        Decision("one", "one", ("a", "b", "c")),
        Decision("value", "value", (0.1, 1, 7)),
        Decision("depth", "depth", (2, 3, 4)),
        *(Decision("some", "some", tuple("abcdef"), k) for k in range(1, 7)),
    ],
    ids=lambda decision: f"{decision.kind}{decision.k}",
)
def test_a_picks_code_is_its_place_among_all_picks(decision: Decision) -> None:
    picks = list(decision.picks())
    assert [code_of(decision, pick) for pick in picks] == list(range(decision.count))
    assert [pick_of(decision, code) for code in range(decision.count)] == picks


# The density


def plain(codes: Any, counts: Any, bandwidths: Any, point: Any) -> float:
    """Mean over rows of the product over decisions of Aitchison and Aitken's kernel (1976, equation 3)."""
    total = 0.0
    for row in codes:
        value = 1.0
        for mine, theirs, c, h in zip(row, point, counts, bandwidths, strict=True):
            value *= 1 - h if mine == theirs else h / (c - 1)
        total += value
    return total / len(codes)


def density(seed: int = 0, rows: int = 7) -> Density:
    rng = np.random.default_rng(seed)
    counts = np.array([2, 3, 5])
    return Density.of(rng.integers(counts, size=(rows, 3)), counts, 1e-3)


def test_a_density_is_what_the_plain_sum_says_and_adds_up_to_one() -> None:
    found = density()
    points = np.array(list(product(range(2), range(3), range(5))))
    expected = [plain(found.codes, found.counts, found.bandwidths, point) for point in points]
    assert np.exp(found.log(points)) == pytest.approx(expected, rel=1e-12)
    assert sum(expected) == pytest.approx(1.0)


def test_bandwidths_follow_the_normal_reference_rule_within_their_limits() -> None:
    """1.06 σ n^(−1 / (4 + d)), σ the population's, as statsmodels' KDEMultivariate has it, with n = 4 and d = 3."""
    codes = np.array([[0, 2, 0], [0, 2, 4], [1, 2, 0], [0, 2, 4]])
    found = Density.of(codes, np.array([4, 3, 5]), 1e-3).bandwidths
    assert found[0] == pytest.approx(1.06 * math.sqrt(3 / 16) * 4 ** (-1 / 7))
    assert found[1] == 1e-3  # nothing varies
    assert found[2] == 4 / 5  # 1.74 by the rule: as far as all picks being alike


def test_draws_are_as_frequent_as_the_density_of_widened_bandwidths_says() -> None:
    found, count = density(rows=3), 30_000
    drawn = Counter(map(tuple, found.draw(count, 2.0, np.random.default_rng(1)).tolist()))
    wide = np.minimum(2 * found.bandwidths, (found.counts - 1) / found.counts)
    statistic = 0.0
    for point in product(range(2), range(3), range(5)):
        expected = count * plain(found.codes, found.counts, wide, point)
        statistic += (drawn[point] - expected) ** 2 / expected
    assert statistic < 29 + 5 * math.sqrt(58) + 15  # 29 degrees of freedom; exceeded about once in a million times


# What it is of


def test_the_best_15_percent_are_good_but_at_least_one_more_than_there_are_decisions() -> None:
    strategy = started()
    architectures = list(FLAT.enumerate())
    rng = np.random.default_rng(0)
    order = rng.permutation(len(architectures))
    for count in range(1, 101):
        learn(strategy, architectures[int(order[count - 1])], float(count))
        densities = model_of(strategy).densities()
        if count < 10:  # 5 good and 5 others
            assert densities is None
        elif count in (10, 34, 100):
            good, others = densities
            assert (len(good.codes), len(others.codes)) == {10: (5, 5), 34: (5, 29), 100: (15, 85)}[count]
            best = [model_of(strategy).codes_of(architectures[int(i)]) for i in order[:count][::-1][: len(good.codes)]]
            assert good.codes.tolist() == best


def test_the_model_is_of_the_highest_fidelity_that_has_results_enough() -> None:
    strategy = started()
    architectures = list(FLAT.enumerate())
    for index in range(40):
        learn(strategy, architectures[index], float(index), epochs=1)
    assert len(model_of(strategy).densities()[1].codes) == 34
    for index in range(9):
        learn(strategy, architectures[index], float(-index), epochs=3)
    assert len(model_of(strategy).densities()[1].codes) == 34
    learn(strategy, architectures[9], -9.0, epochs=3)
    good, others = model_of(strategy).densities()
    assert good.codes.tolist() == [model_of(strategy).codes_of(architectures[index]) for index in range(5)]
    learn(strategy, architectures[50], 1.0, epochs=1)
    assert model_of(strategy).densities()[1].codes.tolist() == others.codes.tolist()
    for index in range(100, 110):
        learn(strategy, architectures[index], 0.5)  # in full, as what a run starts from
    assert len(model_of(strategy).densities()[1].codes) == 5
    assert model_of(strategy).codes_of(architectures[100]) in model_of(strategy).densities()[0].codes.tolist()


def test_trials_that_failed_are_bad_results() -> None:
    strategy = started()
    architectures = list(FLAT.enumerate())
    for index in range(10):
        learn(strategy, architectures[index], 99.0, state="failed" if index < 5 else "done")
    good, others = model_of(strategy).densities()
    assert good.codes.tolist() == [model_of(strategy).codes_of(architectures[index]) for index in range(5, 10)]
    assert others.codes.tolist() == [model_of(strategy).codes_of(architectures[index]) for index in range(5)]


def test_what_is_not_active_takes_over_from_a_row_that_has_it() -> None:
    model = model_of(started(conditional()))
    codes = np.array([[0, INACTIVE, 3], [1, 2, 0], [1, 0, 5], [0, INACTIVE, 1]])
    whole = np.array([model.imputed(codes) for _ in range(200)])
    assert (whole[:, codes != INACTIVE] == codes[codes != INACTIVE]).all()
    assert set(whole[:, 0, 1].tolist()) == {2, 0}
    nobody = np.array([[0, INACTIVE, 3], [0, INACTIVE, 4]])
    assert set(np.array([model.imputed(nobody) for _ in range(200)])[:, 0, 1].tolist()) == {0, 1, 2}


def test_architectures_survive_their_codes() -> None:
    domain = conditional()
    model = model_of(started(domain))
    for architecture in domain.enumerate():
        codes = model.codes_of(architecture)
        assert (INACTIVE in codes) == (architecture.picks["kind"] == "flat")
        assert model.architecture_of([max(code, 0) for code in codes]) == architecture


# What it proposes


def taught(**options: Any) -> Any:
    """`a` is good everywhere, and 100 results say so; random ones have two of eight."""
    strategy = started(**options)
    rng = np.random.default_rng(3)
    for architecture in FLAT.sample_different(100, rng):
        learn(strategy, architecture, float(sum(pick == "a" for pick in architecture.picks.values())))
    return strategy


def share_of_a(strategy: Any, count: int = 60) -> float:
    asked = [strategy.sampler.ask().architecture for _ in range(count)]
    return float(np.mean([pick == "a" for architecture in asked for pick in architecture.picks.values()]))


def test_it_proposes_what_good_results_have_and_others_have_not() -> None:
    assert share_of_a(taught(random_fraction=0.0), 10) > 0.6
    assert share_of_a(taught(random_fraction=1.0), 120) == pytest.approx(0.25, abs=0.08)


def test_a_third_of_the_proposals_is_random() -> None:
    model = model_of(taught())
    model._likely = lambda *_: iter([flat("aaaa")])  # what the model would say
    found = 0
    for _ in range(3_000):
        model._proposed.clear()
        found += model.ask().architecture == flat("aaaa")
    assert found / 3_000 == pytest.approx(2 / 3 + 1 / 3 / 256, abs=0.04)


def test_nothing_is_proposed_twice_while_there_is_something_else() -> None:
    strategy = taught()
    asked = [strategy.sampler.ask().architecture for _ in range(150)]
    assert len(set(asked)) == 150


def test_a_space_that_is_exhausted_or_has_one_architecture_is_survived() -> None:
    for domain in (Domain("one", {}, [Decision("only", "value", (1,))]), conditional()):
        strategy = started(domain)
        for number in range(120):
            request = strategy.ask()
            assert request is not None
            domain.validate(request.architecture)
            strategy.tell(Trial(number, request, "done", {"accuracy": float(number)}))


def test_a_space_with_rules_is_kept_to() -> None:
    def violation(architecture: Architecture) -> float:
        return max(0.0, sum(pick == "a" for pick in architecture.picks.values()) - 2)

    decisions = [Decision(f"v{index}", "one", ("a", "b", "c", "d")) for index in range(4)]
    domain = Domain("ruled", {}, decisions, violation=violation)
    strategy = started(domain, min_points_in_model=5)
    for number in range(100):
        request = strategy.ask()
        assert domain.allows(request.architecture)
        value = sum(pick == "a" for pick in request.architecture.picks.values())
        strategy.tell(Trial(number, request, "done", {"accuracy": float(value)}))


def searched(seed: int, **options: Any) -> tuple[int, float]:
    """The epochs and the worth of the best of 150 trials, of few epochs the noisier ones, in a space of 4,096."""
    domain = Domain("tiny", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])
    strategy, rng = started(domain, seed, trials=150, **options), np.random.default_rng(seed)
    target, best = np.random.default_rng(seed + 100).integers(4, size=6).tolist(), (0, 0.0)
    for number in range(150):
        request = strategy.ask()
        epochs = request.fidelity.epochs or 9
        true = float(sum(request.architecture.picks[f"v{i}"] == wanted for i, wanted in enumerate(target)))
        best = max(best, (epochs, true))
        strategy.tell(Trial(number, request, "done", {"accuracy": true + float(rng.normal()) / epochs}))
    return best


def test_it_finds_better_ones_than_hyperband_with_random_candidates() -> None:
    found = [searched(seed) for seed in range(6)]
    random = [searched(seed, random_fraction=1.0) for seed in range(6)]
    assert all(epochs == 9 for epochs, _ in [*found, *random])
    assert np.mean([value for _, value in found]) >= np.mean([value for _, value in random]) + 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"top_n_percent": 0},
        {"top_n_percent": 100},
        {"num_samples": 0},
        {"random_fraction": 1.5},
        {"bandwidth_factor": 0.0},
        {"min_bandwidth": 0.0},
        {"min_points_in_model": 1},
        {"eta": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        BOHB(**options)
