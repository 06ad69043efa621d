"""Partial channels against the paper's operations written out, and where a supernet lets them pass."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nasengine import Chooser, One, SearchSpace, SpaceError, Supernet, Task, mask_channels
from nasengine.partial import partly
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.testing import TinyTask

Options = Mapping[str, Callable[[], nn.Module]]


class OneChoice(SearchSpace):
    """A stem of 8 channels, one choice, and a head that takes whatever comes."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        choice = choose.one("choice", self.options)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), choice, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2)
        )


def convolution(stride: int = 1, channels: int = 8) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(8, channels, 3, stride, 1), nn.BatchNorm2d(channels))


PLAIN: Options = {"conv": convolution, "skip": nn.Identity}


def supernet(options: Options) -> tuple[Supernet, One]:
    torch.manual_seed(0)
    net = OneChoice(options).supernet(TinyTask())
    (one,) = [module for module in net.modules() if isinstance(module, One)]
    return net, one


def test_all_channels_pass_as_if_there_were_no_parts() -> None:
    x = torch.randn(3, 8, 4, 4)
    assert torch.equal(partly(lambda given: 2 * given, x, 1), 2 * x)
    net, one = supernet(PLAIN)
    before = net(torch.ones(2, 1, 4, 4))
    assert net.pass_partially(1, TinyTask().example()) == 1
    assert one.partial == 1
    assert torch.equal(net(torch.ones(2, 1, 4, 4)), before)


@pytest.mark.parametrize("k", [2, 4, 8])
def test_one_part_passes_the_options_the_others_go_by_and_all_are_shuffled(k: int) -> None:
    """Output channel i · k + g is channel i of the g-th of k groups, of which the first went through the options."""
    x = torch.randn(3, 8, 4, 4)
    given: list[Tensor] = []

    def options(part: Tensor) -> Tensor:
        given.append(part)
        return 10 + part

    out = partly(options, x, k)
    assert torch.equal(given[0], x[:, : 8 // k])
    for group in range(k):
        for place in range(8 // k):
            source = x[:, group * (8 // k) + place]
            assert torch.equal(out[:, place * k + group], 10 + source if group == 0 else source)


@pytest.mark.parametrize("size", [4, 5])
def test_what_goes_by_options_that_halve_the_image_is_pooled(size: int) -> None:
    x = torch.randn(2, 8, size, size)
    out = partly(lambda part: part[:, :, ::2, ::2], x, 4)
    half = (size + 1) // 2
    assert out.shape == (2, 8, half, half)
    if size % 2 == 0:  # two by two, as in the authors' code
        pooled = nn.functional.max_pool2d(x[:, 2:], 2)
        assert torch.equal(out[:, 1], pooled[:, 0])
        assert torch.equal(out[:, 0], x[:, 0, ::2, ::2])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_choice_is_rebuilt_narrower_and_computes_with_a_part_of_the_channels(stride: int) -> None:
    pool = partial(nn.AvgPool2d, 3, stride, 1)
    net, one = supernet({"conv": partial(convolution, stride), "pool": pool})
    assert net.pass_partially(4, TinyTask().example()) == 1
    assert one.partial == 4
    assert [tuple(weight.shape) for weight in one.parameters()] == [(2, 2, 3, 3), (2,), (2,), (2,)]
    x = torch.randn(5, 8, 4, 4)
    mixed = (one.option(0)(x[:, :2]) + one.option(1)(x[:, :2])) / 2
    rest = x[:, 2:] if stride == 1 else nn.functional.max_pool2d(x[:, 2:], 2)
    expected = torch.cat([mixed, rest], 1)[:, [0, 2, 4, 6, 1, 3, 5, 7]]
    torch.testing.assert_close(one(x), expected)
    assert net.training


def test_depthwise_and_pointwise_layers_are_narrowed_too() -> None:
    separable = partial(
        nn.Sequential, nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Conv2d(8, 8, 1), nn.ReLU()
    )
    net, one = supernet({"separable": separable, "skip": nn.Identity})
    assert net.pass_partially(2, TinyTask().example()) == 1
    assert [tuple(weight.shape) for weight in one.parameters()] == [(4, 1, 3, 3), (4, 4, 1, 1), (4,)]


class Scaled(nn.Module):
    """A layer of somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize(
    ("options", "k"),
    [
        ({"wide": partial(convolution, channels=16), "narrow": partial(nn.Conv2d, 8, 16, 1)}, 2),
        ({"conv": convolution, "own": Scaled}, 2),
        ({"conv": convolution, "skip": nn.Identity}, 3),
        ({"relu": nn.ReLU, "gelu": nn.GELU}, 2),
    ],
    ids=["another number of channels", "a stranger's layer", "not divisible", "activations"],
)
def test_a_choice_that_has_no_such_part_stays_as_it_is(options: Options, k: int) -> None:
    net, one = supernet(options)
    image = torch.ones(2, 1, 4, 4)
    before = net.eval()(image)
    assert net.pass_partially(k, TinyTask().example()) == 0
    assert one.partial == 1
    assert torch.equal(net(image), before)


def test_choices_within_options_and_chosen_widths_are_left_alone() -> None:
    class Nested(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            width = choose.value("width", (4, 8))
            inner = partial(choose.one, "inner", PLAIN)
            outer = choose.one("outer", {"nested": inner, "conv": convolution})
            chosen = choose.one("chosen", {"conv": partial(nn.Conv2d, width, width, 1), "skip": nn.Identity})
            stem = nn.Conv2d(1, 8, 1)
            return nn.Sequential(stem, outer, mask_channels(width), chosen, nn.Flatten(), nn.Linear(128, 2))

    net = Nested().supernet(TinyTask())
    gates = dict(net.gates)
    assert net.pass_partially(2, TinyTask().example()) == 1
    parts = {one.gate.decision.name: one.partial for one in net.modules() if isinstance(one, One) and one.gate}
    assert parts == {"inner": 2, "outer": 1, "chosen": 1}
    assert net.gates == gates
    assert all(one.gate is gates[one.gate.decision.name] for one in net.modules() if isinstance(one, One) and one.gate)


@pytest.mark.parametrize("space", [NASBench201Space(cells=1, channels=4), CellSpace(layers=3, channels=4, nodes=1)])
def test_every_edge_of_the_cell_spaces_is_narrowed_and_learns(space: SearchSpace) -> None:
    task = TinyTask()
    net = space.supernet(task)
    net.freeze_affine()
    whole = sum(weight.numel() for weight in net.parameters())
    ones = [module for module in net.modules() if isinstance(module, One)]
    assert net.pass_partially(4, task.example()) == len(ones)
    assert sum(weight.numel() for weight in net.parameters()) < whole / 2
    assert not any(weight.requires_grad for one in ones for name, weight in one.named_parameters() if weight.dim() == 1)
    task.loss(net, next(task.train_batches(8, torch.Generator().manual_seed(0)))).backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in net.parameters() if weight.requires_grad)


def test_fewer_than_all_channels_is_a_whole_part() -> None:
    with pytest.raises(SpaceError, match="1/0 of the channels"):
        supernet(PLAIN)[0].pass_partially(0, TinyTask().example())
