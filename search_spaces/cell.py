"""The cell space of DARTS: two small graphs, a normal and a reduction cell, stacked into a network.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: sections 2.1 and 3.1. A cell has two inputs
(the outputs of the two cells before it) and four nodes; each node adds up two of the states before it, each through
one of eight operations; the cell's output is the concatenation of its nodes. Cells at 1/3 and 2/3 of the depth are
reduction cells: they halve the image and double the channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task

from .operations.darts import OPERATIONS, FactorizedReduce, relu_conv_norm
from .operations.stem import Classifier, image_stem

if TYPE_CHECKING:
    import networkx as nx

INPUTS = 2
PARTS = {"normal": "Normal cell", "reduce": "Reduction cell"}
Edges = list[tuple[int, str]]
"""A node's incoming edges: (index of the state it comes from, operation); states 0 and 1 are the cell's inputs."""

DARTS_V1: Mapping[str, list[Edges]] = {
    "normal": [
        [(0, "sep_conv_3x3"), (1, "sep_conv_3x3")],
        [(0, "skip_connect"), (1, "sep_conv_3x3")],
        [(0, "skip_connect"), (1, "sep_conv_3x3")],
        [(0, "sep_conv_3x3"), (2, "skip_connect")],
    ],
    "reduce": [
        [(0, "max_pool_3x3"), (1, "max_pool_3x3")],
        [(0, "max_pool_3x3"), (2, "skip_connect")],
        [(0, "max_pool_3x3"), (2, "skip_connect")],
        [(0, "avg_pool_3x3"), (2, "skip_connect")],
    ],
}
"""What the authors' first-order search found, as released with their code."""

DARTS_V2: Mapping[str, list[Edges]] = {
    "normal": [
        [(0, "sep_conv_3x3"), (1, "sep_conv_3x3")],
        [(0, "sep_conv_3x3"), (1, "sep_conv_3x3")],
        [(0, "skip_connect"), (1, "sep_conv_3x3")],
        [(0, "skip_connect"), (2, "dil_conv_3x3")],
    ],
    "reduce": [
        [(0, "max_pool_3x3"), (1, "max_pool_3x3")],
        [(1, "max_pool_3x3"), (2, "skip_connect")],
        [(0, "max_pool_3x3"), (2, "skip_connect")],
        [(1, "max_pool_3x3"), (2, "skip_connect")],
    ],
}
"""What their second-order search found: figures 4 and 5."""


class Cell(nn.Module):
    """One cell: (N, C₋₂, H, W) and (N, C₋₁, H, W) → (N, nodes · C, H, W), halved in height and width by a reduction."""

    def __init__(
        self, choose: Chooser, nodes: int, before: tuple[int, int], channels: int, reduces: bool, reduced_before: bool
    ) -> None:
        super().__init__()
        kind = "reduce" if reduces else "normal"
        adapt = FactorizedReduce if reduced_before else relu_conv_norm
        self.first = adapt(before[0], channels)
        self.second = relu_conv_norm(before[1], channels)
        self.nodes = nn.ModuleList()
        for node in range(nodes):
            options = {
                str(source): partial(_edge, choose, f"{kind}.node{node}", source, channels, reduces)
                for source in range(INPUTS + node)
            }
            self.nodes.append(choose.some(f"{kind}.node{node}.inputs", options, k=INPUTS))

    def paths(self) -> list[nn.Module]:
        """What drop path may leave out: the edges."""
        return [edge for node in self.nodes for edge in node.children()]

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [self.first(before_last), self.second(last)]
        for edges in self.nodes:
            states.append(sum(edge(states[int(source)]) for source, edge in edges.items()))  # type: ignore[operator]
        return torch.cat(states[INPUTS:], dim=1)


def _edge(choose: Chooser, node: str, source: int, channels: int, reduces: bool) -> nn.Module:
    """The operation on one edge; in a reduction cell, edges from the cell's inputs halve the image."""
    stride = 2 if reduces and source < INPUTS else 1
    return choose.one(
        f"{node}.from{source}", {name: partial(make, channels, stride) for name, make in OPERATIONS.items()}
    )


class CellNetwork(nn.Module):
    """Stem, cells, classifier: (N, C, H, W) → (N, classes)."""

    def __init__(self, stem: nn.Module, cells: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.head = head

    @property
    def auxiliary_input(self) -> str:
        """What an auxiliary head reads: the cell at two thirds of the depth, as in the authors' evaluation."""
        return f"cells.{2 * len(self.cells) // 3}"

    def forward(self, images: Tensor) -> Tensor:
        before_last = last = self.stem(images)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.head(last)  # type: ignore[no-any-return]


class CellSpace(SearchSpace):
    """The DARTS space of normal and reduction cells (Liu et al. 2019).

    Options:
        layers: how many cells are stacked; by default 3 for images up to 16 pixels, else 8 (the paper's search).
        channels: of the first cell's nodes; by default 8 for images up to 16 pixels, else 16 (the paper's search).
        nodes: in each cell; 4 in the paper.
    """

    family = "CNN"

    def __init__(self, *, layers: int | None = None, channels: int | None = None, nodes: int = 4) -> None:
        for name, value in (("layers", layers), ("channels", channels), ("nodes", nodes)):
            if value is not None and value < 1:
                raise ConfigError(f"the space 'cell' has {name} = {value}; expected at least 1")
        self.layers, self.channels, self.nodes = layers, channels, nodes

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """The cells that the authors found, in the network that they trained on CIFAR-10 (section 3.2).

        Without its auxiliary head, and with pooling normalised as in their search.
        """
        found = {}
        for name, cells in (("darts_v1", DARTS_V1), ("darts_v2", DARTS_V2)):
            picks = {**_picks("normal", cells["normal"]), **_picks("reduce", cells["reduce"])}
            found[name] = Architecture("cell", {"layers": 20, "channels": 36, "nodes": 4}, picks)
        return found

    def sizes(self, task: Task) -> Mapping[str, int]:
        small = max(task.full_shape[1:]) <= 16
        return {"layers": self.layers or (3 if small else 8), "channels": self.channels or (8 if small else 16)}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        layers, channels = self.sizes(task).values()
        width = 3 * channels  # the paper's stem multiplier
        stem = image_stem(task.full_shape, width)
        before, reduced_before = (width, width), False
        cells = []
        for index in range(layers):
            reduces = index in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            cells.append(Cell(choose, self.nodes, before, channels, reduces, reduced_before))
            before, reduced_before = (before[1], self.nodes * channels), reduces
        return CellNetwork(stem, cells, Classifier(before[1], task.classes))

    def canonical(self, architecture: Architecture) -> Architecture:
        """The smallest description among all orders of each cell's nodes: isomorphic cells have one."""
        picks: dict[str, str | tuple[str, ...]] = {}
        for kind in _kinds(architecture):
            cell = _edges(architecture, kind)
            picks.update(_picks(kind, min(_reordered(cell, order) for order in permutations(range(len(cell))))))
        return architecture.with_picks(picks)

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """Both cells as one graph of two parts; an edge's label is its operation, and a node adds up what it gets."""
        import networkx as nx

        graph = nx.DiGraph()
        for kind in _kinds(architecture):
            cell = _edges(architecture, kind)
            names = [f"{kind} {_state(index)}" for index in range(INPUTS + len(cell))]
            graph.add_nodes_from((n, {"label": _state(i), "part": PARTS[kind]}) for i, n in enumerate(names))
            graph.add_node(f"{kind} output", label="output", part=PARTS[kind])
            for node, edges in enumerate(cell):
                for source, operation in edges:
                    graph.add_edge(names[source], names[INPUTS + node], label=operation)
                graph.add_edge(names[INPUTS + node], f"{kind} output")
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A line for each node: what it adds up."""
        lines = []
        for kind in _kinds(architecture):
            for node, edges in enumerate(_edges(architecture, kind)):
                sources = [f"{operation}({_state(source)})" for source, operation in edges]
                lines.append(f"{kind if node == 0 else '':<7} node {node} = {' + '.join(sources)}")
        return "\n".join(lines)


def _kinds(architecture: Architecture) -> list[str]:
    return [kind for kind in ("normal", "reduce") if f"{kind}.node0.inputs" in architecture.picks]


def _state(index: int) -> str:
    return ("input −2", "input −1")[index] if index < INPUTS else f"node {index - INPUTS}"


def _edges(architecture: Architecture, kind: str) -> list[Edges]:
    """A cell as a list of its nodes' incoming edges."""
    cell: list[Edges] = []
    while (name := f"{kind}.node{len(cell)}") + ".inputs" in architecture.picks:
        sources = architecture.picks[f"{name}.inputs"]
        cell.append([(int(s), str(architecture.picks[f"{name}.from{s}"])) for s in sources])  # type: ignore[union-attr]
    return cell


def _picks(kind: str, cell: list[Edges]) -> Mapping[str, str | tuple[str, ...]]:
    picks: dict[str, str | tuple[str, ...]] = {}
    for node, edges in enumerate(cell):
        picks[f"{kind}.node{node}.inputs"] = tuple(str(source) for source, _ in edges)
        picks |= {f"{kind}.node{node}.from{source}": operation for source, operation in edges}
    return picks


def _reordered(cell: list[Edges], order: tuple[int, ...]) -> list[Edges]:
    """The cell with node order[i] at place i, or the cell itself where an edge would then run backwards."""
    place = {old: new for new, old in enumerate(order)}

    def moved(source: int) -> int:
        return source if source < INPUTS else INPUTS + place[source - INPUTS]

    renamed = [sorted((moved(source), operation) for source, operation in cell[old]) for old in order]
    forward = all(source < INPUTS + node for node, edges in enumerate(renamed) for source, _ in edges)
    return renamed if forward else cell
