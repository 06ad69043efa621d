"""Many graphs with classes: data sets in the format of TU Dortmund, and generated ones."""

from __future__ import annotations

import os
from pathlib import Path

from nasengine import ConfigError

from ..data import graph_sets
from ..data.graphs import GraphSet, check_split
from .graph_classification import GraphClassification


class Graphs(GraphClassification):
    """Graphs in the text format of TU Dortmund's collection (chrsmrrs.github.io/datasets): MUTAG, PROTEINS, IMDB-BINARY
    and others, or your own. Nodes have their attributes and kinds as features; where there are none, their degree.

    Options:
        path: the folder that holds NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt, or NAME/raw with
            these, as PyTorch Geometric lays them out. Needs the extra `gnn`. Nothing is ever downloaded.
        name: of the data set, as its files begin.
        valid: the fraction of the graphs to validate on.
        test: the fraction of the graphs to test on.
        split_seed: which random split, every class in proportion; the same one for every run unless you change it.
    """

    family = "GNN"

    def __init__(
        self, *, path: str, name: str = "MUTAG", valid: float = 0.2, test: float = 0.2, split_seed: int = 0
    ) -> None:
        check_split("graphs", valid, test, split_seed)
        self.path, self.name, self.valid, self.test, self.split_seed = path, name, valid, test, split_seed

    def read(self) -> GraphSet:
        path = Path(os.path.expanduser(self.path))
        return graph_sets.read_tu(path, self.name, self.valid, self.test, self.split_seed)


class GraphFamilies(GraphClassification):
    """Which of four random processes made a graph? Each has 12 to 24 nodes and about twice as many edges, so that only
    how they are joined tells. Made by NetworkX, offline; a node's feature is its degree.

    Options:
        graphs: how many of each family: random (Erdős, Rényi 1959), scale_free (Barabási, Albert 1999), small_world
            (Watts, Strogatz 1998), and regular (each node with four neighbours). 60 % are for training, 20 % for
            validation and 20 % for test.
        seed: which graphs; the same ones for every run unless you change it.
    """

    family = "GNN"

    def __init__(self, *, graphs: int = 60, seed: int = 0) -> None:
        if graphs < 5:
            raise ConfigError(f"the task 'graph_families' has graphs = {graphs}; expected 5 or more of each family")
        if seed < 0:
            raise ConfigError(f"the task 'graph_families' has seed = {seed}; expected 0 or more")
        self.graphs, self.seed = graphs, seed

    def read(self) -> GraphSet:
        return graph_sets.families(self.graphs, self.seed)
