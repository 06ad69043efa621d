"""The surrogate on NAS-Bench-201: how well it foretells cells that it does not know, and what it saves a search.

    python benchmarks/surrogate.py --table nas_bench_201.csv.gz

First table: it is told the validation accuracy after 12 epochs of random cells, and foretells that of 1,000 others.
Second table: searches with and without it; what is counted are the cells that were truly judged, and what
the best of them by validation accuracy reaches on the test data after 200 epochs.
"""

from __future__ import annotations

import csv
import gzip
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from report import benchmark_file, machine, mean, parser, print_head, print_table, versions
from scipy.stats import kendalltau, spearmanr

import nasengine
from nasengine import Evaluate, Fidelity, Objective, Trial
from nasengine.evaluators.surrogate import ENCODINGS, Surrogate
from nasengine.registry import make
from nasengine.report.compared import rank_sum
from nasengine.testing import TinyTask

KNOWN = (20, 50, 100, 200, 400)
UNKNOWN = 1_000
JUDGED = (50, 100, 150)
Cells: TypeAlias = dict[str, tuple[float, float]]
"""What the table says of each: validation accuracy after 12 epochs, test accuracy after 200."""
STRATEGIES = ("random", "evolution:population=20,sample=5")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the benchmark's nas_bench_201.csv.gz")
    options.add_argument("--seeds", type=int, default=20, help="of each row (default: %(default)s)")
    options.add_argument("--trials", type=int, default=2_000, help="of a search at most (default: %(default)s)")
    given = options.parse_args()
    table = benchmark_file(given.table, "nas_bench_201.csv.gz")
    seeds, trials = (2, 60) if given.quick else (given.seeds, given.trials)
    known, judged = ((20, 30), (20, 25)) if given.quick else (KNOWN, JUDGED)
    facts = {
        "machine": machine(),
        "versions": versions("numpy", "scipy"),
        "asked": f"NAS-Bench-201, CIFAR-10; at most {trials:,} trials a search",
        "seeds": f"0 to {seeds - 1}",
        "repetitions": "one a seed; mean ± sd over the seeds",
    }
    print_head("The surrogate", facts, given.markdown)
    with gzip.open(table, "rt", encoding="utf-8") as file:
        cells = {
            row["arch_str"]: (float(row["c10_valid_ep12"]) / 100, float(row["c10_test_ep200"]) / 100)
            for row in csv.DictReader(file)
        }
    print_table(
        ["encodings", "results known", "Spearman", "Kendall", "truth within 2 spreads, %"],
        [foretold(encodings, count, cells, seeds) for encodings in ENCODINGS for count in known],
        given.markdown,
    )

    lines = [line for strategy in STRATEGIES for line in compared(strategy, table, cells, seeds, trials, judged)]
    columns = [
        "strategy",
        "cells judged",
        "without",
        "with the surrogate",
        "p",
        "trials that took",
        "seeds that came so far",
    ]
    print_table(columns, lines, given.markdown)


def foretold(encodings: Any, count: int, cells: Cells, seeds: int) -> list[str]:
    """A row: of so many known results."""
    space: Any = make("space", "nasbench201", {})
    domain, spearmans, kendalls, within = space.domain(TinyTask()), [], [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        drawn = domain.sample_different(count + UNKNOWN, rng)
        surrogate = Surrogate(encodings=encodings)
        surrogate.start(domain, rng, [Objective("accuracy")])
        truth = np.array([cells[space.notation(architecture)][0] for architecture in drawn])
        for number, architecture in enumerate(drawn[:count]):
            surrogate.tell(Trial(number, Evaluate(architecture), "done", {"accuracy": float(truth[number])}))
        ensemble, encoders = surrogate._fit(surrogate._known[Fidelity()])
        asked = [np.stack([encode(architecture) for architecture in drawn[count:]]) for encode in encoders]
        expected, spread = (each[:, 0] for each in ensemble.predict(asked))
        spearmans.append(float(spearmanr(expected, truth[count:]).statistic))
        kendalls.append(float(kendalltau(expected, truth[count:]).statistic))
        order = np.argsort(truth[:count])
        scores = np.interp(truth[count:], truth[:count][order], ensemble.scores[order, 0])
        within.append(100 * float(np.mean(np.abs(scores - expected) <= 2 * spread)))
    return [encodings, str(count), mean(spearmans, 2), mean(kendalls, 2), mean(within, 0)]


def compared(
    strategy: str, table: Path, cells: Cells, seeds: int, trials: int, judged: tuple[int, ...]
) -> Iterator[list[str]]:
    """A row for each number of cells judged: test accuracies without the surrogate and with it."""
    without = [searched(strategy, table, cells, seed, 3 * max(judged), False) for seed in range(seeds)]
    found = [searched(strategy, table, cells, seed, trials, True) for seed in range(seeds)]
    for count in judged:
        plain = [each[count - 1][0] for each in without if len(each) >= count]
        helped = [each[count - 1] for each in found if len(each) >= count]
        accuracies = [accuracy for accuracy, _ in helped]
        p = f"{rank_sum(accuracies, plain):.2g}" if accuracies and plain else "–"
        took = mean([float(number) for _, number in helped], 0) if helped else "–"
        reached = mean(accuracies, 2) if helped else "–"
        yield [strategy, str(count), mean(plain, 2), reached, p, took, f"{len(helped)} of {seeds}"]


def searched(strategy: str, table: Path, cells: Cells, seed: int, trials: int, helped: bool) -> list[tuple[float, int]]:
    """For each cell that was truly judged, in order: the best one's test accuracy so far, and the trials until then."""
    tabular = {"tabular": {"table": str(table)}}
    evaluator: Any = Surrogate(evaluator=tabular) if helped else make("evaluator", "tabular", tabular["tabular"])
    with tempfile.TemporaryDirectory() as folder:
        run = nasengine.search(
            "nasbench201", strategy, evaluator=evaluator, trials=trials, seed=seed, baseline=0, durable=False,
            out=Path(folder) / "run",
        )  # fmt: skip
        print(f"{'with' if helped else 'without'} the surrogate, seed {seed}", file=sys.stderr)
        found, best = [], (-1.0, 0.0)
        for number, trial in enumerate(run.all_trials):
            judged = trial.same_as is None and "predicted" not in trial.metrics
            if trial.purpose == "search" and trial.architecture and judged:
                cell = run.space.notation(run.space.canonical(trial.architecture))
                best = max(best, (trial.metrics["accuracy"], cells[cell][1]))
                found.append((100 * best[1], number + 1))
    return found


if __name__ == "__main__":
    main()
