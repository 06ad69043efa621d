"""The space of NAS-Bench-101: one cell, any graph of at most seven vertices and nine edges, three operations.

Ying, Klein, Christiansen, Real, Murphy, Hutter 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search",
ICML: section 2, and supplement S1 for the widths. Each vertex adds up what its edges bring, cut to the vertex's width,
and applies its operation; what leads to the output is joined along the channels; the cell's input comes through a 1×1
convolution wherever it leads. Vertices on no way from input to output do not count, nor do their edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import permutations
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task, mask_channels

from .operations.nasbench101 import OPERATIONS, conv_norm_relu
from .operations.stem import Classifier

if TYPE_CHECKING:
    import networkx as nx

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
"""matrix[i][j] is 1 where an edge leads from vertex i to vertex j > i; 0 is the input, the last one the output."""


class NASBench101Space(SearchSpace):
    """The NAS-Bench-101 space: a cell with any edges between at most 7 vertices (Ying et al. 2019).

    In a supernet, widths follow the edges that are open: they are slices of weights for the whole width.

    Options:
        vertices: the most that a cell has, input and output included; 7 in the benchmark.
        edges: the most that a cell has; 9 in the benchmark.
        stacks: how many, the image halved and the channels doubled between two; 3 in the benchmark, by default 2 for
            images up to 16 pixels.
        cells: in each stack; 3 in the benchmark, by default 1 for images up to 16 pixels.
        channels: of the first stack; 128 in the benchmark, by default 16 for images up to 16 pixels.
    """

    family = "CNN"

    def __init__(
        self,
        *,
        vertices: int = 7,
        edges: int = 9,
        stacks: int | None = None,
        cells: int | None = None,
        channels: int | None = None,
    ) -> None:
        for name, value in (("edges", edges), ("stacks", stacks), ("cells", cells), ("channels", channels)):
            if value is not None and value < 1:
                raise ConfigError(f"the space 'nasbench101' has {name} = {value}; expected at least 1")
        if not 2 <= vertices <= 7:
            raise ConfigError(f"the space 'nasbench101' has vertices = {vertices}; expected 2 to 7")
        self.vertices, self.edges = vertices, edges
        self.names = [edge_name(i, j) for i, j in pairs(vertices)]
        self.stacks, self.cells, self.channels = stacks, cells, channels

    def sizes(self, task: Task) -> Mapping[str, int]:
        small = max(task.full_shape[1:]) <= 16
        return {
            "stacks": self.stacks or (2 if small else 3),
            "cells": self.cells or (1 if small else 3),
            "channels": self.channels or (16 if small else 128),
        }

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        stacks, cells, channels = self.sizes(task).values()
        layers: list[nn.Module] = [conv_norm_relu(task.input_shape[0], channels, 3)]
        before = channels
        for stack in range(stacks):
            if stack > 0:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                channels *= 2
            for _ in range(cells):
                layers.append(Cell(choose, self.vertices, before, channels))
                before = channels
        return nn.Sequential(*layers, Classifier(channels, task.classes))

    def for_recording(self, task: Task) -> NASBench101Space:
        """One narrow cell: the others take the same decisions."""
        return self.at({"stacks": 1, "cells": 1, "channels": 8})

    def violation(self, architecture: Architecture) -> float:
        """How many edges are too many, of those that count; a cell without a way from input to output is far off."""
        picks = architecture.picks
        code = sum(1 << place for place, name in enumerate(self.names) if picks[name])
        edges = edges_that_count(code, self.vertices)
        return float(max(0, edges - self.edges)) if edges else 100.0

    def count(self) -> int:
        operations: int = len(OPERATIONS) ** (self.vertices - 2)
        return valid_matrices(self.vertices, self.edges) * operations

    def canonical(self, architecture: Architecture) -> Architecture:
        """The smallest description among all orders of the vertices that count, which stand first; the others have no
        edges and the first operation."""
        matrix = pruned(matrix_of(architecture, self.vertices))
        operations = tuple(str(architecture.picks[f"vertex{v}"]) for v in range(1, self.vertices - 1))
        best, labels = smallest(matrix, operations)
        return architecture.with_picks(picks_of(best, labels))

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The vertices that count, each with its operation."""
        import networkx as nx

        matrix = pruned(matrix_of(architecture, self.vertices))
        graph = nx.DiGraph()
        last = self.vertices - 1
        for vertex in [0, *live(matrix), last]:
            operation = architecture.picks.get(f"vertex{vertex}")
            label = {0: "input", last: "output"}.get(vertex, str(operation))
            graph.add_node(vertex, label=label, group=operation)
        graph.add_edges_from((i, j) for i, row in enumerate(matrix) for j, edge in enumerate(row) if edge)
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A line for each vertex that counts: its operation, and what it gets."""
        matrix = pruned(matrix_of(architecture, self.vertices))
        last, lines = self.vertices - 1, []
        for vertex in [*live(matrix), last]:
            sources = ["input" if i == 0 else f"vertex {i}" for i in range(vertex) if matrix[i][vertex]]
            if vertex == last:
                lines.append(f"output = {', '.join(sources)}")
            else:
                lines.append(f"vertex {vertex} = {architecture.picks[f'vertex{vertex}']}({' + '.join(sources)})")
        return "\n".join(lines)


class Cell(nn.Module):
    """One cell: (N, before, H, W) → (N, channels, H, W)."""

    def __init__(self, choose: Chooser, vertices: int, before: int, channels: int) -> None:
        super().__init__()
        self.last, self.before, self.channels = vertices - 1, before, channels
        picks = {(i, j): choose.value(edge_name(i, j), (0, 1)) for i, j in pairs(vertices)}
        gates = {f"{i}-{j}": mask_channels(pick, dim=0) for (i, j), pick in picks.items()}
        matrix: Matrix = tuple(tuple(int(picks.get((i, j), 0)) for j in range(vertices)) for i in range(vertices))
        self.shared = not all(isinstance(gate, nn.Identity) for gate in gates.values())
        self.gates = nn.ModuleDict(gates if self.shared else {})
        self.matrix = matrix if self.shared else pruned(matrix)
        self.widths = [channels] * vertices if self.shared else widths(self.matrix, channels)
        self.operations, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for vertex in range(1, vertices) if self.shared else [*live(self.matrix), self.last]:
            width = self.widths[vertex]
            if vertex < self.last:
                options = {name: partial(make, width) for name, make in OPERATIONS.items()}
                self.operations[str(vertex)] = choose.one(f"vertex{vertex}", options)
            if self.matrix[0][vertex]:
                self.projections[str(vertex)] = conv_norm_relu(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self._shared(x) if self.shared else self._plain(x)

    def _plain(self, x: Tensor) -> Tensor:
        states: dict[int, Tensor] = {}
        for vertex in live(self.matrix):
            width = self.widths[vertex]
            terms = [
                state if self.widths[source] == width else state[:, :width]
                for source, state in states.items()
                if self.matrix[source][vertex]
            ]
            if self.matrix[0][vertex]:
                terms.append(self.projections[str(vertex)](x))
            states[vertex] = self.operations[str(vertex)](sum(terms[1:], start=terms[0]))
        joined = [state for vertex, state in states.items() if self.matrix[vertex][self.last]]
        if not joined:
            return self.projections[str(self.last)](x)  # type: ignore[no-any-return]
        output = torch.cat(joined, dim=1) if len(joined) > 1 else joined[0]
        return output + self.projections[str(self.last)](x) if self.matrix[0][self.last] else output

    def _shared(self, x: Tensor) -> Tensor:
        """The same with every vertex as wide as the cell, cut to the widths that the open edges ask for."""
        one = torch.ones(1, dtype=x.dtype, device=x.device)
        shares = {tuple(map(int, name.split("-"))): gate(one) for name, gate in self.gates.items()}
        count = self.last + 1
        is_open = [
            [int((i, j) in shares and float(shares[i, j].detach()) > 0) for j in range(count)] for i in range(count)
        ]
        matrix = pruned(tuple(map(tuple, is_open)))
        cut = widths(matrix, self.channels)
        states: dict[int, Tensor] = {}
        for vertex in live(matrix):
            width = cut[vertex]
            terms = [state[:, :width] * shares[i, vertex] for i, state in states.items() if matrix[i][vertex]]
            if matrix[0][vertex]:
                terms.append(self.projections[str(vertex)](x)[:, :width] * shares[0, vertex])
            total = functional.pad(sum(terms[1:], start=terms[0]), (0, 0, 0, 0, 0, self.channels - width))
            states[vertex] = self.operations[str(vertex)](total)[:, :width]
        joined = [state * shares[v, self.last] for v, state in states.items() if matrix[v][self.last]]
        direct = self.projections[str(self.last)](x) * shares[0, self.last] if matrix[0][self.last] else None
        if not joined:
            return x.new_zeros((x.shape[0], self.channels, *x.shape[2:])) if direct is None else direct
        output = torch.cat(joined, dim=1)
        return output if direct is None else output + direct


def pairs(vertices: int) -> list[tuple[int, int]]:
    """All edges that there may be."""
    return [(i, j) for j in range(1, vertices) for i in range(j)]


@lru_cache(maxsize=65536)
def edges_that_count(code: int, vertices: int) -> int:
    """How many of the edges that the code's bits stand for lie on a way from the first vertex to the last."""
    last, into, out_of, place = vertices - 1, [0] * vertices, [0] * vertices, 0
    for j in range(1, vertices):
        into[j] = (code >> place) & ((1 << j) - 1)
        place += j
        for i in range(j):
            out_of[i] |= ((into[j] >> i) & 1) << j
    forward, backward = 1, 1 << last
    for j in range(1, vertices):
        forward |= (1 << j) if into[j] & forward else 0
    for i in range(last - 1, -1, -1):
        backward |= (1 << i) if out_of[i] & backward else 0
    kept = forward & backward
    return sum((into[j] & kept).bit_count() for j in range(1, vertices) if kept >> j & 1)


def edge_name(source: int, target: int) -> str:
    return f"edge{source}-{target}"


def matrix_of(architecture: Architecture, vertices: int) -> Matrix:
    picks = architecture.picks
    return tuple(
        tuple(int(picks[edge_name(i, j)]) if i < j else 0 for j in range(vertices))  # type: ignore[arg-type]
        for i in range(vertices)
    )


def picks_of(matrix: Matrix, operations: Sequence[str]) -> Mapping[str, int | str]:
    count = len(matrix)
    edges: dict[str, int | str] = {edge_name(i, j): matrix[i][j] for i, j in pairs(count)}
    return edges | {f"vertex{v + 1}": operation for v, operation in enumerate(operations)}


def live(matrix: Matrix) -> list[int]:
    """The inner vertices of a pruned matrix."""
    return [v for v in range(1, len(matrix) - 1) if any(matrix[v])]


@lru_cache(maxsize=4096)
def pruned(matrix: Matrix) -> Matrix:
    """Without the edges that lie on no way from the first vertex to the last."""
    count = len(matrix)
    forward, backward = {0}, {count - 1}
    for j in range(1, count):
        if any(matrix[i][j] for i in forward if i < j):
            forward.add(j)
    for i in range(count - 2, -1, -1):
        if any(matrix[i][j] for j in backward if j > i):
            backward.add(i)
    kept = forward & backward
    return tuple(
        tuple(int(edge and i in kept and j in kept) for j, edge in enumerate(row)) for i, row in enumerate(matrix)
    )


@lru_cache(maxsize=4096)
def widths(matrix: Matrix, channels: int) -> list[int]:
    """The channels of each vertex of a pruned matrix: those that lead to the output share its channels, the first ones
    getting what is left over; others are as wide as the widest that they lead to."""
    last = len(matrix) - 1
    found = [0] * last + [channels]
    leading = [v for v in range(1, last) if matrix[v][last]]
    for place, vertex in enumerate(leading):
        found[vertex] = channels // len(leading) + (place < channels % len(leading))
    for vertex in range(last - 1, 0, -1):
        if not matrix[vertex][last]:
            found[vertex] = max((found[j] for j in range(vertex + 1, last) if matrix[vertex][j]), default=0)
    return found


@lru_cache(maxsize=65536)
def smallest(matrix: Matrix, operations: tuple[str, ...]) -> tuple[Matrix, tuple[str, ...]]:
    """The least of all descriptions that differ in the order of the inner vertices only."""
    count, inner = len(matrix), live(matrix)
    targets = {v: [j for j, edge in enumerate(matrix[v]) if edge] for v in [0, *inner]}
    best: tuple[tuple[str, ...], Matrix] | None = None
    for order in permutations(inner):
        place = {0: 0, count - 1: count - 1} | {vertex: index + 1 for index, vertex in enumerate(order)}
        if any(place[j] <= place[v] for v in inner for j in targets[v]):
            continue
        labels = tuple(operations[v - 1] for v in order)
        if best is not None and labels > best[0]:
            continue
        rows = [[0] * count for _ in range(count)]
        for v, ends in targets.items():
            for j in ends:
                rows[place[v]][place[j]] = 1
        described = labels, tuple(map(tuple, rows))
        best = described if best is None else min(best, described)
    labels, rows_ = best if best is not None else ((), matrix)
    rest = (next(iter(OPERATIONS)),) * (count - 2 - len(labels))
    return rows_, (*labels, *rest)


@lru_cache(maxsize=16)
def valid_matrices(vertices: int, most: int) -> int:
    """How many matrices have a way from the first vertex to the last, and no more edges that count than `most`."""
    codes = np.arange(2 ** len(pairs(vertices)), dtype=np.uint32)
    edge = {pair: (codes >> np.uint32(place)) & np.uint32(1) == 1 for place, pair in enumerate(pairs(vertices))}
    true = np.ones(len(codes), bool)
    forward, backward = {0: true}, {vertices - 1: true}
    for j in range(1, vertices):
        forward[j] = np.logical_or.reduce([forward[i] & edge[i, j] for i in range(j)])
    for i in range(vertices - 2, -1, -1):
        backward[i] = np.logical_or.reduce([backward[j] & edge[i, j] for j in range(i + 1, vertices)])
    counts = np.zeros(len(codes), np.int8)
    for i, j in pairs(vertices):
        counts += edge[i, j] & forward[i] & backward[i] & forward[j] & backward[j]
    return int(((counts > 0) & (counts <= most)).sum())
