"""The operations of the DARTS space (Liu et al. 2019, section 3.1.1), each `C → C` at stride 1 or 2.

Convolutions are ReLU-conv-BN; separable ones are applied twice. Shapes: (N, C, H, W) → (N, C, H/stride, W/stride).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import once, shared


class Zero(nn.Module):
    """`none`: an edge that carries nothing."""

    gives_zero = True

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorizedReduce(nn.Module):
    """Halves the image with two 1×1 convolutions, the second one shifted by a pixel, so that none is lost.

    The pixels that they read are the same for all of a supernet's edges that begin at one state: they are taken once.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = shared(self.relu, x)
        even, odd = once(every_other, x, partial(every_other, x, self.training))
        return self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))  # type: ignore[no-any-return]


def every_other(x: Tensor, learns: bool = False) -> tuple[Tensor, Tensor]:
    """The even rows' even pixels, and the odd rows' odd ones: (N, C, H, W) → twice (N, C, ⌈H/2⌉, ⌈W/2⌉).

    A row and a column of zeros stand for the odd ones that an odd size would lack. learns: whether there will be a
    gradient. A slice's lies in memory as what it is cut from is written, so that is written as it lies.
    """
    missing = (0, x.shape[3] % 2, 0, x.shape[2] % 2)
    if learns and x.is_contiguous(memory_format=torch.channels_last):
        pixels = x.permute(0, 2, 3, 1)
        even, odd = (pixels[:, start::2, start::2].permute(0, 3, 1, 2) for start in (0, 1))
    else:
        even, odd = (x[:, :, start::2, start::2] for start in (0, 1))
    return even.clone(), functional.pad(odd, missing)


def relu_conv_norm(channels_in: int, channels_out: int) -> nn.Sequential:
    """ReLU, 1×1 convolution, batch normalisation."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, batch normalisation."""
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def separable(channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*depthwise(channels, kernel, stride), *depthwise(channels, kernel, 1))


def dilated(channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*depthwise(channels, kernel, stride, dilation=2))


def skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


def max_pool(channels: int, stride: int) -> nn.Sequential:
    """Followed by batch normalisation without parameters, as in the authors' search; their final network has none."""
    return nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.BatchNorm2d(channels, affine=False))


def average_pool(channels: int, stride: int) -> nn.Sequential:
    pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda channels, stride: Zero(stride),
    "max_pool_3x3": max_pool,
    "avg_pool_3x3": average_pool,
    "skip_connect": skip,
    "sep_conv_3x3": lambda channels, stride: separable(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: separable(channels, 5, stride),
    "dil_conv_3x3": lambda channels, stride: dilated(channels, 3, stride),
    "dil_conv_5x5": lambda channels, stride: dilated(channels, 5, stride),
}
"""By name: (channels, stride) → module."""
