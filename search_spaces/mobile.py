"""The space of mobile networks: stages of inverted residual blocks, of which depth, width, expansion, kernel are open.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR (the blocks, and table 2 as a
point of the space); Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR (section 4:
a decision for each stage, squeeze and excitation); Cai et al. 2020, "Once-for-All: Train One Network and Specialize it
for Efficient Deployment", ICLR (section 3: a decision for each block, and weights shared by slicing: in a supernet all
is built at the largest, and narrower blocks use the leading channels, smaller kernels the middle). Unlike Once-for-All,
which transforms a kernel's middle by a learnt matrix, it is used as it is; and widths are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from torch import nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task, multiplied

from .operations.mobile import InvertedResidual, SqueezeExcitation, convolution
from .operations.stem import Classifier

if TYPE_CHECKING:
    import networkx as nx

SMALL = ((8, 16), (16, 24))
MOBILE = ((16, 24), (32, 40), (64, 80), (96, 112), (128, 160))
PLAIN, SQUEEZE = "identity", "squeeze_excitation"


@dataclass(frozen=True, slots=True)
class Stage:
    """What is fixed and what is open in one stage."""

    layers: int
    widths: tuple[int, ...]
    stride: int
    expansions: tuple[int, ...]


class MobileSpace(SearchSpace):
    """Stages of inverted residual blocks. Open are each stage's depth and width, and each block's expansion (how many
    times its input's channels it has inside), kernel, and whether it has squeeze and excitation.

    The first block of a stage has its stride, all others are residual. A stage whose only expansion is 1 has blocks
    without the convolution that expands, as MobileNetV2's first.

    Options:
        widths: for each stage, the numbers of channels that it may have: [[16, 24], [32, 40]] for two stages. By
            default two stages for images up to 16×16, else five with MobileNetV3's widths and narrower ones.
        layers: the largest depth of all stages, or of each; by default 2 for images up to 16×16, else 4.
        strides: of each stage; by default 1, 2 for images up to 16×16, else 2, 2, 2, 1, 2, and 1 for what follows.
        expansions: for all stages, [3, 6], or for each, [[1], [3, 6]].
        kernels: of the depthwise convolutions, odd numbers.
        stem: channels of the first convolution, of stride 2 for images over 48 pixels; by default 16 for images up to
            16×16, else 32.
        head: channels of the last convolution; by default 64 for images up to 16×16, else 1280.
        activation: relu, relu6 (MobileNetV2) or hard_swish (MobileNetV3).
        multiplier: of all widths but the last convolution's, rounded down (MobileNetV2's section 6.1, where it is
            called the width multiplier, and spares the last convolution if it is below 1).
    """

    family = "CNN"

    def __init__(
        self,
        *,
        widths: tuple[tuple[int, ...], ...] | None = None,
        layers: int | tuple[int, ...] | None = None,
        strides: tuple[int, ...] | None = None,
        expansions: tuple[int, ...] | tuple[tuple[int, ...], ...] = (3, 4, 6),
        kernels: tuple[int, ...] = (3, 5, 7),
        stem: int | None = None,
        head: int | None = None,
        activation: Literal["relu", "relu6", "hard_swish"] = "relu6",
        multiplier: float = 1.0,
    ) -> None:
        self.widths, self.layers, self.strides, self.expansions = widths, layers, strides, expansions
        self.kernels, self.stem, self.head = _different("kernels", kernels), stem, head
        self.activation, self.multiplier = activation, multiplier
        if not 0 < multiplier < float("inf"):
            raise ConfigError(f"the space 'mobile' has multiplier = {multiplier}; expected a positive number")
        if even := [kernel for kernel in kernels if kernel % 2 == 0]:
            raise ConfigError(f"the space 'mobile' has kernels = {list(kernels)}; expected odd ones, not {even[0]}")
        if any(channels is not None and channels < 1 for channels in (stem, head)):
            raise ConfigError(f"the space 'mobile' has stem = {stem}, head = {head}; expected at least 1")
        if widths is not None:
            self.stages(small=False)  # raises now rather than later

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """MobileNetV2 for ImageNet, as in its table 2: 3,504,872 parameters for 1,000 classes."""
        return {"mobilenet_v2": mobilenet_v2()}

    def stages(self, small: bool) -> list[Stage]:
        """small: whether images have up to 16×16 pixels. Raises ConfigError."""
        widths = (SMALL if small else MOBILE) if self.widths is None else self.widths
        count = len(widths)
        layers = (2 if small else 4) if self.layers is None else self.layers
        if isinstance(layers, int):
            layers = (layers,) * count
        first = (1, 2) if small else (2, 2, 2, 1, 2)
        strides = (*first, *(1,) * count)[:count] if self.strides is None else self.strides
        expansions = self.expansions
        if all(isinstance(expansion, int) for expansion in expansions):
            expansions = (expansions,) * count  # type: ignore[assignment]
        for name, values in (("layers", layers), ("strides", strides), ("expansions", expansions)):
            if len(values) != count:
                raise ConfigError(f"the space 'mobile' has {name} for {len(values)} stages, and widths for {count}")
        if min((count, *layers, *strides)) < 1:
            raise ConfigError(
                f"the space 'mobile' has {count} stages, layers = {list(layers)}, strides = {list(strides)}; expected "
                f"at least 1 each"
            )
        return [
            Stage(depth, _different("widths", width), stride, _different("expansions", expansion))  # type: ignore[arg-type]
            for depth, width, stride, expansion in zip(layers, widths, strides, expansions, strict=True)
        ]

    def sizes(self, task: Task) -> Mapping[str, float]:
        return {"multiplier": self.multiplier}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        largest = max(task.full_shape[1:])
        small = largest <= 16
        channels = multiplied(self.stem or (16 if small else 32), self.multiplier)
        head = self.head or (64 if small else 1280)
        parts: list[nn.Module] = [
            convolution(task.input_shape[0], channels, 3, 2 if largest > 48 else 1, self.activation)
        ]
        for number, stage in enumerate(self.stages(small)):
            name = f"stage{number}"
            before, channels = channels, multiplied(choose.value(f"{name}.width", stage.widths), self.multiplier)
            blocks = [
                partial(self._block, choose, f"{name}.block{index}", stage, channels, None if index else before)
                for index in range(stage.layers)
            ]
            parts.append(choose.depth(f"{name}.depth", blocks))
        last = convolution(channels, head, 1, 1, self.activation)
        return nn.Sequential(*parts, last, Classifier(head, task.classes))

    def _block(self, choose: Chooser, name: str, stage: Stage, channels: int, before: int | None) -> nn.Module:
        """before: the channels of the stage's input, for its first block."""
        channels_in = channels if before is None else before
        hidden = choose.value(f"{name}.expansion", stage.expansions) * channels_in
        kernel = choose.value(f"{name}.kernel", self.kernels)
        options: dict[str, Callable[[], nn.Module]] = {PLAIN: nn.Identity, SQUEEZE: partial(SqueezeExcitation, hidden)}
        return InvertedResidual(
            channels_in,
            channels,
            hidden,
            kernel,
            1 if before is None else stage.stride,
            self.activation,
            residual=before is None,
            expands=stage.expansions != (1,),
            attention=choose.one(f"{name}.attention", options),
        )

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The blocks in a row, a colour for each expansion, kernel and attention."""
        import networkx as nx

        blocks = [(f"{block}×{width}", block) for width, stage in _stages(architecture) for block in stage]
        nodes: list[tuple[str, str | None]] = [("input", None), ("stem", None), *blocks, ("classifier", None)]
        graph = nx.DiGraph()
        graph.add_nodes_from((index, {"label": label, "group": group}) for index, (label, group) in enumerate(nodes))
        nx.add_path(graph, range(len(nodes)))
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A stage a line: its width, and its blocks as expansion and kernel, SE where it has squeeze and excitation."""
        return "\n".join(
            f"stage {number}: {width} channels, {' → '.join(blocks)}"
            for number, (width, blocks) in enumerate(_stages(architecture))
        )


def mobilenet_v2() -> Architecture:
    """Sandler et al. 2018, table 2: expansion t, width c, layers n, stride s; with smaller ones left open around it."""
    widths = ((16,), (16, 24), (24, 32), (48, 64), (72, 96), (120, 160), (240, 320))
    layers, strides = (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
    expansions = ((1,), *((3, 4, 6),) * 6)
    space = MobileSpace(widths=widths, layers=layers, strides=strides, expansions=expansions, stem=32, head=1280)
    picks: dict[str, str | int] = {}
    for number, stage in enumerate(space.stages(small=False)):
        picks |= {f"stage{number}.width": max(stage.widths), f"stage{number}.depth": stage.layers}
        for index in range(stage.layers):
            block = f"stage{number}.block{index}"
            picks |= {f"{block}.expansion": max(stage.expansions), f"{block}.kernel": 3, f"{block}.attention": PLAIN}
    return Architecture("mobile", space.recorded_settings(), picks)


def _stages(architecture: Architecture) -> Iterator[tuple[int, list[str]]]:
    """Each stage's width, and its blocks as MB6_K5 or MB6_K5_SE."""
    picks, number = architecture.picks, 0
    while (depth := picks.get(f"stage{number}.depth")) is not None:
        blocks = []
        for index in range(int(depth)):  # type: ignore[arg-type]
            block = f"stage{number}.block{index}"
            squeezes = "_SE" if picks[f"{block}.attention"] == SQUEEZE else ""
            blocks.append(f"MB{picks[f'{block}.expansion']}_K{picks[f'{block}.kernel']}{squeezes}")
        yield int(picks[f"stage{number}.width"]), blocks  # type: ignore[arg-type]
        number += 1


def _different(name: str, values: tuple[int, ...]) -> tuple[int, ...]:
    if not values or min(values) < 1 or len(set(values)) != len(values):
        raise ConfigError(f"the space 'mobile' has {name} of {list(values)}; expected different ones, of at least 1")
    return tuple(values)
