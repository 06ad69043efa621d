"""The space of NAS-Bench-Macro: eight layers, each one of three blocks; small enough that all of it was trained.

Su, Huang, Li, You, Wang, Qian, Zhang, Xu 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR,
and the code that its authors trained with. Each layer is an identity, or an inverted residual block of expansion 3 and
kernel 3, or of expansion 6 and kernel 5: 3⁸ = 6,561 networks for CIFAR-10. Three stages of 2, 3 and 3 layers; the first
layer of each halves the image and doubles the channels, where an identity is a 1×1 convolution with normalisation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from nasengine import Architecture, ArchitectureError, Chooser, ConfigError, SearchSpace, Task

from .operations.mobile import InvertedResidual, convolution
from .operations.stem import Classifier

if TYPE_CHECKING:
    import networkx as nx

STAGES = (2, 3, 3)
LAYERS = sum(STAGES)
BLOCKS = ("identity", "mb3_k3", "mb6_k5")
"""In the order of the benchmark's digits."""


class NASBenchMacroSpace(SearchSpace):
    """The networks of NAS-Bench-Macro: eight layers, each an identity or one of two inverted residual blocks.

    Options:
        channels: of the first convolution; the benchmark's 32, or 8 for images up to 16×16, unless you say. The last
            convolution has 40 times as many, 1280 in the benchmark.
    """

    family = "CNN"

    def __init__(self, *, channels: int | None = None) -> None:
        if channels is not None and channels < 1:
            raise ConfigError(f"the space 'nasbench_macro' has channels = {channels}; expected at least 1")
        self.channels = channels

    def sizes(self, task: Task) -> Mapping[str, int]:
        return {"channels": self.channels or (8 if max(task.full_shape[1:]) <= 16 else 32)}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        channels = self.sizes(task)["channels"]
        head = 40 * channels
        parts: list[nn.Module] = [convolution(task.input_shape[0], channels, 3, 1, "relu")]
        for layers in STAGES:
            for layer in range(layers):
                before, channels = channels, channels if layer else 2 * channels
                parts.append(choose.one(f"layer{len(parts) - 1}", _blocks(before, channels)))
        return nn.Sequential(*parts, convolution(channels, head, 1, 1, "relu"), Classifier(head, task.classes))

    def canonical(self, architecture: Architecture) -> Architecture:
        """Identities last in their stage, as the authors' code has them: 3,969 of the 6,561 networks are different.

        But for the layer that halves the image, where an identity computes something.
        """
        blocks, moved = _picked(architecture), []
        for layers in STAGES:
            first, *rest = blocks[:layers]
            moved += [first, *sorted(rest, key=lambda block: block == "identity")]
            blocks = blocks[layers:]
        return architecture.with_picks(_picks(moved))

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The layers in a row, a colour for each block."""
        import networkx as nx

        blocks = _picked(architecture)
        nodes = [("input", None), ("stem", None), *zip(blocks, blocks, strict=True), ("classifier", None)]
        graph = nx.DiGraph()
        graph.add_nodes_from((index, {"label": label, "group": group}) for index, (label, group) in enumerate(nodes))
        nx.add_path(graph, range(len(nodes)))
        return graph

    def notation(self, architecture: Architecture) -> str:
        """The benchmark's own, as `to_nasbench_macro` gives it."""
        return to_nasbench_macro(architecture)

    def describe(self, architecture: Architecture) -> str:
        """The layers, a stage a line; and the benchmark's own notation."""
        blocks, lines = _picked(architecture), []
        for number, layers in enumerate(STAGES):
            lines.append(f"stage {number}: {' → '.join(blocks[:layers])}")
            blocks = blocks[layers:]
        return "\n".join([*lines, to_nasbench_macro(architecture)])


def to_nasbench_macro(architecture: Architecture) -> str:
    """The network in the benchmark's notation, a digit for each layer, as `02112021`.

    Raises ArchitectureError where the architecture is of another space.
    """
    return "".join(str(BLOCKS.index(block)) for block in _picked(architecture))


def from_nasbench_macro(text: str, *, channels: int | None = None) -> Architecture:
    """The architecture of a network in the benchmark's notation, in the space of this option.

    Raises ArchitectureError where the text is no such network.
    """
    if not re.fullmatch(f"[0-2]{{{LAYERS}}}", text, re.ASCII):
        raise ArchitectureError(
            f"{text[:200]!r} is no network of NAS-Bench-Macro; expected {LAYERS} digits from 0 to 2, as 02112021"
        )
    settings = NASBenchMacroSpace(channels=channels).recorded_settings()
    return Architecture("nasbench_macro", settings, _picks([BLOCKS[int(digit)] for digit in text]))


def _blocks(channels_in: int, channels_out: int) -> dict[str, Callable[[], nn.Module]]:
    """What a layer may be: where the channels change, the image is halved; else blocks are residual."""
    reduces = channels_in != channels_out
    block = partial(
        InvertedResidual, channels_in, channels_out,
        stride=2 if reduces else 1, activation="relu", residual=not reduces,
    )  # fmt: skip

    def identity() -> nn.Module:
        if not reduces:
            return nn.Identity()
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False), nn.BatchNorm2d(channels_out)
        )

    return {
        "identity": identity,
        "mb3_k3": partial(block, hidden=3 * channels_in, kernel=3),
        "mb6_k5": partial(block, hidden=6 * channels_in, kernel=5),
    }


def _picks(blocks: list[str]) -> dict[str, str]:
    return {f"layer{index}": block for index, block in enumerate(blocks)}


def _picked(architecture: Architecture) -> list[str]:
    blocks = [str(architecture.picks.get(f"layer{index}")) for index in range(LAYERS)]
    if len(architecture.picks) != LAYERS or not set(blocks) <= set(BLOCKS):
        raise ArchitectureError(f"the architecture is of the space {architecture.space!r}, not of NAS-Bench-Macro")
    return blocks
