"""Dilated convolutions, computed as ordinary ones of every so manieth pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nasengine.dilation import DilatedConv2d, can_be_split, dilated, split_dilated
from nasengine.search_spaces.operations.darts import every_other


def gradients(layer: nn.Conv2d, split: bool, x: Tensor) -> list[Tensor]:
    """The output, and what a sum of its squares has as gradients: to the input, the weight, and the bias."""
    given = x.clone().requires_grad_()
    output = dilated(layer, given) if split else nn.Conv2d.forward(layer, given)
    wanted = [given, *layer.parameters()]
    return [output, *torch.autograd.grad(output.square().sum(), wanted)]


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (4, 9)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 2), (5, 1, 2), (3, 2, 2), (5, 4, 2), (3, 1, 3)])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_split_convolution_has_the_output_and_the_gradients_of_torchs(
    size: tuple[int, int], kernel: int, stride: int, dilation: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, kernel, stride, dilation * (kernel // 2), dilation, groups).double()
    assert can_be_split(layer)
    x = torch.randn(3, 4, *size, dtype=torch.double)
    for ours, torchs in zip(gradients(layer, True, x), gradients(layer, False, x), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_sides_may_be_dilated_differently_and_padded_by_less() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, (3, 5), 1, (0, 6), (2, 3)).double()
    x = torch.randn(2, 2, 9, 8, dtype=torch.double)
    torch.testing.assert_close(dilated(layer, x), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize(
    "function",
    [
        partial(dilated, nn.Conv2d(8, 8, 3, 2, 2, 2)),
        partial(dilated, nn.Conv2d(8, 8, 3, 1, 2, 2, groups=8)),
        lambda x: torch.cat(every_other(x, learns=True), 1),
    ],
    ids=["strided", "split", "every other pixel"],
)
def test_gradients_lie_as_the_images_do(function: Callable[[Tensor], Tensor], size: int) -> None:
    """Where the two lie differently, PyTorch's ReLU and batch normalisation take several times as long."""
    x = torch.randn(2, 8, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    output = function(x)
    (gradient,) = torch.autograd.grad(output, x, torch.randn_like(output))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_every_other_pixel_is_the_same_in_either_layout(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 5, 6).contiguous(memory_format=layout).requires_grad_()
    gradients = []
    for learns in (True, False):
        even, odd = every_other(x, learns)
        assert torch.equal(even, x[:, :, ::2, ::2])
        assert torch.equal(odd[:, :, :2], x[:, :, 1::2, 1::2])
        gradients.append(torch.autograd.grad((even * 2 + odd * 3).sum(), x)[0])
    assert torch.equal(*gradients)
    assert gradients[0].is_contiguous(memory_format=layout)


def test_second_derivatives_go_through_it() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 3, 1, 2, 2).double()
    assert torch.autograd.gradgradcheck(lambda x: dilated(layer, x), torch.randn(1, 2, 3, 4).double().requires_grad_())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, padding=1),
        nn.Conv2d(2, 2, 3, padding=1, dilation=2),
        nn.Conv2d(2, 2, 3, padding="same", dilation=2),
        nn.Conv2d(2, 2, 3, padding=2, dilation=2, padding_mode="circular"),
        nn.Conv2d(2, 2, 3, 3, padding=2, dilation=2),
        nn.Conv1d(2, 2, 3, padding=2, dilation=2),
    ],
    ids=["not dilated", "padding", "same", "circular", "stride", "1d"],
)
def test_what_cannot_be_split_stays_as_it_is(layer: nn.Module) -> None:
    before = type(layer)
    split_dilated(layer)
    assert type(layer) is before


def test_a_model_keeps_its_parameters_and_learns_the_same() -> None:
    """A kernel of 9 pixels on images of 8, for which oneDNN has no quick gradient; a depthwise one; one of stride 2."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 5, padding=4, dilation=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, 2, padding=2, dilation=2),
    )
    x = torch.randn(2, 2, 8, 8)
    expected = model(x)
    torchs = torch.autograd.grad(expected.sum(), list(model.parameters()))
    split_dilated(model)
    assert [type(layer) for layer in model] == [DilatedConv2d] * 3
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    output = model(x)
    torch.testing.assert_close(output, expected)
    for ours, theirs in zip(torch.autograd.grad(output.sum(), list(model.parameters())), torchs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
