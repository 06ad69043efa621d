"""How the weights of a supernet learn: as the strategy's paper says, or as the task recommends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nasengine import ConfigError, Context, Recipe, Task, optimizer_of, supernet_recipe
from nasengine.evaluators.weight_sharing import WeightSharing
from nasengine.registry import load, make
from nasengine.testing import TinySpace, TinyTask

PAPERS = {
    "darts": (0.025, 3e-4, False), "pc_darts": (0.1, 3e-4, False), "drnas": (0.025, 3e-4, False),
    "sdarts": (0.025, 3e-4, False), "snas": (0.025, 3e-4, False), "gdas": (0.025, 5e-4, True),
    "proxyless": (0.025, 4e-5, True), "enas": (0.05, 2e-4, True), "spos": (0.5 * 24 / 1024, 4e-5, False),
    "weight_sharing": (0.5 * 24 / 1024, 4e-5, False),
}  # fmt: skip
"""The learning rate, the weight decay, and whether the momentum is Nesterov's; momentum 0.9, gradients clipped to 5."""
ADAM = Recipe(optimizer="adam", learning_rate=2e-4, momentum=0.5, weight_decay=1e-6, gradient_clip=0.0)


def tiny(recipe: Recipe | None = None) -> Task:
    task = TinyTask()
    task.recipe = recipe or task.recipe
    return task


def step_of(name: str, task: Task, **options: Any) -> torch.optim.Optimizer:
    """The optimiser of the weights, after an epoch."""
    context = Context(TinySpace(), task, torch.device("cpu"), 0)
    if name == "weight_sharing":
        learner: Any = WeightSharing(epochs=2, batch_size=24, **options)
        next(iter(learner.learn(context)))
    else:
        learner = make("strategy", name, {"epochs": 2, "batch_size": 24, **options})
        next(iter(learner.learn(context.supernet(), task, context)))
    kept: Any = context._kept
    return kept["w_step" if "w_step" in kept else "step"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", PAPERS)
def test_weights_learn_by_sgd_as_in_the_paper_where_the_tasks_models_do_too(name: str) -> None:
    rate, decay, nesterov = PAPERS[name]
    step = step_of(name, tiny())
    group = step.param_groups[0]
    assert type(step) is torch.optim.SGD
    assert group["initial_lr"] == rate
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, decay, nesterov)


@pytest.mark.parametrize("name", PAPERS)
def test_weights_learn_by_the_optimiser_that_the_task_recommends(name: str) -> None:
    step = step_of(name, tiny(ADAM))
    group = step.param_groups[0]
    assert type(step) is torch.optim.Adam
    assert (group["initial_lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 1e-6)
    assert group["lr"] < 2e-4 or name == "enas"  # it falls; of enas at its own pace


@pytest.mark.parametrize("name", PAPERS)
def test_what_is_said_of_the_optimiser_counts_before_what_is_recommended(name: str) -> None:
    group = step_of(name, tiny(ADAM), learning_rate=1e-3, momentum=0.0).param_groups[0]
    assert (group["initial_lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.0, 0.999), 1e-6)
    step = step_of(name, tiny(ADAM), optimizer="sgd")
    assert type(step) is torch.optim.SGD
    assert step.param_groups[0]["initial_lr"] == PAPERS[name][0]
    step = step_of(name, tiny(), optimizer="adamw", weight_decay=0.01)
    assert type(step) is torch.optim.AdamW
    assert (step.param_groups[0]["initial_lr"], step.param_groups[0]["weight_decay"]) == (0.003, 0.01)


@pytest.mark.parametrize("name", [name for name in PAPERS if name != "weight_sharing"])
def test_the_types_of_options_are_checked(name: str) -> None:
    for option in ("epochs", "learning_rate", "momentum"):
        with pytest.raises(ConfigError, match=f"the option '{option}' of the strategy '{name}' is 'much'"):
            make("strategy", name, {option: "much"})
    with pytest.raises(ConfigError, match="optimizer = 'rmsprop'; expected sgd or adam or adamw"):
        make("strategy", name, {"optimizer": "rmsprop"})


@pytest.mark.parametrize("name", [name for name in PAPERS if name != "weight_sharing"])
def test_an_optimiser_that_cannot_be_is_refused_before_anything_learns(name: str) -> None:
    with pytest.raises(ConfigError, match="learning_rate = -1"):
        load("strategy", name)(learning_rate=-1.0)


def test_gradients_are_clipped_as_the_task_recommends() -> None:
    paper = Recipe(gradient_clip=5.0)
    assert supernet_recipe(paper, tiny(ADAM), {}).gradient_clip == 0
    assert supernet_recipe(paper, tiny(ADAM), {"gradient_clip": 1.0}).gradient_clip == 1
    assert supernet_recipe(paper, tiny(replace(ADAM, optimizer="sgd")), {}) == paper


def test_darts_of_second_order_takes_its_virtual_step_at_adams_rate() -> None:
    step = step_of("darts", tiny(ADAM), order=2)
    assert type(step) is torch.optim.Adam
    assert all(torch.isfinite(weight).all() for weight in step.param_groups[0]["params"])


def test_the_momentum_of_a_recipe_is_the_first_of_adams_betas() -> None:
    weights = [torch.zeros(2, requires_grad=True)]
    assert optimizer_of(weights, ADAM).param_groups[0]["betas"] == (0.5, 0.999)
    assert optimizer_of(weights, Recipe(optimizer="adamw")).param_groups[0]["betas"] == (0.9, 0.999)
