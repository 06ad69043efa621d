"""The operations of NAS-Bench-101 (Ying et al. 2019, section 2.1): (N, C, H, W) → (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def conv_norm_relu(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "conv3x3": lambda channels: conv_norm_relu(channels, channels, 3),
    "conv1x1": lambda channels: conv_norm_relu(channels, channels, 1),
    "maxpool3x3": lambda channels: nn.MaxPool2d(3, 1, 1),
}
"""By name: channels → module."""
