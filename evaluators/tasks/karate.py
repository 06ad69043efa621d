"""Zachary's karate club: 34 members, who are friends with whom, and with whom they went when the club split in two.

Zachary 1977, "An Information Flow Model for Conflict and Fission in Small Groups", Journal of Anthropological Research
33 (4), 452–473. It comes with NetworkX.
"""

from __future__ import annotations

import networkx as nx
import numpy as np

from nasengine import Recipe

from ..data.graphs import LabelledGraph, both_ways, shared_out
from .node_classification import NodeClassification


class Karate(NodeClassification):
    """Zachary's karate club, 34 people and 78 friendships: with which of two sides does each go? Of each it is only
    known who it is (a feature of its own). For a first run and for tests: no download, an epoch takes milliseconds.

    Options:
        split_seed: which of the members are for training (8), validation (12) and test (14).
        inductive: whether the graph is known without the members to validate and test on, while a model learns.
        neighbors: of how many neighbours a model hears while it learns, for each step outwards; none for all.
    """

    family = "GNN"
    recipe = Recipe(
        epochs=50, optimizer="adam", learning_rate=0.01, weight_decay=5e-4, schedule="constant", gradient_clip=0.0,
        patience=20, search_epochs=20,
    )  # fmt: skip

    def __init__(self, *, split_seed: int = 0, inductive: bool = False, neighbors: tuple[int, ...] = ()) -> None:
        self.split_seed = split_seed
        self.sampling(inductive, neighbors)

    def read(self) -> LabelledGraph:
        club = nx.karate_club_graph()
        names = sorted({side for _, side in club.nodes(data="club")})
        labels = np.array([names.index(side) for _, side in club.nodes(data="club")])
        edges = both_ways(np.array(list(club.edges)).T)
        train, valid, test = shared_out(labels, 0.36, 0.4, np.random.default_rng(self.split_seed))
        found = (
            f"Zachary's karate club: 34 members, 78 friendships, {len(train)} members for training, {len(valid)} for "
            f"validation, {len(test)} for test"
        )
        return LabelledGraph(np.eye(34, dtype=np.float32), edges, labels, train, valid, test, tuple(names), found)
