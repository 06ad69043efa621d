"""What a model is called with, taken apart into tensors that have names, and put together again: a tensor, or a
dataclass that holds some, such as a graph. An exported model's inputs are these tensors."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ConfigError

ONE = "input"
"""The name of the input where a model is called with one tensor."""
LETTERS = "NMKLPQRSTUVW"
"""For sizes that may be any, in the order in which they are met."""


def tensors_of(given: Any) -> dict[str, Tensor]:
    """The tensors of what a model is called with, by name. Raises ConfigError where it is neither a tensor nor a
    dataclass that holds some."""
    if isinstance(given, Tensor):
        return {ONE: given}
    names = [field.name for field in dataclasses.fields(given)] if dataclasses.is_dataclass(given) else []
    found = {name: value for name in names if isinstance(value := getattr(given, name), Tensor)}
    if not found:
        raise ConfigError(
            f"a model is called with a {type(given).__name__} here; expected a tensor, or a dataclass that holds some"
        )
    return found


def made_of(tensors: Mapping[str, Any], like: Any) -> Any:
    """The same kind of thing as `like`, of these tensors; what else a dataclass has takes its default."""
    return tensors[ONE] if isinstance(like, Tensor) else type(like)(**tensors)


def of_other_sizes(example: Any) -> tuple[Any, ...]:
    """The example, and where it is a batch as one tensor, a larger batch."""
    return (example, torch.cat([example, example[:1]])) if isinstance(example, Tensor) else (example,)


class Apart(nn.Module):
    """Calls a model with what is made of some tensors, in the order of `names`. The model itself may be a layer of
    torch's. like: what it is called with."""

    def __init__(self, model: nn.Module, like: Any) -> None:
        super().__init__()
        self.model, self.names = model, tuple(tensors_of(like))
        self._like = like if isinstance(like, Tensor) else type(like)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the values are called: as the model calls its argument, where it is one tensor."""
        first = next(iter(inspect.signature(self.model.forward).parameters))
        return (first,) if isinstance(self._like, Tensor) else self.names

    def forward(self, *values: Any) -> Any:
        if isinstance(self._like, Tensor):
            return self.model(values[0])
        return self.model(self._like(**dict(zip(self.names, values, strict=True))))


def free_sizes(examples: Sequence[Any]) -> dict[str, list[int]]:
    """By the tensors' names, in which dimensions they differ from one example to the other."""
    all_tensors = [tensors_of(example) for example in examples]
    return {
        name: [dim for dim in range(first.dim()) if len({tensors[name].shape[dim] for tensors in all_tensors}) > 1]
        for name, first in all_tensors[0].items()
    }


def shapes_in_words(examples: Sequence[Any], outputs: Sequence[Tensor]) -> tuple[list[str], str]:
    """`(N, 5)` and the like: the shapes of each tensor and of the output, a letter for each size that is not always the
    same."""
    letters: dict[tuple[int, ...], str] = {}

    def word(tensors: Sequence[Tensor]) -> str:
        sizes = [tuple(tensor.shape[dim] for tensor in tensors) for dim in range(tensors[0].dim())]
        free = LETTERS[len(letters) :]
        for size in sizes:
            if len(set(size)) > 1 and size not in letters:
                letters[size], free = free[0], free[1:]
        words = [letters[size] if size in letters else str(size[0]) for size in sizes]
        return f"({', '.join(words)}{',' * (len(words) == 1)})"

    each = zip(*(tensors_of(example).values() for example in examples), strict=True)
    return [word(tensors) for tensors in each], word(outputs)
