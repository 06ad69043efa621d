"""Where the nodes of a drawn graph go: layers by longest path, few crossings, straight edges.

Sugiyama, Tagawa, Toda 1981, "Methods for visual understanding of hierarchical system structures", IEEE Transactions on
Systems, Man, and Cybernetics 11(2), in its usual steps: layers, dummy nodes in edges that span several layers, order
by barycentres, coordinates. The label of an edge is laid out as a node of its own, so that it never lies on another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import networkx as nx

Node: TypeAlias = Hashable
Size: TypeAlias = tuple[float, float]
"""Along the layers' direction, and across it."""

SWEEPS = 12
GAP_ALONG, GAP_ACROSS = 0.21, 0.12  # inches
DUMMY_ACROSS = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """A node's centre, its extent across the layers, and its layer's extent along; inches."""

    along: float
    across: float
    low: float
    high: float
    start: float
    end: float
    layer: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of nodes, of labels (by edge), and the points that each edge passes between its ends (by edge)."""

    nodes: Mapping[Node, Place]
    labels: Mapping[tuple[Node, Node], Place]
    through: Mapping[tuple[Node, Node], Sequence[Place]]


def lay_out(graph: nx.DiGraph, node_size: Callable[[Node], Size], label_size: Callable[[Node, Node], Size]) -> Layout:
    """The layout of a graph. Edges that carry a `label` get a place for it. Edges of a cycle may run backwards."""
    ranks = _ranks(graph)
    layers: list[list[Node]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    sizes: dict[Node, Size] = {}
    chains: dict[tuple[Node, Node], list[Node]] = {}
    labels: dict[tuple[Node, Node], Node] = {}
    for node in graph:
        layers[ranks[node]].append(("node", node))
        sizes["node", node] = node_size(node)
    for u, v, data in graph.edges(data=True):
        chain: list[Node] = [("node", u)]
        for rank in range(ranks[u] + 1, ranks[v]):
            part = ("part", u, v, rank)
            chain.append(part)
            layers[rank].append(part)
            sizes[part] = (0.0, DUMMY_ACROSS)
        if data.get("label"):
            labels[u, v] = chain[-1]  # beside the node that the operation's result goes to
            sizes[chain[-1]] = label_size(u, v)
        chains[u, v] = [*chain, ("node", v)]
    links = [pair for chain in chains.values() for pair in pairwise(chain)]
    layers = _ordered(layers, links)
    across = _across(layers, links, sizes)
    _level(across, layers, links, sizes)
    _level(across, layers, links, sizes)
    lengths = [max((sizes[node][0] for node in layer), default=0.0) for layer in layers]
    starts = np.concatenate([[0.0], np.cumsum([length + GAP_ALONG for length in lengths])])
    low = min((across[node] - sizes[node][1] / 2 for node in across), default=0.0)
    places = {}
    for i, layer in enumerate(layers):
        start, end = float(starts[i]), float(starts[i]) + lengths[i]
        for node in layer:
            at, half = across[node] - low, sizes[node][1] / 2
            places[node] = Place((start + end) / 2, at, at - half, at + half, start, end, i)
    return Layout(
        nodes={node: places["node", node] for node in graph},
        labels={edge: places[part] for edge, part in labels.items()},
        through={edge: [places[part] for part in chain[1:-1]] for edge, chain in chains.items()},
    )


def _ranks(graph: nx.DiGraph) -> dict[Node, int]:
    """Each node's layer: the longest path to it, an edge with a label counting two, so that the label has a layer."""
    import networkx as nx

    acyclic = graph.copy()
    acyclic.remove_edges_from(list(nx.selfloop_edges(acyclic)))
    while not nx.is_directed_acyclic_graph(acyclic):
        acyclic.remove_edge(*nx.find_cycle(acyclic)[-1][:2])
    ranks: dict[Node, int] = {}
    for node in nx.topological_sort(acyclic):
        steps = [ranks[u] + (2 if d.get("label") else 1) for u, _, d in acyclic.in_edges(node, data=True)]
        ranks[node] = max(steps, default=0)
    return ranks


def _ordered(layers: list[list[Node]], links: Sequence[tuple[Node, Node]]) -> list[list[Node]]:
    """Each layer's nodes in the order, among those of some sweeps up and down, that crosses the fewest edges."""
    before: dict[Node, list[Node]] = {node: [] for layer in layers for node in layer}
    after: dict[Node, list[Node]] = {node: [] for layer in layers for node in layer}
    for u, v in links:
        before[v].append(u)
        after[u].append(v)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, links)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        place = {node: i for layer in layers for i, node in enumerate(layer)}
        for layer in layers if down else layers[::-1]:
            near = before if down else after
            weight = {n: float(np.mean([place[m] for m in near[n]])) if near[n] else float(place[n]) for n in layer}
            layer.sort(key=lambda node, weight=weight: weight[node])  # type: ignore[misc]
            place.update({node: i for i, node in enumerate(layer)})
        if (crossings := _crossings(layers, links)) < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _crossings(layers: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]]) -> int:
    place = {node: (rank, i) for rank, layer in enumerate(layers) for i, node in enumerate(layer)}
    by_rank: dict[int, list[tuple[int, int]]] = {}
    for u, v in links:
        by_rank.setdefault(place[u][0], []).append((place[u][1], place[v][1]))
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for pairs in by_rank.values() for a, b in combinations(pairs, 2))


def _across(
    layers: Sequence[Sequence[Node]], links: Sequence[tuple[Node, Node]], sizes: Mapping[Node, Size]
) -> dict[Node, float]:
    """Coordinates across the layers: each node near the mean of its neighbours, none on another."""
    near: dict[Node, list[tuple[Node, float]]] = {node: [] for layer in layers for node in layer}
    for u, v in links:
        straight = 12.0 if sizes[u][0] == 0 and sizes[v][0] == 0 else 1.0  # long edges first of all
        near[u].append((v, straight))
        near[v].append((u, straight))
    at: dict[Node, float] = {}
    for layer in layers:
        offsets = _offsets(layer, sizes)
        at.update(zip(layer, (offsets - offsets.mean()).tolist() if layer else [], strict=True))
    for sweep in range(8 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = [
                sum(at[m] * w for m, w in near[n]) / sum(w for _, w in near[n]) if near[n] else at[n] for n in layer
            ]
            offsets = _offsets(layer, sizes)
            at.update(zip(layer, (_rising(np.array(wanted) - offsets) + offsets).tolist(), strict=True))
    return at


def _level(
    at: dict[Node, float],
    layers: Sequence[Sequence[Node]],
    links: Sequence[tuple[Node, Node]],
    sizes: Mapping[Node, Size],
) -> None:
    """Makes level, where there is room, what is linked to nothing else: a line has no needless step."""
    out, into = Counter(u for u, _ in links), Counter(v for _, v in links)
    next_of = {u: v for u, v in links if out[u] == 1 and into[v] == 1}
    beside = [(a, b, sizes[a][1] / 2 + sizes[b][1] / 2 + GAP_ACROSS) for layer in layers for a, b in pairwise(layer)]
    above = {b: (a, gap) for a, b, gap in beside}
    below = {a: (b, gap) for a, b, gap in beside}
    inner = set(next_of.values())
    runs = [[node] for layer in layers for node in layer if node not in inner]
    for run in runs:
        while run[-1] in next_of:
            run.append(next_of[run[-1]])
    for run in sorted(runs, key=len, reverse=True):
        piece: list[Node] = []
        low, high = -math.inf, math.inf
        for node in run:
            least = at[above[node][0]] + above[node][1] if node in above else -math.inf
            most = at[below[node][0]] - below[node][1] if node in below else math.inf
            if max(low, least) > min(high, most):
                _move(at, piece, low, high)
                piece, low, high = [], -math.inf, math.inf
            piece.append(node)
            low, high = max(low, least), min(high, most)
        _move(at, piece, low, high)


def _move(at: dict[Node, float], piece: Sequence[Node], low: float, high: float) -> None:
    """The piece to one height within the bounds, near that of its nodes."""
    nodes = [node for node in piece if isinstance(node, tuple) and node[0] == "node"] or piece
    if nodes:
        level = min(max(sum(at[node] for node in nodes) / len(nodes), low), high)
        at.update(dict.fromkeys(piece, level))


def _offsets(layer: Sequence[Node], sizes: Mapping[Node, Size]) -> NDArray[np.float64]:
    """Where the layer's nodes stand when they are packed."""
    steps = [sizes[a][1] / 2 + sizes[b][1] / 2 + GAP_ACROSS for a, b in pairwise(layer)]
    return np.concatenate([[0.0], np.cumsum(steps)])[: len(layer)]


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence nearest to the values: isotonic regression, by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            last, size = pools.pop()
            mean, count = (mean * count + last * size) / (count + size), count + size
        pools.append((mean, count))
    return np.array([mean for mean, count in pools for _ in range(count)])
