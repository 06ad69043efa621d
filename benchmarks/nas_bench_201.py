"""Strategies on NAS-Bench-201, whose 15,625 cells are all trained: what they find, beside what others published.

    python benchmarks/nas_bench_201.py --table nas_bench_201.csv.gz

`budget`: 12,000 simulated seconds a search, as in the benchmark's paper (Dong and Yang 2020, table 5): searched on the
accuracy on validation data after 12 epochs, judged by the test accuracy after 200. `queries`: 192 candidates a search,
as AG-Net's table has it (Lukasik et al. 2022). `noise-free`: the search sees the test accuracy itself.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from report import benchmark_file, machine, parser, print_head, print_table, versions

import nasengine
from nasengine.comparing import Result
from nasengine.report.compared import rank_sum

SECTIONS = ("budget", "queries", "noise-free")
STRATEGIES = (
    "random",
    "grid",
    "local_search",
    "evolution:population=10,sample=3",
    "evolution",
    "large_scale_evolution",
    "nsga2",
    "reinforce:policy=table",
    "reinforce:policy=controller",
    "ppo",
    "bohb",
    "optuna:sampler=tpe",
    "bananas",
    "nao",
    "generator",
)
NOISE_FREE = (
    "random",
    "evolution:population=10,sample=3",
    "evolution:population=50,sample=10",
    "reinforce:policy=table",
)
EVALUATIONS = (50, 100, 200, 500)
PUBLISHED = {
    "random": "93.70 ± 0.36",
    "evolution:population=10,sample=3": "93.92 ± 0.30",
    "reinforce:policy=table": "93.85 ± 0.37",
    "bohb": "93.61 ± 0.52",
}
"""Test accuracy on CIFAR-10 after 12,000 simulated seconds, mean ± sd over 500 searches."""
PUBLISHED_QUERIES = {"generator": "94.37"}
PUBLISHED_NOISE_FREE = {
    "random": ("93.67 ± 0.29", "93.85 ± 0.23", "93.99 ± 0.19", "94.12 ± 0.16"),
    "evolution:population=10,sample=3": ("93.93 ± 0.32", "94.17 ± 0.21", "94.32 ± 0.11", "94.37 ± 0.02"),
    "evolution:population=50,sample=10": ("93.67 ± 0.29", "94.16 ± 0.20", "94.34 ± 0.09", "94.37 ± 0.03"),
    "reinforce:policy=table": ("93.85 ± 0.34", "94.02 ± 0.32", "94.17 ± 0.28", "94.28 ± 0.21"),
}
"""Best test accuracy after EVALUATIONS, of another implementation of the same simulation, over 200 seeds."""
SEARCHED: dict[str, dict[str, Any]] = {
    "budget": {"trials": 1_000, "time_limit": 12_000, "clock": "simulated"},
    "queries": {"trials": 192},
    "noise-free": {"trials": EVALUATIONS[-1]},
}
BUDGETS = {"budget": (25, 50, 100), "queries": (48, 96, 192), "noise-free": EVALUATIONS}


def percent(values: list[float]) -> str:
    """Mean ± standard deviation of fractions."""
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{deviation}"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the benchmark's nas_bench_201.csv.gz")
    options.add_argument("--sections", default=",".join(SECTIONS), help="default: %(default)s")
    options.add_argument("--strategies", default="", help="others than the built-in ones, with commas between")
    options.add_argument("--seeds", type=int, default=100, help="searches a strategy (default: %(default)s)")
    options.add_argument("--workers", type=int, default=1, help="searches at a time (default: %(default)s)")
    options.add_argument(
        "--out", type=Path, default=Path("nas-bench-201"), help="where results are kept, and gone on with"
    )
    given = options.parse_args()
    table_file = benchmark_file(given.table, "nas_bench_201.csv.gz")
    if unknown := set(given.sections.split(",")) - set(SECTIONS):
        sys.exit(f"there is no section {min(unknown)!r}; expected some of {', '.join(SECTIONS)}")
    seeds = 2 if given.quick else given.seeds
    for section in given.sections.split(","):
        names = list(NOISE_FREE if section == "noise-free" else STRATEGIES)
        if given.quick:
            names = names[:3]
        if given.strategies:
            names = given.strategies.split(";")
        settings = SEARCHED[section] | ({"trials": 30} if given.quick else {})
        facts = {
            "machine": machine(),
            "versions": versions("optuna"),
            "asked": f"space nasbench201, CIFAR-10, {', '.join(f'{k} {v}' for k, v in settings.items())}",
            "seeds": f"0 to {seeds - 1}",
            "repetitions": "one a seed; mean ± sd over the seeds",
        }
        print_head(f"NAS-Bench-201, {section}", facts, given.markdown)
        evaluator = f"tabular:table={table_file}"
        if section == "noise-free":
            evaluator += ",search_on=test_accuracy"
        found = nasengine.compare(
            names, "nasbench201", evaluator=evaluator, seeds=seeds, workers=given.workers,
            out=given.out / f"{section}{'-quick' if given.quick else ''}", ended=progress, **settings,
        )  # fmt: skip
        if section == "noise-free":
            noise_free(found, given.markdown)
            continue
        known = PUBLISHED if section == "budget" else PUBLISHED_QUERIES
        head, *rows = found.table([b for b in BUDGETS[section] if not given.quick])
        table = [[*row[:3], known.get(row[0], ""), *row[3:]] for row in rows]
        print_table([*head[:3], "published", *head[3:]], table, given.markdown)
        if section == "queries" and not given.quick:
            against(found, given.markdown)


def noise_free(found: nasengine.Compared, markdown: bool) -> None:
    """The best after some numbers of evaluations, ours above the other implementation's."""
    by: dict[str, list[Result]] = {}
    for result in found.results:
        by.setdefault(result.strategy, []).append(result)
    rows = []
    for name, results in by.items():
        ours = [percent([r.best[min(n, len(r.best)) - 1] or 0.0 for r in results]) for n in EVALUATIONS]
        rows.append([name, "ours", *ours])
        if name in PUBLISHED_NOISE_FREE:
            rows.append(["", "reference", *PUBLISHED_NOISE_FREE[name]])
    print_table(["strategy", "", *(f"after {n}" for n in EVALUATIONS)], rows, markdown)


def against(found: nasengine.Compared, markdown: bool) -> None:
    """Whether the predictor-guided ones are worse than evolution or local search: two-sided rank-sum tests."""
    by: dict[str, list[float]] = {}
    for result in found.results:
        by.setdefault(result.strategy, []).append(result.found or 0.0)
    guided = [name for name in ("bananas", "nao", "generator") if name in by]
    others = [name for name in ("evolution", "evolution:population=10,sample=3", "local_search") if name in by]
    rows = [
        [one, other, f"{100 * (sum(by[one]) / len(by[one]) - sum(by[other]) / len(by[other])):+.2f}",
         f"{rank_sum(by[one], by[other]):.2g}"]
        for one in guided for other in others
    ]  # fmt: skip
    if rows:
        print_table(["strategy", "against", "difference of means, points", "p"], rows, markdown)


def progress(result: Result) -> None:
    print(json.dumps([result.strategy, result.seed, result.found, round(result.seconds, 2)]), file=sys.stderr)


if __name__ == "__main__":
    main()
