"""One-shot strategies killed within an epoch: from the checkpoint of the one before they end as if nothing had been."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from nasengine import Batch, Context, Derivation, OneShotStrategy, Split
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.registry import installed, load
from nasengine.search_spaces.nasbench101 import NASBench101Space
from nasengine.storage import Folder
from nasengine.testing import TinyTask

SPACE = NASBench101Space(vertices=4, edges=5, stacks=1, cells=1, channels=4)
BILEVEL: dict[str, Any] = {"epochs": 2, "batch_size": 12, "alpha_learning_rate": 0.01, "hessian": False}
OPTIONS: dict[str, dict[str, Any]] = {
    "darts": {**BILEVEL, "hessian": True},  # the guard is the same for all
    "enas": {"epochs": 2, "batch_size": 16, "controller_steps": 2, "aggregate": 3, "samples": 2, "hidden": 8},
    "spos": {"epochs": 2, "batch_size": 16, "population": 4, "generations": 2, "calibration": 1},
    "proxyless": {**BILEVEL, "warmup": 0.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "darts, second order": {"order": 2},
    "sdarts, adversarial": {"perturbation": "adversarial", "steps": 2},
}
"""Of the strategies that learn in another way where one asks for it."""
ONE_SHOT = [
    listed.name
    for listed in installed("strategy")
    if listed.distribution == "nasengine" and issubclass(load("strategy", listed.name), OneShotStrategy)
]


class Killed(BaseException):
    """What nobody catches."""


class Fragile(TinyTask):
    """Counts the batches, losses and metrics that it is asked for, and dies when it is asked once too often."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.asked, self.dies_at = 0, dies_at

    def count(self) -> None:
        if self.asked == self.dies_at:
            raise Killed
        self.asked += 1

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in super().train_batches(batch_size, generator, part):
            self.count()
            yield batch

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.count()
        return super().loss(model, batch)

    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        self.count()
        return super().metrics(model, split)


class Learning:
    """A strategy in a supernet, epoch by epoch."""

    def __init__(self, name: str, task: Fragile, checkpoint: dict[str, Any] | None = None) -> None:
        made = cast(Any, load("strategy", name.partition(",")[0]))
        strategy = made(**OPTIONS.get(name, BILEVEL), **VARIANTS.get(name, {}))
        self.context = Context(SPACE, task, torch.device("cpu"), 3, False, checkpoint)
        self.derived: list[Derivation] = []
        self._epochs: Iterator[Derivation] = strategy.learn(self.context.supernet(), task, self.context)

    def __iter__(self) -> Iterator[Derivation]:
        for derivation in self._epochs:
            self.derived.append(derivation)
            yield derivation

    def state(self) -> dict[str, Any]:
        """α, the controller, the weights, the optimizers: everything that it keeps, by its path."""
        return dict(flat(self.context.state()["kept"]))


def flat(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of dicts and sequences."""
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else None
    if pairs is None:
        yield path, state
    for key, value in pairs or ():
        yield from flat(value, f"{path}.{key}")


@functools.cache
def whole(name: str) -> tuple[list[Derivation], dict[str, Any], list[int]]:
    """What it derives and what it keeps in the end, and what it had asked the task for after each epoch."""
    task = Fragile()
    learning = Learning(name, task)
    asked = [task.asked for _ in learning]
    return learning.derived, learning.state(), asked


def left_by_killed(name: str, dies_at: int, folder: Path) -> dict[str, Any]:
    """The last checkpoint of a learning that wrote one after each epoch, until it died."""
    learning = Learning(name, Fragile(dies_at))
    try:
        for _ in learning:
            write_checkpoint(Folder(folder), 0, learning.context.state())
    except Killed:
        torch.manual_seed(99)  # a new process knows nothing of the old one's generators
        return read_checkpoint(Folder(folder), 0) or {}
    raise AssertionError("it lives")


@pytest.mark.parametrize(
    "share",
    [
        pytest.param(0.0, marks=pytest.mark.slow, id="at its beginning"),
        pytest.param(0.5, id="in its middle"),
        pytest.param(1.0, marks=pytest.mark.slow, id="at its end"),
    ],
)
@pytest.mark.parametrize("name", [*ONE_SHOT, *VARIANTS])
def test_learning_killed_within_its_second_epoch_ends_as_the_whole_one(name: str, share: float, tmp_path: Path) -> None:
    derived, state, asked = whole(name)
    second = asked[1] - asked[0]
    assert second >= 6
    checkpoint = left_by_killed(name, asked[0] + round(share * (second - 1)), tmp_path)
    assert checkpoint["epoch"] == 1
    before = dict(flat(checkpoint["kept"]))
    rest = Learning(name, Fragile(), checkpoint)
    for derivation, expected in zip(rest, derived[1:], strict=True):
        assert derivation.architecture == expected.architecture
        assert derivation.metrics == pytest.approx(expected.metrics, rel=1e-3, abs=1e-6)
    found = rest.state()
    assert found.keys() == state.keys()
    for path, value in state.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(found[path], value, rtol=0, atol=1e-6, msg=path)
        elif isinstance(value, float):
            assert found[path] == pytest.approx(value, rel=1e-3, abs=1e-6), path
        else:
            assert found[path] == value, path
    learns = next(part for part in ("alpha", "policy", "supernet") if part in checkpoint["kept"])
    moved = [float((state[path] - before[path]).abs().sum()) for path in state if path.split(".")[1] == learns]
    assert sum(moved) > 1e-3


def test_an_evolution_killed_within_a_generation_ends_as_the_whole_one(tmp_path: Path) -> None:
    derived, state, asked = whole("spos")
    checkpoint = left_by_killed("spos", (asked[2] + asked[3]) // 2, tmp_path)
    assert checkpoint["epoch"] == 3
    rest = Learning("spos", Fragile(), checkpoint)
    assert list(rest) == derived[3:]
    scores = {path: value for path, value in state.items() if path.startswith(".paths")}
    assert len(scores) == 2 * 8
    assert {path: value for path, value in rest.state().items() if path.startswith(".paths")} == scores
