"""Where image networks begin and end."""

from __future__ import annotations

from torch import Tensor, nn


def image_stem(full_shape: tuple[int, ...], width: int) -> nn.Sequential:
    """Convolution and batch normalisation; images over 48 pixels, at full resolution, are first halved until they are
    not.

    (N, C, H, W) → (N, width, H', W').
    """
    channels = full_shape[0]
    layers: list[nn.Module] = []
    for _ in range(halvings(full_shape)):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers)


def halvings(full_shape: tuple[int, ...]) -> int:
    """How often `image_stem` halves images."""
    size, count = max(full_shape[1:]), 0
    while size > 48:
        size, count = (size + 1) // 2, count + 1
    return count


def large_image_stem(channels: int, width: int) -> nn.Sequential:
    """A 7×7 convolution with normalisation and ReLU, and 3×3 max pooling, each of stride 2 (He et al. 2016, table 1).

    (N, channels, H, W) → (N, width, ⌈H/4⌉, ⌈W/4⌉).
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


class Classifier(nn.Module):
    """Global average pooling and a linear layer: (N, C, H, W) → (N, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.flatten(self.pool(x)))  # type: ignore[no-any-return]
