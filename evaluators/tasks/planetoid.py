"""The citation graphs that graph networks are compared on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ..data import planetoid
from ..data.graphs import LabelledGraph
from .node_classification import NodeClassification


class Planetoid(NodeClassification):
    """Cora, CiteSeer or PubMed with its public split: of which subject is a paper, by the words in it and the papers
    that it cites? 20 papers of each subject for training, 500 for validation, 1,000 for test.

    By default a model is trained as in Kipf, Welling 2017 (Adam, learning rate 0.01, L2 5e-4, 200 epochs).

    Options:
        path: the folder that holds Cora/raw with the files ind.cora.x, .tx, .allx, .y, .ty, .ally, .graph and
            .test.index (CiteSeer/raw and PubMed/raw likewise), as PyTorch Geometric has them. Needs the extra `gnn`.
        name: Cora, CiteSeer or PubMed.
        normalise: whether a paper's features are divided by their sum.
        download: whether files that are not there are fetched from github.com/kimiyoung/planetoid.
        inductive: whether the graph is known without the papers to validate and test on, while a model learns.
        neighbors: of how many neighbours a model hears while it learns, for each step outwards, as [10,10]; none for
            all, in one batch.
    """

    family = "GNN"

    def __init__(
        self,
        *,
        path: str,
        name: Literal["Cora", "CiteSeer", "PubMed"] = "Cora",
        normalise: bool = True,
        download: bool = False,
        inductive: bool = False,
        neighbors: tuple[int, ...] = (),
    ) -> None:
        self.path, self.name, self.normalise, self.download = path, name, normalise, download
        self.sampling(inductive, neighbors)

    def read(self) -> LabelledGraph:
        return planetoid.read(Path(os.path.expanduser(self.path)), self.name, self.normalise, self.download)
