"""The space of NAS-Bench-201: one cell of four nodes, repeated; small enough that all of it was trained.

Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR: section 2,
figure 1. Node 0 is the cell's input and node 3 its output; each pair of nodes is joined by one of five operations, and
a node adds up what it gets: 5⁶ = 15,625 cells. The network is a 3×3 convolution, three stages of cells with residual
blocks between them that halve the image and double the channels, and a classifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nasengine import Architecture, ArchitectureError, Chooser, ConfigError, SearchSpace, Task

from .operations.nasbench201 import OPERATIONS, ResidualReduction
from .operations.stem import Classifier, image_stem

if TYPE_CHECKING:
    import networkx as nx

NODES = 4
STAGES = 3
EDGES = [(source, node) for node in range(1, NODES) for source in range(node)]
LABELS = ("input", "node 1", "node 2", "output")
RESNET = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
Operations = tuple[str, ...]
"""A cell: the operations of its edges, in the order of EDGES, which is that of the benchmark's strings."""


class Cell(nn.Module):
    """(N, C, H, W) → (N, C, H, W)."""

    def __init__(self, choose: Chooser, channels: int) -> None:
        super().__init__()
        options = {name: partial(make, channels) for name, make in OPERATIONS.items()}
        self.edges = nn.ModuleList([choose.one(_name(*edge), options) for edge in EDGES])

    def paths(self) -> list[nn.Module]:
        """What drop path may leave out: the edges."""
        return list(self.edges)

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for number in range(1, NODES):
            terms = [edge(states[s]) for (s, node), edge in zip(EDGES, self.edges, strict=True) if node == number]
            states.append(sum(terms))
        return states[-1]


class NASBench201Space(SearchSpace):
    """The cells of NAS-Bench-201, stacked: one of five operations between each two of a cell's four nodes.

    Options:
        cells: how many in each of the three stages; the benchmark's 5, or 1 for images up to 16×16, unless you say.
        channels: how many the first stage has, doubled in each later one; 16, or 8 for images up to 16×16, unless you
            say.
    """

    family = "CNN"

    def __init__(self, *, cells: int | None = None, channels: int | None = None) -> None:
        for name, value in (("cells", cells), ("channels", channels)):
            if value is not None and value < 1:
                raise ConfigError(f"the space 'nasbench201' has {name} = {value}; expected at least 1")
        self.cells, self.channels = cells, channels

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """The benchmark's hand-made baseline: the residual block as a cell, in the network that was trained."""
        return {"nasbench201_resnet": from_nasbench201(RESNET, cells=5, channels=16)}

    def sizes(self, task: Task) -> Mapping[str, int]:
        small = max(task.full_shape[1:]) <= 16
        return {"cells": self.cells or (1 if small else 5), "channels": self.channels or (8 if small else 16)}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        cells, channels = self.sizes(task).values()
        layers: list[nn.Module] = [image_stem(task.full_shape, channels)]
        for stage in range(STAGES):
            if stage > 0:
                layers.append(ResidualReduction(channels))
                channels *= 2
            layers += [Cell(choose, channels) for _ in range(cells)]
        return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), Classifier(channels, task.classes))

    def canonical(self, architecture: Architecture) -> Architecture:
        """One cell for all that are isomorphic by the benchmark's own rule: 6,466 of the 15,625.

        The rule is the authors' `to_unique_str(consider_zero=True)`: a node is written as the sorted sum of its edges'
        terms, where a skip connection stands for what its source is written as, and `none`, or any edge out of a zero,
        for zero; cells whose outputs are written alike are one, and the first in the order of the operations is taken.
        It compares texts, so it misses equals: a sum of zeros is not written as zero, and a skipped sum is sorted as
        one term (as sums of terms, 4,930 cells are different). And it calls a convolution of zeros zero, although its
        batch normalisation may learn a constant.
        """
        cell = representatives()[_expression(_operations(architecture))]
        return architecture.with_picks(_picks(cell))

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The cell; an edge's label is its operation. `none` is drawn only where a node would hang in the air."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from((number, {"label": label}) for number, label in enumerate(LABELS))
        for (source, node), operation in zip(EDGES, _operations(architecture), strict=True):
            if operation != "none":
                graph.add_edge(source, node, label=operation)
        for node in range(1, NODES):
            if not graph.in_degree(node):
                graph.add_edge(0, node, label="none")
        return graph

    def notation(self, architecture: Architecture) -> str:
        """The benchmark's own, as `to_nasbench201` gives it."""
        return to_nasbench201(architecture)

    def describe(self, architecture: Architecture) -> str:
        """A line for each node, what it adds up; and the cell in the benchmark's own notation."""
        terms: dict[int, list[str]] = {node: [] for node in range(1, NODES)}
        for (source, node), operation in zip(EDGES, _operations(architecture), strict=True):
            if operation != "none":
                terms[node].append(f"{operation}({LABELS[source]})")
        lines = [f"{LABELS[node]} = {' + '.join(sums) or '0'}" for node, sums in terms.items()]
        return "\n".join([*lines, to_nasbench201(architecture)])


def to_nasbench201(architecture: Architecture) -> str:
    """The cell in the benchmark's notation, as `|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|…|`.

    Raises ArchitectureError where the architecture is of another space.
    """
    operations = iter(_operations(architecture))
    return "+".join("|" + "".join(f"{next(operations)}~{s}|" for s in range(node)) for node in range(1, NODES))


def from_nasbench201(text: str, *, cells: int | None = None, channels: int | None = None) -> Architecture:
    """The architecture of a cell in the benchmark's notation, in the space of these options.

    Raises ArchitectureError where the text is no such cell.
    """
    fields = re.findall(r"([^|~+]+)~(\d)", text)
    cell = tuple(operation for operation, _ in fields)
    if unknown := [operation for operation in cell if operation not in OPERATIONS]:
        raise ArchitectureError(
            f"the NAS-Bench-201 cell {text[:200]!r} has the operation {unknown[0]!r}; expected {', '.join(OPERATIONS)}"
        )
    settings = NASBench201Space(cells=cells, channels=channels).recorded_settings()
    architecture = Architecture("nasbench201", settings, _picks(cell) if len(cell) == len(EDGES) else {})
    if not architecture.picks or to_nasbench201(architecture) != text:
        raise ArchitectureError(
            f"{text[:200]!r} is no NAS-Bench-201 cell; expected |operation~0|+|operation~0|operation~1|+|operation~0|"
            f"operation~1|operation~2|"
        )
    return architecture


@cache
def representatives() -> dict[str, Operations]:
    """The first of the isomorphic cells, by the expression that they all compute."""
    found: dict[str, Operations] = {}
    for cell in product(OPERATIONS, repeat=len(EDGES)):
        found.setdefault(_expression(cell), cell)
    return found


def _expression(cell: Operations) -> str:
    """What the output node is written as in the authors' notation: `0` is the cell's input, `#` is zero.

    The sum is sorted as text, so other symbols would sort otherwise and leave another number of cells.
    """
    nodes, operations = ["0"], iter(cell)
    for node in range(1, NODES):
        nodes.append("+".join(sorted(_term(nodes[source], next(operations)) for source in range(node))))
    return nodes[-1]


def _term(source: str, operation: str) -> str:
    if operation == "none" or source == "#":
        return "#"
    return source if operation == "skip_connect" else f"({source})@{operation}"


def _name(source: int, node: int) -> str:
    return f"node{node}.from{source}"


def _picks(cell: Operations) -> dict[str, str]:
    return {_name(*edge): operation for edge, operation in zip(EDGES, cell, strict=True)}


def _operations(architecture: Architecture) -> Operations:
    cell = tuple(str(architecture.picks.get(_name(*edge))) for edge in EDGES)
    if len(architecture.picks) != len(EDGES) or not set(cell) <= set(OPERATIONS):
        raise ArchitectureError(f"the architecture is of the space {architecture.space!r}, and no NAS-Bench-201 cell")
    return cell
