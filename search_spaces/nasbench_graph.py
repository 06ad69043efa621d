"""The space of NAS-Bench-Graph: four graph layers, joined in one of nine ways; small enough that all of it was trained.

Qin, Zhang, Wang, Zhang, Zhu 2022, "NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search", NeurIPS, section 3.
Each of four nodes has one input, the raw features or an earlier node, and one of nine operations; the nodes that no
other reads are concatenated. Nine ways to join them × 9⁴ operations, of which the benchmark trained 26,206: those that
are different networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nasengine import Architecture, ArchitectureError, Chooser, ConfigError, SearchSpace, Task, join

from .operations.convolutions import Dropout
from .operations.graph import GraphNetwork, check_graphs
from .operations.message_passing import Edges
from .operations.nasbench_graph import HEADS, OPERATIONS, Normalised, Skip, operations

if TYPE_CHECKING:
    import networkx as nx

NODES = 4
LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""The input of each node: 0 is the raw features, n the n-th node; in the benchmark's order."""
Operations = Callable[[int, int], Mapping[str, Callable[[], nn.Module]]]
Cell = tuple[tuple[int, ...], tuple[str, ...]]
"""The inputs of the nodes, and their operations."""


class Joined(nn.Module):
    """Four operations, joined in one way: (N, features), (2, E) → (N, classes).

    Before a node that reads another stand its normalisation, ReLU and dropout, also where it is a skip; the features
    are dropped out once, for all who read them. The head is two linear layers with nothing between.

    What a node gives are the channels of its operation, or, if it is a skip and all before it are, the raw features. In
    a supernet it may be either, so there its rows have places for both, and zeros where it is the other.
    """

    def __init__(
        self, choose: Chooser, make: Operations, links: Sequence[int], sizes: tuple[int, int, int], dropout: float
    ) -> None:
        super().__init__()
        self.links, (features, hidden, classes) = tuple(links), sizes
        self.dropout, self.norms, self.nodes = Dropout(dropout, sparse=True), nn.ModuleList(), nn.ModuleList()
        widths = [(0, features)]
        for node, source in enumerate(links, 1):
            self.norms.append(Normalised(*widths[source], dropout) if widths[source][0] else nn.Identity())
            kept = choose.one(f"node{node}", make(join(widths[source]), hidden))
            kinds = {isinstance(option, Skip) for option in kept.children()}
            widths.append(widths[source] if kinds == {True} else (hidden, features if True in kinds else 0))
            for option in kept.children():
                option.widths = widths[-1]  # type: ignore[assignment]
            self.nodes.append(kept)
        self.leaves = [node for node in range(1, NODES + 1) if node not in links]
        self.channels = [widths[leaf][0] for leaf in self.leaves]
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(join(self.channels), hidden), nn.Linear(hidden, classes))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edges, states = Edges(edge_index[0], edge_index[1], x.shape[0]), [self.dropout(x)]
        for source, norm, node in zip(self.links, self.norms, self.nodes, strict=True):
            states.append(node(norm(states[source]), edges))
        read = [(states[n] if count else x)[:, :count] for n, count in zip(self.leaves, self.channels, strict=True)]
        return self.head(torch.cat(read, dim=1))  # type: ignore[no-any-return]


class NASBenchGraphSpace(SearchSpace):
    """The networks of NAS-Bench-Graph: four graph layers of nine kinds, joined in one of nine ways.

    The networks are those of the authors' program. A skip hands on what it reads, normalised, or the raw features where
    no layer is before it; raw features that no layer reads are left out. A network has the benchmark's number of
    parameters but for those that are not used there: a normalisation for each node that reads the raw features (512)
    and the weights of later layers for each arma (65,536).

    It needs a task of graphs, or the evaluator `tabular`. Of several graphs, each gets the mean of its nodes. In its
    supernet every layer may read the raw features, so it is large where these are many.

    Options:
        hidden: channels of each layer; the benchmark's 256 for Cora and CiteSeer unless you say. A multiple of four,
            for `gat` has four heads.
        dropout: the rate before each layer; the benchmark's for Cora and CiteSeer unless you say.
    """

    family = "GNN"

    def __init__(self, *, hidden: int = 256, dropout: float = 0.7) -> None:
        if hidden < HEADS or hidden % HEADS:
            raise ConfigError(f"the space 'nasbench_graph' has hidden = {hidden}; expected a multiple of {HEADS}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"the space 'nasbench_graph' has dropout = {dropout}; expected a rate from 0 to below 1")
        self.hidden, self.dropout = hidden, dropout
        self._operations: Operations = operations

    def check(self, task: Task) -> None:
        check_graphs(self.known_as, task)

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        sizes = (math.prod(task.input_shape), self.hidden, task.classes)
        options = {
            links: partial(Joined, choose, self._operations, tuple(map(int, links)), sizes, self.dropout)
            for links in LINKS
        }
        return GraphNetwork(choose.one("links", options))

    def for_recording(self, task: Task) -> Self:
        """Without layers, which takes a tenth of the time."""
        space = copy(self)
        space._operations = lambda channels_in, channels_out: dict.fromkeys(OPERATIONS, nn.Identity)
        return space

    def canonical(self, architecture: Architecture) -> Architecture:
        """One architecture for all that are the same network by the benchmark's rules: 26,206, and one of skips only.

        A skip that others read is struck out, and they read what it read; so is one that alone reads what it reads, and
        one at the input. Skips at the front fill the places. Of the ways to number what is left, the first is taken.
        """
        links, operations = canonical_cell(*_cell(architecture))
        return architecture.with_picks(_picks(links, operations))

    def notation(self, architecture: Architecture) -> str:
        """The inputs of the nodes and their operations, as `0012|gcn,gat,skip,fc`."""
        links, operations = _cell(architecture)
        return f"{''.join(map(str, links))}|{','.join(operations)}"

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The nodes by their operations, a colour for each."""
        import networkx as nx

        links, operations = _cell(architecture)
        graph = nx.DiGraph()
        graph.add_node(0, label="features")
        for node, (source, operation) in enumerate(zip(links, operations, strict=True), 1):
            graph.add_node(node, label=operation, group=operation)
            graph.add_edge(source, node)
        graph.add_node(NODES + 1, label="concatenate")
        graph.add_edges_from((node, NODES + 1) for node in range(1, NODES + 1) if node not in links)
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A line for each node, and the whole in one line."""
        links, operations = _cell(architecture)
        names = ["features", *(f"node {node}" for node in range(1, NODES + 1))]
        lines = [f"{names[i]} = {o}({names[s]})" for i, (s, o) in enumerate(zip(links, operations, strict=True), 1)]
        return "\n".join([*lines, self.notation(architecture)])


def from_nasbench_graph(text: str, *, hidden: int = 256, dropout: float = 0.7) -> Architecture:
    """The architecture of a text such as `0012|gcn,gat,skip,fc`. Raises ArchitectureError where it is none."""
    links, _, operations = text.partition("|")
    cell = tuple(operations.split(","))
    if links not in LINKS or len(cell) != NODES or not set(cell) <= set(OPERATIONS):
        raise ArchitectureError(
            f"{text[:200]!r} is no network of NAS-Bench-Graph; expected inputs and operations, as 0012|gcn,gat,skip,fc"
        )
    settings = NASBenchGraphSpace(hidden=hidden, dropout=dropout).recorded_settings()
    return Architecture("nasbench_graph", settings, _picks(tuple(map(int, links)), cell))


@cache
def canonical_cell(links: tuple[int, ...], operations: tuple[str, ...]) -> Cell:
    """What `canonical` says, on plain tuples."""
    nodes = dict(enumerate(zip(links, operations, strict=True), 1))
    while (idle := next(filter(partial(_idle, nodes), nodes), None)) is not None:
        source = nodes.pop(idle)[0]
        nodes = {node: (source if read == idle else read, operation) for node, (read, operation) in nodes.items()}
    front = NODES - len(nodes)  # the skips at the input, one after the other
    forms = []
    for order in permutations(nodes):
        places = {0: front, **{node: place for place, node in enumerate(order, front + 1)}}
        read = (*range(front), *(places[nodes[node][0]] for node in order))
        if "".join(map(str, read)) in LINKS:
            forms.append((read, [OPERATIONS.index(nodes[node][1]) for node in order]))
    read, found = min(forms)
    return read, (*["skip"] * front, *(OPERATIONS[index] for index in found))


def _idle(nodes: dict[int, tuple[int, str]], node: int) -> bool:
    """Whether a skip changes nothing: others read it, or nobody else reads what it reads, or that is the input."""
    source, operation = nodes[node]
    sources = [read for read, _ in nodes.values()]
    return operation == "skip" and (node in sources or sources.count(source) == 1 or source == 0)


def _picks(links: tuple[int, ...], operations: tuple[str, ...]) -> dict[str, str]:
    return {"links": "".join(map(str, links)), **{f"node{i}": name for i, name in enumerate(operations, 1)}}


def _cell(architecture: Architecture) -> Cell:
    picks = architecture.picks
    links, operations = str(picks.get("links")), tuple(str(picks.get(f"node{i}")) for i in range(1, NODES + 1))
    if len(picks) != NODES + 1 or not re.fullmatch(r"[0-3]{4}", links) or not set(operations) <= set(OPERATIONS):
        raise ArchitectureError(f"the architecture is of the space {architecture.space!r}, not of NAS-Bench-Graph")
    return tuple(map(int, links)), operations
