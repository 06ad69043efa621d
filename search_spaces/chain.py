"""The chain space: layers one after the other, in stages; how many, which operation, how wide is open.

The oldest space of neural architecture search (Elsken, Metzen, Hutter 2019, "Neural Architecture Search: A Survey",
section 2, figure 2, left). Between two stages the image is halved. Layers of different width share the supernet's
weights: they are built at the largest width, and a narrower one uses the leading channels.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task, mask_channels

from .operations.chain import OPERATIONS
from .operations.stem import Classifier, image_stem

if TYPE_CHECKING:
    import networkx as nx


class ChainSpace(SearchSpace):
    """Stages of layers, one after the other; depth of each stage, operation and width of each layer are open.

    Options:
        stages: how many; the image is halved after each but the last.
        layers: the largest depth of a stage.
        widths: the numbers of channels that a layer may have.
    """

    def __init__(self, *, stages: int = 2, layers: int = 3, widths: tuple[int, ...] = (16, 32)) -> None:
        if stages < 1 or layers < 1 or not widths or min(widths) < 1 or len(set(widths)) != len(widths):
            raise ConfigError(
                f"the space 'chain' has stages = {stages}, layers = {layers}, widths = {list(widths)}; expected at "
                f"least 1 each, and different widths"
            )
        self.stages, self.layers, self.widths = stages, layers, tuple(widths)

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        channels = max(self.widths)
        parts: list[nn.Module] = [image_stem(task.input_shape, channels)]

        def layer(name: str) -> nn.Module:
            nonlocal channels
            before, channels = channels, choose.value(f"{name}.width", self.widths)
            options = {operation: partial(make, before, channels) for operation, make in OPERATIONS.items()}
            return nn.Sequential(choose.one(f"{name}.operation", options), mask_channels(channels))

        for stage in range(self.stages):
            if stage > 0:
                parts.append(nn.MaxPool2d(2, ceil_mode=True))
            layers = [partial(layer, f"stage{stage}.layer{index}") for index in range(self.layers)]
            parts.append(choose.depth(f"stage{stage}.depth", layers))
        return nn.Sequential(*parts, Classifier(channels, task.classes))

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The layers in a row, a colour for each operation."""
        import networkx as nx

        graph = nx.DiGraph()
        labels = ["input", "stem", *_layers(architecture), "classifier"]
        groups = {label: label.partition("×")[0] for label in labels if "×" in label}
        graph.add_nodes_from((index, {"label": n, "group": groups.get(n)}) for index, n in enumerate(labels))
        nx.add_path(graph, range(len(labels)))
        return graph

    def describe(self, architecture: Architecture) -> str:
        """The layers from input to output, a stage a line."""
        stages = " → ".join(_layers(architecture)).split(" → halve → ")
        return "\n".join(f"stage {number}: {stage}" for number, stage in enumerate(stages))


def _layers(architecture: Architecture) -> list[str]:
    picks, labels, stage = architecture.picks, [], 0
    while (depth := picks.get(f"stage{stage}.depth")) is not None:
        labels += ["halve"] if stage > 0 else []
        for index in range(int(depth)):  # type: ignore[arg-type]
            name = f"stage{stage}.layer{index}"
            labels.append(f"{picks[f'{name}.operation']}×{picks[f'{name}.width']}")
        stage += 1
    return labels
