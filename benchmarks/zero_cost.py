"""Zero-cost proxies on NAS-Bench-201: how well an untrained network's scores rank what training made of it.

    python benchmarks/zero_cost.py --table nas_bench_201.csv.gz --path cifar-10-batches-bin

Random cells of the benchmark, in its own network, see one batch of CIFAR-10's training images; the ranks of each
proxy's scores are held against those of the test accuracy after 200 epochs. Beside them stand published correlations.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from report import benchmark_file, machine, number, parser, print_head, print_table, versions
from scipy.stats import kendalltau, spearmanr

from nasengine import Architecture, Context, cost_of
from nasengine.evaluators.proxies import PROXIES, Subject
from nasengine.evaluators.zero_cost import COSTS, VOTERS, vote
from nasengine.registry import make

NAMES = (*PROXIES, *COSTS)
SPEARMAN = {"synflow": 0.737, "jacob_cov": 0.731, "snip": 0.596, "grad_norm": 0.594, "grasp": 0.514, "fisher": 0.36}
"""Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", table 1, as their repository's notebook prints it:
absolute values, with the test accuracy on CIFAR-10, of all 15,625 cells."""
KENDALL = {
    "flops": 0.567, "jacob_cov": 0.561, "synflow": 0.548, "zico": 0.538, "parameters": 0.531, "snip": 0.412,
    "fisher": 0.354, "grasp": 0.307, "grad_norm": 0.301, "plain": -0.190,
}  # fmt: skip
"""Quoted in later papers: of 500 networks, with the accuracy on CIFAR-100."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--table", type=Path, help="the benchmark's nas_bench_201.csv.gz")
    options.add_argument("--path", type=Path, help="CIFAR-10, binary version: the folder cifar-10-batches-bin")
    options.add_argument("--architectures", type=int, default=500, help="how many (default: %(default)s)")
    options.add_argument("--batch-size", type=int, default=64, help="images (default: %(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of the architectures (default: %(default)s)")
    options.add_argument("--out", type=Path, default=Path("zero-cost"), help="where results are kept, and gone on with")
    given = options.parse_args()
    table = benchmark_file(given.table, "nas_bench_201.csv.gz")
    images = given.path or Path(os.environ.get("NASENGINE_DATA", ".")) / "cifar-10-batches-bin"
    if given.path is None and not images.exists():
        print(f"skipped: {images} is not there; name the folder of CIFAR-10 with --path")
        return
    count, batch_size, resamples, sizes = given.architectures, given.batch_size, 1000, {}
    if given.quick:
        count, batch_size, resamples, sizes = 6, 8, 50, {"cells": 1, "channels": 4}
    torch.set_num_threads(1)
    facts = {
        "machine": machine(),
        "versions": versions("numpy"),
        "asked": f"{count} cells in the benchmark's network, a batch of {batch_size} images, zico two; 1 thread",
        "seeds": f"{given.seed} of the cells; the number of the cell, of its weights; 0 of the images",
        "repetitions": f"one a cell; [95 % intervals] from {resamples:,} resamples of the cells",
    }
    print_head("Zero-cost proxies on NAS-Bench-201, CIFAR-10", facts, given.markdown)
    kept = given.out / f"{'quick-' if given.quick else ''}batch-{batch_size}-seed-{given.seed}.jsonl"
    rows = judged(kept, table, images, sizes, count, batch_size, given.seed)
    print_table(
        ["proxy", "Spearman", "published, CIFAR-10", "Kendall", "published, CIFAR-100", "ms a cell", "not finite"],
        lines(rows, resamples),
        given.markdown,
    )


def judged(
    kept: Path, table: Path, images: Path, sizes: dict[str, int], count: int, batch_size: int, seed: int
) -> list[dict[str, Any]]:
    """A row for each cell, from the file as far as it goes."""
    rows = read(kept)[:count]
    if len(rows) == count:
        return rows
    accuracy = pd.read_csv(table).set_index("arch_str")["c10_test_ep200"].to_dict()
    space: Any = make("space", "nasbench201", sizes)
    task: Any = make("task", "images", {"path": str(images)})
    task.to(torch.device("cpu"))
    shuffled = task.train_batches(batch_size, torch.Generator().manual_seed(0))
    batches = [next(shuffled), next(shuffled)]
    domain, rng = space.domain(task), np.random.default_rng(seed)
    cells: dict[str, Architecture] = {}
    while len(cells) < count:
        architecture = domain.sample(rng)
        cells.setdefault(space.notation(architecture), architecture)
    warm: list[float] = []
    with kept.open("a", encoding="utf-8") as file:
        for index, (cell, architecture) in list(enumerate(cells.items()))[len(rows) :]:
            model = Context(space, task, torch.device("cpu"), index).model(architecture)
            if not warm:
                warm = [score() for score in scorers(model, task, batches).values()]  # what is imported at first
            row: dict[str, Any] = {"cell": cell, "accuracy": accuracy[cell], "scores": {}, "ms": {}}
            for name, score in scorers(model, task, batches).items():
                began = time.perf_counter()
                row["scores"][name] = score()
                row["ms"][name] = 1000 * (time.perf_counter() - began)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{index + 1} of {count}: {cell}", file=sys.stderr)
    return rows


def scorers(model: torch.nn.Module, task: Any, batches: Sequence[Any]) -> dict[str, Callable[[], float]]:
    """Each from the beginning, sharing nothing, so that each can be timed."""

    def scored(proxy: Callable[[Subject], float]) -> float:
        return proxy(Subject(model, task, batches))

    def cost(name: str) -> float:
        return cost_of(model, task)[name]

    found: dict[str, Callable[[], float]] = {name: partial(scored, proxy) for name, proxy in PROXIES.items()}
    return found | {name: partial(cost, name) for name in COSTS}


def read(kept: Path) -> list[dict[str, Any]]:
    """The rows in the file, which is cut after the last whole one."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    whole = [line for line in kept.read_bytes().splitlines(True) if line.endswith(b"\n")] if kept.exists() else []
    kept.write_bytes(b"".join(whole))
    return [json.loads(line) for line in whole]


def lines(rows: Sequence[dict[str, Any]], resamples: int) -> list[list[str]]:
    """The table's: a proxy each, and the vote, the strongest first."""
    accuracy = np.array([row["accuracy"] for row in rows])
    scores = {name: np.array([row["scores"][name] for row in rows]) for name in NAMES}
    times = {name: float(np.mean([row["ms"][name] for row in rows])) for name in NAMES}
    name = f"vote: {' + '.join(VOTERS)}"
    scores[name], times[name] = np.array(vote([row["scores"] for row in rows])), sum(times[one] for one in VOTERS)
    found = []
    for name, values in scores.items():
        lost = int((~np.isfinite(values)).sum())
        values = np.where(np.isfinite(values), values, -math.inf)  # the proxy calls them the worst
        rank = [correlation(values, accuracy, measure, resamples) for measure in (spearmanr, kendalltau)]
        published = [f"{known[name]:.3f}" if name in known else "–" for known in (SPEARMAN, KENDALL)]
        texts = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in rank]
        cells = [texts[0], published[0], texts[1], published[1], number(times[name]), str(lost)]
        found.append((rank[0][0], [name, *cells]))
    return [cells for _, cells in sorted(found, key=lambda pair: -pair[0])]


def correlation(
    values: NDArray[np.float64], accuracy: NDArray[np.float64], measure: Callable[..., Any], resamples: int
) -> tuple[float, float, float]:
    """The rank correlation, and its 95 % interval by resampling the cells."""
    rng, ranks = np.random.default_rng(0), pd.Series(values).rank().to_numpy()
    chosen = rng.integers(len(values), size=(resamples, len(values)))
    again = [measure(ranks[some], accuracy[some]).statistic for some in chosen if len(set(some)) > 1]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return float(measure(ranks, accuracy).statistic), float(low), float(high)


if __name__ == "__main__":
    main()
