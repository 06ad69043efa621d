"""Widths and kernels that were chosen: what a supernet masks, and what a model finds in it, against plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import (
    Architecture,
    Chooser,
    SearchSpace,
    SpaceError,
    Supernet,
    Task,
    conv2d,
    inherit,
    join,
    mask_channels,
    multiplied,
)
from nasengine.testing import TinyTask

TASK = TinyTask()
WIDTHS, FACTORS = (8, 3, 5), (1, 4, 2)


class Written(SearchSpace):
    """The space whose `build` is the function given."""

    def __init__(self, choices: Callable[[Chooser], nn.Module]) -> None:
        self.choices = choices

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return self.choices(choose)


def supernet(choices: Callable[[Chooser], nn.Module]) -> Supernet:
    """With weights and statistics as after some training: none is 0 or 1."""
    net = Written(choices).supernet(TASK)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    return net.eval()


def pick(net: Supernet, **picks: Any) -> Architecture:
    architecture = Architecture(net.domain.space, net.domain.options, picks)
    net.pick(architecture)
    return architecture


def inherited(choices: Callable[[Chooser], nn.Module], net: Supernet, architecture: Architecture) -> nn.Module:
    model = Written(choices).model(architecture, TASK)
    inherit(model, net)
    return model.eval()


def tensor(net: Supernet, name: str) -> Tensor:
    found: Tensor = net.module.state_dict()[name]
    return found


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Arithmetic


EXPRESSIONS: dict[str, Callable[[int, int], int]] = {
    "width": lambda w, e: w,
    "3 · width": lambda w, e: 3 * w,
    "width · 3": lambda w, e: w * 3,
    "width + 5": lambda w, e: w + 5,
    "5 + width": lambda w, e: 5 + w,
    "width + -2": lambda w, e: w + -2,
    "width // 4": lambda w, e: w // 4,
    "expansion · width": lambda w, e: e * w,
    "width + expansion": lambda w, e: w + e,
    "expansion · width // 4": lambda w, e: e * w // 4,
    "(expansion · width + 3) // 4": lambda w, e: (e * w + 3) // 4,
    "rounded up to eights": lambda w, e: (e * w + 7) // 8 * 8,
    "width · width": lambda w, e: w * w,
    "expansion · width + width // 2": lambda w, e: e * w + w // 2,
    "sum": lambda w, e: sum([w, e, 2, w]),
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_what_is_computed_from_chosen_numbers_masks_right_at_every_pick(expression: Callable[[int, int], int]) -> None:
    def build(choose: Chooser) -> nn.Module:
        width, factor = choose.value("width", WIDTHS), choose.value("factor", FACTORS)
        return nn.Sequential(
            mask_channels(expression(width, factor)), mask_channels(width + 99), mask_channels(factor + 99)
        )

    net = supernet(build)
    largest = expression(max(WIDTHS), max(FACTORS))
    mask: Any = net.module[0]  # type: ignore[index]
    for width, factor in product(WIDTHS, FACTORS):
        pick(net, width=width, factor=factor)
        expected = [float(channel < expression(width, factor)) for channel in range(largest)]
        assert mask(torch.ones(1, largest))[0].tolist() == expected


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_soft_gates_give_the_weighted_mean_of_the_masks(expression: Callable[[int, int], int]) -> None:
    """A decision that stands in an expression twice has one weight, not its square."""

    def build(choose: Chooser) -> nn.Module:
        width, factor = choose.value("width", WIDTHS), choose.value("factor", FACTORS)
        return nn.Sequential(
            mask_channels(expression(width, factor)), mask_channels(width + 99), mask_channels(factor + 99)
        )

    net = supernet(build)
    of_width, of_factor = torch.tensor([0.5, 0.2, 0.3]), torch.tensor([0.1, 0.6, 0.3], requires_grad=True)
    net.gates["width"].set(of_width)
    net.gates["factor"].set(of_factor)
    largest = expression(max(WIDTHS), max(FACTORS))
    expected = sum(
        of_width[i] * of_factor[j] * (torch.arange(largest) < expression(width, factor))
        for (i, width), (j, factor) in product(enumerate(WIDTHS), enumerate(FACTORS))
    )
    mask: Any = net.module[0]  # type: ignore[index]
    torch.testing.assert_close(mask(torch.ones(1, largest))[0], expected)


@pytest.mark.parametrize(
    "expression",
    [
        lambda w, e: w // e,  # largest where the divisor is smallest
        lambda w, e: 10 + w * -1,
        lambda w, e: 10 + -1 * w,
        lambda w, e: w // -2 + 10,
        lambda w, e: 10 - w,
        lambda w, e: w % 4,
        lambda w, e: w * 1.5,
    ],
)
def test_arithmetic_whose_result_may_not_be_the_largest_has_no_mask(expression: Callable[[int, int], int]) -> None:
    def build(choose: Chooser) -> nn.Module:
        width, factor = choose.value("width", (2, 4)), choose.value("factor", (1, 2))
        return nn.Sequential(mask_channels(expression(width, factor)), mask_channels(factor))

    with pytest.raises(SpaceError, match="'width'"):
        supernet(build)


def test_masks_and_gates_may_be_copied_together() -> None:
    net = supernet(lambda choose: mask_channels(2 * choose.value("width", WIDTHS)))
    pick(net, width=5)
    module, gates = copy.deepcopy((net.module, net.gates))
    gates["width"].pick(3)
    assert int(net(torch.ones(1, 16)).sum()) == 10
    assert int(module(torch.ones(1, 16)).sum()) == 6


# Kernels


def kernels(groups: int, stride: int, dilation: int) -> Callable[[Chooser], nn.Module]:
    def build(choose: Chooser) -> nn.Module:
        return conv2d(4, 4, choose.value("kernel", (3, 7, 5)), stride, dilation, groups, bias=True)

    return build


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (4, 1, 1), (2, 2, 1), (1, 2, 2), (4, 3, 2)])
def test_a_smaller_kernel_is_the_middle_of_the_largest(groups: int, stride: int, dilation: int) -> None:
    """For images of even and of odd size; sizes as those of the plain convolution."""
    build = kernels(groups, stride, dilation)
    net = supernet(build)
    weight, bias = tensor(net, "weight"), tensor(net, "bias")
    for kernel, cut in ((7, 0), (5, 1), (3, 2)):
        architecture = pick(net, kernel=kernel)
        middle = weight[:, :, cut : 7 - cut, cut : 7 - cut]
        padding = dilation * (kernel - 1) // 2
        model = inherited(build, net, architecture)
        assert type(model) is nn.Conv2d
        torch.testing.assert_close(model.weight.detach(), middle, rtol=0, atol=0)
        for x in (noise(2, 4, 9, 9), noise(2, 4, 8, 5)):
            expected = functional.conv2d(x, middle, bias, stride, padding, dilation, groups)
            assert expected.shape[2:] == tuple(-(-side // stride) for side in x.shape[2:])
            with torch.no_grad():
                torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_soft_kernels_give_the_weighted_mean_of_the_convolutions() -> None:
    """A convolution is linear in its weights: no option is computed on its own."""
    net, x = supernet(kernels(1, 1, 1)), noise(2, 4, 6, 6)
    weights = torch.tensor([0.5, 0.2, 0.3], requires_grad=True)
    net.gates["kernel"].set(weights)
    weight = tensor(net, "weight")
    outputs = [
        functional.conv2d(x, functional.pad(weight[:, :, c : 7 - c, c : 7 - c], [c] * 4), tensor(net, "bias"), 1, 3)
        for c in (2, 0, 1)
    ]
    mixed = net(x)
    torch.testing.assert_close(mixed, sum(w * y for w, y in zip(weights, outputs, strict=True)), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(mixed.square().sum(), weights)
    assert bool((gradient != 0).all())


def test_what_is_outside_the_middle_does_not_learn() -> None:
    net = supernet(kernels(1, 1, 1))
    pick(net, kernel=3)
    net(noise(2, 4, 6, 6)).square().sum().backward()
    gradient = net.module.get_parameter("weight").grad
    assert isinstance(gradient, Tensor)
    assert float(gradient[:, :, 2:5, 2:5].abs().min()) > 0
    assert float(gradient.abs().sum()) == pytest.approx(float(gradient[:, :, 2:5, 2:5].abs().sum()))


@pytest.mark.parametrize(
    ("options", "kernel"),
    [((3, 5), lambda k: 4), ((4, 3), lambda k: k), ((3, 5), lambda k: k + 1), ((3, 5), lambda k: 2 * k)],
    ids=["fixed", "chosen", "one more", "twice"],
)
def test_an_even_kernel_is_refused_wherever_it_comes_from(
    options: tuple[int, ...], kernel: Callable[[int], int]
) -> None:
    space = Written(lambda choose: conv2d(1, 1, kernel(choose.value("kernel", options))))
    picked = Architecture("written", {}, {"kernel": options[0]})
    for use in (lambda: space.domain(TASK), lambda: space.supernet(TASK), lambda: space.model(picked, TASK)):
        with pytest.raises(SpaceError, match=r"the kernel [46]; expected an odd one"):
            use()


def test_a_kernel_may_be_computed_from_a_chosen_radius() -> None:
    def build(choose: Chooser) -> nn.Module:
        return conv2d(1, 1, 2 * choose.value("radius", (0, 1, 2)) + 1)

    net, x = supernet(build), noise(1, 1, 5, 5)
    for radius in (0, 1, 2):
        pick(net, radius=radius)
        middle = tensor(net, "weight")[:, :, 2 - radius : 3 + radius, 2 - radius : 3 + radius]
        torch.testing.assert_close(net(x).detach(), functional.conv2d(x, middle, padding=radius))


# Layers on a chosen width


def depthwise(choose: Chooser) -> nn.Module:
    hidden = choose.value("expansion", (1, 3)) * choose.value("width", (2, 4))
    return nn.Sequential(
        conv2d(1, hidden, 1, bias=True),
        conv2d(hidden, hidden, choose.value("kernel", (3, 5)), groups=hidden),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        mask_channels(hidden),
        conv2d(hidden, 2, 1),
    )


def test_a_depthwise_convolution_on_a_chosen_width_takes_leading_channels_and_the_middle_of_its_kernel() -> None:
    net, x = supernet(depthwise), noise(2, 1, 6, 6)
    wide = {name: tensor.detach() for name, tensor in net.module.state_dict().items()}
    for expansion, width, kernel in product((1, 3), (2, 4), (3, 5)):
        architecture = pick(net, expansion=expansion, width=width, kernel=kernel)
        n, cut = expansion * width, (5 - kernel) // 2
        y = functional.conv2d(x, wide["0.weight"][:n], wide["0.bias"][:n])
        y = functional.conv2d(y, wide["1.weight"][:n, :, cut : 5 - cut, cut : 5 - cut], padding=kernel // 2, groups=n)
        y = functional.batch_norm(
            y, wide["2.running_mean"][:n], wide["2.running_var"][:n], wide["2.weight"][:n], wide["2.bias"][:n]
        )
        expected = functional.conv2d(y.relu(), wide["5.weight"][:, :n])
        with torch.no_grad():
            torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(inherited(depthwise, net, architecture)(x), expected, rtol=1e-4, atol=1e-4)


# Joined tensors


class Concatenation(nn.Module):
    """The kept branches side by side; what is in the supernet but not kept gives zeros."""

    def __init__(self, branches: Any, widths: dict[str, int], head: nn.Module) -> None:
        super().__init__()
        self.branches, self.head = branches, head
        self.widths = {name: int(width) for name, width in widths.items()}

    def forward(self, x: Tensor) -> Tensor:
        kept = dict(self.branches.items())
        absent = {name: x.new_zeros(len(x), width, *x.shape[2:]) for name, width in self.widths.items()}
        return self.head(torch.cat([kept[n](x) if n in kept else absent[n] for n in self.widths], 1))  # type: ignore[no-any-return]


def joining(choose: Chooser, head: Callable[[int], nn.Module], kept: int) -> nn.Module:
    built: dict[str, int] = {}

    def branch(name: str) -> nn.Module:
        built[name] = choose.value(f"width_{name}", (1, 3))
        return nn.Sequential(conv2d(1, built[name], 3, bias=True), nn.ReLU(), mask_channels(built[name]))

    branches = choose.some("branches", {name: partial(branch, name) for name in "abc"}, k=kept)
    return Concatenation(branches, built, head(join([built.get(name, 0) for name in "abc"])))


def convolved(width: int) -> nn.Module:
    """Layers that add something to each channel: there must be none that is absent."""
    return nn.Sequential(
        nn.BatchNorm2d(width),
        mask_channels(width),
        conv2d(width, width, 3, groups=width, bias=True),
        mask_channels(width),
        conv2d(width, 2 * width, 1, bias=True),
        mask_channels(2 * width),
        nn.ConvTranspose2d(2 * width, 3, 2, 2),
    )


def mixed(width: int) -> nn.Module:
    return conv2d(width, 2, 3, bias=True)


def mixed_by_transposed(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, 2, 2, 2)


def flattened(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * width, 5), nn.ReLU(), nn.Linear(5, 2))


def widened(width: int) -> nn.Module:
    """Transposed convolutions have their dimensions the other way round."""
    return nn.Sequential(
        conv2d(width, 3, 1), nn.ConvTranspose2d(3, width, 2, 2), mask_channels(width), conv2d(width, 1, 3)
    )


@pytest.mark.parametrize(
    ("head", "kept"),
    [(mixed, 2), (mixed_by_transposed, 2), (flattened, 2), (flattened, 3), (convolved, 3), (widened, 3)],
)
def test_a_model_of_joined_widths_equals_its_supernet_also_where_a_part_is_absent(
    head: Callable[[int], nn.Module], kept: int
) -> None:
    build = partial(joining, head=head, kept=kept)
    net, x = supernet(build), noise(2, 1, 4, 4)
    outputs = set()
    architectures = list(net.domain.enumerate())
    for architecture in architectures:
        net.pick(architecture)
        model = inherited(build, net, architecture)
        with torch.no_grad():
            torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)
            outputs.add(float(model(x).sum()))
    assert len(architectures) == {2: 12, 3: 8}[kept] == len(outputs)


def test_a_linear_layer_behind_flattened_joined_images_takes_the_columns_of_what_is_there() -> None:
    build = partial(joining, head=flattened, kept=2)
    net = supernet(build)
    architecture = pick(net, branches=("a", "c"), width_a=1, width_c=3)
    model = inherited(build, net, architecture)
    of_a, of_c = range(16), range(6 * 16, 9 * 16)  # a has 3 channels of 16 pixels in the supernet, and b between them
    expected = net.module.state_dict()["head.1.weight"][:, [*of_a, *of_c]]
    torch.testing.assert_close(model.state_dict()["head.1.weight"], expected, rtol=0, atol=0)


def test_what_is_joined_of_joined_tensors_is_masked_part_by_part() -> None:
    def build(choose: Chooser) -> nn.Module:
        a, b, c = (choose.value(name, (1, 3)) for name in "abc")
        return mask_channels(join([join([a, 2]), 2 * b, join([c])]), dim=-1)

    net = supernet(build)
    for a, b, c in product((1, 3), repeat=3):
        pick(net, a=a, b=b, c=c)
        expected = [1] * a + [0] * (3 - a) + [1, 1] + [1] * 2 * b + [0] * (6 - 2 * b) + [1] * c + [0] * (3 - c)
        assert net(torch.ones(2, 14))[1].tolist() == expected


def test_a_soft_gate_weighs_only_its_own_part_of_what_is_joined() -> None:
    net = supernet(lambda choose: mask_channels(join([choose.value("a", (1, 3)), 2, choose.value("b", (2, 1))])))
    net.gates["a"].set(torch.tensor([0.25, 0.75]))
    net.gates["b"].set(torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(net(torch.ones(1, 7))[0], torch.tensor([1, 0.75, 0.75, 1, 1, 1, 0.5]))


def test_a_model_that_joins_another_number_of_tensors_cannot_inherit() -> None:
    def build(choose: Chooser, parts: Sequence[int]) -> nn.Module:
        choose.value("a", (1,))
        return nn.Linear(join(parts), 1)

    net = supernet(partial(build, parts=(2, 3)))
    for parts in ((2, 2, 1), (3, 2)):
        model = Written(partial(build, parts=parts)).model(Architecture(net.domain.space, {}, {"a": 1}), TASK)
        with pytest.raises(SpaceError, match="no counterpart"):
            inherit(model, net)


# Shares


class Mean(nn.Module):
    """The mean of a k-of-n choice."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("not called")


def test_shares_are_one_in_a_model_k_of_n_while_open_and_the_weights_of_a_soft_gate() -> None:
    def build(choose: Chooser) -> nn.Module:
        return Mean(choose.some("kept", dict.fromkeys("abcd", nn.Identity), k=3))

    net = supernet(build)
    shares: Callable[[], dict[str, Any]] = net.module.kept.shares  # type: ignore[union-attr, assignment]
    assert shares() == dict.fromkeys("abcd", 0.75)
    architecture = pick(net, kept=("a", "c", "d"))
    assert shares() == {"a": 1.0, "c": 1.0, "d": 1.0}
    model: Any = Written(build).model(architecture, TASK)
    assert model.kept.shares() == {"a": 1.0, "c": 1.0, "d": 1.0}
    weights = torch.tensor([1.5, 0.9, 0.4, 0.2], requires_grad=True)
    net.gates["kept"].set(weights)
    assert [share.item() for share in shares().values()] == pytest.approx(weights.tolist())
    assert all(share.requires_grad for share in shares().values())
    net.gates["kept"].set(weights, active=(1, 3))
    assert {name: share.item() for name, share in shares().items()} == pytest.approx({"b": 0.9, "d": 0.2})


@pytest.mark.parametrize(
    ("width", "multiplier", "expected"), [(16, 1, 16), (16, 0.5, 8), (5, 0.5, 2), (3, 0.1, 1), (8, 1.4, 11)]
)
def test_a_width_is_multiplied_and_rounded_down(width: int, multiplier: float, expected: int) -> None:
    assert multiplied(width, multiplier) == expected


def test_a_chosen_width_is_multiplied_for_each_of_its_values_and_must_leave_a_channel() -> None:
    def build(choose: Chooser) -> nn.Module:
        return mask_channels(multiplied(choose.value("width", (4, 9)), 0.5))

    masked = Written(build).supernet(TASK)(torch.ones(1, 4, 1, 1))
    assert masked.shape[1] == 4
    with pytest.raises(SpaceError, match=r"a width of 4 times 0\.2 leaves no channel"):
        Written(lambda choose: mask_channels(multiplied(choose.value("width", (4, 9)), 0.2))).supernet(TASK)
