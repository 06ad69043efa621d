"""The primitives of the hierarchical space (Liu et al. 2018, section 2.3): (N, C, H, W) → (N, C, H, W).

Convolutions are followed by batch normalisation and ReLU.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from .darts import Zero


class Convolution(nn.Sequential):
    """Convolutions, one after the other, batch normalisation; and ReLU without a module, for there are thousands."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        super().__init__(*convolutions, nn.BatchNorm2d(convolutions[-1].out_channels))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return functional.relu(x)


def pointwise(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1, bias=False)


def depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


def separable(channels_in: int, channels_out: int, stride: int = 1) -> Convolution:
    """(N, a, H, W) → (N, b, ⌈H / stride⌉, ⌈W / stride⌉)."""
    return Convolution(depthwise(channels_in, stride), pointwise(channels_in, channels_out))


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "conv_1x1": lambda channels: Convolution(pointwise(channels, channels)),
    "depthwise_3x3": lambda channels: Convolution(depthwise(channels)),
    "separable_3x3": lambda channels: separable(channels, channels),
    "max_pool_3x3": lambda channels: nn.MaxPool2d(3, 1, 1),
    "avg_pool_3x3": lambda channels: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "identity": lambda channels: nn.Identity(),
}
"""By name: channels → module."""


def nothing() -> nn.Module:
    """`none`, at every level."""
    return Zero(stride=1)
