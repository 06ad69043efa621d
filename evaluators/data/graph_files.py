"""A user's own graph, from plain files: NumPy's .npz, GraphML, or two tables of comma-separated values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasengine import DataError

from .graphs import UNKNOWN, LabelledGraph, Labels, both_ways, in_proportion, shared_out
from .images import stratified
from .npz import load

Array = NDArray[Any]
EXPECTED = (
    "a file .npz (arrays edges, y, and where there are such x, train_mask, valid_mask, test_mask), a file .graphml "
    "(nodes with an attribute label), or a folder with nodes.csv (columns id, label) and edges.csv (source, target)"
)
ARRAYS = {
    "edges": ("edge_index", "edges"),
    "labels": ("y", "labels"),
    "x": ("x", "features"),
    "train": ("train_mask",),
    "valid": ("valid_mask", "val_mask"),
    "test": ("test_mask",),
}
"""By what it is, the names of an array in a .npz file."""
PARTS = ("train", "valid", "test")
FEW = 5_000
"""Nodes of which each may be a feature of its own, where there are no others."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file says. x: (N, features). edges: (2, E). labels: (N,), numbers (negative: unknown) or texts (empty:
    unknown). parts: (N,) each, which nodes are for what."""

    edges: Array
    labels: Array
    x: Array | None = None
    parts: Mapping[str, Array] = field(default_factory=dict)


def read(path: Path, directed: bool, valid: float, test: float, split_seed: int) -> LabelledGraph:
    """The graph with a split: the file's own, and where it has none a random one, every class in proportion. Raises
    DataError."""
    if not path.exists():
        raise DataError(f"{path} is not there; expected {EXPECTED}")
    reader = {".npz": _npz, ".graphml": _graphml, ".csv": _tables}.get(path.suffix.lower(), _tables)
    if reader is _tables and not path.is_dir() and path.suffix.lower() != ".csv":
        raise DataError(f"{path} is of no known format; expected {EXPECTED}")
    stored = reader(path)
    labels, names = _classes(path, stored.labels)
    count = len(labels)
    edges = _edges(path, stored.edges, count)
    x = _features(path, stored.x, count)
    train, others = _parts(path, stored.parts, labels, {"valid": valid, "test": test}, split_seed)
    missing = [names[label] for label in range(len(names)) if label not in labels[train]]
    if missing or not all(len(part) for part in others):
        lacks = f"of {missing[0]!r}" if missing else "for validation or for test"
        raise DataError(f"{path} has no node {lacks}; expected some of each class for training, and some for each part")
    found = (
        f"{path.name}: {count:,} nodes, {edges.shape[1]:,} edges, {x.shape[1]:,} features, {len(names)} classes; "
        f"{len(train):,} nodes for training, {len(others[0]):,} for validation, {len(others[1]):,} for test"
    )
    edges = edges if directed else both_ways(edges)
    return LabelledGraph(x, edges, labels, in_proportion(train, labels), others[0], others[1], names, found)


def _npz(path: Path) -> Stored:
    arrays = load(path, {name for names in ARRAYS.values() for name in names})
    found = {what: [arrays[name] for name in names if name in arrays] for what, names in ARRAYS.items()}
    for what in ("edges", "labels"):
        if not found[what]:
            raise DataError(f"{path} has no array {' or '.join(ARRAYS[what])}; expected {EXPECTED}")
    parts = {part: found[part][0] for part in PARTS if found[part]}
    return Stored(found["edges"][0], found["labels"][0], found["x"][0] if found["x"] else None, parts)


def _graphml(path: Path) -> Stored:
    import networkx as nx

    try:
        graph = nx.read_graphml(path)
    except Exception as error:  # of its XML parser, or of its own
        raise DataError(f"{path} is no GraphML, or damaged ({error}); expected {EXPECTED}") from error
    nodes = list(graph.nodes(data=True))
    place = {name: index for index, (name, _) in enumerate(nodes)}
    edges = np.array([(place[edge[0]], place[edge[1]]) for edge in graph.edges], np.int64).reshape(-1, 2).T
    columns: dict[str, list[Any]] = {}
    for name in sorted({name for _, said in nodes for name in said}):
        columns[name] = [said.get(name) for _, said in nodes]
    return _of_columns(path, edges, columns)


def _tables(path: Path) -> Stored:
    import pandas as pd

    folder = path if path.is_dir() else path.parent
    read = []
    for name, wanted in (("nodes.csv", ("id", "label")), ("edges.csv", ("source", "target"))):
        try:
            table = pd.read_csv(folder / name, dtype=dict.fromkeys((*wanted, "split"), str), skipinitialspace=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{folder / name} cannot be read ({error}); expected {EXPECTED}") from error
        if lacking := [column for column in wanted if column not in table]:
            raise DataError(f"{folder / name} has no column {lacking[0]}; expected {EXPECTED}")
        read.append(table)
    nodes, links = read
    place = {name: index for index, name in enumerate(nodes["id"])}
    if len(place) < len(nodes):
        raise DataError(f"{folder / 'nodes.csv'} has an id twice; expected each once")
    ends = [[place.get(name, -1) for name in links[end]] for end in ("source", "target")]
    columns = {str(name): nodes[name].to_list() for name in nodes.columns if name != "id"}
    return _of_columns(folder, np.array(ends, np.int64), columns)


def _of_columns(path: Path, edges: Array, columns: Mapping[str, list[Any]]) -> Stored:
    """label, perhaps split, and the others, which are features; what is missing there is 0."""
    if "label" not in columns:
        raise DataError(f"the nodes of {path} have no label; expected {EXPECTED}")
    labels = np.array(["" if _is_missing(value) else str(value) for value in columns["label"]])
    features = [name for name in columns if name not in ("label", "split")]
    try:
        values = [[0.0 if _is_missing(value) else float(value) for value in columns[name]] for name in features]
    except (TypeError, ValueError):
        raise DataError(
            f"the nodes of {path} have features that are no numbers; expected numbers only beside label and split"
        ) from None
    splits = np.array([str(value) for value in columns.get("split", [])])
    if strange := sorted({*splits.tolist()} - {*PARTS, "", "nan", "None"}):
        raise DataError(f"a node of {path} has the split {strange[0]!r}; expected train, valid, test or nothing")
    parts = {part: splits == part for part in PARTS if (splits == part).any()}
    return Stored(edges, labels, np.array(values, np.float32).T if features else None, parts)


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _classes(path: Path, labels: Array) -> tuple[Labels, tuple[str, ...]]:
    """Labels from 0, or UNKNOWN, and the names of the classes."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "buiU":
        raise DataError(
            f"the labels of {path} are {labels.dtype} of shape {labels.shape}; expected a class for each node"
        )
    known = labels != "" if labels.dtype.kind == "U" else labels >= 0
    names, places = np.unique(labels[known], return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{path} has nodes of {len(names)} classes; expected 2 or more")
    found = np.full(len(labels), UNKNOWN, np.int64)
    found[known] = places
    return found, tuple(map(str, names.tolist()))


def _edges(path: Path, edges: Array, nodes: int) -> Labels:
    edges = np.asarray(edges)
    if edges.ndim == 2 and edges.shape[0] != 2 and edges.shape[1] == 2:
        edges = edges.T
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "ui":
        raise DataError(
            f"the edges of {path} are {edges.dtype} of shape {edges.shape}; expected numbers of nodes, (2, E)"
        )
    if edges.size and (edges.min() < 0 or edges.max() >= nodes):
        raise DataError(f"an edge of {path} leads to a node that is not there; expected ends among its {nodes} nodes")
    return edges.astype(np.int64)


def _features(path: Path, x: Array | None, nodes: int) -> NDArray[np.float32]:
    if x is None:
        if nodes > FEW:
            raise DataError(f"{path} has no features, and {nodes:,} nodes; expected features for more than {FEW:,}")
        return np.eye(nodes, dtype=np.float32)
    x = np.asarray(x)
    if x.ndim != 2 or len(x) != nodes or x.dtype.kind not in "buif":
        raise DataError(
            f"the features of {path} are {x.dtype} of shape {x.shape}; expected numbers, ({nodes}, features)"
        )
    with warnings.catch_warnings(action="ignore"):
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(f"the features of {path} are not all finite numbers")
    return x


def _parts(
    path: Path, stored: Mapping[str, Array], labels: Labels, fractions: Mapping[str, float], split_seed: int
) -> tuple[Labels, list[Labels]]:
    """Nodes for training, and those for validation and test."""
    rng = np.random.default_rng(split_seed)
    if not stored:
        train, *others = shared_out(labels, fractions["valid"], fractions["test"], rng)
        return train, others
    known = labels != UNKNOWN
    parts: dict[str, Labels] = {}
    for name, mask in stored.items():
        mask = np.asarray(mask)
        if mask.shape != labels.shape or mask.dtype.kind != "b":
            raise DataError(
                f"{name}_mask of {path} is {mask.dtype} of shape {mask.shape}; expected true or false for each node"
            )
        parts[name] = np.flatnonzero(mask & known)
    nodes = np.concatenate(list(parts.values()))
    if len(nodes) != len(np.unique(nodes)):
        raise DataError(f"the parts of {path} share nodes; expected training, validation and test nodes to be others")
    train = parts.get("train", np.setdiff1d(np.flatnonzero(known), nodes))
    for name, fraction in fractions.items():
        if name not in parts:
            kept, taken = stratified(labels[train], (1 - fraction, fraction), rng)
            train, parts[name] = train[kept], train[taken]
    return train, [parts["valid"], parts["test"]]
