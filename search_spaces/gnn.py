"""The space of common graph networks: layers one after the other; how many, which convolution each is, and what joins
them is open.

Kipf, Welling 2017, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR; Veličković, Cucurull,
Casanova, Romero, Liò, Bengio 2018, "Graph Attention Networks", ICLR; Hamilton, Ying, Leskovec 2017, "Inductive
Representation Learning on Large Graphs", NeurIPS: each a point of the space. Jumping knowledge: Xu, Li, Tian, Sonobe,
Kawarabayashi, Jegelka 2018, "Representation Learning on Graphs with Jumping Knowledge Networks", ICML. The choices of
You, Ying, Leskovec 2020, "Design Space for Graph Neural Networks", NeurIPS, and Zhao, Yao, Tu 2021, "Search to
aggregate neighborhood for graph neural network" (SANE), ICDE, are mostly the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task, mask_channels

from .operations.convolutions import ACTIVATIONS, CONVOLUTIONS, OUTPUTS, Nothing, convolutions, dropouts, rate_name
from .operations.graph import GraphNetwork, check_graphs
from .operations.jumping import JUMPS, jumps
from .operations.message_passing import Edges

if TYPE_CHECKING:
    import networkx as nx

HEADS = 8
"""The most of an attention; they share out a layer's channels."""


class GNNSpace(SearchSpace):
    """Graph convolutions one after the other, then one more or a linear layer, that gives the classes. Each has a
    convolution, an activation, and from the second on perhaps a residual connection; open for all together are the
    width, the rate of dropout, and which of the layers' outputs the last layer reads.

    `gcn`, `gat` and `graphsage` are points of it (`nas list references`), with one layer before the last. Of several
    graphs, each gets the mean of its nodes.

    Options:
        layers: the largest number of layers before the last.
        convolutions: what a layer may be: gcn, sgc, cheb, arma, graph, gin, sage_mean, sage_max (GraphSAGE's pooling),
            sage_lstm (of at most ten neighbours), gat1, gat2, gat4, gat8 (heads), linear (no neighbours), or skip
            (nothing; in the first layer a linear map).
        activations: of relu, elu, leaky_relu, tanh, sigmoid, none.
        hidden: the numbers of channels that all layers may have, multiples of 8, which is how many heads there may be.
        dropouts: the rates of dropout before each layer, and of attention's weights.
        jumping: what the last layer reads: last (the layer before it), or of all layers concat (through a linear map),
            max, or lstm (their mean, weighted by what an LSTM says of them).
        outputs: what the last layer may be: linear, gcn, gat, sage_mean.
    """

    family = "GNN"

    def __init__(
        self,
        *,
        layers: int = 4,
        convolutions: tuple[str, ...] = CONVOLUTIONS,
        activations: tuple[str, ...] = tuple(ACTIVATIONS),
        hidden: tuple[int, ...] = (16, 32, 64),
        dropouts: tuple[float, ...] = (0.0, 0.2, 0.5, 0.6),
        jumping: tuple[str, ...] = JUMPS,
        outputs: tuple[str, ...] = tuple(OUTPUTS),
    ) -> None:
        for name, given, known in (
            ("convolutions", convolutions, CONVOLUTIONS), ("activations", activations, tuple(ACTIVATIONS)),
            ("jumping", jumping, JUMPS), ("outputs", outputs, tuple(OUTPUTS)),
        ):  # fmt: skip
            if not given or len(set(given)) != len(given) or not set(given) <= set(known):
                raise ConfigError(
                    f"the space 'gnn' has {name} = {list(given)}; expected different ones of {', '.join(known)}"
                )
        if not hidden or len(set(hidden)) != len(hidden) or any(width < 1 or width % HEADS for width in hidden):
            raise ConfigError(f"the space 'gnn' has hidden = {list(hidden)}; expected different multiples of {HEADS}")
        if not dropouts or len(set(dropouts)) != len(dropouts) or any(not 0 <= rate < 1 for rate in dropouts):
            raise ConfigError(f"the space 'gnn' has dropouts = {list(dropouts)}; expected rates from 0 to below 1")
        if layers < 1:
            raise ConfigError(f"the space 'gnn' has layers = {layers}; expected 1 or more")
        self.layers, self.convolutions, self.activations, self.hidden = layers, convolutions, activations, hidden
        self.dropouts, self.jumping, self.outputs = dropouts, jumping, outputs

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """The networks of Kipf 2017 (16 channels, dropout .5), Veličković 2018 (8 heads × 8 channels, ELU, dropout .6),
        and Hamilton 2017 (mean aggregator), each of two layers, for a citation graph."""
        return {
            "gcn": _two_layers("gcn", "relu", 16, 0.5, "gcn"),
            "gat": _two_layers("gat8", "elu", 64, 0.6, "gat"),
            "graphsage": _two_layers("sage_mean", "relu", 64, 0.5, "sage_mean"),
        }

    def check(self, task: Task) -> None:
        check_graphs(self.known_as, task)

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return GraphNetwork(_Network(self, choose, task))

    def canonical(self, architecture: Architecture) -> Architecture:
        """After one layer alone, the last of all outputs is their maximum, too, and what an LSTM weighs."""
        picks = architecture.picks
        if picks["depth"] == 1 and picks["jumping"] in ("max", "lstm") and "last" in self.jumping:
            return architecture.with_picks({**picks, "jumping": "last"})
        return architecture

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The layers in a row, a colour for each convolution, and what the last layer reads."""
        import networkx as nx

        picks, depth = architecture.picks, int(str(architecture.picks["depth"]))
        graph = nx.DiGraph()
        graph.add_node(0, label="features")
        for index, label in enumerate(_layers(architecture), 1):
            graph.add_node(index, label=label.replace(", ", "\n", 1), group=picks[f"layer{index - 1}.convolution"])
            graph.add_edge(index - 1, index)
        last = depth
        if picks["jumping"] != "last":
            last += 1
            graph.add_node(last, label=picks["jumping"], group="jumping")
            graph.add_edges_from((index, last) for index in range(1, depth + 1))
        graph.add_node(last + 1, label=f"{picks['output']}\nclasses", group=picks["output"])
        graph.add_edge(last, last + 1)
        return graph

    def describe(self, architecture: Architecture) -> str:
        """The layers from input to output, a line each."""
        picks = architecture.picks
        lines = [f"layer {index}: {label}" for index, label in enumerate(_layers(architecture))]
        read = {"last": ""}.get(str(picks["jumping"]), f" of {picks['jumping']} of all layers")
        return "\n".join([*lines, f"output: {picks['output']}{read}", f"dropout: {picks['dropout']}"])


class _Network(nn.Module):
    """(N, features), (2, E) → (N, classes)."""

    def __init__(self, space: GNNSpace, choose: Chooser, task: Task) -> None:
        super().__init__()
        hidden = choose.value("hidden", space.hidden)
        rate = partial(choose.one, "dropout", dropouts(space.dropouts))
        layers = [
            partial(_Layer, space, choose, index, math.prod(task.input_shape) if index == 0 else hidden, hidden)
            for index in range(space.layers)
        ]
        self.layers = choose.depth("depth", layers)
        self.jumping = choose.one("jumping", {name: jumps(hidden, space.layers)[name] for name in space.jumping})
        self.dropout = rate()
        outputs = convolutions(hidden, task.classes, rate)
        self.output = choose.one("output", {name: outputs[OUTPUTS[name]] for name in space.outputs})

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edges = Edges(edge_index[0], edge_index[1], x.shape[0])
        states = []
        shares = [share for share in self.layers.shares() if isinstance(share, Tensor) or share]
        for layer, _ in zip(self.layers.children(), shares, strict=False):
            x = layer(x, edges)
            states.append(x)
        read = self.jumping(states, shares)
        return self.output(self.dropout(read), edges)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """Dropout, convolution, perhaps the input added, and an activation: (N, channels_in) → (N, hidden)."""

    def __init__(self, space: GNNSpace, choose: Chooser, index: int, channels_in: int, hidden: int) -> None:
        super().__init__()
        name = f"layer{index}"
        rate = partial(choose.one, "dropout", dropouts(space.dropouts))
        options = convolutions(channels_in, hidden, rate, first=index == 0)
        self.dropout = rate()
        self.convolution = choose.one(f"{name}.convolution", {kind: options[kind] for kind in space.convolutions})
        self.skip = choose.one(f"{name}.skip", {"none": Nothing, "residual": nn.Identity}) if index else None
        self.activation = choose.one(f"{name}.activation", {name: ACTIVATIONS[name] for name in space.activations})
        self.mask = mask_channels(hidden)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        found = self.convolution(self.dropout(x), edges)
        if self.skip is not None:
            found = found + self.skip(x)
        return self.mask(self.activation(found))  # type: ignore[no-any-return]


def _layers(architecture: Architecture) -> list[str]:
    """Each layer in a few words: `gat8, 64 elu`."""
    picks, found = architecture.picks, []
    for index in range(int(str(picks["depth"]))):
        words = [str(picks["hidden"]), str(picks[f"layer{index}.activation"]).replace("none", "")]
        words += ["+ input"] if picks.get(f"layer{index}.skip") == "residual" else []
        found.append(f"{picks[f'layer{index}.convolution']}, {' '.join(filter(None, words))}")
    return found


def _two_layers(convolution: str, activation: str, hidden: int, dropout: float, output: str) -> Architecture:
    picks: dict[str, Any] = {
        "hidden": hidden, "dropout": rate_name(dropout), "depth": 1, "layer0.convolution": convolution,
        "layer0.activation": activation, "jumping": "last", "output": output,
    }  # fmt: skip
    return Architecture("gnn", GNNSpace().recorded_settings(), picks)
