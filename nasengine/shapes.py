"""Operations on torch's `meta` device, each worked out once for each shape: what it gives, and its FLOPs.

The shapes alone decide what an operation gives there, and working it out takes torch longer than the rest of a forward
pass. A network repeats its shapes, and so do the networks of a space.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

Shape: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""A tensor's sizes, strides and type."""

REMEMBERED = 20_000
"""How many operations are kept; a network has some dozens of different ones."""


@dataclass(frozen=True, slots=True)
class Given:
    """New tensors: one, or a tuple of several."""

    shapes: tuple[Shape, ...]
    several: bool

    def again(self) -> Tensor | tuple[Tensor, ...]:
        made = tuple(
            torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in self.shapes
        )
        return made if self.several else made[0]


_known: dict[Hashable, tuple[int, Given | None]] = {}
"""The FLOPs of an operation, and what it gives; None where that is not new tensors alone, and is made each time."""


class OncePerShape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of what is computed inside `with OncePerShape() as counter:`, by torch's own counter. What is
    not on the `meta` device is computed, and counted, each time.

    flops: of all examples together.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key = _key(func, args, kwargs)
        known = _known.get(key)
        if known is not None:
            flops, gives = known
            self.flops += flops
            return func(*args, **kwargs) if gives is None else gives.again()
        counter = FlopCounterMode(display=False)
        with counter:
            given = func(*args, **kwargs)
        flops = int(counter.get_total_flops())
        self.flops += flops
        if key is not None:
            if len(_known) >= REMEMBERED:
                _known.clear()
            _known[key] = flops, _shapes(given) if _makes_tensors(func) else None
        return given


def _key(func: Any, args: Any, kwargs: Any) -> Hashable:
    """The operation with all that decides what it gives; None where something else than shapes may."""
    if not isinstance(func, torch._ops.OpOverload):
        return None
    try:
        key = func, _part(args), _part(tuple(kwargs.items()))
        hash(key)
    except TypeError:
        return None
    return key


def _part(value: Any) -> Hashable:
    """Raises TypeError where it is a tensor with values, or of a kind of its own."""
    if isinstance(value, Tensor):
        if type(value) not in (Tensor, torch.nn.Parameter) or not value.is_meta or value.layout != torch.strided:
            raise TypeError
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_part, value))
    return type(value), value  # 1 == 1.0 == True


def _makes_tensors(func: Any) -> bool:
    """Whether all that the operation gives is new, neither an argument nor a view of one."""
    schema = func._schema
    return not schema.is_mutable and all(one.alias_info is None for one in schema.returns)


def _shapes(given: Any) -> Given | None:
    """The shape of a tensor, or of each of several; None where it is something else, or not on the `meta` device."""
    several = isinstance(given, tuple)
    tensors = given if several else (given,)
    if not all(isinstance(one, Tensor) and one.is_meta for one in tensors):
        return None
    shapes = tuple((tuple(one.shape), one.stride(), one.dtype) for one in tensors)
    return Given(shapes, several)
