"""Tables of what architectures are worth, measured by somebody else: CSV, Parquet or .npz, and two benchmarks' own.

A table has a column `architecture`, a line of text as the space's `notation` writes it, and a column for each metric.
`test_…` columns are for the final judgement. `seconds` is what the measurement took; with a column `epochs` an
architecture may have several rows, one for each number of epochs that it was trained for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasengine import DataError

if TYPE_CHECKING:
    import pandas as pd

ARCHITECTURE, SECONDS, EPOCHS = "architecture", "seconds", "epochs"
EXPECTED = "a table as .csv, .csv.gz, .parquet or .npz"
GRAPHS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv")
CIFAR = {"cifar10": "c10", "cifar100": "c100"}


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of architectures.

    rows: of each architecture, by its notation, the rows that speak of it. columns: the numbers, a value a row.
    """

    rows: Mapping[str, tuple[int, ...]]
    columns: Mapping[str, NDArray[np.float64]]

    def row(self, architecture: str, epochs: int | None = None) -> int | None:
        """The architecture's row; of several the one of the most epochs, or of the most that `epochs` allows."""
        found = self.rows.get(architecture, ())
        if len(found) < 2 or EPOCHS not in self.columns:
            return found[0] if found else None
        trained = self.columns[EPOCHS]
        allowed = [row for row in found if epochs is None or trained[row] <= epochs]
        return max(allowed, key=lambda row: trained[row]) if allowed else min(found, key=lambda row: trained[row])


def read_table(path: Path, dataset: str = "") -> Table:
    """The table in a file. Raises DataError where there is none, or it does not hold what it should."""
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"the table {path} cannot be read: {why}; expected {EXPECTED}") from None
    return _read(path, dataset, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, dataset: str, changed: int, size: int) -> Table:
    """Kept, so that many short searches in one process read a file once."""
    content = _content(path)
    for recognised, datasets, read in (
        ("arch_str" in content, tuple(CIFAR), nas_bench_201),
        ("link_lists" in content, _graphs(content), nas_bench_graph),
    ):
        if recognised:
            if (dataset or datasets[0]) not in datasets:
                raise DataError(f"the table {path} has no data set {dataset!r}; expected {' or '.join(datasets)}")
            return read(content, dataset or datasets[0])
    if dataset:
        raise DataError(f"the table {path} is of one data set only; leave dataset={dataset} out")
    return plain(content, path)


def _content(path: Path) -> Mapping[str, NDArray[Any]]:
    """The file's columns, or arrays, by name."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        if path.suffix == ".parquet":
            return _columns(_pandas().read_parquet(path))
        if path.name.endswith((".csv", ".csv.gz")):
            # as text: 0212 is no number
            return _columns(_pandas().read_csv(path, dtype={ARCHITECTURE: str, "arch_str": str}))
    except (OSError, ValueError, EOFError, ImportError, zipfile.BadZipFile) as error:  # pandas' own are ValueErrors
        raise DataError(f"the table {path} cannot be read: {str(error).splitlines()[0]}; expected {EXPECTED}") from None
    raise DataError(f"the table {path} is of a kind that is not read; expected {EXPECTED}")


def _pandas() -> Any:
    import pandas

    return pandas


def _columns(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    return {str(name): column.to_numpy() for name, column in frame.items()}


def plain(content: Mapping[str, NDArray[Any]], path: Path) -> Table:
    """A table in the format above."""
    if ARCHITECTURE not in content:
        raise DataError(f"the table {path} has no column 'architecture'; it has: {', '.join(content) or 'none'}")
    architectures = content[ARCHITECTURE]
    columns = {}
    for name, values in content.items():
        if name == ARCHITECTURE or not np.issubdtype(values.dtype, np.number):
            continue
        if values.shape != architectures.shape:
            raise DataError(f"the table {path} has {len(architectures)} architectures, but {values.shape} of {name!r}")
        columns[name] = values.astype(np.float64)
    if not set(columns) - {SECONDS, EPOCHS}:
        raise DataError(f"the table {path} has no column of numbers, such as accuracy, beside 'architecture'")
    return table([str(text) for text in architectures], columns)


def table(architectures: list[str], columns: Mapping[str, NDArray[np.float64]]) -> Table:
    rows: dict[str, tuple[int, ...]] = {}
    for row, architecture in enumerate(architectures):
        rows[architecture] = (*rows.get(architecture, ()), row)
    return Table(rows, columns)


def nas_bench_201(content: Mapping[str, NDArray[Any]], dataset: str) -> Table:
    """NAS-Bench-201's topologies: validation after 12 epochs, test after 200, accuracies as fractions.

    The seconds are those of the 12 epochs on CIFAR-10, also for CIFAR-100, whose images are as many and as large.
    """
    short = CIFAR[dataset]
    columns = {
        "accuracy": content[f"{short}_valid_ep12"] / 100,
        "test_accuracy": content[f"{short}_test_ep200"] / 100,
        "parameters": content["params_c10"].astype(np.float64),
        SECONDS: content["c10_ep12_cost_s"].astype(np.float64),
    }
    return table([str(text) for text in content["arch_str"]], columns)


def nas_bench_graph(content: Mapping[str, NDArray[Any]], dataset: str) -> Table:
    """NAS-Bench-Graph, as arrays: `link` points into `link_lists`, `ops` into `op_names`."""
    names = [str(name) for name in content["op_names"]]
    links = ["".join(map(str, link)) for link in content["link_lists"].tolist()]
    cells = zip(content["link"].tolist(), content["ops"].tolist(), strict=True)
    architectures = [f"{links[link]}|{','.join(names[operation] for operation in cell)}" for link, cell in cells]
    columns = {
        "accuracy": content[f"{dataset}_valid"],
        "test_accuracy": content[f"{dataset}_test"],
        "parameters": content[f"{dataset}_params_m"] * 1e6,
        "latency": content[f"{dataset}_latency_s"] * 1000,
    }
    return table(architectures, {name: values.astype(np.float64) for name, values in columns.items()})


def _graphs(content: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    return tuple(name.removesuffix("_valid") for name in content if name.endswith("_valid")) or ("cora",)


def nas_bench_graph_package(dataset: str = "") -> Table:
    """NAS-Bench-Graph from its authors' package `nas-bench-graph` (the extra `benchmarks`): nine data sets."""
    try:
        package = import_module("nas_bench_graph")
        cells = import_module("nas_bench_graph.architecture")
    except ImportError:
        raise DataError(
            "the package nas-bench-graph is missing; install it with: pip install 'nasengine[benchmarks]'"
        ) from None
    if dataset not in ("", *GRAPHS):  # it becomes part of a path, and what is there is unpickled
        raise DataError(f"the package nas-bench-graph has no data set {dataset!r}; expected {', '.join(GRAPHS)}")
    measured: Mapping[int, Mapping[str, float]] = package.light_read(dataset or "cora")
    with redirect_stdout(None):  # it prints how many they are
        known = [(cell, key) for cell in cells.all_archs() if (key := cell.hash_arch()) in measured]
    architectures = [f"{''.join(map(str, cell.link))}|{','.join(cell.ops)}" for cell, _ in known]
    keys = [key for _, key in known]
    names = {"valid_perf": "accuracy", "perf": "test_accuracy", "latency": "latency", "para": "parameters"}
    columns = {new: np.array([measured[key][old] for key in keys], np.float64) for old, new in names.items()}
    return table(
        architectures, columns | {"parameters": columns["parameters"] * 1e6, "latency": columns["latency"] * 1000}
    )
