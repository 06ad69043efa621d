"""PPO: its clipped objective by hand, its batches against the formula, and on spaces with one answer."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from nasengine import (
    Architecture,
    ConfigError,
    Decision,
    Domain,
    Evaluate,
    Fidelity,
    Objective,
    Request,
    Strategy,
    Trial,
)
from nasengine.strategies.ppo import PPO, clipped
from nasengine.testing import StrategyContract


def domain_of(count: int = 4, values: int = 4) -> Domain:
    return Domain("free", {}, [Decision(f"v{index}", "value", tuple(range(values))) for index in range(count)])


def started(domain: Domain | None = None, seed: int = 0, trials: int = 100, **options: Any) -> Any:
    strategy = PPO(**{"hidden": 8, **options})
    strategy.start(domain or domain_of(), np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)
    return strategy


def architecture_of(request: Request | None) -> Architecture:
    assert isinstance(request, Evaluate)
    return request.architecture


def told(strategy: Any, request: Request, score: float, **changes: Any) -> None:
    strategy.tell(
        Trial(**{"number": 0, "request": request, "state": "done", "metrics": {"accuracy": score}, **changes})
    )


def parameters(strategy: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in strategy.policy.parameters()])


def worth(architecture: Architecture) -> float:
    """A number in [0, 1) that nothing foretells."""
    return int(architecture.id[:8], 16) / 16**8


def searched(domain: Domain, fitness: Any, seed: int, trials: int, **options: Any) -> list[float]:
    strategy = started(domain, seed, trials, **options)
    scores: list[float] = []
    for _ in range(trials):
        request = strategy.ask()
        scores.append(fitness(architecture_of(request)))
        told(strategy, request, scores[-1])
    return scores


class TestPPOContract(StrategyContract):
    def make(self) -> Strategy:
        strategy: Strategy = PPO(batch_size=4, epochs=2, hidden=8, redraws=2, learning_rate=0.01)
        return strategy


# The clipped objective


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # more likely by more than 20 %: no more to gain
        (0.5, 2.0, 1.0, 2.0),  # good, and has become less likely: all to regain
        (1.0, -3.0, -3.0, -3.0),
        (0.9, -3.0, -2.7, -3.0),
        (0.5, -3.0, -2.4, 0.0),  # less likely by more than 20 %: no less to lose
        (1.5, -3.0, -4.5, -3.0),  # bad, and has become more likely: all to lose
        (7.0, 0.0, 0.0, 0.0),
    ],
)
def test_what_is_gained_is_clipped_and_what_is_lost_is_not(
    ratio: float, advantage: float, value: float, slope: float
) -> None:
    r = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    gain = clipped(r, torch.tensor([advantage], dtype=torch.float64), 0.2)
    gain.sum().backward()
    assert r.grad is not None
    assert gain.item() == pytest.approx(value)
    assert r.grad.item() == pytest.approx(slope)


def test_a_batch_is_learnt_from_as_the_formula_says() -> None:
    """Two steps of plain gradient descent, against the formula written out; the ratio counts from when each was drawn,
    although the policy changed while they were under way."""
    strategy = started(batch_size=3, epochs=2, clip=0.2, entropy_weight=0.1, decay=0.5, redraws=0)
    requests = [strategy.ask() for _ in range(3)]
    architectures, rewards = [architecture_of(request) for request in requests], [0.2, 0.9, 0.4]
    then = strategy.policy.log_probabilities(architectures)[0].detach()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as if another batch had come between
        for parameter in strategy.policy.parameters():
            parameter += 0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    start = parameters(strategy)
    # decay 0.5, corrected for the start: weights 1, 2 and 4 of 7
    baseline = (1 * 0.2 + 2 * 0.9 + 4 * 0.4) / 7
    ratios = []
    for _ in range(2):
        log_p, entropy = strategy.policy.log_probabilities(architectures)
        loss = torch.zeros((), dtype=torch.float64)
        for index, reward in enumerate(rewards):
            ratio, advantage = torch.exp(log_p[index] - then[index]), reward - baseline
            ratios.append(ratio.item())
            within = min(max(ratio.item(), 0.8), 1.2)
            surrogate = ratio * advantage if ratio.item() * advantage <= within * advantage else within * advantage
            loss = loss - (surrogate + 0.1 * entropy[index]) / 3
        gradients = torch.autograd.grad(loss, list(strategy.policy.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(strategy.policy.parameters(), gradients, strict=True):
                parameter -= 0.7 * gradient
    expected = parameters(strategy)
    assert max(ratios) > 1.2
    assert min(ratios) < 0.8

    torch.nn.utils.vector_to_parameters(start.clone(), strategy.policy.parameters())
    strategy.optimizer = torch.optim.SGD(strategy.policy.parameters(), lr=0.7)
    for request, reward in zip(requests, rewards, strict=True):
        told(strategy, request, reward)
    assert float((start - expected).abs().max()) > 1e-3
    assert float((parameters(strategy) - expected).abs().max()) < 1e-12


def test_results_are_learnt_from_by_the_batch() -> None:
    strategy = started(batch_size=4, redraws=0)
    states = [parameters(strategy)]
    for _ in range(9):
        request = strategy.ask()
        told(strategy, request, worth(architecture_of(request)))
        states.append(parameters(strategy))
    changed = [not torch.equal(a, b) for a, b in pairwise(states)]
    assert changed == [False, False, False, True, False, False, False, True, False]


@pytest.mark.parametrize(("trials", "batch"), [(1_000, 20), (200, 20), (100, 10), (20, 2), (3, 2)])
def test_a_batch_is_the_papers_where_the_budget_allows_it(trials: int, batch: int) -> None:
    assert started(trials=trials).size == batch
    assert started(trials=trials, batch_size=7).size == 7


def test_failed_trials_are_in_no_batch() -> None:
    strategy = started(batch_size=2, redraws=0)
    failures: list[dict[str, Any]] = [{"state": "failed"}, {"metrics": {"accuracy": math.nan}}, {"metrics": {}}]
    for changes in failures:
        told(strategy, strategy.ask(), 0.5, **changes)
    assert strategy.batch == []


def test_what_it_did_not_ask_for_counts_as_drawn_when_it_is_told() -> None:
    strategy = started(batch_size=3)
    architecture = domain_of().sample(np.random.default_rng(0))
    expected = strategy.policy.log_probability(architecture)[0].item()
    told(strategy, Evaluate(architecture), 0.5)
    ((sample, score),) = strategy.batch
    assert (sample.drawn, score) == (architecture, 0.5)
    assert sample.log_probability == pytest.approx(expected, abs=1e-12)


def test_results_may_come_in_any_order() -> None:
    strategy = started(batch_size=2)
    requests = [strategy.ask() for _ in range(6)]
    for request in reversed(requests):
        told(strategy, request, worth(architecture_of(request)))
    assert architecture_of(strategy.ask())


def test_what_is_known_joins_the_batch_and_costs_no_trial() -> None:
    strategy = started(domain_of(2, 2), batch_size=3, redraws=200)
    found = set()
    for _ in range(4):
        request = strategy.ask()
        found.add(architecture_of(request))
        told(strategy, request, worth(architecture_of(request)))
    assert len(found) == 4


# What it finds


@pytest.mark.parametrize("seed", range(2))
def test_it_learns_to_draw_the_best_of_256(seed: int) -> None:
    target = np.random.default_rng(seed + 100).integers(4, size=4).tolist()

    def matches(architecture: Architecture) -> int:
        return sum(architecture.picks[f"v{index}"] == wanted for index, wanted in enumerate(target))

    scores = searched(
        domain_of(), matches, seed, 240, batch_size=20, epochs=5, learning_rate=0.02, hidden=16, redraws=0
    )
    assert np.mean(scores[:40]) < 1.6  # random: 1
    assert np.mean(scores[-40:]) > 3
    assert max(scores) == 4


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (searched(domain_of(), worth, seed, 15, batch_size=4) for seed in (1, 1, 2))
    assert first == again != other


# Options


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"epochs": 0}, {"clip": 0.0}, {"learning_rate": -1.0}, {"decay": 1.0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        PPO(**options)


def test_defaults_are_the_papers() -> None:
    strategy = PPO()
    assert (strategy.learning_rate, strategy.clip, strategy.entropy_weight, strategy.hidden) == (3.5e-4, 0.2, 1e-5, 100)
