"""Chosen numbers in a supernet: everything is built at the largest, and masks cut it down.

A width, a kernel or a number computed from them (`2 * width`, `width // 4`) remembers the gates that it depends on.
What is masked computes as if it were not there, so a plain model finds its weights in the supernet: the leading
channels, the middle of a kernel, and of joined tensors the leading channels of each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import SpaceError

if TYPE_CHECKING:
    from .supernet import Gate


class Largest(int):
    """The largest of a decision's values, where all are kept; or what is computed from such by `+`, `*` and `//`.

    Where the result would not be the largest (a product with a negative number, a division by a chosen one), it is an
    ordinary number.
    """

    gates: tuple[Gate, ...]
    at: Callable[[Mapping[str, int]], int]
    """The number where each decision, by its name, has the given value."""

    @classmethod
    def of(cls, gate: Gate, value: int) -> Largest:
        self = cls(value)
        name = gate.decision.name  # not the gate, which a copied supernet has anew
        self.gates, self.at = (gate,), lambda values: values[name]
        return self

    def __add__(self, other: int) -> int:
        return _computed(operator.add, self, other)

    def __mul__(self, other: int) -> int:
        return _computed(operator.mul, self, other)

    def __floordiv__(self, other: int) -> int:
        return _computed(operator.floordiv, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def every(self) -> set[int]:
        """The numbers that all combinations of picks give."""
        names = [gate.decision.name for gate in self.gates]
        options = product(*(map(int, gate.decision.options) for gate in self.gates))
        return {self.at(dict(zip(names, values, strict=True))) for values in options}

    def blend(self, of: Callable[[int], Tensor]) -> Tensor:
        """`of` the number that the gates pick; between picks, the weighted mean."""
        total: Tensor | None = None
        for options in product(*(gate.active for gate in self.gates)):
            picked = list(zip(self.gates, options, strict=True))
            term = of(self.at({gate.decision.name: int(gate.decision.options[index]) for gate, index in picked}))
            for gate, index in picked:
                term = gate.scale(index, term)
            total = term if total is None else total + term
        if total is None:
            raise SpaceError(f"no option of the decision {self.gates[0].decision.name!r} is active")
        return total


def multiplied(width: int, multiplier: float) -> int:
    """The width times a positive number, rounded down, but at least 1 for a width that is no chosen one of many.

    Raises SpaceError where a chosen width would have no channel left.
    """
    if multiplier == 1:
        return width
    share = Fraction(multiplier).limit_denominator(1000)
    if isinstance(width, Largest) and min(width.every()) * share < 1:
        raise SpaceError(f"a width of {min(width.every())} times {multiplier:g} leaves no channel; take more of it")
    return max(1, width * share.numerator // share.denominator)


def _computed(function: Callable[[int, int], int], a: Largest, b: int) -> int:
    if not isinstance(b, int) or isinstance(b, Joined):
        return NotImplemented  # type: ignore[no-any-return]
    if (function is operator.mul and b < 0) or (function is operator.floordiv and (b < 0 or isinstance(b, Largest))):
        return function(int(a), int(b))
    number = Largest(function(int(a), int(b)))
    number.gates = tuple(dict.fromkeys((*a.gates, *getattr(b, "gates", ()))))
    number.at = lambda values: function(a.at(values), b.at(values) if isinstance(b, Largest) else b)
    return number


class Joined(int):
    """The width of tensors that are joined along their channels; see `join`."""

    parts: tuple[int, ...]

    def __mul__(self, other: int) -> int:
        return join([part * other for part in self.parts])

    __rmul__ = __mul__


def join(widths: Sequence[int]) -> int:
    """The width of tensors of these widths, joined along their channels (`torch.cat`).

    A layer that is made for it finds its weights in a supernet, where each of the tensors may be wider, and some may be
    there that are absent here: such have the width 0 in `widths`. So do torch's convolutions, linear layers and
    normalisations; a module of your own says how wide its parameters are with an attribute `channels`.

    What is absent must be zeros in the supernet until a layer mixes the channels: no mask knows of it, so do not
    normalise it first.
    """
    joined = Joined(sum(int(width) for width in widths))
    joined.parts = tuple(p for width in widths for p in (width.parts if isinstance(width, Joined) else (width,)))
    return joined


class ChannelMask(nn.Module):
    """Lets through as many leading channels as the gates pick; between picks, their weighted mean."""

    channels: Tensor

    def __init__(self, parts: Sequence[int], dim: int) -> None:
        super().__init__()
        self.parts, self.dim = parts, dim
        for part in parts:
            for gate in part.gates if isinstance(part, Largest) else ():
                gate.used = True
        self.register_buffer("channels", torch.tensor(range(max(map(int, parts)))), persistent=False)

    def mask(self) -> Tensor:
        """Shape (width,): 1 for what is let through, 0 for what is not."""
        return torch.cat([self._mask(part) for part in self.parts])

    def _mask(self, part: int) -> Tensor:
        channels = self.channels[: int(part)]
        if not isinstance(part, Largest):
            return torch.ones(int(part), device=channels.device)
        return part.blend(lambda size: (channels < size).float())

    def forward(self, value: Tensor) -> Tensor:
        shape = [1] * value.dim()
        shape[self.dim] = -1
        return value * self.mask().to(value.dtype).view(shape)


def mask_channels(width: int, dim: int = 1) -> nn.Module:
    """How a width that was chosen cuts down a tensor that was built at the largest width.

    In a plain model it is the identity. In a supernet it zeroes the channels (dimension `dim`) beyond the chosen
    width. Put it where the width's layer ends, and let what follows treat zero channels as absent: the equality of
    supernet and model rests on it, and the contract test for spaces checks it.
    """
    parts = width.parts if isinstance(width, Joined) else (width,)
    return ChannelMask(parts, dim) if any(isinstance(part, Largest) for part in parts) else nn.Identity()


class MaskedConv2d(nn.Conv2d):
    """A convolution with the largest kernel, of which only the chosen one's middle counts."""

    offsets: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel_size: Largest, **options: Any) -> None:
        super().__init__(channels_in, channels_out, kernel_size, **options)
        for gate in kernel_size.gates:
            gate.used = True
        self.chosen = kernel_size
        sides = [abs(place - kernel_size // 2) for place in range(kernel_size)]
        offsets = [[max(row, column) for column in sides] for row in sides]
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        window = self.chosen.blend(lambda size: (self.offsets <= size // 2).to(weight.dtype))
        return super()._conv_forward(input, weight * window, bias)  # type: ignore[no-any-return]


def conv2d(
    channels_in: int,
    channels_out: int,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution that keeps the image's size at stride 1, with an odd kernel that may be a chosen value.

    (N, channels_in, H, W) → (N, channels_out, ⌈H / stride⌉, ⌈W / stride⌉). In a supernet the kernel is the largest
    one's middle. Raises SpaceError where a kernel is even.
    """
    kernels = kernel_size.every() if isinstance(kernel_size, Largest) else {int(kernel_size)}
    if even := [size for size in sorted(kernels) if size % 2 == 0]:
        raise SpaceError(f"a convolution has the kernel {even[0]}; expected an odd one, which has a middle")
    padding = dilation * (int(kernel_size) - 1) // 2
    options: dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias,
    }  # fmt: skip
    if isinstance(kernel_size, Largest):
        return MaskedConv2d(channels_in, channels_out, kernel_size, **options)
    return nn.Conv2d(channels_in, channels_out, kernel_size, **options)


def inherited(name: str, model: nn.Module, supernet: nn.Module, given: Tensor, shape: torch.Size) -> Tensor | None:
    """The entries of a supernet's tensor that the model's tensor of that name and shape has; None where it has not."""
    if given.dim() != len(shape) or any(have < want for have, want in zip(given.shape, shape, strict=True)):
        return None
    owner, _, attribute = name.rpartition(".")
    narrow = _widths(model.get_submodule(owner), attribute)
    wide = _widths(supernet.get_submodule(owner), attribute)
    for dim, size in enumerate(shape):
        have = given.shape[dim]
        if dim in narrow and isinstance(narrow[dim], Joined) and isinstance(wide.get(dim), Joined):
            places = _places(narrow[dim].parts, wide[dim].parts)  # type: ignore[attr-defined]
            if places is None:
                return None
            given = given.index_select(dim, torch.tensor(places, device=given.device))
        elif have != size:
            middle = dim >= 2 and isinstance(model.get_submodule(owner), nn.modules.conv._ConvNd)
            given = given.narrow(dim, (have - size) // 2 if middle else 0, size)
    return given.clone()


def _widths(module: nn.Module, attribute: str) -> dict[int, int]:
    """What a layer's tensor measures, by dimension, as the layer was told."""
    match module:
        case nn.modules.conv._ConvTransposeNd() if attribute == "weight":
            return {0: module.in_channels, 1: module.out_channels} if module.groups == 1 else {0: module.in_channels}
        case nn.modules.conv._ConvNd():
            widths = {0: module.out_channels, 1: module.in_channels}
            return widths if attribute == "weight" and module.groups == 1 else {0: module.out_channels}
        case nn.Linear():
            return (
                {0: module.out_features, 1: module.in_features} if attribute == "weight" else {0: module.out_features}
            )
        case nn.modules.batchnorm._NormBase():
            return {0: module.num_features}
        case nn.GroupNorm():
            return {0: module.num_channels}
    return {0: channels} if isinstance(channels := getattr(module, "channels", None), int) else {}


def _places(narrow: Sequence[int], wide: Sequence[int]) -> list[int] | None:
    """Where the channels of narrower joined tensors stand among those of the wider ones; None where they do not."""
    if len(narrow) != len(wide) or any(map(operator.gt, narrow, wide)):
        return None
    starts = [0, *accumulate(int(part) for part in wide)]
    return [starts[index] + channel for index, part in enumerate(narrow) for channel in range(int(part))]
