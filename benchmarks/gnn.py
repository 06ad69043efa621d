"""Graph networks on Cora: known networks, what searches find beside random ones, and agreement with NAS-Bench-Graph.

    python benchmarks/gnn.py --cora planetoid --table nas_bench_graph_cora_citeseer.npz

The searches see validation accuracies; test accuracies are of the best network of each search, trained again by the
whole recipe, and of random networks. Needs the extra `gnn`, and Cora's files in the folder Cora/raw.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import benchmark_file, cores, machine, mean, parser, print_head, print_table, versions
from scipy.stats import spearmanr

import nasengine
from nasengine.registry import make

PUBLISHED = {"gcn": "81.5", "gat": "83.0 ± 0.7", "graphsage": ""}
SPACE = "gnn:layers=2,hidden=[16,64]"
"""The space of the searches."""
CHEAP = "train:epochs=100,patience=20"
"""How their candidates are judged."""
WHOLE = "train:epochs=200,patience=0"
"""For NAS-Bench-Graph's networks: of one step an epoch, their batch normalisations learn their statistics late,
and patience would end the training before."""


def trained(architecture: Any, task: str, evaluator: str, seed: int, folder: Path) -> tuple[float, float, float]:
    """Test accuracy and macro F1 in %, and the seconds that it took."""
    began = time.perf_counter()
    run = nasengine.train(architecture, task, evaluator, seed=seed, out=folder / f"{time.time_ns()}", threads=1)
    metrics = run.best.metrics
    return 100 * metrics["test_accuracy"], 100 * metrics["test_macro_f1"], time.perf_counter() - began


def references(task: str, seeds: int, folder: Path, markdown: bool) -> None:
    rows = []
    for name, published in PUBLISHED.items():
        results = []
        for seed in range(seeds):
            print(f"{name}, seed {seed}", file=sys.stderr)
            results.append(trained(name, task, "train", seed, folder))
        accuracy, f1, seconds = zip(*results, strict=True)
        rows.append([name, str(seeds), mean(accuracy, 2), mean(f1, 2), published, f"{statistics.fmean(seconds):.1f}"])
    columns = ["network", "seeds", "test accuracy, %", "macro F1, %", "published, %", "seconds a training"]
    print_table(columns, rows, markdown)


def searches(task: str, candidates: int, epochs: int, seeds: int, folder: Path, markdown: bool) -> None:
    """Each search's network, trained with several seeds; and as many random ones as there were candidates, once each by
    the recipe that judges candidates, and the best of these, by validation, with several seeds."""
    rows = []
    for strategy in ("random", "evolution", f"darts:epochs={epochs}"):
        began = time.perf_counter()
        print(f"search by {strategy}", file=sys.stderr)
        learns = strategy.startswith("darts")
        run = nasengine.search(
            SPACE, strategy, task, CHEAP, trials=None if learns else candidates, seed=0, baseline=0, threads=1,
            out=folder / f"search-{strategy.partition(':')[0]}",
        )  # fmt: skip
        seconds = time.perf_counter() - began
        found = run.best.architecture
        tests = [trained(found, task, "train", seed, folder)[0] for seed in range(seeds)]
        done = [trial.metrics for trial in run.all_trials if trial.purpose == "search" and trial.state == "done"]
        valid = [100 * metrics["accuracy"] for metrics in done if "accuracy" in metrics]  # what learns has none
        seen = f"{statistics.fmean(valid):.2f} / {max(valid):.2f}" if valid else ""
        rows.append([strategy, "1" if learns else str(candidates), seen, mean(tests, 2), f"{seconds:.0f}"])
        print(*rows[-1], sep=", ", file=sys.stderr)
    space: Any = make("space", "gnn", {"layers": 2, "hidden": [16, 64]})
    with_data: Any = make("task", "planetoid", {"path": task.partition("path=")[2].partition(",")[0]})
    domain, rng = space.domain(with_data), np.random.default_rng(1)
    count = min(candidates, 3 * seeds)
    print(f"{count} random networks", file=sys.stderr)
    tests = [trained(domain.sample(rng), task, "train", seed, folder)[0] for seed in range(count)]
    rows.append([f"no search: the mean of {count}", "", "", mean(tests, 2), ""])
    columns = ["search", "candidates", "their validation accuracy, mean / best", "test accuracy of what was found, %"]
    print_table([*columns, "seconds of the search"], rows, markdown)


def agreement(task: str, table: Path, count: int, hidden: int, folder: Path, markdown: bool) -> None:
    """Spearman's ρ between our test accuracies of random networks and those of the benchmark."""
    from nasengine.evaluators.data.tables import read_table
    from nasengine.search_spaces.nasbench_graph import from_nasbench_graph

    known = read_table(table)
    names = np.random.default_rng(0).permutation(sorted(known.rows))[:count].tolist()
    column = known.columns["test_accuracy"]
    ours, theirs, began = [], [], time.perf_counter()
    for number, name in enumerate(names):
        print(f"network {number} of {count}", file=sys.stderr)
        ours.append(trained(from_nasbench_graph(name, hidden=hidden), task, WHOLE, 0, folder)[0])
        theirs.append(100 * float(column[known.rows[name][0]]))
    rho, p = spearmanr(ours, theirs)
    spread = f"{mean(ours, 2)} ({min(ours):.1f}–{max(ours):.1f})"
    print_table(
        ["networks", "channels", "our test accuracy, %", "the benchmark's, %", "Spearman's ρ", "seconds"],
        [[str(count), str(hidden), spread, mean(theirs, 2), f"{rho:.2f} (p = {p:.1g})",
          f"{time.perf_counter() - began:.0f}"]],
        markdown,
    )  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cora", type=Path, help="the folder that holds Cora/raw")
    options.add_argument("--table", type=Path, help="the arrays, nas_bench_graph_cora_citeseer.npz")
    options.add_argument("--parts", default="references,searches,agreement", help="default: %(default)s")
    options.add_argument("--seeds", type=int, default=20, help="of the known networks (default: %(default)s)")
    options.add_argument("--candidates", type=int, default=100, help="of a search (default: %(default)s)")
    options.add_argument("--epochs", type=int, default=50, help="of DARTS in the supernet (default: %(default)s)")
    options.add_argument("--final-seeds", type=int, default=5, help="of what was found (default: %(default)s)")
    options.add_argument("--networks", type=int, default=50, help="of NAS-Bench-Graph (default: %(default)s)")
    options.add_argument("--hidden", type=int, default=64, help="their channels; the benchmark's are 256")
    given = options.parse_args()
    cora = given.cora or Path(os.environ.get("NASENGINE_DATA", ".")) / "planetoid"
    if not (cora / "Cora" / "raw").is_dir():
        print(
            f"skipped: {cora}/Cora/raw is not there; name its folder with --cora, or the one around by NASENGINE_DATA"
        )
        return
    task, quick = f"planetoid:path={cora.resolve()},name=Cora", given.quick
    facts = {
        "machine": f"{machine()}; one thread of {cores()}",
        "versions": versions("torch-geometric"),
        "asked": f"searches: space {SPACE}, candidates judged by {CHEAP}",
        "seeds": "networks 0 …; searches 0",
        "repetitions": "mean ± sd over the seeds",
    }
    print_head("Graph networks on Cora", facts, given.markdown)
    with tempfile.TemporaryDirectory() as made:
        folder, parts = Path(made), given.parts.split(",")
        if "references" in parts:
            references(task, 1 if quick else given.seeds, folder, given.markdown)
        if "searches" in parts and not quick:
            searches(task, given.candidates, given.epochs, given.final_seeds, folder, given.markdown)
        if "agreement" in parts and not quick:
            table = benchmark_file(given.table, "nas_bench_graph_cora_citeseer.npz")
            agreement(task, table, given.networks, given.hidden, folder, given.markdown)


if __name__ == "__main__":
    main()
