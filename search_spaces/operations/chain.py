"""The layers of the chain space, their parts, and how widths and kernels that were chosen cut them down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import conv2d, mask_channels

if TYPE_CHECKING:
    from nasengine import Depth

GROUP = 8
"""Channels of a group, in grouped convolutions and group normalisation, where the widths allow it."""


class FitChannels(nn.Module):
    """Cuts trailing channels off, or adds channels of zeros; with a stride, keeps every so manieth pixel."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.added, self.stride = int(channels_out) - int(channels_in), stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return x if self.added == 0 else functional.pad(x, (0, 0, 0, 0, 0, self.added))


class Bias(nn.Module):
    """What a layer without normalisation adds: a number for each channel of images, or of vectors.

    inputs: how many the layer has, if the numbers are to begin as those of `nn.Linear`, uniform in ±1/√inputs; without
    it they begin at zero.
    """

    def __init__(self, channels: int, vectors: bool = False, inputs: int | None = None) -> None:
        super().__init__()
        self.channels, self.vectors = channels, vectors
        self.bias = nn.Parameter(torch.zeros(channels))
        if inputs is not None:
            bound = 1 / math.sqrt(inputs)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.bias if self.vectors else self.bias.view(1, -1, 1, 1))


class MaskedLayerNorm(nn.Module):
    """Layer normalisation over those of the channels that the mask lets through: (N, C, …) → the same."""

    def __init__(self, channels: int, mask: nn.Module) -> None:
        super().__init__()
        self.channels = channels
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        each, rest = [-1, *[1] * (x.dim() - 2)], list(range(1, x.dim()))
        shares = self.mask(x.new_ones(1, self.channels, *each[1:]))
        count = shares.sum() * x.shape[2:].numel()
        mean = (x * shares).sum(rest, keepdim=True) / count
        variance = ((x - mean) ** 2 * shares).sum(rest, keepdim=True) / count
        x = (x - mean) * torch.rsqrt(variance + 1e-5)
        return x * self.weight.view(each) + self.bias.view(each)


def layer_norm(channels: int, mask: nn.Module) -> nn.Module:
    return nn.GroupNorm(1, channels) if isinstance(mask, nn.Identity) else MaskedLayerNorm(channels, mask)


def norms(channels: int, group: int, mask: nn.Module, vectors: bool = False) -> dict[str, Callable[[], nn.Module]]:
    """By name; each (N, channels, H, W) → the same, or of vectors (N, channels). mask: of the channels."""
    return {
        "batch": lambda: (nn.BatchNorm1d if vectors else nn.BatchNorm2d)(channels),
        "layer": lambda: layer_norm(channels, mask),
        "group": lambda: nn.GroupNorm(int(channels) // math.gcd(int(channels), group), channels),
        "instance": lambda: nn.GroupNorm(channels, channels),  # also for images of one pixel
        "none": lambda: Bias(channels, vectors),
    }


NORMS = ("batch", "layer", "group", "instance", "none")

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}

POOLS: dict[str, Callable[[], nn.Module]] = {
    "max_pool": lambda: nn.MaxPool2d(2, ceil_mode=True),
    "average_pool": lambda: nn.AvgPool2d(2, ceil_mode=True),
}
"""What halves the image between two stages."""


def convolution(channels_in: int, channels_out: int, kernel: int, stride: int, group: int) -> nn.Module:
    return conv2d(channels_in, channels_out, kernel, stride)


def valid_convolution(channels_in: int, channels_out: int, kernel: int, stride: int, group: int) -> nn.Module:
    """Without padding: the image loses kernel − 1 pixels."""
    return nn.Conv2d(channels_in, channels_out, kernel, stride, bias=False)


def separable(
    channels_in: int, channels_out: int, kernel: int, stride: int, group: int, dilation: int = 1
) -> nn.Module:
    return nn.Sequential(
        conv2d(channels_in, channels_in, kernel, stride, dilation, groups=channels_in),
        conv2d(channels_in, channels_out, 1),
    )


def dilated(channels_in: int, channels_out: int, kernel: int, stride: int, group: int) -> nn.Module:
    return conv2d(channels_in, channels_out, kernel, stride, dilation=2)


def grouped(channels_in: int, channels_out: int, kernel: int, stride: int, group: int) -> nn.Module:
    """A 1×1 convolution to the new width, then one in groups (Xie et al. 2017, ResNeXt)."""
    return nn.Sequential(
        conv2d(channels_in, channels_out, 1),
        conv2d(channels_out, channels_out, kernel, stride, groups=channels_out // group),
    )


CONVOLUTIONS: dict[str, Callable[[int, int, int, int, int], nn.Module]] = {
    "convolution": convolution,
    "separable": separable,
    "dilated": dilated,
    "grouped": grouped,
}
"""By name: (channels in, channels out, kernel, stride, group) → module without bias."""

OTHERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "max_pool": lambda a, b, stride: nn.Sequential(nn.MaxPool2d(3, stride, 1), FitChannels(a, b)),
    "average_pool": lambda a, b, stride: nn.Sequential(
        nn.AvgPool2d(3, stride, 1, count_include_pad=False), FitChannels(a, b)
    ),
    "identity": FitChannels,
}
"""By name: (channels in, channels out, stride) → module."""


class Convolved(nn.Module):
    """Convolution, normalisation, plus what shortcuts bring, activation, dropout."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.activation, self.dropout = conv, norm, activation, dropout

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        x = self.norm(self.conv(x))
        x = x if shortcut is None else x + shortcut
        return self.dropout(self.activation(x))  # type: ignore[no-any-return]


class PreActivated(nn.Module):
    """Normalisation, activation, dropout, convolution, plus what shortcuts bring (He et al. 2016, "Identity mappings").

    mask: of the input's width; a normalisation adds a bias to channels that are not there.
    """

    def __init__(
        self, norm: nn.Module, activation: nn.Module, dropout: nn.Module, mask: nn.Module, conv: nn.Module
    ) -> None:
        super().__init__()
        self.norm, self.activation, self.dropout, self.mask, self.conv = norm, activation, dropout, mask, conv

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        x = self.conv(self.mask(self.dropout(self.activation(self.norm(x)))))
        return x if shortcut is None else x + shortcut


class Plus(nn.Module):
    """An operation on the layer before alone, whose channels come first where others are joined; plus shortcuts."""

    def __init__(self, operation: nn.Module, channels: int, joined: bool) -> None:
        super().__init__()
        self.operation, self.first, self.joined = operation, int(channels), joined

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        x = self.operation(x[:, : self.first] if self.joined else x)
        return x if shortcut is None else x + shortcut


class Layer(nn.Module):
    """One layer of a stage. `states` holds the stage's input and what each layer before gave.

    pool: what halves the image first. shortcuts: by how many layers they reach back. takes: for every state but the
    last, the mask with which it is joined to the layer's input; None where it is not.
    """

    def __init__(
        self,
        pool: nn.Module | None,
        operation: nn.Module,
        mask: nn.Module,
        shortcuts: dict[int, nn.Module],
        takes: Sequence[nn.Module | None],
    ) -> None:
        super().__init__()
        self.pool, self.operation, self.mask = pool, operation, mask
        there = {str(distance): way for distance, way in shortcuts.items() if not _is_nothing(way)}
        self.shortcuts = nn.ModuleDict(there)
        self.takes = nn.ModuleDict({str(index): take for index, take in enumerate(takes) if take is not None})

    def forward(self, x: Tensor, states: list[Tensor]) -> Tensor:
        if len(self.takes) > 0:
            x = torch.cat([x, *(take(states[int(index)]) for index, take in self.takes.items())], dim=1)
        shortcut = None
        for distance, bring in self.shortcuts.items():
            brought = bring(states[-int(distance)])
            shortcut = brought if shortcut is None else shortcut + brought
        return self.mask(self.operation(x if self.pool is None else self.pool(x), shortcut))  # type: ignore[no-any-return]


class Remembered(nn.Module):
    """A layer, or a choice of layers, whose result is kept for the layers behind it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, states: list[Tensor]) -> Tensor:
        x = self.layer(x, states)
        states.append(x)
        return x


class Stage(nn.Module):
    """Layers one after the other: what the last gives, or, where dense, all that they give, joined.

    widths: of the input and of what each layer gives, where the layers are all there.
    """

    def __init__(self, layers: Depth, widths: Sequence[int], dense: bool) -> None:
        super().__init__()
        self.layers, self.widths, self.dense = layers, [int(width) for width in widths], dense

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        last: Tensor = self.layers(x, states)
        if not self.dense:
            return last
        shares = self.layers.shares()
        joined = [x]
        for index, width in enumerate(self.widths[1:]):
            if index + 1 < len(states):
                share, state = shares[index], states[index + 1]
                joined.append(state if isinstance(share, float) and share == 1 else state * share)
            else:
                joined.append(x.new_zeros((x.shape[0], width, *x.shape[2:])))
        return torch.cat(joined, dim=1)


class StageMask(nn.Module):
    """Which channels a stage gives: those of its last layer, or, where dense, of all its layers, whatever the depth."""

    def __init__(self, layers: Depth, widths: Sequence[int], dense: bool) -> None:
        super().__init__()
        self._layers = (layers,)  # in a tuple: the stage owns them, this one only asks
        self.masks = nn.ModuleList(mask_channels(width) for width in widths)
        self.widths, self.dense = [int(width) for width in widths], dense

    def forward(self, x: Tensor) -> Tensor:
        shares = [1.0, *self._layers[0].shares(), 0.0]  # of the input, of each layer; of what comes after
        ones = [mask(x.new_ones(1, width, 1, 1)) for mask, width in zip(self.masks, self.widths, strict=True)]
        if self.dense:
            return x * torch.cat([mask * share for mask, share in zip(ones, shares, strict=False)], dim=1)
        ends = [mask * (shares[i] - shares[i + 1]) for i, mask in enumerate(ones)]
        return x * sum(functional.pad(end, (0, 0, 0, 0, 0, x.shape[1] - end.shape[1])) for end in ends)


def stage_mask(layers: Depth, widths: Sequence[int], dense: bool) -> nn.Module:
    """Nothing to mask in a plain model."""
    return nn.Identity() if layers.gate is None else StageMask(layers, widths, dense)


class Nothing(nn.Module):
    """A shortcut that is not there; in a plain model it is left out."""

    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros((), dtype=x.dtype, device=x.device)


def _is_nothing(way: nn.Module) -> bool:
    """Whether all that was kept of a choice of shortcuts is that there is none."""
    return all(isinstance(option, Nothing) for option in way.children())


def shortcuts(channels_in: int, channels_out: int, stride: int) -> dict[str, Callable[[], nn.Module]]:
    """By name, as He et al. 2016 ("Deep residual learning", section 3.3) call them: A pads, B projects."""
    return {
        "none": Nothing,
        "identity": partial(FitChannels, channels_in, channels_out, stride),
        "projection": lambda: nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        ),
    }


def group_of(widths: Sequence[int]) -> int:
    """The size of a group that divides all widths."""
    return math.gcd(GROUP, *widths)
