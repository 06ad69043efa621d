"""Partial channels: only 1/k of a tensor's channels pass a choice's options, the others go by.

Xu et al. 2020, "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search", ICLR: section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .dilation import is_torchs
from .errors import SpaceError
from .sharing import once

if TYPE_CHECKING:
    from .supernet import One, Supernet


def partly(options: Callable[[Tensor], Tensor], x: Tensor, k: int) -> Tensor:
    """(N, C, H, W) → (N, C, H′, W′): the first C/k channels through the options, then all of them shuffled.

    Where the options halve the image, the others are halved by max pooling.
    """
    passing = x.shape[1] // k
    mixed = options(once(("first channels", passing), x, lambda: x[:, :passing]))
    n, _, *size = mixed.shape
    others = once(("other channels", passing, *size), x, lambda: _pooled(x[:, passing:], size))
    joined = torch.cat([mixed, others], dim=1)
    return joined.view(n, k, passing, *size).transpose(1, 2).reshape(n, k * passing, *size)


def _pooled(x: Tensor, size: Sequence[int]) -> Tensor:
    return x if [*x.shape[2:]] == [*size] else nn.functional.adaptive_max_pool2d(x, [*size])


def narrow(supernet: Supernet, choices: list[One], k: int, example: Any) -> int:
    """Rebuilds the options of one-of-n choices k times as narrow, freshly initialised, and lets the others go by.

    Only where it can be: options of torch's own convolutions, batch normalisations, poolings and activations, whose
    output has as many channels as their input, and whose width is not chosen itself. A choice with another option, or
    with options without parameters only, stays as it is, and is not counted.
    """
    if k < 1:
        raise SpaceError(f"1/{k} of the channels cannot pass; expected 1 or more")
    seen: dict[One, tuple[Any, ...]] = {}

    def see(one: Any, given: tuple[Any, ...]) -> None:
        seen.setdefault(one, given)

    training = supernet.training
    hooks = [one.register_forward_pre_hook(see) for one in choices]
    with torch.no_grad():
        supernet.eval()(example)
    for hook in hooks:
        hook.remove()
    count = 0
    for one, given in seen.items():
        x = given[0] if len(given) == 1 else None
        if not isinstance(x, Tensor) or x.dim() != 4 or x.shape[1] % k:
            continue
        if not any(True for _ in one.parameters()):  # a choice of activations
            continue
        options = {name: _narrowed(option, x, k) for name, option in one.named_children()}
        if all(option is not None for option in options.values()):
            for name, option in options.items():
                one.add_module(name, option)
            one.partial = k
            count += 1
    supernet.train(training)
    return count


def _narrowed(option: nn.Module, x: Tensor, k: int) -> nn.Module | None:
    """A copy of the option for C/k channels; None where there is none that fits the input x, (N, C, H, W)."""
    try:
        narrower = _rebuilt(copy.deepcopy(option), k)
        with torch.no_grad():
            before = option.eval()(x)
            after = narrower.eval()(x[:, : x.shape[1] // k])
    except (_CannotBeNarrowed, RuntimeError, ValueError, IndexError):
        return None
    wanted = (x.shape[0], x.shape[1], *before.shape[2:])
    if tuple(before.shape) != wanted or tuple(after.shape) != (wanted[0], wanted[1] // k, *wanted[2:]):
        return None
    return narrower


class _CannotBeNarrowed(Exception):
    """A layer whose channels are not known, or not divisible; another choice."""


def _rebuilt(module: nn.Module, k: int) -> nn.Module:
    """The module with its layers made anew for 1/k of the channels."""
    if is_torchs(module):
        return _alike(_convolution(module, k), module)
    if type(module) is nn.BatchNorm2d:
        norm = nn.BatchNorm2d(
            _part(module.num_features, k), module.eps, module.momentum, module.affine, module.track_running_stats
        )
        return _alike(norm, module)
    if hasattr(module, "gate") or [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        raise _CannotBeNarrowed
    for name, child in module.named_children():
        setattr(module, name, _rebuilt(child, k))
    return module


def _convolution(module: nn.Conv2d, k: int) -> nn.Conv2d:
    depthwise = module.groups == module.in_channels
    groups = _part(module.groups, k) if depthwise and module.groups > 1 else module.groups
    made: Any = type(module)
    return made(  # type: ignore[no-any-return]
        _part(module.in_channels, k), _part(module.out_channels, k), module.kernel_size, module.stride, module.padding,
        module.dilation, groups, module.bias is not None, module.padding_mode,
    )  # fmt: skip


def _part(channels: int, k: int) -> int:
    if type(channels) is not int or channels % k:  # a width that is chosen is cut down by a mask, which comes first
        raise _CannotBeNarrowed
    return channels // k


def _alike(made: nn.Module, module: nn.Module) -> nn.Module:
    """The same place, and the same parameters that learn."""
    for new, old in zip(made.parameters(), module.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
        made.to(old.device, old.dtype)
    return made
