"""What a supernet computes once: layers without parameters that several options apply to the same input.

The edges out of one state all pool it, normalise what they pooled, or take its positive part, each with the same
result. During `sharing()` the first of them computes, and the others take what it found. So with the pixels that a
convolution reads, where it skips some.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from .dilation import DilatedConv2d, can_be_split

Result = TypeVar("Result")

PURE = {f"torch.nn.modules.{kind}" for kind in ("activation", "instancenorm", "normalization", "padding", "pooling")}
"""Where torch's layers are that, without parameters, are functions of their input and their settings."""
RANDOM = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)

_found: ContextVar[dict[Hashable, tuple[Tensor, Any]] | None] = ContextVar("found in this forward pass", default=None)
"""What was computed, with the tensor that it was computed from: while that is kept, its id remains its own."""


@contextmanager
def sharing() -> Iterator[None]:
    """One forward pass; what was found in it is forgotten at its end."""
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def once(what: Hashable, given: Tensor, compute: Callable[[], Result]) -> Result:
    """What `compute` gives, which must follow from `given` and `what`; during `sharing()` it is called once for both.

    The result may be somebody else's as well: it must not be changed in place.
    """
    found = _found.get()
    if found is None:
        return compute()
    version = 0 if given.is_inference() else given._version  # it may be changed in place between two calls
    key = (what, id(given), version, torch.is_grad_enabled())
    if key not in found:
        found[key] = given, compute()
    return found[key][1]  # type: ignore[no-any-return]


def shared(option: nn.Module, *inputs: Any, **named: Any) -> Any:
    """What the option gives, its layers without parameters computed `once` for each input."""
    if _found.get() is None or named or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        return option(*inputs, **named)
    value, layers = inputs[0], _layers(option)
    shareable = all(map(_spares_input, layers))  # else one of them might change what another option has, too
    for layer in layers:
        if shareable and _is_pure(layer):
            value = _once(layer, value)
        elif shareable and _skips_pixels(layer):
            value = _of_read_pixels(layer, value)
        else:
            value = layer(value)
    return value


def _layers(option: nn.Module) -> list[nn.Module]:
    """A plain sequence's layers, one after the other."""
    if type(option) is not nn.Sequential or _is_watched(option):
        return [option]
    return [layer for part in option for layer in _layers(part)]


def _is_watched(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def _spares_input(layer: nn.Module) -> bool:
    """Whether it is known to leave its input as it is: a stranger's layer might not."""
    known = type(layer).__module__.startswith("torch.nn.modules.") or type(layer) is DilatedConv2d
    own = known and not layer._modules
    return own and not getattr(layer, "inplace", False)


def _is_pure(layer: nn.Module) -> bool:
    """Whether the output of a layer of torch's follows from its input, its class and its settings.

    A batch normalisation's does, as long as it takes the batch's own mean and variance.
    """
    if isinstance(layer, RANDOM) or _is_watched(layer):
        return False
    if any(weight is not None for weight in layer._parameters.values()):
        return False
    if isinstance(layer, _BatchNorm):
        return layer.training and layer.momentum is not None
    return type(layer).__module__ in PURE and all(buffer is None for buffer in layer._buffers.values())


def _once(layer: nn.Module, value: Tensor) -> Any:
    """`layer(value)`, the layer's running statistics moved as if it had computed."""
    settings = repr([setting for setting in vars(layer).items() if setting[0][0] != "_"])
    statistics = [tensor for tensor in layer._buffers.values() if tensor is not None]
    mine = [tensor.clone() for tensor in statistics]

    def compute() -> tuple[Any, list[Tensor], list[Tensor]]:
        return layer(value), mine, [tensor.clone() for tensor in statistics]

    output, before, after = once((type(layer), settings), value, compute)
    if before is not mine:
        for tensor, a, b, c in zip(statistics, mine, before, after, strict=True):
            # from `a`, the step that another layer's mean took from b to c; after equal starts they are equal
            kept = 1.0 - layer.momentum if tensor.is_floating_point() else 1  # type: ignore[operator]
            tensor.data.copy_(c + kept * (a - b))  # unseen by autograd, as torch's own update is
    return output


def _skips_pixels(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution whose stride is its dilation: of every so many rows and columns it reads one."""
    return can_be_split(layer) and not _is_watched(layer) and layer.stride == layer.dilation


def _of_read_pixels(layer: nn.Conv2d, value: Tensor) -> Tensor:
    """The same as a dense convolution of what it reads, whose gradients torch computes several times as fast."""
    down, right = layer.stride
    read = once(("every", down, right), value, lambda: value[..., ::down, ::right].clone())
    padding = (int(layer.padding[0]) // down, int(layer.padding[1]) // right)
    return functional.conv2d(read, layer.weight, layer.bias, padding=padding, groups=layer.groups)
