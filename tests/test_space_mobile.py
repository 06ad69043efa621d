"""The space of mobile networks: MobileNetV2 is a point of it, and its weights are shared by slicing."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nasengine
from nasengine import Architecture, ConfigError, Fidelity, SearchSpace, Shapes, Supernet, inherit
from nasengine.cost import flops
from nasengine.registry import make
from nasengine.search_spaces.mobile import MobileSpace
from nasengine.testing import SpaceContract, TinyTask

IMAGENET = Shapes((3, 224, 224), 1000)


def small() -> SearchSpace:
    return MobileSpace(widths=((4, 6), (8, 6)), layers=2, expansions=(1, 3), kernels=(3, 5), stem=4, head=8)


class TestMobileSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return small()


class TestMobileSpaceWithoutExpansion(SpaceContract):
    """Small enough to be enumerated: 40 architectures."""

    def make(self) -> SearchSpace:
        return MobileSpace(
            widths=((2, 4),), layers=(2,), expansions=((1,),), kernels=(1, 3), stem=3, head=4, activation="hard_swish"
        )


class TestNarrowMobileSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return MobileSpace(
            widths=((4, 6), (8, 6)), layers=2, expansions=(1, 3), kernels=(3,), stem=4, head=8, multiplier=0.5
        )


def test_a_narrower_network_has_a_share_of_every_width_but_the_last() -> None:
    task = TinyTask()
    space = small()
    narrow = space.at(space.reduced(Fidelity(width=0.5), task))
    architecture = space.domain(task).sample(np.random.default_rng(0))
    whole, half = (
        [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]
        for model in (
            space.shape(architecture, task),
            narrow.shape(Architecture(architecture.space, narrow.recorded_settings(), architecture.picks), task),
        )
    )
    assert half[0] == whole[0] // 2 == 2
    assert half[-1] == whole[-1] == 8
    assert len(half) == len(whole)
    assert sum(half) < 0.7 * sum(whole)
    with pytest.raises(ConfigError, match="multiplier = -1"):
        MobileSpace(multiplier=-1)


def unsettled(supernet: Supernet) -> Supernet:
    """With weights and statistics as after some training: none is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.2 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return supernet.eval()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# MobileNetV2


def test_mobilenet_v2_has_its_published_size_and_cost() -> None:
    """Sandler et al. 2018, table 4: 3.4 M parameters, 300 M multiply-adds; the exact number is that of its layers."""
    architecture = nasengine.reference("mobilenet_v2")
    space = make("space", architecture.space, dict(architecture.options))
    assert isinstance(space, SearchSpace)
    space.domain(IMAGENET).validate(architecture)
    model = space.shape(architecture, IMAGENET)
    assert parameters(model) == 3_504_872
    assert round(flops(model, IMAGENET) / 2 / 1e6) == 301


def test_mobilenet_v2_has_its_published_layers() -> None:
    """Table 2: t, c, n, s of the stages at 224×224, and what they give; residual where nothing changes (figure 4)."""
    with torch.device("meta"):
        model = nasengine.build("mobilenet_v2", (3, 224, 224), classes=1000)
    table = [
        (1, 16, 1, 112), (6, 24, 2, 56), (6, 32, 3, 28), (6, 64, 4, 14), (6, 96, 3, 14), (6, 160, 3, 7), (6, 320, 1, 7),
    ]  # fmt: skip
    stem, *stages, last, head = model.children()
    x = stem(torch.zeros(1, 3, 224, 224, device="meta"))
    assert x.shape[1:] == (32, 112, 112)
    channels = 32
    for (expansion, width, layers, size), stage in zip(table, stages, strict=True):
        blocks: list[Any] = list(stage.children())
        assert len(blocks) == layers
        for number, block in enumerate(blocks):
            depthwise = block.depthwise[0]
            assert depthwise.groups == depthwise.out_channels == expansion * channels
            assert depthwise.kernel_size == (3, 3)
            assert isinstance(block.expand, nn.Identity) == (expansion == 1)
            assert block.residual == (number > 0)
            channels = width
        x = stage(x)
        assert x.shape[1:] == (width, size, size)
    assert last(x).shape[1:] == (1280, 7, 7)
    assert head.get_parameter("linear.weight").shape == (1000, 1280)
    assert {type(m) for m in model.modules()} >= {nn.ReLU6}


def test_mobilenet_v2_computes() -> None:
    model = nasengine.build("mobilenet_v2", (3, 64, 64), classes=5).eval()
    with torch.no_grad():
        assert bool(torch.isfinite(model(torch.randn(2, 3, 64, 64))).all())


# Sizes


def test_the_size_is_its_closed_form() -> None:
    """For each stage its widths, times the sum over depths of all that a block may be, once for each block."""
    stage = 2 * sum((3 * 3 * 2) ** depth for depth in (1, 2, 3, 4))
    assert MobileSpace().domain(Shapes((3, 32, 32), 10)).size == stage**5
    assert MobileSpace().domain(TinyTask()).size == (2 * (18 + 18**2)) ** 2
    assert nasengine.reference("mobilenet_v2").options["layers"] == (1, 2, 3, 4, 3, 3, 1)
    per_block, depths = 3 * 3 * 2, (2, 3, 4, 3, 3, 1)
    expected = 3 * 2  # of the first stage three kernels, with or without attention
    for layers in depths:
        expected *= 2 * sum(per_block**depth for depth in range(1, layers + 1))
    space = make("space", "mobile", dict(nasengine.reference("mobilenet_v2").options))
    assert isinstance(space, SearchSpace)
    assert space.domain(IMAGENET).size == expected


def counted(architecture: Architecture, stem: int, head: int, inputs: int, classes: int) -> int:
    """The parameters of a network whose stages all expand, from its picks alone."""
    picks: Any = architecture.picks
    total, channels, stage = 9 * inputs * stem + 2 * stem, stem, 0
    while f"stage{stage}.depth" in picks:
        width = picks[f"stage{stage}.width"]
        for index in range(picks[f"stage{stage}.depth"]):
            block = f"stage{stage}.block{index}"
            hidden, kernel = picks[f"{block}.expansion"] * channels, picks[f"{block}.kernel"]
            total += (channels + kernel**2 + width) * hidden + 2 * (hidden + hidden + width)
            if picks[f"{block}.attention"] == "squeeze_excitation":
                squeezed = -(-hidden // 4)
                total += 2 * hidden * squeezed + hidden + squeezed
            channels = width
        stage += 1
    return total + channels * head + 2 * head + head * classes + classes


def test_models_have_the_parameters_that_their_picks_say() -> None:
    space, task = MobileSpace(), Shapes((3, 32, 32), 10)
    domain, rng = space.domain(task), np.random.default_rng(0)
    for architecture in [domain.sample(rng) for _ in range(8)]:
        assert parameters(space.shape(architecture, task)) == counted(architecture, 32, 1280, 3, 10)


def test_a_supernet_is_as_large_as_its_largest_network() -> None:
    """Weights are shared by slicing: nothing is built twice."""
    space = small()
    net = space.supernet(TinyTask())
    largest = {name: max(decision.options) for name, decision in net.domain.decisions.items()}
    model = space.model(Architecture(net.domain.space, net.domain.options, largest), TinyTask())
    assert parameters(net) == parameters(model)


# Weights


def test_an_inherited_block_is_the_slice_of_the_supernets_weights() -> None:
    """The second block of a stage: 6 of 8 channels, 3 · 6 of 3 · 8 hidden ones, the 3×3 middle of the 5×5 kernel."""
    space, task = small(), TinyTask()
    net = unsettled(space.supernet(task))
    picks = {name: decision.options[0] for name, decision in net.domain.decisions.items()}
    block = "stage1.block1"
    picks |= {
        "stage1.width": 6, "stage1.depth": 2, f"{block}.expansion": 3, f"{block}.kernel": 3,
        f"{block}.attention": "squeeze_excitation",
    }  # fmt: skip
    architecture = net.domain.complete(picks)
    net.pick(architecture)
    model = space.model(architecture, task)
    inherit(model, net)
    wide: dict[str, Tensor] = net.module.get_submodule("2.1").state_dict()

    def normalised(x: Tensor, name: str, channels: int) -> Tensor:
        mean, variance, weight, bias = (
            wide[f"{name}.{part}"][:channels] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, variance, weight, bias)

    x, hidden, squeezed = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(1)), 18, 5
    y = functional.conv2d(x, wide["expand.0.weight"][:hidden, :6])
    y = functional.relu6(normalised(y, "expand.1", hidden))
    y = functional.conv2d(y, wide["depthwise.0.weight"][:hidden, :, 1:4, 1:4], padding=1, groups=hidden)
    y = functional.relu6(normalised(y, "depthwise.1", hidden))
    se = "attention.squeeze_excitation.scale"
    s = y.mean((2, 3), keepdim=True)
    s = functional.conv2d(s, wide[f"{se}.1.weight"][:squeezed, :hidden], wide[f"{se}.1.bias"][:squeezed]).relu()
    s = functional.conv2d(s, wide[f"{se}.4.weight"][:hidden, :squeezed], wide[f"{se}.4.bias"][:hidden])
    y = y * functional.relu6(s + 3) / 6
    y = normalised(functional.conv2d(y, wide["project.0.weight"][:6, :hidden]), "project.1", 6)
    expected = x + y
    with torch.no_grad():
        narrow = model.eval().get_submodule("2.1")(x)
        shared = net.module.get_submodule("2.1")(functional.pad(x, (0, 0, 0, 0, 0, 2)))
    torch.testing.assert_close(narrow, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared[:, :6], expected, rtol=1e-4, atol=1e-5)
    assert float(shared[:, 6:].abs().max()) == 0


def test_every_pick_changes_what_the_supernet_computes() -> None:
    task = Shapes((1, 16, 16), 2)  # on images of 2×2 pixels, a kernel of 5 does no more than one of 3
    net, x = unsettled(small().supernet(task)), task.example()
    net.pick(net.domain.complete({name: decision.options[-1] for name, decision in net.domain.decisions.items()}))
    before = net(x)
    for name, gate in net.gates.items():
        gate.pick(gate.decision.options[0])
        assert float((net(x) - before).detach().abs().max()) > 1e-6, name
        gate.pick(gate.decision.options[-1])


def test_residuals_do_not_depend_on_the_widths_picked() -> None:
    """Not even where the first block of a stage happens to change neither the width nor the size."""
    space = MobileSpace(widths=((4,), (4, 8)), strides=(1, 1), layers=2, stem=4)
    task = TinyTask()
    for width in (4, 8):
        architecture = space.domain(task).complete({"stage1.width": width, "stage0.depth": 2, "stage1.depth": 2})
        model = space.model(architecture, task)
        flags = [m.residual for m in model.modules() if hasattr(m, "residual")]
        assert flags == [False, True, False, True]


@pytest.mark.parametrize("strategy", ["random", "evolution", "darts:epochs=1,batch_size=16"])
def test_strategies_find_mobile_networks(strategy: str, tmp_path: Path) -> None:
    run = nasengine.search(
        small(), strategy, TinyTask(), "train:epochs=1", out=tmp_path / "run", trials=3, baseline=0, threads=1
    )
    assert run.best is not None
    assert run.best.architecture is not None
    assert small().describe(run.best.architecture).startswith("stage 0: ")


# Options


def test_images_over_48_pixels_are_halved_by_the_stem() -> None:
    architecture = MobileSpace().domain(IMAGENET).complete({})
    for size, halved in ((32, 32), (48, 48), (49, 25), (224, 112)):
        stem = next(MobileSpace().shape(architecture, Shapes((3, size, size), 10)).children())
        assert stem(torch.zeros(1, 3, size, size, device="meta")).shape[2:] == (halved, halved)


def test_options_are_read_as_on_the_command_line() -> None:
    options = nasengine.registry.split("mobile:widths=[[8,16],[24]],layers=[2,1],expansions=[[1],[3,6]],kernels=[3]")[1]
    space = make("space", "mobile", options)
    assert isinstance(space, SearchSpace)
    decisions = space.domain(TinyTask()).decisions
    assert decisions["stage1.width"].options == (24,)
    assert decisions["stage0.depth"].options == (1, 2)
    assert [decisions[f"stage{n}.block0.expansion"].options for n in (0, 1)] == [(1,), (3, 6)]
    assert decisions["stage0.block1.kernel"].options == (3,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": [[8], []]}, r"widths of \[\]"),
        ({"widths": [[8, 8]]}, r"widths of \[8, 8\]; expected different ones"),
        ({"widths": [[8]], "layers": [1, 2]}, "layers for 2 stages, and widths for 1"),
        ({"widths": [[8]], "strides": [1, 2]}, "strides for 2 stages, and widths for 1"),
        ({"widths": [[8]], "expansions": [[1], [3]]}, "expansions for 2 stages, and widths for 1"),
        ({"widths": [[8]], "layers": 0}, r"layers = \[0\]"),
        ({"widths": [[8]], "layers": [0]}, "expected at least 1"),
        ({"widths": []}, "0 stages"),
        ({"kernels": [3, 4]}, "expected odd ones, not 4"),
        ({"kernels": []}, r"kernels of \[\]"),
        ({"widths": [[8]], "expansions": []}, "expansions"),
        ({"stem": 0}, "stem = 0"),
        ({"head": -1}, "head = -1"),
        ({"activation": "tanh"}, "activation"),
    ],
)
def test_options_that_make_no_network_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("space", "mobile", options)


# Words and pictures


def test_the_drawing_and_the_description_have_every_block() -> None:
    space, architecture = MobileSpace(), nasengine.reference("mobilenet_v2")
    graph = space.graph(architecture)
    assert nx.is_directed_acyclic_graph(graph)
    labels = list(nx.get_node_attributes(graph, "label").values())
    assert labels[:4] == ["input", "stem", "MB1_K3×16", "MB6_K3×24"]
    assert len(labels) == 17 + 3
    lines = space.describe(architecture).splitlines()
    assert lines[1] == "stage 1: 24 channels, MB6_K3 → MB6_K3"
    squeezed = space.domain(TinyTask()).complete({"stage0.block0.attention": "squeeze_excitation"})
    assert space.describe(squeezed).splitlines()[0] == "stage 0: 8 channels, MB3_K3_SE"
