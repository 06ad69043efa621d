"""Smaller images leave the network as it is; a smaller final training leaves a model to use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, ConfigError, Evaluator, Fidelity, Shapes
from nasengine.registry import load, make

SPACES = ("cell", "nasnet", "nasbench101", "nasbench201", "hierarchical", "nasbench_macro", "chain", "mobile")
FEW_STAGES = "mobile:widths=[[4,6],[6,8]],layers=2"


class Images(Shapes):
    def at(self, resolution: int) -> Images:
        return Images((self.input_shape[0], resolution, resolution), self.classes)


class Sizes(Evaluator):
    """Judges nothing; says what was built."""

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Any) -> Mapping[str, float]:
        model = context.space.model(architecture, context.task)
        return {
            "accuracy": 0.5,
            "side": context.task.input_shape[1],
            "tensors": len(model.state_dict()),
            "halvings": sum(stride == 2 for stride in strides(model)),
        }


def strides(model: nn.Module) -> list[int]:
    return [module.stride[0] for module in model.modules() if isinstance(module, nn.Conv2d)]


def built(space: Any, architecture: Architecture, task: Any) -> tuple[dict[str, torch.Size], list[int]]:
    model = space.shape(architecture, task)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return shapes, strides(model)


def test_all_image_spaces_are_held_to_it() -> None:
    found = {plugin.name for plugin in nasengine.registry.installed("space")}
    assert {name for name in found if load("space", name).family == "CNN"} == set(SPACES)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("side", "resolution"), [(32, 16), (100, 32)])
@pytest.mark.parametrize("name", SPACES)
def test_smaller_images_are_seen_by_the_same_network(name: str, side: int, resolution: int) -> None:
    options: dict[str, Any] = {"heads": ("average",)} if name == "chain" else {}
    space: Any = make("space", name, options)
    task, fidelity = Images((3, side, side), 10), Fidelity(resolution=resolution)
    smaller = task.at_fidelity(fidelity)
    assert (smaller.input_shape, smaller.full_shape) == ((3, resolution, resolution), (3, side, side))
    low = space.at(space.reduced(fidelity, task))
    domain = space.domain(task)
    assert low.domain(smaller).decisions == domain.decisions
    architecture = domain.sample(np.random.default_rng(0))
    reduced = Architecture(architecture.space, low.recorded_settings(), architecture.picks)
    assert built(low, reduced, smaller) == built(space, architecture, task)
    with torch.device("meta"):
        assert low.shape(reduced, smaller).eval()(torch.empty(2, *smaller.input_shape)).shape == (2, 10)


def test_a_flattened_image_is_as_large_as_it_is_at_the_resolution() -> None:
    space: Any = make("space", "chain", {"heads": ("flatten",), "hidden_layers": 0, "stages": 2})
    task = Images((1, 64, 64), 10)
    smaller = task.at_fidelity(Fidelity(resolution=32))
    model = space.model(space.domain(task).sample(np.random.default_rng(0)), smaller).eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert model.head.layers.classifier.in_features % (8 * 8) == 0  # half for the stem, half for the second stage


@pytest.mark.parametrize("space", ["mobile", FEW_STAGES])
def test_a_search_on_smaller_images_builds_the_stages_that_it_shows(space: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (40, 32, 32), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=pixels, y=labels)
    built = [
        nasengine.search(
            space, "random", f"images:path={tmp_path / 'a.npz'}", Sizes(), trials=1, baseline=0, fidelity=fidelity,
            out=tmp_path / f"run{fidelity}",
        ).all_trials[0].metrics
        for fidelity in ("", "resolution=16")
    ]  # fmt: skip
    assert [metrics["side"] for metrics in built] == [32, 16]
    assert built[0]["tensors"] == built[1]["tensors"]
    assert built[0]["halvings"] == built[1]["halvings"]


def test_what_is_trained_smaller_in_the_end_is_the_model_of_the_run(tmp_path: Path) -> None:
    run = nasengine.search(
        "nasbench201:cells=2,channels=8", "random", "digits", "train:epochs=1", trials=1, baseline=1,
        final_fidelity="layers=1,width=0.5,resolution=4,epochs=1", out=tmp_path / "run",
    )  # fmt: skip
    assert run.best.architecture is not None
    assert run.best.architecture.options == {"cells": 1, "channels": 4}
    model = run.best_model()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == run.best.metrics["parameters"] < run.all_trials[0].metrics["parameters"]
    assert model(torch.zeros(2, 1, 4, 4)).shape == (2, 10)


def test_a_final_training_that_cannot_be_scaled_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the space 'mobile' cannot scale layers"):
        nasengine.search("mobile", "random", "digits", final_fidelity="layers=1", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
