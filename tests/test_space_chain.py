"""The chain space: what it can build, how its layers share weights, and the classic networks among its points."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, ConfigError, Fidelity, SearchSpace, Shapes, SpaceError, inherit
from nasengine.cost import parameters
from nasengine.evaluators.tasks.digits import Digits
from nasengine.registry import make
from nasengine.search_spaces.chain import ChainSpace
from nasengine.testing import SpaceContract, TinyTask

SMALL: dict[str, Any] = {"stages": 2, "layers": 2, "widths": (8, 16), "kernels": (1, 3), "hidden_widths": (8, 16)}
PLAIN: dict[str, Any] = {"activations": ("relu",), "norms": ("batch",), "dropouts": (0.0,)}


class TestChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace()


class TestSmallChainSpace(SpaceContract):
    """Small enough to be enumerated."""

    def make(self) -> SearchSpace:
        operations = ("convolution", "identity")
        return ChainSpace(
            stages=1, layers=2, widths=(4, 8), operations=operations, kernels=(1, 3), **PLAIN, hidden_layers=0
        )


class TestChainSpaceWithShortcuts(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(**SMALL, skips=(2, 3))


@pytest.mark.slow
class TestDenseChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(**{**SMALL, "layers": 3}, dense=True, reductions=("max_pool", "average_pool"))


class TestPreActivatedDenseChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        norms = ("batch", "instance", "none")
        return ChainSpace(
            **{**SMALL, "layers": 3},
            dense=True,
            reductions=("average_pool",),
            order="pre",
            norms=norms,
            heads=("average",),
        )


@pytest.mark.slow
class TestPreActivatedChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(**SMALL, order="pre", skips=(2,))


class TestStridedChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(**{**SMALL, **PLAIN}, strides=(1, 2), skips=(1, 2))


class TestValidChainSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(
            stages=1, layers=1, widths=(4, 8), operations=("convolution",), kernels=(3,), padding="valid", stem="none"
        )


class TestNarrowChainSpace(SpaceContract):
    """Half of 5 and of 8 channels are 2 and 4."""

    def make(self) -> SearchSpace:
        return ChainSpace(
            stages=2, layers=1, widths=(5, 8), kernels=(1, 3), hidden_widths=(8, 16), **PLAIN, multiplier=0.5
        )


def test_a_narrower_network_has_the_same_picks_and_a_share_of_every_width() -> None:
    task, rng = TinyTask(), np.random.default_rng(0)
    space = ChainSpace(**SMALL, **PLAIN)
    narrow = space.at(space.reduced(Fidelity(width=0.5), task))
    halved = ChainSpace(**{**SMALL, "widths": (4, 8), "hidden_widths": (4, 8)}, **PLAIN)
    assert list(narrow.domain(task).decisions) == list(space.domain(task).decisions)
    for _ in range(10):
        architecture = space.domain(task).sample(rng)
        picks = {n: p // 2 if n.endswith("width") else p for n, p in architecture.picks.items()}
        shapes = [
            {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            for model in (
                narrow.shape(Architecture("chain", narrow.recorded_settings(), architecture.picks), task),
                halved.shape(Architecture("chain", halved.recorded_settings(), picks), task),
            )
        ]
        assert shapes[0] == shapes[1]


def test_a_multiplier_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiplier = 0"):
        ChainSpace(multiplier=0)


class TestPerceptron(SpaceContract):
    def make(self) -> SearchSpace:
        return ChainSpace(stages=0, stem="none", heads=("flatten",), hidden_layers=2, hidden_widths=(4, 8))


# (name, input shape, classes, parameters): torchvision's counts for ImageNet; LeCun 1998 for the first ones; Huang et
# al. 2017 give 1.0 M for DenseNet-40, and its sum over the layers is written out below
PUBLISHED = [
    ("softmax_regression", (1, 28, 28), 10, 7_850),
    ("mlp", (1, 28, 28), 10, 266_610),
    ("lenet5", (1, 32, 32), 10, 61_706),
    ("vgg11", (3, 224, 224), 1000, 132_863_336),
    ("vgg13", (3, 224, 224), 1000, 133_047_848),
    ("vgg16", (3, 224, 224), 1000, 138_357_544),
    ("vgg19", (3, 224, 224), 1000, 143_667_240),
    ("resnet18", (3, 224, 224), 1000, 11_689_512),
    ("resnet34", (3, 224, 224), 1000, 21_797_672),
    ("resnet50", (3, 224, 224), 1000, 25_557_032),
    ("densenet40", (3, 32, 32), 10, 1_019_722),
]


@pytest.mark.parametrize(("name", "shape", "classes", "count"), PUBLISHED)
def test_a_classic_network_has_its_published_parameters(
    name: str, shape: tuple[int, ...], classes: int, count: int
) -> None:
    with torch.device("meta"):
        model = nasengine.build(name, shape, classes)
    assert parameters(model) == count


@pytest.mark.parametrize("name", ["softmax_regression", "mlp", "lenet5", "vgg11", "resnet18", "densenet40"])
def test_a_classic_network_is_a_point_of_a_space_that_leaves_more_open(name: str) -> None:
    architecture = nasengine.reference(name)
    space = make("space", "chain", architecture.options)
    assert isinstance(space, ChainSpace)
    domain = space.domain(Shapes((3, 32, 32), 10))
    domain.validate(architecture)
    mutant = domain.mutate(architecture, np.random.default_rng(0))
    domain.validate(mutant)
    assert mutant != architecture


def test_densenet_40_is_the_sum_of_its_layers() -> None:
    """Every layer: two numbers a channel of normalisation, and 9 · channels · 12 weights (the paper's table 1)."""
    count, channels = 3 * 16 * 9, 16
    for block in range(3):
        for _ in range(12):
            count += 2 * channels + 9 * channels * 12
            channels += 12
        if block < 2:
            count += 2 * channels + channels * channels
    assert count + 2 * channels + channels * 10 + 10 == 1_019_722


def test_resnet18_computes_what_its_layer_table_says() -> None:
    """The same weights in a network written down by hand give the same."""
    torch.manual_seed(0)
    model = nasengine.build("resnet18", (3, 64, 64), 10).eval()
    weights = iter([p for p in model.parameters() if p.dim() == 4])
    images = torch.randn(2, 3, 64, 64)

    def conv(x: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        x = nn.functional.conv2d(x, next(weights), stride=stride, padding=padding)
        return x / (1 + 1e-5) ** 0.5  # a fresh batch normalisation, evaluating

    x = nn.functional.max_pool2d(conv(images, 2, 3).relu(), 3, 2, 1)
    for stage in range(4):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            y = conv(conv(x, stride, 1).relu(), 1, 1)
            x = (y + (conv(x, stride, 0) if stride == 2 else x)).relu()
    linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        assert torch.allclose(linear(x.mean((2, 3))), model(images), atol=1e-4)


def test_an_inherited_sub_network_has_the_sliced_weights() -> None:
    """Leading channels of the widest layer, and the middle of the largest kernel."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"stages": 1, "layers": 2, "operations": ("convolution",), "hidden_layers": 0, **PLAIN}
    space, task = ChainSpace(widths=(4, 8), kernels=(1, 3, 5), heads=("average",), **settings), TinyTask()
    supernet = space.supernet(task)
    domain = space.domain(task)
    first = {"stage0.layer0.width": 4, "stage0.layer0.kernel": 3}
    second = {"stage0.layer1.width": 8, "stage0.layer1.kernel": 1}
    narrow = domain.complete({"stage0.depth": 2, **first, **second})
    model = space.model(narrow, task)
    inherit(model, supernet)
    wide = [m.weight for m in supernet.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (5, 5)]
    found = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)][1:]  # the first is the stem's
    assert torch.equal(found[0], wide[0][:4, :, 1:4, 1:4])
    assert torch.equal(found[1], wide[1][:, :4, 2:3, 2:3])


@pytest.mark.parametrize("options", [{}, {"skips": (2,)}, {"dense": True, "reductions": ("average_pool",)}])
def test_the_supernet_trains_on_digits(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    task = Digits()
    task.to(torch.device("cpu"))
    supernet = ChainSpace(**{**SMALL, "norms": ("batch", "none"), "activations": ("relu", "gelu")}, **options).supernet(
        task
    )
    optimizer = torch.optim.Adam(supernet.parameters(), 0.01)
    losses = []
    for _ in range(2):
        for batch in task.train_batches(128, torch.Generator().manual_seed(0)):
            loss = task.loss(supernet, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


@pytest.mark.parametrize("strategy", ["random", "evolution:population=2,sample=2", "darts:epochs=1"])
def test_random_search_evolution_and_darts_search_it(strategy: str, tmp_path: Path) -> None:
    space = ChainSpace(**{**SMALL, "layers": 1, "norms": ("batch", "none"), "activations": ("relu",)}, skips=(2,))
    run = nasengine.search(space, strategy, TinyTask(), "train:epochs=1", trials=3, baseline=0, out=tmp_path / "run")
    assert run.finished
    assert run.best.metrics["parameters"] > 0


def test_identities_that_change_nothing_are_left_out_of_the_canonical_form() -> None:
    options = ("convolution", "identity")
    space = ChainSpace(stages=1, layers=3, widths=(4, 8), operations=options, kernels=(3,), **PLAIN, hidden_layers=0)
    domain = space.domain(TinyTask())

    def chain(*layers: tuple[str, int]) -> Architecture:
        picks: dict[str, Any] = {"stage0.depth": len(layers), "head": "average"}
        for index, (operation, width) in enumerate(layers):
            picks |= {f"stage0.layer{index}.operation": operation, f"stage0.layer{index}.width": width}
        return domain.complete(picks)

    short = chain(("convolution", 4), ("convolution", 8))
    assert space.canonical(chain(("convolution", 4), ("identity", 4), ("convolution", 8))) == short
    assert space.canonical(chain(("convolution", 4), ("convolution", 8), ("identity", 8))) == short
    assert space.canonical(chain(("convolution", 4), ("identity", 8), ("convolution", 8))) != short


@pytest.mark.parametrize("head", ["average", "flatten", "max_pool_flatten"])
def test_any_layer_may_have_a_stride_of_its_own(head: str) -> None:
    """What the model gives has the size that plain counting of strides gives, shortcuts and head with it."""
    space = ChainSpace(**SMALL, **PLAIN, strides=(1, 2, 3), skips=(1, 2), heads=(head,), hidden_layers=0, stem="none")
    task = Shapes((1, 20, 13), 3)
    domain = space.domain(task)
    rng = np.random.default_rng(0)
    for _ in range(12):
        architecture = domain.sample(rng)
        model = space.model(architecture, task).eval()
        sizes: list[torch.Size] = []
        for stage in (model.stage0, model.stage1):
            stage.register_forward_hook(lambda module, given, made, sizes=sizes: sizes.append(made.shape[2:]))
        assert model(torch.randn(2, 1, 20, 13)).shape == (2, 3)
        height, width = 20, 13
        for stage, size in enumerate(sizes):
            strides = [2] if stage else []
            strides += [
                pick
                for name, pick in architecture.picks.items()
                if name.startswith(f"stage{stage}.layer") and name.endswith(".stride")
            ]
            for stride in strides:
                height, width = -(-height // stride), -(-width // stride)
            assert size == (height, width)
    assert space.describe(architecture).count(", stride ") == sum(
        name.endswith(".stride") and pick != 1 for name, pick in architecture.picks.items()
    )


def test_a_chain_of_chosen_strides_says_that_it_has_no_supernet() -> None:
    space = ChainSpace(**SMALL, strides=(1, 2))
    with pytest.raises(SpaceError, match=r"has no supernet: .*'stage0.layer0.stride'"):
        space.check_supernet(TinyTask())


def test_shortcuts_and_joins_are_edges_of_the_graph() -> None:
    def between(architecture: Architecture, label: str) -> int:
        edges = ChainSpace(**architecture.options).graph(architecture).edges(data=True)
        return sum(data.get("label") == label for _, _, data in edges)

    resnet = nasengine.reference("resnet18")
    assert between(resnet, "identity") == 5
    assert between(resnet, "projection") == 3
    densenet = nasengine.reference("densenet40")
    joined = ChainSpace(**densenet.options).graph(densenet)
    assert joined.number_of_edges() == joined.number_of_nodes() - 1 + 3 * sum(range(12))
    assert nx.is_directed_acyclic_graph(ChainSpace(**resnet.options).graph(resnet))


def test_a_chain_describes_itself_in_words() -> None:
    text = ChainSpace().describe(nasengine.reference("resnet18"))
    assert "conv 3×3, 64" in text
    assert "projection of the stage's input" in text
    assert text.splitlines()[-1] == "head: average → classifier"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": 0}, "layers = 0"),
        ({"kernels": (2, 3)}, "kernel of 2; expected odd ones"),
        ({"widths": (8, 8)}, "different numbers"),
        ({"activations": ("rleu",)}, "expected different ones of"),
        ({"dropouts": (1.0,)}, "rates from 0 to below 1"),
        ({"padding": "valid"}, "expected layers = 1"),
        ({"dense": True}, "reductions by pooling only"),
        ({"dense": True, "reductions": ("max_pool",), "order": "pre"}, "would mix what is joined"),
        ({"order": "middle"}, "order = middle"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ChainSpace(**options)


def test_a_chain_that_would_use_up_the_image_is_refused() -> None:
    space = ChainSpace(stages=2, layers=1, operations=("convolution",), kernels=(5,), padding="valid", stem="none")
    with pytest.raises(SpaceError, match="no pixel left"):
        space.domain(TinyTask())
