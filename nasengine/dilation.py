"""Dilated convolutions whose gradients a CPU computes several times as fast: as ordinary ones of every d-th pixel.

With a dilation of d an output pixel reads every d-th pixel only. So an image falls into d × d images that have nothing
to do with each other, and the dilated convolution is an ordinary one of each of them, up to the order in which numbers
are added. Where a dilated kernel is larger than the image, oneDNN, which computes PyTorch's convolutions on a CPU, has
no code of its own for the gradient of the weights, and takes several times as long as for the ordinary one; and
its quick code for depthwise 3×3 convolutions knows no dilation.
"""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor, nn
from torch.nn import functional


class DilatedConv2d(nn.Conv2d):
    """A convolution as PyTorch's, with the same parameters; what it computes differently while it learns is the same
    but for rounding."""

    def forward(self, input: Tensor) -> Tensor:
        learns = self.training and input.device.type == "cpu"
        return dilated(self, input) if learns and self._pays(input) else super().forward(input)

    def _pays(self, input: Tensor) -> bool:
        """Whether it reads a part of the pixels, or is one of the two kinds for which oneDNN is slow."""
        depthwise = self.groups == self.in_channels and self.kernel_size == (3, 3)
        sizes = zip(self.dilation, self.kernel_size, input.shape[2:], strict=True)
        too_large = any(step * (kernel - 1) >= size for step, kernel, size in sizes)
        return self.stride != (1, 1) or depthwise or too_large


def dilated(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What the layer gives for (N, C, H, W), as an ordinary convolution; for a layer that `can_be_split`."""
    (down, right), groups = layer.dilation, layer.groups
    padding = int(layer.padding[0]) // down, int(layer.padding[1]) // right
    if layer.stride != (1, 1):
        strides = layer.stride[0] // down, layer.stride[1] // right
        # cut from what is written channels last, so that the gradient lies so, too
        read = x.permute(0, 2, 3, 1)[:, ::down, ::right].permute(0, 3, 1, 2).clone()
        return functional.conv2d(read, layer.weight, layer.bias, strides, padding, groups=groups)
    count, _, height, width = x.shape
    if height % down or width % right:
        x = functional.pad(x, (0, -width % right, 0, -height % down))
    # channels last throughout: (N, rows, down, columns, right, C), then (N · down · right, rows, columns, C)
    parts = x.permute(0, 2, 3, 1).unflatten(2, (-1, right)).unflatten(1, (-1, down))  # type: ignore[no-untyped-call]
    parts = parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).permute(0, 3, 1, 2)
    parts = functional.conv2d(parts, layer.weight, layer.bias, padding=padding, groups=groups)
    parts = parts.permute(0, 2, 3, 1).unflatten(0, (count, down, right))  # type: ignore[no-untyped-call]
    joined: Tensor = parts.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)
    return joined[:, : _size(height, layer, 0), : _size(width, layer, 1)].permute(0, 3, 1, 2)


def _size(given: int, layer: nn.Conv2d, side: int) -> int:
    """Of the output, at stride 1."""
    return given + 2 * int(layer.padding[side]) - layer.dilation[side] * (layer.kernel_size[side] - 1)


def is_torchs(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is PyTorch's convolution, and no class of somebody's that might compute something else."""
    return type(layer) in (nn.Conv2d, DilatedConv2d)


def can_be_split(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a dilated convolution, PyTorch's own, that begins with a whole pixel of each part."""
    if not is_torchs(layer) or layer.dilation == (1, 1) or layer.padding_mode != "zeros":
        return False
    return not isinstance(layer.padding, str) and all(
        padding % step == 0 and (layer.stride == (1, 1) or stride % step == 0)
        for padding, stride, step in zip(layer.padding, layer.stride, layer.dilation, strict=True)
    )


def split_dilated(module: nn.Module) -> None:
    """Makes the module's dilated convolutions such that compute so; names, parameters and results stay as they are."""
    for layer in module.modules():
        if can_be_split(layer):
            layer.__class__ = DilatedConv2d
