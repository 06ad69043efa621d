"""The funnel against plain training at equal cost: NAS-Bench-201, candidates that synflow chooses among many.

    python benchmarks/funnel.py --table nas_bench_201.csv.gz

`plain` judges 50 candidates by a training of 12 epochs, which the table has. The funnel lets synflow judge 1,000 first,
untrained, and trains the best as far as the same time reaches: the seconds that synflow takes are measured here, those
of the trainings are the table's, of a GPU. Both are judged by the test accuracy after 200 epochs.
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import benchmark_file, machine, parser, print_head, print_table, versions

import nasengine
from nasengine import Architecture, Context
from nasengine.evaluators.data.tables import read_table
from nasengine.evaluators.proxies import PROXIES, Subject
from nasengine.registry import make
from nasengine.report.compared import rank_sum
from nasengine.testing import TinyTask

OPTIMUM = 0.94373
TRAINED = 50
PROPOSED = 1_000


class Cifar(TinyTask):
    """Images of CIFAR-10's shape, for a proxy that looks at no image."""

    input_shape = (3, 32, 32)
    classes = 10

    def example(self) -> torch.Tensor:
        return torch.zeros(2, 3, 32, 32)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the benchmark's nas_bench_201.csv.gz")
    options.add_argument("--seeds", type=int, default=50, help="searches of each (default: %(default)s)")
    options.add_argument("--out", type=Path, default=Path("funnel"), help="where synflow's scores are kept")
    given = options.parse_args()
    table = benchmark_file(given.table, "nas_bench_201.csv.gz")
    seeds, trained, proposed = (2, 5, 40) if given.quick else (given.seeds, TRAINED, PROPOSED)
    sizes = {"cells": 1, "channels": 4} if given.quick else {"cells": 5, "channels": 16}
    given.out.mkdir(parents=True, exist_ok=True)
    scores = given.out / f"synflow{'-quick' if given.quick else ''}.csv"
    milliseconds = score(scores, sizes, 200 if given.quick else None)
    training = statistics.fmean(read_table(table, "").columns["seconds"])
    left = trained - max(1, round(proposed * milliseconds / 1000 / training))
    facts = {
        "machine": machine(),
        "versions": versions("numpy"),
        "asked": f"{proposed:,} cells judged by synflow ({milliseconds:.0f} ms each), {training:.0f} s a training",
        "seeds": f"0 to {seeds - 1}",
        "repetitions": "one a seed; mean ± sd over the seeds",
    }
    print_head("The funnel against plain training at equal cost", facts, given.markdown)
    asked: dict[str, dict[str, Any]] = {}
    for strategy in ("random", "evolution:population=10,sample=3"):
        plain = {"evaluator": f"tabular:table={table}", "trials": trained}
        cheap, dear = f"tabular:table={scores.resolve()},search_on=synflow", f"tabular:table={table}"
        asked[f"{strategy}, plain"] = {"strategy": strategy, **plain}
        asked[f"{strategy}, funnel"] = {"strategy": strategy, "funnel": f"{cheap}:{proposed},{dear}:{left}"}
    found = {name: searched(name, settings, seeds, given.quick) for name, settings in asked.items()}
    rows = []
    for name, values in found.items():
        strategy = name.rpartition(", ")[0]
        regret = [100 * (OPTIMUM - value) for value in values]
        p = "" if name.endswith("plain") else f"{rank_sum(values, found[f'{strategy}, plain']):.2g}"
        deviation = f" ± {statistics.stdev(regret):.2f}" if len(regret) > 1 else ""
        rows.append([name, f"{statistics.fmean(regret):.2f}{deviation}", f"{statistics.median(regret):.2f}", p])
    print_table(["search", "regret, points", "median", "p against plain"], rows, given.markdown)


def searched(name: str, settings: dict[str, Any], seeds: int, quick: bool) -> list[float]:
    """The test accuracy of what each seed's search found."""
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = nasengine.search(
                "nasbench201:cells=1,channels=4" if quick else "nasbench201", seed=seed, baseline=0, durable=False,
                max_failures=1.0, out=Path(folder) / "run", **settings,
            )  # fmt: skip
            found.append(run.best.metrics["test_accuracy"])
        print(f"{name}, seed {seed}: {found[-1]:.4f}", file=sys.stderr)
    return found


def score(path: Path, sizes: dict[str, int], most: int | None) -> float:
    """Synflow of every cell, isomorphic ones once, into a table; the mean milliseconds of one."""
    space: Any = make("space", "nasbench201", sizes)
    task = Cifar()
    torch.set_num_threads(1)
    whole = [row for row in csv.reader(path.open(encoding="utf-8")) if len(row) == 3] if path.exists() else []
    known = {row[0]: float(row[2]) for row in whole[1:]}
    domain, rng = space.domain(task), np.random.default_rng(0)
    everything = domain.enumerate() if most is None else (domain.sample(rng) for _ in range(most))
    cells: dict[str, Architecture] = {}
    for architecture in everything:
        canonical = space.canonical(architecture)
        cells.setdefault(space.notation(canonical), canonical)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(whole or [["architecture", "synflow", "seconds"]])
        for number, (cell, architecture) in enumerate(cells.items()):
            if cell in known:
                continue
            model = Context(space, task, torch.device("cpu"), number).model(architecture)
            began = time.perf_counter()
            value = PROXIES["synflow"](
                Subject(model, task, [(torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64))])
            )
            known[cell] = time.perf_counter() - began
            writer.writerow([cell, repr(float(value)), f"{known[cell]:.6f}"])
            file.flush()
            if number % 100 == 0:
                print(f"synflow of {number} of {len(cells)} cells", file=sys.stderr)
    return 1000 * statistics.median(known.values())


if __name__ == "__main__":
    main()
