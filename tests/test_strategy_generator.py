"""The generator: its chances against a count of all architectures, its weights by hand, and what it finds."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from nasengine import ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.strategies.generator import Generator, normal_scores, rank_weights
from nasengine.testing import StrategyContract, TinySpace, TinyTask

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nas" / "nas_bench_201.csv.gz"
SMALL: dict[str, Any] = {"samples": 30, "epochs": 5, "surrogate_epochs": 10, "latent": 8, "hidden": 32}
TINY = TinySpace().domain(TinyTask())
PLAIN = Domain("plain", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])


class TestGenerator(StrategyContract):
    def make(self) -> Strategy:
        return Generator(initial=5, k=4, **SMALL)


def started(domain: Domain, seed: int = 0, trials: int = 200, **options: Any) -> Any:
    strategy = Generator(**{**SMALL, **options})
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)
    return strategy


def step(strategy: Any, score: Any) -> float:
    request = strategy.ask()
    assert isinstance(request, Evaluate)
    value = float(score(request.architecture))
    strategy.tell(Trial(0, request, "done", {"accuracy": value}))
    return value


def random_weights(strategy: Any) -> None:
    for parameter in strategy.network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))


def forget_z(strategy: Any) -> None:
    with torch.no_grad():
        strategy.network[0].weight[:, : strategy.latent] = 0


# Weights and targets


def test_rank_weights_are_those_of_a_calculation_by_hand() -> None:
    assert rank_weights(4, 0.01).tolist() == pytest.approx([25, 1 / 1.04, 1 / 2.04, 1 / 3.04])
    assert rank_weights(200, 0.01)[[0, 100]].tolist() == pytest.approx([0.5, 1 / 102])


def test_targets_are_quantiles_of_the_normal_distribution_whatever_the_scores() -> None:
    third = NormalDist().inv_cdf(5 / 6)
    assert normal_scores(np.array([0.9, 0.8, -1e9])).tolist() == pytest.approx([third, 0, -third])
    assert normal_scores(np.array([0.5, 0.5, 0.5])).tolist() == pytest.approx([0, 0, 0])


# The generator's chances


def test_the_likelihoods_of_all_architectures_add_up_to_one() -> None:
    """Of a space with conditions and a choice of two of three: 324 architectures, and nothing else is drawn."""
    strategy = started(TINY)
    random_weights(strategy)
    forget_z(strategy)
    text = strategy.language.text(list(TINY.enumerate()))
    chances = torch.exp(strategy.generated(text)[0] * text.there.sum(1)).detach()
    assert float(chances.sum()) == pytest.approx(1, abs=1e-4)
    assert float(chances.max()) > 5 * float(chances.min())


def test_architectures_are_drawn_as_often_as_their_likelihoods_say() -> None:
    strategy = started(TINY)
    random_weights(strategy)
    forget_z(strategy)
    architectures = list(TINY.enumerate())
    text = strategy.language.text(architectures)
    chances = torch.exp(strategy.generated(text)[0] * text.there.sum(1)).detach()
    drawn = Counter(strategy.draw(3_000))
    likeliest = chances.argsort(descending=True)[:40].tolist()
    for index in likeliest:
        chance = float(chances[index])
        assert abs(drawn[architectures[index]] - 3_000 * chance) < 5 * (3_000 * chance) ** 0.5 + 3
    assert sum(drawn.values()) == 3_000


def test_what_is_generated_softly_is_the_chances_of_the_picks() -> None:
    strategy = started(PLAIN)
    random_weights(strategy)
    _, soft = strategy.generated(strategy.language.text([PLAIN.sample(np.random.default_rng(0)) for _ in range(7)]))
    assert soft.shape == (7, PLAIN.width)
    assert soft.view(7, 6, 4).sum(2).tolist() == pytest.approx(np.ones((7, 6)), abs=1e-5)
    some = started(TINY).generated(started(TINY).language.text(list(TINY.enumerate())[:9]))[1]
    assert some[:, 2:5].sum(1).tolist() == pytest.approx([2.0] * 9)  # two of three edges


def test_z_matters_to_what_is_drawn() -> None:
    strategy = started(PLAIN)
    random_weights(strategy)
    text = strategy.language.text([PLAIN.sample(np.random.default_rng(0))] * 50)
    assert float(strategy.generated(text)[0].detach().std()) > 0.01


# Learning


def test_each_is_trained_while_the_other_stands_still() -> None:
    strategy, rng = started(PLAIN), np.random.default_rng(0)
    networks = [PLAIN.sample(rng) for _ in range(20)]
    targets, weights = normal_scores(np.arange(20.0)), rank_weights(20, 0.01)

    def copies() -> list[list[torch.Tensor]]:
        return [[p.detach().clone() for p in part.parameters()] for part in (strategy.network, strategy.surrogate)]

    def changed(before: list[list[torch.Tensor]]) -> list[bool]:
        pairs = zip(before, copies(), strict=True)
        return [any(not torch.equal(a, b) for a, b in zip(old, new, strict=True)) for old, new in pairs]

    before = copies()
    strategy.fit_surrogate(strategy.encoded(networks), targets, weights)
    assert changed(before) == [False, True]
    before = copies()
    strategy.fit_generator(strategy.language.text(networks), targets, weights)
    assert changed(before) == [True, False]


def test_it_learns_to_draw_what_was_judged_good() -> None:
    """By likelihood: the better half starts with a 3. By the surrogate: it knows that a 2 at the end is better."""
    for alpha, name, good in ((0.0, "v0", 3), (1.0, "v5", 2)):
        strategy, rng = started(PLAIN, alpha=alpha, epochs=50, learning_rate=5e-3), np.random.default_rng(0)
        networks = sorted((PLAIN.sample(rng) for _ in range(100)), key=lambda a: a.picks[name] != good)
        scores = np.array([float(a.picks[name] == good) for a in networks])
        targets, weights = normal_scores(scores), torch.ones(100) if alpha else torch.tensor(scores)
        before = Counter(a.picks[name] for a in strategy.draw(300))[good]
        if alpha:
            strategy.surrogate_epochs = 20
            strategy.fit_surrogate(strategy.encoded(networks), targets, weights)
            targets, weights = torch.full((100,), float(targets.max())), torch.ones(100)
        strategy.fit_generator(strategy.language.text(networks), targets, weights)
        after = Counter(a.picks[name] for a in strategy.draw(300))[good]
        assert before < 200
        assert after > 250


def test_candidates_are_new_and_different_networks() -> None:
    strategy, rng = started(PLAIN), np.random.default_rng(0)
    for _ in range(30):
        strategy.note(PLAIN.sample(rng))
    candidates = strategy.candidates()
    assert len(set(candidates)) == len(candidates) == 30
    assert all(strategy.new(candidate) for candidate in candidates)


def test_a_space_is_exhausted_and_then_nothing_is_asked_for() -> None:
    domain = Domain("few", {}, [Decision(f"v{index}", "value", (0, 1, 2)) for index in range(3)])
    strategy, found = started(domain, k=5), []
    while (request := strategy.ask()) is not None:
        found.append(request.architecture)
        strategy.tell(Trial(0, request, "done", {"accuracy": float(len(found) % 5)}))
    assert len(found) == len(set(found)) == 27


def test_under_a_constraint_all_that_is_asked_for_is_allowed() -> None:
    domain = TinySpace().constrained(["parameters<=60"]).domain(TinyTask())
    strategy = started(domain, k=4)
    for _ in range(24):
        if (request := strategy.ask()) is None:
            break
        assert domain.allows(request.architecture)
        strategy.tell(Trial(0, request, "done", {"accuracy": 0.5}))


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_the_one_best_of_4096(seed: int) -> None:
    """160 random architectures would contain it 4 times in 100."""
    target = np.random.default_rng(seed + 100).integers(4, size=6).tolist()
    strategy = started(PLAIN, seed, trials=160, samples=100, epochs=15, surrogate_epochs=30, batch_size=32)
    found = [step(strategy, lambda a: sum(a.picks[f"v{i}"] == t for i, t in enumerate(target))) for _ in range(160)]
    assert max(found) == 6


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.is_file(), reason=f"needs the benchmark's table, {TABLE}")
def test_it_finds_a_network_of_the_best_of_nasbench201() -> None:
    """AG-Net's paper: 192 queries; the optimum is 94.37 % on CIFAR-10's test images after 200 epochs."""
    with gzip.open(TABLE, "rt", encoding="utf-8") as lines:
        scores = {row["arch_str"]: float(row["c10_test_ep200"]) for row in csv.DictReader(lines)}
    strategy = Generator()
    strategy.start(NASBench201Space().domain(TinyTask()), np.random.default_rng(0), [Objective("accuracy")], trials=192)
    assert max(step(strategy, lambda a: scores[a.to_nasbench201()]) for _ in range(192)) > 94.3


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"alpha": 1.5}, {"alpha": -0.1}, {"weight_factor": 0}, {"latent": 0}, {"surrogate_epochs": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Generator(**options)
