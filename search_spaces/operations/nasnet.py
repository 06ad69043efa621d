"""The 13 operations of the NASNet space (Zoph et al. 2018, section 3), each `C → C` at stride 1 or 2.

As in the authors' code (TensorFlow's models/research/slim and tpu/models/official/amoeba_net): convolutions are
ReLU-conv-BN; separable ones are applied twice; full ones of a kernel over 1×1 work on fewer channels, between two 1×1
convolutions; pooling is left as it is; the identity at stride 2 is a 1×1 convolution. Shapes: (N, C, H, W) → (N, C,
⌈H/stride⌉, ⌈W/stride⌉).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from .darts import separable


def convolution(
    channels_in: int, channels_out: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: int = 1
) -> list[nn.Module]:
    """ReLU, convolution, batch normalisation."""
    padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(channels_out),
    ]


def pointwise(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*convolution(channels, channels, (1, 1), (stride, stride)))


def full(channels: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """3×3, on a quarter of the channels."""
    inner = max(1, channels // 4)
    return nn.Sequential(
        *convolution(channels, inner, (1, 1), (1, 1)),
        *convolution(inner, inner, (3, 3), (stride, stride), dilation),
        *convolution(inner, channels, (1, 1), (1, 1)),
    )


def factorized(channels: int, stride: int, kernel: int, inner: int) -> nn.Sequential:
    """1×k, then k×1, on `inner` channels; the first halves the width, the second the height."""
    return nn.Sequential(
        *convolution(channels, inner, (1, 1), (1, 1)),
        *convolution(inner, inner, (1, kernel), (1, stride)),
        *convolution(inner, inner, (kernel, 1), (stride, 1)),
        *convolution(inner, channels, (1, 1), (1, 1)),
    )


def identity(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else pointwise(channels, stride)


def max_pool(channels: int, stride: int, kernel: int) -> nn.Module:
    return nn.MaxPool2d(kernel, stride, kernel // 2)


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "identity": identity,
    "conv_1x3_3x1": lambda channels, stride: factorized(channels, stride, 3, max(1, 3 * channels // 8)),
    "conv_1x7_7x1": lambda channels, stride: factorized(channels, stride, 7, max(1, channels // 4)),
    "dil_conv_3x3": partial(full, dilation=2),
    "avg_pool_3x3": lambda channels, stride: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "max_pool_3x3": partial(max_pool, kernel=3),
    "max_pool_5x5": partial(max_pool, kernel=5),
    "max_pool_7x7": partial(max_pool, kernel=7),
    "conv_1x1": pointwise,
    "conv_3x3": full,
    "sep_conv_3x3": lambda channels, stride: separable(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: separable(channels, 5, stride),
    "sep_conv_7x7": lambda channels, stride: separable(channels, 7, stride),
}
"""By name: (channels, stride) → module."""
