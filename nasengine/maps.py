"""The maps inside a generator of images: which layers give them, how they are read, edited, and brought to a size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import ConfigError, near_miss


def layers(network: nn.Module, inputs: Sequence[Tensor]) -> list[str]:
    """The blocks of a network that makes images (N, C, H, W) of the inputs, by path, in the order in which they work.

    A block is a module that gives a map (N, U, h, w) once a pass, as near to the root as possible; not the image
    itself, and not a Sequential, whose parts are taken. Normalisations and activations that follow a block belong to
    it: the path is that of the last of them that changes anything. Raises ConfigError where there is none.
    """
    calls: list[tuple[str, nn.Module, Any, Any]] = []

    def recorded(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, given, output: calls.append((path, module, given, output))

    handles = [m.register_forward_hook(recorded(path)) for path, m in network.named_modules() if path]
    try:
        with torch.no_grad():
            images = network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(path for path, *_ in calls)
    maps = {
        path: (module, given, output)
        for path, module, given, output in calls
        if times[path] == 1 and is_map(output, len(inputs[0])) and output.shape != images.shape
        if type(module) is not nn.Sequential
    }
    found: list[str] = []
    for path, (module, given, output) in maps.items():
        if any(path.startswith(f"{other}.") for other in maps):
            continue
        of_maps = any(is_map(one, len(inputs[0])) for one in given)
        if not of_maps or any(weight.ndim > 1 for weight in module.parameters()):
            found.append(path)
        elif found and output.shape == (last := maps[found[-1]][2]).shape and not torch.equal(output, last):
            found[-1] = path
    if not found:
        raise ConfigError("the generator has no layer that gives a map (N, units, height, width), the image apart")
    return found


class Tap:
    """A layer of a generator, read and edited while the generator works.

    generator: called with a batch of the inputs, gives images (N, C, H, W); it is put into evaluation mode.
    inputs: what it is called with, each of N rows. path: the layer's within the generator; it must give a map
    (N, U, h, w), once a pass. units, size, image: U, (h, w) and (H, W).

    Raises ConfigError where one of these is not so.
    """

    def __init__(self, generator: nn.Module, inputs: Sequence[Tensor], path: str) -> None:
        self.generator, self.inputs, self.path = generator.eval(), tuple(inputs), path
        self.samples = len(self.inputs[0])
        if any(len(given) != self.samples for given in self.inputs):
            counts = ", ".join(str(len(given)) for given in self.inputs)
            raise ConfigError(f"the inputs of the generator have {counts} rows; expected as many of each")
        self.module = _module_at(generator, path)
        maps, images = self(slice(0, 2))
        self.units, self.size, self.image = maps.shape[1], tuple(maps.shape[2:]), tuple(images.shape[2:])

    @torch.no_grad()
    def __call__(
        self, rows: slice | list[int], units: Sequence[int] = (), values: Tensor | None = None,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The layer's maps of some samples (N, U, h, w), and the images (N, C, H, W) that come of them.

        With units, the images are those where the units are set to these values (len(units),), by default 0, at these
        places (h, w) of yes and no, by default everywhere; the maps are those before that.
        """
        seen: list[Any] = []

        def hook(module: nn.Module, given: object, output: Any) -> Tensor | None:
            seen.append(output)
            return _edited(output, list(units), values, places) if units else None

        inputs = [given[rows] for given in self.inputs]
        handle = self.module.register_forward_hook(hook)
        try:
            images = self.generator(*inputs)
        finally:
            handle.remove()
        if len(seen) != 1 or not is_map(seen[0], len(inputs[0])):
            found = f"works {len(seen)} times" if len(seen) != 1 else f"gives {shown(seen[0])}"
            raise ConfigError(
                f"the layer {self.path!r} {found} in a pass of the generator; expected one map (N, units, height, "
                f"width): name another layer"
            )
        if not is_map(images, len(inputs[0])):
            raise ConfigError(f"the generator gives {shown(images)}; expected images (N, channels, height, width)")
        return seen[0], images

    def checked(self, units: Collection[int]) -> tuple[int, ...]:
        """The units as a tuple. Raises ConfigError where the layer has no such unit."""
        wrong = [unit for unit in units if not 0 <= unit < self.units]
        if wrong:
            raise ConfigError(f"the layer {self.path!r} has no unit {wrong[0]}; it has 0 to {self.units - 1}")
        return tuple(units)


def _edited(maps: Tensor, units: list[int], values: Tensor | None, places: Tensor | None) -> Tensor:
    edited, before = maps.clone(), maps[:, units]
    given = before.new_zeros(len(units)) if values is None else values.to(before)
    given = given[:, None, None].expand_as(before)
    edited[:, units] = given if places is None else torch.where(places.to(maps.device), given, before)
    return edited


def _module_at(generator: nn.Module, path: str) -> nn.Module:
    """Raises ConfigError where there is none, naming one that is near."""
    named = dict(generator.named_modules())
    if not path or path not in named:
        top = ", ".join(name for name, _ in generator.named_children()) or "none"
        raise ConfigError(f"the generator has no layer {path!r}.{near_miss(path, named)} Its outermost are: {top}")
    module: nn.Module = named[path]
    return module


def is_map(found: object, samples: int) -> bool:
    """Whether this is (N, C, h, w) with so many samples, and more than one place."""
    return isinstance(found, Tensor) and found.ndim == 4 and len(found) == samples and found[0, 0].numel() > 1


def resized(maps: Tensor, images: Tensor) -> Tensor:
    """The maps brought to the height and width of the images, bilinearly."""
    if maps.shape[2:] == images.shape[2:]:
        return maps
    return functional.interpolate(maps, size=tuple(images.shape[2:]), mode="bilinear", align_corners=False)


def shown(found: object) -> str:
    return f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
