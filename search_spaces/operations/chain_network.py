"""The chain being built, from the image to the classes, with what each layer must know of those before it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from nasengine import Chooser, SpaceError, Task, join, mask_channels, multiplied

from .chain import (
    ACTIVATIONS,
    CONVOLUTIONS,
    OTHERS,
    POOLS,
    Convolved,
    Layer,
    Plus,
    PreActivated,
    Remembered,
    Stage,
    group_of,
    norms,
    shortcuts,
    stage_mask,
    valid_convolution,
)
from .stem import halvings, image_stem, large_image_stem

if TYPE_CHECKING:
    from ..chain import ChainSpace

Value = TypeVar("Value", int, float, str)


class ChainNetwork:
    """One use of `build`: the space's settings, the chooser, and the image's size where the construction stands."""

    def __init__(self, space: ChainSpace, choose: Chooser, task: Task) -> None:
        self.space, self.choose, self.classes = space, choose, task.classes
        widths = (*space.widths, *space.transitions) if space.dense else space.widths
        self.group = group_of([multiplied(width, space.multiplier) for width in widths])
        self.input_shape, self.full_shape = task.input_shape, task.full_shape
        self.size = [int(side) for side in task.input_shape[1:]]
        self.mask: nn.Module = nn.Identity()  # of what the stem, or the last stage, gives

    def build(self) -> nn.Sequential:
        stem, channels = self.stem()
        parts: dict[str, nn.Module] = {} if stem is None else {"stem": stem}
        for stage in range(self.space.stages):
            parts[f"stage{stage}"] = nn.Sequential(*self.stage(f"stage{stage}", channels, reduces=stage > 0))
            channels = self.channels
        if self.space.order == "pre" and self.space.stages > 0:
            parts |= {"norm": self.norm("head", channels, self.mask), "activation": self.activation("head")}
            parts["mask"] = self.mask
        heads = {name: partial(self.head, name, channels) for name in self.space.heads}
        return nn.Sequential(OrderedDict(parts | {"head": self.one("head", heads)}))

    def stem(self) -> tuple[nn.Module | None, int]:
        """What comes before the stages, and how many channels it gives."""
        kind, shape = self.space.stem, self.input_shape
        width = multiplied(self.space.stem_width, self.space.multiplier)
        if kind == "none" or self.space.stages == 0:
            return None, shape[0]
        if kind == "convolution":
            return nn.Conv2d(shape[0], width, 3, padding=1, bias=False), width
        if kind == "imagenet":
            self.size = [(side + 3) // 4 for side in self.size]
            return large_image_stem(shape[0], width), width
        for _ in range(halvings(self.full_shape)):
            self.size = [(side + 1) // 2 for side in self.size]
        return image_stem(self.full_shape, width), width

    def stage(self, name: str, before: int, reduces: bool) -> list[nn.Module]:
        """The stage's modules; `self.channels` is what they give."""
        space, parts = self.space, []
        if reduces:
            self.size = [(side + 1) // 2 for side in self.size]
            if space.dense:
                chosen = self.choose.value(f"{name}.transition.width", space.transitions)
                width = multiplied(chosen, space.multiplier)
                parts = [self.convolved(f"{name}.transition", "convolution", before, width, self.mask, kernel=1)]
                parts += [
                    mask_channels(width),
                    self.one(f"{name}.reduction", {how: POOLS[how] for how in space.reductions}),
                ]
                before, reduces, self.mask = width, False, mask_channels(width)
        widths, strides = [before], [2 if reduces else 1]

        def layer(index: int, how: str | None = None) -> nn.Module:
            del widths[index + 1 :], strides[index + 1 :]
            pool = POOLS[how]() if how in POOLS else None
            return self.layer(f"{name}.layer{index}", widths, strides, pool, 2 if how == "stride" else 1)

        def remembered(index: int) -> nn.Module:
            if index > 0 or not reduces:
                return Remembered(layer(index))
            ways = {how: partial(layer, 0, how) for how in space.reductions}
            return Remembered(self.one(f"{name}.reduction", ways))

        layers = self.choose.depth(f"{name}.depth", [partial(remembered, index) for index in range(space.layers)])
        lost = space.kernels[0] - 1 if space.padding == "valid" else 0
        for stride in strides[1:]:
            self.size = [(side - lost + stride - 1) // stride for side in self.size]
        if space.padding == "valid" and min(self.size) < 1:
            size = "×".join(map(str, self.input_shape[1:]))
            raise SpaceError(
                f"images of {size} have no pixel left after {name} of the chain, whose convolutions do not pad; "
                f"use larger images, fewer stages, or padding=same"
            )
        stage = Stage(layers, widths, space.dense)
        absent = [0] * (space.layers + 1 - len(widths))
        self.channels = join([*widths, *absent]) if space.dense else widths[-1]
        self.mask = stage_mask(layers, widths, space.dense)
        return [*parts, stage]

    def layer(self, name: str, widths: list[int], strides: list[int], pool: nn.Module | None, reduction: int) -> Layer:
        """The next layer; `widths` and `strides` hold those of the states before it, and get its own. The first stride
        is 2 where the stage halves its input, which `pool` does, or a reduction of 2."""
        space, before = self.space, widths[-1]
        takes: list[nn.Module | None] = []
        mask = self.mask if len(widths) == 1 else mask_channels(before)
        if space.dense:
            parts = [
                width * self.choose.value(f"{name}.takes{index}", (0, 1)) for index, width in enumerate(widths[:-1])
            ]
            takes = [mask_channels(part) if part else None for part in parts]
            before = join([before, *parts])
            mask = mask_channels(before)
        width = multiplied(self.value(f"{name}.width", space.widths), space.multiplier)
        strides.append(int(self.value(f"{name}.stride", space.strides)))
        stride = reduction * strides[-1]
        options: dict[str, Callable[[], nn.Module]] = {}
        for operation in space.operations:
            if operation in CONVOLUTIONS:
                options[operation] = partial(self.convolved, name, operation, before, width, mask, stride)
            else:
                options[operation] = partial(self.plain, operation, widths[-1], width, stride)
        ways = {
            back: self.one(
                f"{name}.skip{back}",
                shortcuts(widths[-back], width, prod(strides if back == len(widths) else strides[-back:])),
            )
            for back in space.skips
            if back <= len(widths)
        }
        widths.append(width)
        return Layer(pool, self.one(f"{name}.operation", options), mask_channels(width), ways, takes)

    def plain(self, operation: str, before: int, width: int, stride: int) -> nn.Module:
        """A pooling, or the identity: of the layer before alone."""
        return Plus(OTHERS[operation](before, width, stride), before, self.space.dense)

    def convolved(
        self,
        name: str,
        operation: str,
        before: int,
        width: int,
        mask: nn.Module,
        stride: int = 1,
        kernel: int | None = None,
    ) -> nn.Module:
        """A convolution with what stands around it, in the space's order. mask: of the input's channels."""
        kernel = kernel or self.value(f"{name}.kernel", self.space.kernels)
        make = valid_convolution if self.space.padding == "valid" else CONVOLUTIONS[operation]
        conv = make(before, width, kernel, stride, self.group)
        if self.space.order == "post":
            norm, activation = self.norm(name, width, mask_channels(width)), self.activation(name)
            return Convolved(conv, norm, activation, self.dropout(name, nn.Dropout2d))
        norm, activation = self.norm(name, before, mask), self.activation(name)
        return PreActivated(norm, activation, self.dropout(name, nn.Dropout2d), mask, conv)

    def head(self, kind: str, channels: int) -> nn.Sequential:
        """From the image to the classes: pooled or flattened, fully connected layers, the classifier."""
        parts: dict[str, nn.Module] = {}
        size, features = self.size, channels
        if kind == "average":
            parts["pool"] = nn.AdaptiveAvgPool2d(1)
        else:
            pool = kind.removesuffix("_flatten")
            if pool in POOLS:
                parts["pool"], size = POOLS[pool](), [(side + 1) // 2 for side in size]
            features = channels * (size[0] * size[1])
        depths = {str(depth): partial(self.connected, features, depth) for depth in range(self.space.hidden_layers + 1)}
        layers = self.one("head.layers", depths)
        return nn.Sequential(OrderedDict(parts | {"flatten": nn.Flatten(), "layers": layers}))

    def connected(self, features: int, depth: int) -> nn.Sequential:
        parts: dict[str, nn.Module] = {}
        for index in range(depth):
            chosen = self.value(f"head.layer{index}.width", self.space.hidden_widths)
            width = multiplied(chosen, self.space.multiplier)
            parts |= {f"linear{index}": nn.Linear(features, width), f"activation{index}": self.activation("head")}
            parts |= {f"mask{index}": mask_channels(width), f"dropout{index}": self.dropout("head", nn.Dropout)}
            features = width
        return nn.Sequential(OrderedDict(parts | {"classifier": nn.Linear(features, self.classes)}))

    def norm(self, name: str, channels: int, mask: nn.Module) -> nn.Module:
        known = norms(channels, self.group, mask)
        return self.one(f"{name}.norm", {norm: known[norm] for norm in self.space.norms})

    def activation(self, name: str) -> nn.Module:
        return self.one(f"{name}.activation", {kind: ACTIVATIONS[kind] for kind in self.space.activations})

    def dropout(self, name: str, kind: Callable[[float], nn.Module]) -> nn.Module:
        options: dict[str, Callable[[], nn.Module]] = {
            text: partial(kind, rate) if rate else nn.Identity for text, rate in self.space.dropouts.items()
        }
        return self.one(f"{name}.dropout", options)

    def one(self, name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
        """The only option, or a choice."""
        return next(iter(options.values()))() if len(options) == 1 else self.choose.one(name, options)

    def value(self, name: str, values: Sequence[Value]) -> Value:
        return values[0] if len(values) == 1 else self.choose.value(name, values)
