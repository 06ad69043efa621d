"""The citation graphs Cora, CiteSeer and PubMed in the form that Planetoid made common.

Sen et al. 2008, "Collective Classification in Network Data", AI Magazine 29 (3); Yang, Cohen, Salakhutdinov 2016,
"Revisiting Semi-Supervised Learning with Graph Embeddings", ICML (the split). The files are pickles, and PyTorch
Geometric unpickles them; so they are first looked through, and left alone where they would run anything but what makes
arrays. What PyTorch Geometric itself writes beside them (`processed`) is neither read nor written.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

from nasengine import DataError

from .graphs import LabelledGraph, in_proportion, rows_normalised

SOURCE = "https://github.com/kimiyoung/planetoid/raw/master/data"
PICKLED = ("x", "tx", "allx", "y", "ty", "ally", "graph")
HARMLESS = frozenset(
    {
        ("collections", "defaultdict"), ("__builtin__", "list"), ("numpy", "ndarray"), ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("scipy.sparse.csr", "csr_matrix"), ("scipy.sparse._csr", "csr_matrix"),
    }
)  # fmt: skip
"""What the canonical files are made of: dictionaries, arrays, sparse arrays."""
IMPORTING = frozenset({"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
"""Other ways of a pickle to reach code, which these files do not take."""


def read(path: Path, name: str, normalise: bool, download: bool) -> LabelledGraph:
    """The graph with its public split. path: the folder in which a folder Cora/raw (or one of the others) is, as
    PyTorch Geometric's `Planetoid` wants it. Raises DataError."""
    reader = _reader()
    folder = path / name / "raw"
    files = [folder / f"ind.{name.lower()}.{part}" for part in (*PICKLED, "test.index")]
    if download and not all(file.is_file() for file in files):
        _download(folder, files)
    if missing := [file.name for file in files if not file.is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}; expected the {len(files)} files of {name} there, as "
            f"github.com/kimiyoung/planetoid has them in its folder data, or with download=true they are fetched"
        )
    for file in files[:-1]:
        refuse_code(file)
    try:
        data = reader(str(folder), name.lower())
    except Exception as error:
        raise DataError(f"the files of {name} in {folder} are damaged ({error}); fetch them again") from error
    labels = data.y.numpy()
    x = data.x.numpy().astype(np.float32)
    train, valid, test = (np.flatnonzero(mask.numpy()) for mask in (data.train_mask, data.val_mask, data.test_mask))
    edges = data.edge_index.numpy()
    found = (
        f"{name}: {len(x):,} papers, {edges.shape[1] // 2:,} citations, {x.shape[1]:,} features, "
        f"{labels.max() + 1} subjects; {len(train)} papers for training, {len(valid)} for validation, {len(test):,} "
        f"for test"
    )
    names = tuple(f"subject {label}" for label in range(labels.max() + 1))
    x = rows_normalised(x) if normalise else x
    return LabelledGraph(x, edges, labels, in_proportion(train, labels), valid, test, names, found)


def refuse_code(file: Path) -> None:
    """Raises DataError where the pickle would call anything but what makes arrays. Nothing is unpickled."""
    try:
        for operation, argument, _ in pickletools.genops(file.read_bytes()):
            named = tuple(str(argument).split(" ", 1)) if operation.name == "GLOBAL" else None
            if operation.name in IMPORTING or (named is not None and named not in HARMLESS):
                what = ".".join(named) if named else operation.name
                raise DataError(
                    f"{file} is not as Planetoid made it: it is a pickle that reaches for {what}, and is not loaded; "
                    f"fetch the file again"
                )
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read ({error}); fetch it again") from error


def _download(folder: Path, files: list[Path]) -> None:
    """Fetches the files that are not there. Raises DataError."""
    for file in files:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not file.is_file():
                with urlopen(f"{SOURCE}/{file.name}", timeout=60) as answer:
                    write_whole(file, answer.read())
        except OSError as error:
            raise DataError(f"{SOURCE}/{file.name} cannot be fetched to {folder} ({error}); put it there") from error


def write_whole(file: Path, content: bytes) -> None:
    """So that half a file is never taken for one."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(content)
    part.replace(file)


def _reader() -> Any:
    """PyTorch Geometric's, of the raw files."""
    try:
        from torch_geometric.io import read_planetoid_data
    except ImportError:
        raise DataError(
            "Planetoid's files are read by PyTorch Geometric, which is missing; install it with: pip install "
            "'nasengine[gnn]'"
        ) from None
    return read_planetoid_data
