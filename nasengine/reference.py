"""Well-known networks by name: points of the search spaces, to build, to train, or to start a search from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from .architecture import Architecture
from .errors import ConfigError, DataError, PluginError, near_miss
from .task import Batch, Split, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Shapes(Task):
    """A task of which only the shapes are known: to build models for, and to count with. It has no data."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        self.input_shape, self.classes = tuple(input_shape), classes

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[Batch]:
        self._nothing()

    def valid_batches(self) -> Iterator[Batch]:
        self._nothing()

    def test_batches(self) -> Iterator[Batch]:
        self._nothing()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self._nothing()

    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        self._nothing()

    def _nothing(self) -> NoReturn:
        raise DataError(f"a task of shapes {self.input_shape} has no data to train on")


def references() -> Mapping[str, Architecture]:
    """All well-known networks of the installed search spaces, by name. A space that is broken has none."""
    from .registry import installed, load

    found: dict[str, Architecture] = {}
    for plugin in installed("space"):
        try:
            found |= load("space", plugin.name).references()  # type: ignore[attr-defined]
        except PluginError:
            continue
    return dict(sorted(found.items()))


def reference(name: str) -> Architecture:
    """The well-known network of that name, `vgg16` for example, as an architecture at its published size.

    Raises ConfigError, with a near miss, where there is none.
    """
    known = references()
    if name not in known:
        hint = near_miss(name, known)
        raise ConfigError(f"no reference architecture is named {name!r}.{hint} There are: {', '.join(known)}")
    return known[name]


def build(architecture: Architecture | str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """An architecture, or a reference by its name, as a plain module, freshly initialised.

    input_shape: of one example, (channels, height, width) for images.

        model = nasengine.build("resnet18", (3, 224, 224), classes=1000)

    Raises ConfigError, PluginError or ArchitectureError.
    """
    from .registry import make

    if isinstance(architecture, str):
        architecture = reference(architecture)
    space: Any = make("space", architecture.space, dict(architecture.options))
    return space.model(architecture, Shapes(input_shape, classes))  # type: ignore[no-any-return]
