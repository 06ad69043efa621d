"""The layers of NAS-Bench-201 (Dong and Yang 2020, section 2). Convolutions are ReLU-conv-BN.

The operations: (N, C, H, W) → (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .darts import Zero


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, batch normalisation: (N, a, H, W) → (N, b, ⌈H / stride⌉, ⌈W / stride⌉)."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def average_pool() -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


class ResidualReduction(nn.Module):
    """The residual block between two stages: (N, C, H, W) → (N, 2 C, ⌈H / 2⌉, ⌈W / 2⌉).

    (He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", in the authors' version: ReLU first, and
    average pooling before the shortcut's 1×1 convolution.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, 2 * channels, 3, stride=2)
        self.second = convolution(2 * channels, 2 * channels, 3)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.first(x))  # type: ignore[no-any-return]


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: Zero(stride=1),
    "skip_connect": lambda channels: nn.Identity(),
    "nor_conv_1x1": lambda channels: convolution(channels, channels, 1),
    "nor_conv_3x3": lambda channels: convolution(channels, channels, 3),
    "avg_pool_3x3": lambda channels: average_pool(),
}
"""By name: channels → module."""
