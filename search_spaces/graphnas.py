"""The macro space of GraphNAS: graph layers that each have an attention, an aggregator, an activation, and a size.

Gao, Yang, Zhang, Zhou, Hu 2020, "Graph Neural Architecture Search", IJCAI, section 3.1. There a child is trained for
300 epochs with a learning rate of 0.005 and an L2 of 5e-4, and judged on the validation nodes:
`--evaluator train:epochs=300,learning_rate=0.005`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task

from .operations.graph import GraphNetwork, check_graphs
from .operations.graphnas import ACTIVATIONS, AGGREGATORS, ATTENTIONS, Layer, aggregators, attentions
from .operations.message_passing import Edges

if TYPE_CHECKING:
    import networkx as nx


class GraphNASSpace(SearchSpace):
    """Layers of attention heads, one after the other: open are each layer's attention, aggregator, activation, number
    of heads, and channels of a head. The last layer has a channel for each class, the mean of its heads, and no
    activation.

    Its supernet is as wide as the largest heads and hidden together, 16 × 256: choose fewer for one on a large graph.
    Of several graphs, each gets the mean of its nodes.

    Options:
        layers: how many.
        attentions: of gat, gcn, cos, const, gat_sym, linear, generalized_linear: what says how much a neighbour counts.
        aggregators: of sum, mean, max, mlp (a perceptron of the sum).
        activations: of sigmoid, tanh, relu, linear, softplus, leaky_relu, relu6, elu.
        heads: the numbers of heads.
        hidden: the numbers of channels of a head.
        dropout: the rate before each layer, and of attention's weights.
    """

    family = "GNN"

    def __init__(
        self,
        *,
        layers: int = 2,
        attentions: tuple[str, ...] = ATTENTIONS,
        aggregators: tuple[str, ...] = AGGREGATORS,
        activations: tuple[str, ...] = tuple(ACTIVATIONS),
        heads: tuple[int, ...] = (1, 2, 4, 6, 8, 16),
        hidden: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256),
        dropout: float = 0.6,
    ) -> None:
        for name, given, known in (
            ("attentions", attentions, ATTENTIONS), ("aggregators", aggregators, AGGREGATORS),
            ("activations", activations, tuple(ACTIVATIONS)),
        ):  # fmt: skip
            if not given or len(set(given)) != len(given) or not set(given) <= set(known):
                raise ConfigError(
                    f"the space 'graphnas' has {name} = {list(given)}; expected different ones of {', '.join(known)}"
                )
        for name, numbers in (("heads", heads), ("hidden", hidden)):
            if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 1:
                raise ConfigError(
                    f"the space 'graphnas' has {name} = {list(numbers)}; expected different numbers of at least 1"
                )
        if layers < 1 or not 0 <= dropout < 1:
            raise ConfigError(
                f"the space 'graphnas' has layers = {layers} and dropout = {dropout}; expected 1 or more, and a rate "
                f"from 0 to below 1"
            )
        self.layers, self.attentions, self.aggregators, self.activations = layers, attentions, aggregators, activations
        self.heads, self.hidden, self.dropout = heads, hidden, dropout

    def check(self, task: Task) -> None:
        check_graphs(self.known_as, task)

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        sizes: tuple[int, int] = (1, math.prod(task.input_shape))
        layers = []
        for index in range(self.layers):
            name, last = f"layer{index}", index == self.layers - 1
            heads = choose.value(f"{name}.heads", self.heads)
            hidden = task.classes if last else choose.value(f"{name}.hidden", self.hidden)
            attention, aggregator = attentions(heads, hidden), aggregators(hidden)
            layers.append(
                Layer(
                    sizes,
                    heads,
                    hidden,
                    choose.one(f"{name}.attention", {kind: attention[kind] for kind in self.attentions}),
                    choose.one(f"{name}.aggregator", {kind: aggregator[kind] for kind in self.aggregators}),
                    None if last else choose.one(f"{name}.activation", {k: ACTIVATIONS[k] for k in self.activations}),
                    self.dropout,
                )
            )
            sizes = (heads, hidden)
        return GraphNetwork(_Layers(layers))

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The layers in a row, a colour for each attention."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_node(0, label="features")
        index = 0
        while (attention := architecture.picks.get(f"layer{index}.attention")) is not None:
            label = "\n".join(_words(architecture, index))
            graph.add_node(index + 1, label=label, group=attention)
            graph.add_edge(index, index + 1)
            index += 1
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A layer a line."""
        count = sum(name.endswith(".attention") for name in architecture.picks)
        return "\n".join(f"layer {index}: {', '.join(_words(architecture, index))}" for index in range(count))


class _Layers(nn.Module):
    """(N, features), (2, E) → (N, classes)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edges = Edges(edge_index[0], edge_index[1], x.shape[0]).looped
        x = x.unsqueeze(1)
        for layer in self.layers:
            x = layer(x, edges)
        return x


def _words(architecture: Architecture, index: int) -> list[str]:
    """What a layer is: attention, aggregator, activation, heads × channels."""
    own = {
        name.partition(".")[2]: str(pick)
        for name, pick in architecture.picks.items()
        if name.startswith(f"layer{index}.")
    }
    words = [own[what] for what in ("attention", "aggregator", "activation") if what in own]
    return [*words, f"{own['heads']} × {own.get('hidden', 'classes')}"]
