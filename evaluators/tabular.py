"""Looking candidates up in a table of what others have trained: thousands of trials a minute, to judge strategies by.

Ying et al. 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML, began it; the protocol here is
that of Dong and Yang 2020, "NAS-Bench-201", ICLR, section 4: a search sees the validation accuracy after a short
training, and pays that training's time; what it found is judged by the test accuracy after a long one.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    DataError,
    Evaluator,
    Fidelity,
    Metrics,
    Objective,
    SearchSpace,
    Task,
)

from .data.tables import EPOCHS, SECONDS, Table, nas_bench_graph_package, read_table

PACKAGE = "nas-bench-graph"


class Tabular(Evaluator):
    """Looks each candidate up in a table, instead of training it.

    The table (CSV, Parquet or .npz) has a column `architecture`, in the notation of the space, and a column for each
    metric: all of them in the search, `test_…` in the final judgement only. A column `seconds` is reported as
    `simulated_seconds`; with a column `epochs`, an architecture's row is the longest training that the fidelity allows.
    Tables of NAS-Bench-201 and NAS-Bench-Graph are read as they come.

    Options:
        table: the file; a relative path also counts from the data folder.
        package: `nas-bench-graph`, in place of a file: the table in that package (the extra `benchmarks`).
        dataset: of a benchmark with several: cifar10 or cifar100; cora, citeseer, …; by default the first.
        search_on: the column that the search sees as its objective, `test_accuracy` for a search without noise.
    """

    simulates = True

    def __init__(self, *, table: str = "", package: str = "", dataset: str = "", search_on: str = "") -> None:
        if bool(table) == bool(package):
            raise ConfigError("the evaluator 'tabular' expects a table or a package: tabular:table=FILE.csv")
        if package not in ("", PACKAGE):
            raise ConfigError(f"the evaluator 'tabular' has package = {package!r}; expected {PACKAGE}")
        self.path, self.dataset, self.search_on = Path(table).expanduser(), dataset, search_on
        self.package = package

    @cached_property
    def table(self) -> Table:
        """Raises DataError where it cannot be read, or lacks what the search is to see."""
        found = nas_bench_graph_package(self.dataset) if self.package else read_table(self.path, self.dataset)
        if self.search_on and self.search_on not in found.columns:
            known = ", ".join(found.columns)
            raise DataError(f"the table has no column {self.search_on!r} to search on; it has: {known}")
        return found

    def metric_names(self, task: Task) -> Collection[str]:
        seen = [name for name in self.table.columns if name not in (SECONDS, EPOCHS) and not name.startswith("test_")]
        chosen = [Objective.parse(task.objectives[0]).metric] if self.search_on else []
        return (*dict.fromkeys([*seen, *chosen]), *(["simulated_seconds"] if SECONDS in self.table.columns else []))

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        row = self._row(architecture, fidelity.epochs, context.space)
        columns = self.table.columns
        metrics = {
            name: float(values[row])
            for name, values in columns.items()
            if name not in (SECONDS, EPOCHS) and (context.final or not name.startswith("test_"))
        }
        if self.search_on and not context.final:
            metrics[Objective.parse(context.task.objectives[0]).metric] = float(columns[self.search_on][row])
        if SECONDS in columns:
            metrics["simulated_seconds"] = float(columns[SECONDS][row])
        return metrics

    def _row(self, architecture: Architecture, epochs: int | None, space: SearchSpace) -> int:
        """Where the table speaks of the architecture, or of the canonical one that is the same network."""
        for described in (architecture, space.canonical(architecture)):
            row = self.table.row(space.notation(described), epochs)
            if row is not None:
                return row
        raise LookupError(f"the table knows no {space.notation(architecture)}")
