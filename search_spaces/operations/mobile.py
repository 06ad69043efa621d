"""Inverted residual blocks, the layers of mobile networks; widths and kernels may be chosen ones.

Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR: section 3,
table 1. Squeeze and excitation as in Howard et al. 2019, "Searching for MobileNetV3", ICCV: section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nasengine import conv2d, mask_channels

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish}


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int, activation: str) -> nn.Sequential:
    """Convolution, batch normalisation, activation: (N, a, H, W) → (N, b, ⌈H / stride⌉, ⌈W / stride⌉)."""
    return nn.Sequential(
        conv2d(channels_in, channels_out, kernel, stride), nn.BatchNorm2d(channels_out), ACTIVATIONS[activation]()
    )


class InvertedResidual(nn.Module):
    """A 1×1 convolution to `hidden` channels, a depthwise one, and a 1×1 convolution back, without activation.

    (N, channels_in, H, W) → (N, channels_out, ⌈H / stride⌉, ⌈W / stride⌉).

    expands: whether there is the first convolution; without it, hidden is channels_in. residual: whether the input is
    added. attention: what stands behind the depthwise convolution, of `hidden` channels.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        hidden: int,
        kernel: int,
        stride: int,
        activation: str,
        *,
        residual: bool,
        expands: bool = True,
        attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.expand = convolution(channels_in, hidden, 1, 1, activation) if expands else nn.Identity()
        self.depthwise = nn.Sequential(
            conv2d(hidden, hidden, kernel, stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            ACTIVATIONS[activation](),
            mask_channels(hidden),
        )
        self.attention = attention or nn.Identity()
        self.project = nn.Sequential(
            conv2d(hidden, channels_out, 1), nn.BatchNorm2d(channels_out), mask_channels(channels_out)
        )
        self.residual = residual

    def paths(self) -> list[nn.Module]:
        """What drop path may leave out: all but the shortcut, where there is one."""
        return [self.project] if self.residual else []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number from 0 to 1 that is computed from the means of all: (N, C, H, W) → the same.

    The means pass a layer of ⌈C / 4⌉ units.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = (channels + 3) // 4
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv2d(channels, squeezed, 1, bias=True),
            nn.ReLU(),
            mask_channels(squeezed),
            conv2d(squeezed, channels, 1, bias=True),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)  # type: ignore[no-any-return]
