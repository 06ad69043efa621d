"""ENAS: the controller's step against its formula, what reward and data it learns from, and that it finds the best."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import (
    Architecture,
    Chooser,
    ConfigError,
    Context,
    Derivation,
    Observer,
    Run,
    SearchSpace,
    Strategy,
    Task,
    TrainingDiverged,
    inherit,
)
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.errors import Interrupted
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.storage import Folder
from nasengine.strategies.enas import ENAS, Controller, again_and_again
from nasengine.testing import StrategyContract, TinySpace, TinyTask

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "controller_steps": 2,
    "aggregate": 3,
    "samples": 2,
    "hidden": 8,
}


class TestENAS(StrategyContract):
    def make(self) -> Strategy:
        return ENAS(**SMALL)  # type: ignore[no-any-return]


def small_cell() -> SearchSpace:
    return CellSpace(layers=3, channels=2, nodes=2)  # type: ignore[no-any-return]


def small_chain() -> SearchSpace:
    return ChainSpace(stages=1, layers=2, widths=(4, 8))  # type: ignore[no-any-return]


def small_201() -> SearchSpace:
    return NASBench201Space(channels=2, cells=1)  # type: ignore[no-any-return]


def learnt(strategy: Any, space: SearchSpace, task: Task, checkpoint: Any = None) -> tuple[list[Derivation], list[Any]]:
    """What it derives after each epoch, and the states then."""
    context = Context(space, task, CPU, seed=3, checkpoint=checkpoint)
    derived, states = [], []
    for derivation in strategy.learn(context.supernet(), task, context):
        derived.append(derivation)
        states.append(context.state())
    return derived, states


def controller(space: SearchSpace, made: type[Any] = Controller, **options: Any) -> Any:
    supernet = Context(space, TinyTask(), CPU, seed=0).supernet()
    return made(ENAS(**{**SMALL, **options}), supernet, torch.Generator().manual_seed(1))


# The controller's step


class ByWidth(Controller):  # type: ignore[misc]
    """A controller whose rewards are known."""

    def reward(self, task: Task, path: Architecture, batch: Any) -> float:
        return 0.9 if path.picks["width"] == 4 else 0.1


def test_a_step_follows_the_mean_gradient_of_log_p_times_the_advantage() -> None:
    found = controller(TinySpace(), ByWidth, aggregate=7, entropy_weight=0.3, baseline_decay=0.6)
    before, generator = copy.deepcopy(found.policy), torch.Generator().manual_seed(9)
    found.learn(TinyTask(), again_and_again(TinyTask()), generator)

    generator.manual_seed(9)
    paths = [before.sample(generator).architecture for _ in range(7)]
    total, rewards = torch.zeros((), dtype=torch.float64), []
    for path in paths:
        log_p, entropy = before.log_probability(path)
        rewards.append((0.9 if path.picks["width"] == 4 else 0.1) + 0.3 * entropy.item())
        weights = [0.6 ** (len(rewards) - 1 - i) for i in range(len(rewards))]
        baseline = sum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)
        total = total - (rewards[-1] - baseline) * log_p / 7
    total.backward()  # type: ignore[no-untyped-call]
    for (name, expected), (_, stepped) in zip(before.named_parameters(), found.policy.named_parameters(), strict=True):
        torch.testing.assert_close(stepped.grad, expected.grad, msg=name)
        assert not torch.equal(stepped, expected)
    assert {path.picks["width"] for path in paths} == {2, 4}


def test_a_controller_comes_to_draw_what_is_rewarded() -> None:
    found = controller(TinySpace(), ByWidth, aggregate=10, tanh_constant=2.5, controller_learning_rate=0.01)
    generator = torch.Generator().manual_seed(2)

    def share() -> float:
        return float(np.mean([found.policy.sample(generator).architecture.picks["width"] == 4 for _ in range(200)]))

    assert 0.35 < share() < 0.65
    rewards = [found.learn(TinyTask(), again_and_again(TinyTask()), generator)[0] for _ in range(60)]
    assert share() > 0.9
    assert sum(rewards[-10:]) > sum(rewards[:10]) + 2


# Its reward


@pytest.mark.parametrize("space", [small_cell(), small_201()], ids=["cell", "nasbench201"])
def test_the_reward_is_that_of_a_plain_model_with_the_batches_statistics(space: SearchSpace) -> None:
    task = TinyTask()
    found = controller(space)
    path = space.domain(task).sample(np.random.default_rng(3))
    batch = next(task.valid_batches())
    reward = found.reward(task, path, batch)
    model = space.model(path, task)
    inherit(model, found.supernet)
    with torch.no_grad():
        assert reward == pytest.approx(math.exp(-float(task.loss(model.train(), batch))), rel=1e-4)


def test_a_loss_that_is_no_number_is_worth_nothing() -> None:
    class Broken(TinyTask):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * math.nan

    found = controller(TinySpace())
    assert found.reward(Broken(), TinySpace().domain(TinyTask()).complete({}), next(TinyTask().valid_batches())) == 0.0


def test_what_is_derived_is_the_best_of_the_samples_on_one_batch() -> None:
    task, found = TinyTask(), controller(TinySpace(), samples=15)
    batch = next(task.valid_batches())
    derived = found.derive(task, batch, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    drawn = [found.policy.sample(generator).architecture for _ in range(15)]
    rewards = [found.reward(task, path, batch) for path in drawn]
    assert len(set(rewards)) > 5
    assert found.reward(task, derived, batch) == max(rewards)


def test_weights_learn_from_the_training_data_and_the_controller_from_the_validation_data() -> None:
    class Watched(TinyTask):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[bool, list[Tensor]] = {True: [], False: []}

        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            self.seen[torch.is_grad_enabled()].append(batch[0])
            return super().loss(model, batch)

    task = Watched()
    learnt(ENAS(**SMALL), TinySpace(), task)
    own = {split: {tuple(image.flatten().tolist()) for image in task._parts[split][0]} for split in ("train", "valid")}
    for training, split in ((True, "train"), (False, "valid")):
        assert {tuple(image.flatten().tolist()) for batch in task.seen[training] for image in batch} == own[split]


def test_validation_batches_come_in_order_again_and_again() -> None:
    class Three(TinyTask):
        def valid_batches(self) -> Iterator[Any]:
            yield from (0, 1, 2)

    batches = again_and_again(Three())
    assert [next(batches) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


# Whole searches


class Choice(SearchSpace):
    """The right function of the image, its opposite, or none; all that is learnt is how much it counts."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        signs = {"opposite": -1.0, "right": 1.0, "none": 0.0}
        return Weighed(choose.one("function", {name: lambda sign=sign: Halves(sign) for name, sign in signs.items()}))  # type: ignore[misc]


class Halves(nn.Module):
    """How much brighter the upper half is than the lower, times a sign."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, images: Tensor) -> Tensor:
        return self.sign * (images[:, 0, :2].mean((1, 2)) - images[:, 0, 2:].mean((1, 2)))


class Weighed(nn.Module):
    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function, self.bias = function, nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images)
        return torch.stack([value, -value], 1) + self.bias


@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_the_one_function_that_is_right(seed: int) -> None:
    context = Context(Choice(), TinyTask(), CPU, seed=seed)
    strategy = ENAS(epochs=12, batch_size=48, controller_steps=5, operation_tanh_reduction=1.0, samples=4)
    *_, last = strategy.learn(context.supernet(), TinyTask(), context)
    assert last.architecture.picks == {"function": "right"}
    policy = context.state()["kept"]["policy"]
    found = controller(Choice(), hidden=64, operation_tanh_reduction=1.0).policy
    found.load_state_dict(policy)
    right, opposite = (
        found.log_probability(Architecture("x", {}, {"function": name}))[0].exp().item()
        for name in ("right", "opposite")
    )
    assert right > 0.5 > 0.2 > opposite
    assert last.metrics["entropy"] < 0.95


@pytest.mark.parametrize("epoch", range(3))
def test_learning_stopped_after_any_epoch_ends_as_the_whole_one(epoch: int, tmp_path: Path) -> None:
    whole: list[Derivation] = []
    checkpoints: list[Any] = []
    context = Context(TinySpace(), TinyTask(), CPU, seed=3)
    for derivation in ENAS(**SMALL).learn(context.supernet(), TinyTask(), context):
        whole.append(derivation)
        write_checkpoint(Folder(tmp_path), len(whole), context.state())
        checkpoints.append(read_checkpoint(Folder(tmp_path), len(whole)))
    rest, states = learnt(ENAS(**SMALL), TinySpace(), TinyTask(), checkpoints[epoch])
    assert rest == whole[epoch + 1 :]
    final = states[-1] if states else checkpoints[epoch]
    assert torch.equal(final["kept"]["baseline"], context.state()["kept"]["baseline"])


class StopsAfter(Observer):
    """Asks for an end after so many epochs."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def reported(self, report: object) -> None:
        self.left -= 1
        self.stop_requested = self.left <= 0


@pytest.mark.parametrize("reports", [2])
def test_an_interrupted_run_goes_on_where_it_was(reports: int, tmp_path: Path) -> None:
    def settings(name: str) -> dict[str, Any]:
        plugins = {"space": TinySpace(), "strategy": ENAS(**SMALL), "task": TinyTask(), "evaluator": "train:epochs=1"}
        return {**plugins, "trials": 1, "baseline": 0, "out": tmp_path / name}

    def results(run: Run) -> list[Any]:
        return [(t.architecture, dict(t.metrics), [dict(point) for point in t.curve]) for t in run.all_trials]

    whole = nasengine.search(**settings("whole"))
    with pytest.raises(Interrupted):
        nasengine.search(**settings("stopped"), observer=StopsAfter(reports))
    assert results(nasengine.resume(tmp_path / "stopped")) == results(whole)


@pytest.mark.parametrize("space", [small_cell(), small_201(), small_chain()], ids=["cell", "nasbench201", "chain"])
def test_it_derives_a_valid_architecture_of_any_space(space: SearchSpace) -> None:
    derived, _ = learnt(ENAS(**{**SMALL, "epochs": 1}), space, TinyTask())
    for derivation in derived:
        space.domain(TinyTask()).validate(derivation.architecture)
        assert all(np.isfinite(value) for value in derivation.metrics.values())
        assert derivation.metrics["entropy"] <= 1 + 1e-9


def test_the_learning_rate_falls_by_cosines_that_restart_ever_later() -> None:
    strategy = ENAS(
        epochs=8, batch_size=48, restart_period=2, controller_steps=1, aggregate=1, samples=1, hidden=4,
        learning_rate=1.0, learning_rate_min=0.2,
    )  # fmt: skip
    _, states = learnt(strategy, TinySpace(), TinyTask())
    rates = [state["kept"]["step"]["param_groups"][0]["lr"] for state in states]  # of the next epoch
    expected = [0.2 + 0.4 * (1 + math.cos(math.pi * done)) for done in (0.5, 0, 0.25, 0.5, 0.75, 0, 0.125, 0.25)]
    assert rates == pytest.approx(expected)


def test_weights_that_become_infinite_end_the_search_in_a_sentence() -> None:
    with pytest.raises(TrainingDiverged, match="the supernet's loss is"):
        learnt(ENAS(**{**SMALL, "learning_rate": 1e30, "gradient_clip": 0.0}), TinySpace(), TinyTask())


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"aggregate": 0}, {"baseline_decay": 1.0}, {"samples": 0}, {"hidden": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"'enas' has {next(iter(options))} = "):
        ENAS(**options)


@pytest.mark.slow
def test_on_digits_rewards_rise_while_the_weights_learn() -> None:
    derived, _ = learnt(ENAS(epochs=20), NASBench201Space(channels=8, cells=1), Digits())
    assert derived[-1].metrics["reward"] > 3 * derived[0].metrics["reward"]


def test_a_space_of_one_architecture_is_survived() -> None:
    class One(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return nn.Sequential(nn.Flatten(), choose.one("only", {"one": lambda: nn.Linear(16, 2)}))

    derived, _ = learnt(ENAS(**SMALL), One(), TinyTask())
    assert derived[-1].architecture.picks == {"only": "one"}
