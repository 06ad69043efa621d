"""What strategies find of small spaces whose best is known: the one best, or of the best hundredth where they draw by
chance. The other strategies' files have such tests of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasengine import (
    Architecture,
    Chooser,
    Context,
    Decision,
    Domain,
    Evaluate,
    Fidelity,
    Objective,
    SearchSpace,
    Split,
    Task,
    Trial,
    strategy_named,
)
from nasengine.testing import TinyTask

FULL = 9
"""Epochs of a full evaluation."""
EVOLUTION = "evolution:population=20"


@dataclass
class Found:
    """What a search asked for: the worth of each architecture by the most epochs that it was judged with."""

    by_epochs: dict[int, dict[Architecture, float]] = field(default_factory=dict)

    @property
    def seen(self) -> dict[Architecture, float]:
        return {architecture: worth for judged in self.by_epochs.values() for architecture, worth in judged.items()}

    @property
    def best(self) -> float:
        """Of those that were judged in full."""
        return max(self.by_epochs.get(FULL, {}).values(), default=-1.0)


def searched(
    named: Any, decisions: int, picks: int, trials: int, seed: int, worth: Any, noise: float = 0.0, enough: float = 1e9
) -> Found:
    """A search of numbers below `picks`, until something is worth enough; the fewer epochs, the noisier the result."""
    strategy, rng, found = strategy_named(named), np.random.default_rng(seed), Found()
    domain = Domain("numbers", {}, [Decision(f"v{i}", "value", tuple(range(picks))) for i in range(decisions)])
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials, FULL)
    for number in range(trials):
        request = strategy.ask()
        if request is None or found.best >= enough:
            break
        assert isinstance(request, Evaluate)
        epochs, value = request.fidelity.epochs or FULL, worth(numbers(request.architecture))
        found.by_epochs.setdefault(epochs, {})[request.architecture] = value
        strategy.tell(Trial(number, request, "done", {"accuracy": value + noise * float(rng.normal()) / epochs}))
    return found


def numbers(architecture: Architecture) -> list[int]:
    return [int(str(pick)) for _, pick in sorted(architecture.picks.items())]


def matches(seed: int, decisions: int, picks: int) -> Any:
    """How many picks are right; of one architecture all are."""
    target = np.random.default_rng(seed + 100).integers(picks, size=decisions).tolist()
    return lambda found: float(sum(mine == right for mine, right in zip(found, target, strict=True)))


def lottery(seed: int, decisions: int, picks: int) -> Any:
    """A place in an order that follows no rule; the last is the best."""
    order = np.random.default_rng(seed + 100).permutation(picks**decisions)
    return lambda found: float(order[sum(pick * picks**i for i, pick in enumerate(found))])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "named",
    [
        {"asha": {"sampler": EVOLUTION}},
        {"successive_halving": {"sampler": EVOLUTION}},
        {"hyperband": {"sampler": EVOLUTION}},
        "bohb",
    ],
    ids=str,
)
def test_with_a_sampler_that_learns_they_find_the_one_best_of_1024(named: Any, seed: int) -> None:
    """Judged in full, though few epochs are noisy. As many random ones contain it 23 times in 100 at most."""
    found = searched(named, 5, 4, 300, seed, matches(seed, 5, 4), noise=0.3)
    assert found.best == 5
    assert len(found.seen) < 240


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["asha", "successive_halving", "hyperband"])
def test_with_random_candidates_they_find_one_of_the_best_hundredth(name: str, seed: int) -> None:
    """Which are looked at is up to chance: the best of 1,024 is among 400 of them 39 times in 100, one of the best ten
    99 times. That it comes to be judged in full is not."""
    found = searched(name, 5, 4, 600, seed, lottery(seed, 5, 4), noise=0.3)
    assert 350 < len(found.seen) < 500
    assert found.best >= 1024 - 10


@pytest.mark.parametrize("name", ["asha", "successive_halving", "hyperband"])
def test_where_all_are_looked_at_the_best_comes_to_be_judged_in_full(name: str) -> None:
    """By a fraction of the full evaluations that going through the space takes."""
    found = searched(name, 4, 4, 800, 0, lottery(0, 4, 4))
    assert len(found.seen) == 256
    assert found.best == 255
    assert len(found.by_epochs[FULL]) < 150


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("sampler", "options", "decisions", "trials"),
    [
        ("gp", {}, 4, 25),
        ("nsga2", {"population_size": 10}, 5, 100),
        ("nsga3", {"population_size": 10}, 5, 100),
    ],
)
def test_optunas_samplers_find_the_one_best(
    sampler: str, options: dict[str, Any], decisions: int, trials: int, seed: int
) -> None:
    """As many random architectures contain it 10 times in 100."""
    named = {"optuna": {"sampler": sampler, "options": options}}
    found = searched(named, decisions, 4, trials, seed, matches(seed, decisions, 4), enough=decisions)
    assert found.best == decisions


@pytest.mark.parametrize("seed", range(3))
def test_a_quasi_random_sequence_finds_one_of_the_best_hundredth(seed: int) -> None:
    """It looks at no results, so that the best is among 256 of 1,024 one time in four: of the best ten, one is."""
    assert searched("optuna:sampler=qmc", 5, 4, 256, seed, lottery(seed, 5, 4)).best >= 1024 - 10


@pytest.mark.parametrize("seed", range(3))
def test_a_quasi_random_sequence_is_spread_evenly(seed: int) -> None:
    """Of Sobol's first 16 points one is in each of 4 × 4 squares. The trial before them, from which Optuna learns the
    space, may have met one."""
    found = searched("optuna:sampler=qmc", 2, 16, 17, seed, lottery(seed, 2, 16))
    assert len(found.seen) == 17
    assert len({(a // 4, b // 4) for a, b in map(numbers, found.seen)}) == 16


class Rights(SearchSpace):
    """Five choices of four numbers, one of which is right; the more are right, the more the halves' difference counts.

    No architecture computes what another does with other weights: there is one weight, which all have.
    """

    right = (2, 0, 3, 1, 1)

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        terms = [
            choose.one(f"v{i}", {str(number): partial(Factor, float(number == right)) for number in range(4)})
            for i, right in enumerate(self.right)
        ]
        return Halves(terms)


class Factor(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Halves(nn.Module):
    def __init__(self, terms: list[nn.Module]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        difference = images[:, 0, :2].mean((1, 2)) - images[:, 0, 2:].mean((1, 2))
        logit = self.scale * sum(term(difference) for term in self.terms)
        return torch.stack([logit, -logit], 1)


class ByLoss(TinyTask):
    objectives = ("loss:min",)

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> dict[str, float]:
        return {"loss": float(self.loss(model.eval(), self._parts[split]))}


def test_spos_finds_the_one_best_of_1024() -> None:
    """By 144 paths: as many random ones would contain it 14 times in 100."""
    strategy: Any = strategy_named("spos:epochs=2,batch_size=16,population=16,generations=9,calibration=1,samples=1")
    context = Context(Rights(), ByLoss(), torch.device("cpu"), seed=0)
    *_, last = strategy.learn(context.supernet(), ByLoss(), context)
    assert last.metrics["paths"] == 144
    assert [last.architecture.picks[f"v{i}"] for i in range(5)] == [str(number) for number in Rights.right]
