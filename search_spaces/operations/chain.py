"""The operations of the chain space: each (N, a, H, W) → (N, b, H, W), for any a and b."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


class FitChannels(nn.Module):
    """Cuts trailing channels off, or adds channels of zeros."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.added = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        return x if self.added == 0 else functional.pad(x, (0, 0, 0, 0, 0, self.added))


def convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def separable(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def max_pool(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), FitChannels(channels_in, channels_out))


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv_3x3": lambda a, b: convolution(a, b, 3),
    "conv_5x5": lambda a, b: convolution(a, b, 5),
    "sep_conv_3x3": lambda a, b: separable(a, b, 3),
    "sep_conv_5x5": lambda a, b: separable(a, b, 5),
    "max_pool_3x3": max_pool,
    "identity": FitChannels,
}
"""By name: (channels in, channels out) → module."""
