"""Graph networks on Cora: known networks, what searches find beside random ones, and agreement with NAS-Bench-Graph.

    python benchmarks/gnn.py --cora planetoid --table nas_bench_graph_cora_citeseer.npz

The searches see validation accuracies; test accuracies are of the best network of each search, trained again by the
whole recipe, and of random networks. Needs the extra `gnn`, and Cora's files in the folder Cora/raw.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import benchmark_file, cores, machine, mean, parser, print_head, print_table, versions
from scipy.stats import spearmanr
from zero_cost import correlation, lines, read, scorers

import nasengine
from nasengine import Context
from nasengine.registry import make, split

PUBLISHED = {"gcn": "81.5", "gat": "83.0 ± 0.7", "graphsage": ""}
SPACE = "gnn:layers=2,hidden=[16,64]"
"""The space of the searches."""
CHEAP = "train:epochs=100,patience=20"
"""How their candidates are judged."""
RECIPE = (
    "train:optimizer=sgd,momentum=0,learning_rate=0.1,weight_decay=5e-4,schedule=constant,gradient_clip=0,"
    "epochs={epochs},patience=0,keep=best"
)
"""For NAS-Bench-Graph's networks: the authors' for Cora. It keeps the test accuracy of the first epoch that is best on
the validation data."""
AS_THEIRS = "normalise=false"
"""Its features are 0 and 1, not divided by their sums."""
ANCHORS = tuple(
    f"0123|{','.join(['skip'] * front + [kind] * (4 - front))}"
    for kind in ("gcn", "gat", "gin", "graph", "sage")
    for front in (2, 1)
)


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


def searches(task: str, candidates: int, epochs: int, seeds: int, seed: int, folder: Path, markdown: bool) -> None:
    """Each search's network, trained with several seeds; and as many random ones as there were candidates, once each by
    the recipe that judges candidates, and the best of these, by validation, with several seeds."""
    rows = []
    for strategy in ("random", "evolution", f"darts:epochs={epochs}"):
        began = time.perf_counter()
        print(f"search by {strategy}", file=sys.stderr)
        learns = strategy.startswith("darts")
        run = nasengine.search(
            SPACE, strategy, task, CHEAP, trials=None if learns else candidates, seed=seed, baseline=0, threads=1,
            out=folder / f"search-{strategy.partition(':')[0]}",
        )  # fmt: skip
        seconds = time.perf_counter() - began
        found = run.best.architecture
        tests = [trained(found, task, "train", other, folder)[0] for other in range(seeds)]
        done = [trial.metrics for trial in run.all_trials if trial.purpose == "search" and trial.state == "done"]
        valid = [100 * metrics["accuracy"] for metrics in done if "accuracy" in metrics]  # what learns has none
        seen = f"{statistics.fmean(valid):.2f} / {max(valid):.2f}" if valid else ""
        rows.append([strategy, "1" if learns else str(candidates), seen, mean(tests, 2), f"{seconds:.0f}"])
        print(*rows[-1], sep=", ", file=sys.stderr)
    space: Any = make("space", "gnn", {"layers": 2, "hidden": [16, 64]})
    with_data: Any = make("task", "planetoid", {"path": task.partition("path=")[2].partition(",")[0]})
    domain, rng = space.domain(with_data), np.random.default_rng(seed + 1)
    count = min(candidates, 3 * seeds)
    print(f"{count} random networks", file=sys.stderr)
    tests = [trained(domain.sample(rng), task, "train", other, folder)[0] for other in range(count)]
    rows.append([f"no search: the mean of {count}", "", "", mean(tests, 2), ""])
    columns = ["search", "candidates", "their validation accuracy, mean / best", "test accuracy of what was found, %"]
    print_table([*columns, "seconds of the search"], rows, markdown)


def agreement(task: str, given: Any, folder: Path) -> None:
    """Spearman's ρ between our test accuracies of random networks and those of the benchmark, beside ρ between two of
    our own trainings of some of them; and the level of the anchors."""
    from nasengine.evaluators.data.tables import read_table
    from nasengine.search_spaces.nasbench_graph import from_nasbench_graph

    known = read_table(benchmark_file(given.table, "nas_bench_graph_cora_citeseer.npz"))
    recipe = given.recipe.format(epochs=given.agreement_epochs)
    other = "" if given.recipe == RECIPE else "-" + re.sub(r"\W+", "-", given.recipe)

    kept = given.out / f"{given.hidden}-channels-dropout-{given.dropout}-{given.agreement_epochs}-epochs{other}.jsonl"
    done = {(row["network"], row["seed"]): row for row in read(kept)}

    def ours(name: str, seed: int) -> float:
        if (name, seed) not in done:
            architecture = from_nasbench_graph(name, hidden=given.hidden, dropout=given.dropout)
            found = trained(architecture, task, recipe, seed, folder)
            done[name, seed] = row = {"network": name, "seed": seed, "test": found[0], "seconds": found[2]}
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name}, seed {seed}: {found[0]:.2f} in {found[2]:.0f} s, {theirs(name):.2f}", file=sys.stderr)
        return float(done[name, seed]["test"])

    def theirs(name: str) -> float:
        return 100 * float(known.columns["test_accuracy"][known.rows[name][0]])

    names = np.random.default_rng(0).permutation(sorted(known.rows))[: given.networks].tolist()
    first, table = [ours(name, 0) for name in names], [theirs(name) for name in names]
    rows = [agreeing("the benchmark", first, table)]
    if given.again:
        second = [ours(name, 1) for name in names[: given.again]]
        some = first[: given.again]
        rows += [
            agreeing("our second seed", some, second),
            agreeing("the benchmark, of the same", some, table[: given.again]),
            agreeing("the benchmark, by the mean of two seeds", list(np.mean([some, second], 0)), table[: given.again]),
        ]
    columns = [
        "networks",
        "our test accuracy, %",
        "held against",
        "its test accuracy, %",
        "Spearman's ρ",
        "95 % interval",
    ]
    print_table(columns, rows, given.markdown)
    seconds = [row["seconds"] for row in done.values()]
    how = f"{given.hidden} channels, dropout {given.dropout}, {recipe}"
    print(f"{how}; {mean(seconds, 2)} s a training\n")
    if given.anchors:
        anchors = [[name.replace("|", " "), f"{ours(name, 0):.1f}", f"{theirs(name):.1f}"] for name in ANCHORS]
        print_table(["anchor", "our test accuracy, %", "the benchmark's, %"], anchors, given.markdown)


def proxies(task_name: str, given: Any) -> None:
    """How zero-cost proxies rank random networks of NAS-Bench-Graph, beside their parameters and FLOPs."""
    import torch

    from nasengine.evaluators.data.tables import read_table
    from nasengine.evaluators.zero_cost import ZeroCost
    from nasengine.search_spaces.nasbench_graph import from_nasbench_graph

    known = read_table(benchmark_file(given.table, "nas_bench_graph_cora_citeseer.npz"))
    space: Any = make("space", "nasbench_graph", {"hidden": given.hidden})
    task: Any = make("task", *split(task_name))
    task.to(torch.device("cpu"))
    torch.set_num_threads(1)
    batches = ZeroCost(proxy="zico")._drawn(task, 1.0)
    kept = given.out / f"proxies-{given.hidden}-channels.jsonl"
    rows = read(kept)
    names = np.random.default_rng(1).permutation(sorted(known.rows))[: given.judged].tolist()
    with kept.open("a", encoding="utf-8") as file:
        for index, name in list(enumerate(names))[len(rows) :]:
            model = Context(space, task, torch.device("cpu"), index).model(
                from_nasbench_graph(name, hidden=given.hidden)
            )
            accuracy = 100 * float(known.columns["test_accuracy"][known.rows[name][0]])
            row: dict[str, Any] = {"cell": name, "accuracy": accuracy, "scores": {}, "ms": {}}
            for proxy, score in scorers(model, task, batches).items():
                began = time.perf_counter()
                row["scores"][proxy] = score()
                row["ms"][proxy] = 1000 * (time.perf_counter() - began)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
    print(f"{len(names)} random networks of {given.hidden} channels\n")
    found = [[name, spearman, milliseconds, lost] for name, spearman, _, _, _, milliseconds, lost in lines(rows, 1000)]
    print_table(["proxy", "Spearman", "ms a network", "not finite"], found, given.markdown)
    depths = [depth(row["cell"]) for row in rows]
    for what, values in (
        ("the accuracy", [row["accuracy"] for row in rows]),
        ("synflow", [row["scores"]["synflow"] for row in rows]),
    ):
        print(f"Spearman of how many layers stand one after the other, and {what}: {spearmanr(depths, values)[0]:.2f}")


def depth(name: str) -> int:
    """The most layers one after the other, of a network such as 0012|gcn,gat,skip,fc."""
    links, _, operations = name.partition("|")
    found = [0]
    for source, operation in zip(links, operations.split(","), strict=True):
        found.append(found[int(source)] + (operation != "skip"))
    return max(found)


def agreeing(what: str, ours: list[float], others: list[float]) -> list[str]:
    """A row: the two, and ρ with its bootstrap interval."""
    rho, low, high = correlation(np.array(ours), np.array(others), spearmanr, 1000)
    spread = f"{mean(ours, 2)} ({min(ours):.1f}–{max(ours):.1f})"
    return [str(len(ours)), spread, what, mean(others, 2), f"{rho:.2f}", f"{low:.2f}–{high:.2f}"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cora", type=Path, help="the folder that holds Cora/raw")
    options.add_argument("--table", type=Path, help="the arrays, nas_bench_graph_cora_citeseer.npz")
    options.add_argument("--parts", default="references,searches,agreement,proxies", help="default: %(default)s")
    options.add_argument("--seeds", type=int, default=20, help="of the known networks (default: %(default)s)")
    options.add_argument("--candidates", type=int, default=100, help="of a search (default: %(default)s)")
    options.add_argument("--epochs", type=int, default=50, help="of DARTS in the supernet (default: %(default)s)")
    options.add_argument("--search-seed", type=int, default=0, help="of the searches (default: %(default)s)")
    options.add_argument("--final-seeds", type=int, default=5, help="of what was found (default: %(default)s)")
    options.add_argument("--networks", type=int, default=50, help="of NAS-Bench-Graph (default: %(default)s)")
    options.add_argument("--judged", type=int, default=300, help="by proxies (default: %(default)s)")
    options.add_argument("--again", type=int, default=0, help="how many of these are trained from a second seed")
    options.add_argument("--anchors", action="store_true", help="whether the ten anchors are trained, too")
    options.add_argument("--hidden", type=int, default=256, help="their channels (default: %(default)s)")
    options.add_argument("--dropout", type=float, default=0.7, help="theirs (default: %(default)s)")
    options.add_argument("--out", type=Path, default=Path("gnn"), help="where results are kept, and gone on with")
    options.add_argument("--recipe", default=RECIPE, help="how they are trained (default: %(default)s)")
    options.add_argument("--agreement-epochs", type=int, default=400, help="default: %(default)s")
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
        "seeds": f"networks 0 …; searches {given.search_seed}",
        "repetitions": "mean ± sd over the seeds",
    }
    print_head("Graph networks on Cora", facts, given.markdown)
    with tempfile.TemporaryDirectory() as made:
        folder, parts = Path(made), given.parts.split(",")
        if "references" in parts:
            references(task, 1 if quick else given.seeds, folder, given.markdown)
        if "searches" in parts and not quick:
            searches(task, given.candidates, given.epochs, given.final_seeds, given.search_seed, folder, given.markdown)
        if "agreement" in parts and not quick:
            agreement(f"{task},{AS_THEIRS}", given, folder)
        if "proxies" in parts and not quick:
            proxies(f"{task},{AS_THEIRS}", given)


if __name__ == "__main__":
    main()
