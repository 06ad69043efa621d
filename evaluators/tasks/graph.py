"""The user's own graph."""

from __future__ import annotations

import os
from pathlib import Path

from ..data import graph_files
from ..data.graphs import LabelledGraph, check_split
from .node_classification import NodeClassification


class UsersGraph(NodeClassification):
    """Your own graph, whose nodes have classes: a .npz file, a GraphML file, or a folder with nodes.csv and edges.csv.

    In a .npz file: `edges` (2, E), `y` (N,), and where there are such `x` (N, features), `train_mask`, `valid_mask` and
    `test_mask` (N,). In GraphML the nodes' attribute `label` is the class, `split` (train, valid or test) the part, and
    all others are features; the columns of nodes.csv (with `id`) likewise, and edges.csv has `source` and `target`. A
    negative or empty label is an unknown one. Without features each node is one of its own. Nothing is ever unpickled.

    Options:
        path: the file, or the folder.
        directed: whether an edge leads one way only.
        valid: the fraction of the labelled nodes to validate on, where the file has no part for it.
        test: the fraction of the labelled nodes to test on, where the file has no part for it.
        split_seed: which random split, every class in proportion; the same one for every run unless you change it.
        inductive: whether the graph is known without the nodes to validate and test on, while a model learns.
        neighbors: of how many neighbours a model hears while it learns, for each step outwards, as [10,10]; none for
            all, in one batch.
    """

    family = "GNN"

    def __init__(
        self,
        *,
        path: str,
        directed: bool = False,
        valid: float = 0.2,
        test: float = 0.2,
        split_seed: int = 0,
        inductive: bool = False,
        neighbors: tuple[int, ...] = (),
    ) -> None:
        check_split("graph", valid, test, split_seed)
        self.path, self.directed, self.valid, self.test, self.split_seed = path, directed, valid, test, split_seed
        self.sampling(inductive, neighbors)

    def read(self) -> LabelledGraph:
        path = Path(os.path.expanduser(self.path))
        return graph_files.read(path, self.directed, self.valid, self.test, self.split_seed)
