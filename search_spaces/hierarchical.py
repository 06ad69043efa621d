"""The hierarchical space: small graphs of primitives, graphs of these graphs, and so on up to the cell.

Liu, Simonyan, Vinyals, Fernando, Kavukcuoglu 2018, "Hierarchical Representations for Efficient Architecture Search",
ICLR: sections 2.1 to 2.3. A *motif* of level ℓ is a graph from a first node to a last one, with an edge between each
two nodes; an edge picks one of the motifs of level ℓ − 1, or none. Level 1 are the primitives; the one motif of the
last level is the cell. To mutate is the paper's mutation (section 3.1): one edge of one motif changes what it picks.

A node adds up what it gets. (The paper concatenates and projects; a sum needs no projection, whose shape would depend
on how many edges there are, so that weights can be shared.) A motif that is picked in several places is one
description, with weights of its own in each place. Only motifs that are picked are part of an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task

from .operations.hierarchical import OPERATIONS, nothing, separable
from .operations.stem import Classifier, image_stem

if TYPE_CHECKING:
    import networkx as nx

LOWEST = 2
"""The level of the motifs that are made of primitives."""

Name = tuple[int, int]
"""A motif: its level, its number there."""
Motifs = dict[Name, tuple[str, ...]]
"""What the edges of each motif pick, in the order of `_edges`."""
Form = tuple[Any, ...]
"""A motif without names: the forms of what its edges pick, () for none; of a primitive, its name."""


class Motif(nn.Module):
    """(N, C, H, W) → (N, C, H, W)."""

    def __init__(self, nodes: int, edges: list[nn.Module]) -> None:
        super().__init__()
        self.nodes = nodes
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        edges = dict(zip(_edges(self.nodes), self.edges, strict=True))
        for node in range(1, self.nodes):
            states.append(sum(edges[source, node](states[source]) for source in range(node)))
        return states[-1]


class HierarchicalSpace(SearchSpace):
    """Small graphs of primitive layers are the edges of larger graphs, level by level up to the cell that is stacked.

    Options:
        motifs: how many graphs there are to pick from on level 2, 3 and so on; the last number is 1, the cell.
        nodes: how many nodes these graphs have, level by level; the first is the input, the last the output.
        primitives: the layers that the edges of level 2 pick from.
        cells: how many are stacked; between two, a separable convolution halves the image and doubles the channels. 3,
            or 2 for images up to 16×16, unless you say.
        channels: how many the first cell has; 16, or 4 for images up to 16×16, unless you say.
    """

    family = "CNN"

    def __init__(
        self,
        *,
        motifs: tuple[int, ...] = (6, 1),
        nodes: tuple[int, ...] = (4, 5),
        primitives: tuple[str, ...] = tuple(OPERATIONS),
        cells: int | None = None,
        channels: int | None = None,
    ) -> None:
        self.motifs, self.nodes, self.primitives = tuple(motifs), tuple(nodes), tuple(primitives)
        if not self.motifs or self.motifs[-1] != 1 or min(self.motifs) < 1 or len(self.nodes) != len(self.motifs):
            raise ConfigError(
                f"the space 'hierarchical' has motifs = {list(motifs)} and nodes = {list(nodes)}; expected a number "
                f"for each level from 2 on, and 1 motif on the last"
            )
        if min(self.nodes) < 2:
            raise ConfigError(f"the space 'hierarchical' has nodes = {list(nodes)}; expected at least 2 on each level")
        if not self.primitives or not set(self.primitives) <= set(OPERATIONS):
            raise ConfigError(
                f"the space 'hierarchical' has primitives = {list(primitives)}; expected some of "
                f"{', '.join(OPERATIONS)}"
            )
        for name, value in (("cells", cells), ("channels", channels)):
            if value is not None and value < 1:
                raise ConfigError(f"the space 'hierarchical' has {name} = {value}; expected at least 1")
        self.cells, self.channels = cells, channels

    def sizes(self, task: Task) -> Mapping[str, int]:
        small = max(task.full_shape[1:]) <= 16
        return {"cells": self.cells or (2 if small else 3), "channels": self.channels or (4 if small else 16)}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        cells, channels = self.sizes(task).values()
        layers: list[nn.Module] = [image_stem(task.full_shape, channels)]
        for index in range(cells):
            if index > 0:
                layers.append(separable(channels, 2 * channels, stride=2))
                channels *= 2
            layers.append(self._motif(choose, channels, *self._cell))
        return nn.Sequential(*layers, Classifier(channels, task.classes))

    def for_recording(self, task: Task) -> HierarchicalSpace:
        """One cell: the others take the same decisions."""
        return self.at({"cells": 1})

    def _motif(self, choose: Chooser, channels: int, level: int, number: int) -> nn.Module:
        options: dict[str, Any] = {"none": nothing}
        if level == LOWEST:
            options |= {name: partial(OPERATIONS[name], channels) for name in self.primitives}
        else:
            below = range(self.motifs[level - 1 - LOWEST])
            options |= {f"motif{other}": partial(self._motif, choose, channels, level - 1, other) for other in below}
        nodes = self.nodes[level - LOWEST]
        return Motif(nodes, [choose.one(_decision(level, number, *edge), options) for edge in _edges(nodes)])

    @property
    def _cell(self) -> Name:
        return LOWEST + len(self.motifs) - 1, 0

    def _used(self, architecture: Architecture) -> Motifs:
        """The motifs that the architecture describes, from the cell down."""
        found: Motifs = {}
        for level in range(self._cell[0], LOWEST - 1, -1):
            edges = _edges(self.nodes[level - LOWEST])
            for number in range(self.motifs[level - LOWEST]):
                if _decision(level, number, *edges[0]) in architecture.picks:
                    picks = tuple(str(architecture.picks[_decision(level, number, *edge)]) for edge in edges)
                    found[level, number] = picks
        return found

    def canonical(self, architecture: Architecture) -> Architecture:
        """One description for all that differ in the order of nodes, in the motifs' names, or in dead edges only.

        An edge is dead where it lies on no path from its motif's first node to the last, or picks a motif that has no
        such path: it is none here. (What it computes is not used, or made of zeros; of these, though, the batch
        normalisation of a convolution may learn a constant.) Motifs that are alike become one.
        """
        forms: dict[Name, Form] = {}
        for (level, number), edges in reversed(self._used(architecture).items()):
            forms[level, number] = _smallest([_form(e, level, forms) for e in edges], self.nodes[level - LOWEST])
        picks: dict[str, str] = {}
        wanted = {forms[self._cell]}
        for level in range(self._cell[0], LOWEST - 1, -1):
            below = sorted({pick for form in wanted for pick in form if pick})
            for number, form in enumerate(sorted(wanted)):
                for edge, pick in zip(_edges(self.nodes[level - LOWEST]), form, strict=True):
                    name = "none" if not pick else pick[0] if level == LOWEST else f"motif{below.index(pick)}"
                    picks[_decision(level, number, *edge)] = name
            wanted = set(below)
        return architecture.with_picks(picks)

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """A part for each motif that is used, the cell first; an edge's label is what it picks.

        `none` is drawn only where a node would hang in the air.
        """
        import networkx as nx

        graph = nx.DiGraph()
        for motif, picks in self._used(architecture).items():
            nodes = self.nodes[motif[0] - LOWEST]
            for node in range(nodes):
                graph.add_node((*motif, node), label=_label(node, nodes), part=self._title(*motif))
            for (source, node), pick in zip(_edges(nodes), picks, strict=True):
                if pick != "none":
                    graph.add_edge((*motif, source), (*motif, node), label=pick)
            for node in range(1, nodes):
                if not graph.in_degree((*motif, node)):
                    graph.add_edge((*motif, 0), (*motif, node), label="none")
        return graph

    def describe(self, architecture: Architecture) -> str:
        """The motifs that are used, the cell first; a line for each node: what it adds up."""
        lines = []
        for motif, picks in self._used(architecture).items():
            nodes = self.nodes[motif[0] - LOWEST]
            lines.append(f"{self._title(*motif)}:")
            for node in range(1, nodes):
                kept = [(s, p) for (s, n), p in zip(_edges(nodes), picks, strict=True) if n == node and p != "none"]
                terms = [f"{pick}({_label(source, nodes)})" for source, pick in kept]
                lines.append(f"  {_label(node, nodes)} = {' + '.join(terms) or '0'}")
        return "\n".join(lines)

    def _title(self, level: int, number: int) -> str:
        return "Cell" if (level, number) == self._cell else f"Level {level}, motif{number}"


def _edges(nodes: int) -> list[tuple[int, int]]:
    return list(combinations(range(nodes), 2))


def _decision(level: int, number: int, source: int, node: int) -> str:
    return f"level{level}.motif{number}.edge{source}-{node}"


def _label(node: int, nodes: int) -> str:
    return "input" if node == 0 else "output" if node == nodes - 1 else f"node {node}"


def _form(pick: str, level: int, forms: Mapping[Name, Form]) -> Form:
    """What an edge picks, without names; () for none, and for what gives nothing but zeros."""
    if pick == "none":
        return ()
    if level == LOWEST:
        return (pick,)
    form = forms[level - 1, int(pick.removeprefix("motif"))]
    return form if any(form) else ()


def _smallest(picks: list[Form], nodes: int) -> Form:
    """The smallest of all orders of the inner nodes in which every edge that is alive leads forward."""
    edges = {edge: pick for edge, pick in zip(_edges(nodes), picks, strict=True) if pick}
    reached, useful = {0}, {nodes - 1}
    for source, node in sorted(edges):
        reached |= {node} if source in reached else set()
    for source, node in sorted(edges, reverse=True):
        useful |= {source} if node in useful else set()
    alive = {(s, n): pick for (s, n), pick in edges.items() if s in reached and n in useful}
    orders = ((0, *inner, nodes - 1) for inner in permutations(range(1, nodes - 1)))
    forward = (order for order in orders if all(order[s] < order[n] for s, n in alive))
    placed = ({(order[s], order[n]): pick for (s, n), pick in alive.items()} for order in forward)
    return min(tuple(moved.get(edge, ()) for edge in _edges(nodes)) for moved in placed)
