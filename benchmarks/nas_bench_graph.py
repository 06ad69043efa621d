"""Strategies on NAS-Bench-Graph, whose 26,206 graph networks are all trained: what they find on Cora.

    python benchmarks/nas_bench_graph.py --table nas_bench_graph_cora_citeseer.npz

The search sees the validation accuracy; shown are the best of it, and the test accuracy of that network.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from nas_bench_201 import STRATEGIES, percent, progress
from report import benchmark_file, machine, parser, print_head, print_table, versions

import nasengine

EVALUATIONS = (100, 300)
REFERENCE = {
    "random": ("80.75 → 79.86", "81.04 → 80.06"),
    "evolution:population=20,sample=5": ("80.98 → 80.22", "81.31 → 80.40"),
    "local_search": ("80.96 → 80.09", "81.26 → 80.47"),
}
"""Another implementation's means over 300 seeds, after EVALUATIONS: best validation accuracy → its test accuracy."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the arrays, nas_bench_graph_cora_citeseer.npz")
    options.add_argument("--dataset", default="cora", help="default: %(default)s")
    options.add_argument("--strategies", default="", help="others than the built-in ones, with semicolons between")
    options.add_argument("--seeds", type=int, default=100, help="searches a strategy (default: %(default)s)")
    options.add_argument("--workers", type=int, default=1, help="searches at a time (default: %(default)s)")
    options.add_argument("--out", type=Path, default=Path("nas-bench-graph"), help="where results are kept")
    given = options.parse_args()
    table_file = benchmark_file(given.table, "nas_bench_graph_cora_citeseer.npz")
    names = given.strategies.split(";") if given.strategies else list(dict.fromkeys([*REFERENCE, *STRATEGIES]))
    seeds = 2 if given.quick else given.seeds
    facts = {
        "machine": machine(),
        "versions": versions("optuna"),
        "asked": f"space nasbench_graph, data set {given.dataset}",
        "seeds": f"0 to {seeds - 1}",
        "repetitions": "one a seed; mean ± sd over the seeds, accuracies in %",
    }
    print_head("NAS-Bench-Graph", facts, given.markdown)
    evaluator = f"tabular:table={table_file},dataset={given.dataset}"
    for number, trials in enumerate([20] if given.quick else EVALUATIONS):
        chosen = names[:2] if given.quick else [n for n in names if number == 0 or n in REFERENCE or given.strategies]
        found = nasengine.compare(
            chosen, "nasbench_graph", evaluator=evaluator, seeds=seeds, workers=given.workers, trials=trials,
            out=given.out / f"{given.dataset}-{trials}", ended=progress,
        )  # fmt: skip
        head, *table = found.table([trials])
        p, verdict = head.index("p (Holm)"), head.index("than random")
        rows = []
        for row in table:
            own = [result for result in found.results if result.strategy == row[0]]
            seen = percent([result.best[-1] or 0.0 for result in own])
            known = REFERENCE.get(row[0], ("", ""))[number] if given.dataset == "cora" and not given.quick else ""
            seconds = f"{statistics.fmean(result.seconds for result in own):.2g}"
            rows.append([row[0], row[1], seen, row[2], known, seconds, row[p], row[verdict]])
        columns = ["strategy", "seeds", f"best validation of {trials}", "its test", "reference", "seconds"]
        print_table([*columns, "p (Holm)", "test than random"], rows, given.markdown)


if __name__ == "__main__":
    main()
