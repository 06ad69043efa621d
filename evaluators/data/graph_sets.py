"""Many graphs with a class each: read from text files, or made by NetworkX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nasengine import DataError

from .graphs import Graph, GraphSet, Labels, both_ways, shared_out

MOST = 50
"""The largest degree that is told apart from larger ones."""
FAMILIES: dict[str, Callable[[int, int], nx.Graph]] = {
    "random": lambda nodes, seed: nx.gnm_random_graph(nodes, 2 * nodes, seed=seed),
    "scale_free": lambda nodes, seed: nx.barabasi_albert_graph(nodes, 2, seed=seed),
    "small_world": lambda nodes, seed: nx.watts_strogatz_graph(nodes, 4, 0.1, seed=seed),
    "regular": lambda nodes, seed: nx.random_regular_graph(4, nodes, seed=seed),
}


def degrees(edges: Tensor, nodes: int, most: int) -> Tensor:
    """(nodes, most + 1): each node's degree as one of 0, 1 … most or more."""
    return functional.one_hot(torch.bincount(edges[1], minlength=nodes).clamp(max=most), most + 1).float()


def families(count: int, seed: int) -> GraphSet:
    """So many graphs of each family, of 12 to 24 nodes."""
    rng = np.random.default_rng(seed)
    graphs: list[Graph] = []
    for make in FAMILIES.values():
        for _ in range(count):
            nodes = int(rng.integers(12, 25))
            made = make(nodes, int(rng.integers(2**31)))
            edges = torch.from_numpy(both_ways(np.array(list(made.edges), np.int64).T))
            graphs.append(Graph(degrees(edges, nodes, 9), edges))
    labels = np.repeat(np.arange(len(FAMILIES)), count)
    return _split(graphs, labels, tuple(FAMILIES), 0.2, 0.2, seed, f"graphs of {len(FAMILIES)} families")


def read_tu(path: Path, name: str, valid: float, test: float, split_seed: int) -> GraphSet:
    """A data set in the format of TU Dortmund (Morris et al. 2020, "TUDataset", ICML workshop): plain text. Raises
    DataError."""
    folders = (path, path / name, path / name / "raw")
    needed = [f"{name}_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")]
    folder = next((one for one in folders if all((one / file).is_file() for file in needed)), None)
    if folder is None:
        raise DataError(f"{path} lacks {', '.join(needed)}; expected them there, or in {path / name / 'raw'}")
    try:
        from torch_geometric.io import read_tu_data
    except ImportError:
        raise DataError(
            "these files are read by PyTorch Geometric, which is missing; install it with: pip install 'nasengine[gnn]'"
        ) from None
    try:
        data, slices, _ = read_tu_data(str(folder), name)
        graphs = list(_graphs(data, slices))
        labels = data.y.numpy().astype(np.int64)
    except Exception as error:  # a damaged text file ends in all kinds of errors of its reader
        raise DataError(f"the files of {name} in {folder} are damaged ({error}); fetch them again") from error
    if labels.ndim != 1 or len(labels) != len(graphs) or labels.max() < 1:
        raise DataError(f"{folder / needed[2]} has not a class of two or more for each of {len(graphs)} graphs")
    names = tuple(f"class {label}" for label in range(labels.max() + 1))
    return _split(graphs, labels, names, valid, test, split_seed, f"{name}: graphs of {len(names)} classes")


def _graphs(data: Any, slices: dict[str, Tensor]) -> list[Graph]:
    edges = slices["edge_index"].tolist()
    if data.x is None:
        counts = [int(count) for count in data._num_nodes]
    else:
        nodes = slices["x"].tolist()
        counts = [after - before for before, after in pairwise(nodes)]
    graphs, begin = [], 0
    for count, (first, last) in zip(counts, pairwise(edges), strict=True):
        own = data.edge_index[:, first:last].contiguous()
        x = degrees(own, count, MOST) if data.x is None else data.x[begin : begin + count].float().contiguous()
        graphs.append(Graph(x, own))
        begin += count
    return graphs


def _split(
    graphs: Sequence[Graph], labels: Labels, names: tuple[str, ...], valid: float, test: float, seed: int, found: str
) -> GraphSet:
    parts = train, others, last = shared_out(labels, valid, test, np.random.default_rng(seed))
    counts = f"{len(train):,} for training, {len(others):,} for validation, {len(last):,} for test"
    if not all(map(len, parts)):
        raise DataError(f"{len(graphs)} graphs are too few: {counts}; expected some for each")
    return GraphSet(graphs, labels, train, others, last, names, f"{found}, {counts}")
