"""Graphs in memory: what models take, and the labelled graph that a task of nodes is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nasengine import ConfigError

from .images import stratified

Labels = NDArray[np.int64]
UNKNOWN = -1
"""The label of a node of which none is known."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph as models take it, or several that are one with no edge between them.

    x: (N, features). edge_index: (2, E), from and to. batch: (N,), to which of several graphs each node belongs.
    count: how many graphs, where it is known; else it is what `batch` says.
    """

    x: Tensor
    edge_index: Tensor
    batch: Tensor | None = None
    count: int | None = None

    @property
    def num_graphs(self) -> Any:
        """How many graphs; where a model is written down, what stands for this number."""
        if self.count is None and self.batch is not None:
            return self.batch.max().item() + 1
        return self.count or 1

    @property
    def nbytes(self) -> int:
        tensors = (self.x, self.edge_index, self.batch)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def to(self, device: torch.device | str) -> Graph:
        batch = None if self.batch is None else self.batch.to(device)
        return replace(self, x=self.x.to(device), edge_index=self.edge_index.to(device), batch=batch)


@dataclass(frozen=True)
class LabelledGraph:
    """A graph whose nodes have classes, and which of them are for what.

    x: (N, features), float32. edges: (2, E). labels: (N,), from 0, or UNKNOWN. train, valid, test: nodes, those for
    training in an order in which any stretch has all classes in proportion. names: of the classes. found: what it is,
    in a sentence.
    """

    x: NDArray[np.float32]
    edges: Labels
    labels: Labels
    train: Labels
    valid: Labels
    test: Labels
    names: tuple[str, ...]
    found: str

    @cached_property
    def graph(self) -> Graph:
        return Graph(torch.from_numpy(self.x), torch.from_numpy(self.edges))

    def without(self, nodes: Labels) -> LabelledGraph:
        """The graph as it would be if nobody knew of these nodes, nor of their edges."""
        kept = np.ones(len(self.x), bool)
        kept[nodes] = False
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        edges = place[self.edges]
        parts = {name: place[getattr(self, name)] for name in ("train", "valid", "test")}
        return replace(
            self, x=self.x[kept], edges=edges[:, (edges >= 0).all(0)], labels=self.labels[kept],
            **{name: part[part >= 0] for name, part in parts.items()},
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class GraphSet:
    """Graphs with a class each, and which of them are for what; the other fields are those of a LabelledGraph."""

    graphs: Sequence[Graph]
    labels: Labels
    train: Labels
    valid: Labels
    test: Labels
    names: tuple[str, ...]
    found: str


def both_ways(edges: Labels) -> Labels:
    """(2, E): every edge in both directions, each once, none from a node to itself."""
    edges = np.concatenate([edges, edges[::-1]], axis=1)
    return np.unique(edges[:, edges[0] != edges[1]], axis=1)


def shared_out(labels: Labels, valid: float, test: float, rng: np.random.Generator) -> list[Labels]:
    """Nodes for training, validation and test, of all whose label is known, every class in proportion."""
    known = np.flatnonzero(labels != UNKNOWN)
    parts = stratified(labels[known], (1 - valid - test, valid, test), rng)
    return [known[part] for part in parts]


def check_split(task: str, valid: float, test: float, split_seed: int) -> None:
    """Raises ConfigError for fractions and seeds that cannot be."""
    if min(valid, test) <= 0 or valid + test >= 1:
        raise ConfigError(
            f"the task {task!r} has valid = {valid} and test = {test}; expected fractions above 0, and less than 1 "
            f"together"
        )
    if split_seed < 0:
        raise ConfigError(f"the task {task!r} has split_seed = {split_seed}; expected 0 or more")


def in_proportion(nodes: Labels, labels: Labels) -> Labels:
    """The nodes in an order in which any stretch has all classes in proportion, the same one each time."""
    nodes = np.sort(nodes)
    return nodes[stratified(labels[nodes], (1.0,), np.random.default_rng(0))[0]]


def rows_normalised(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its sum, where that is not 0."""
    sums = x.sum(1, keepdims=True)
    return (x / np.where(sums == 0, 1, sums)).astype(np.float32)


def joined(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one."""
    device = graphs[0].x.device
    sizes = torch.tensor([len(graph.x) for graph in graphs])
    starts = (sizes.cumsum(0) - sizes).tolist()
    edges = [graph.edge_index + start for graph, start in zip(graphs, starts, strict=True)]
    batch = torch.repeat_interleave(torch.arange(len(graphs)), sizes).to(device)
    return Graph(torch.cat([graph.x for graph in graphs]), torch.cat(edges, dim=1), batch, len(graphs))
