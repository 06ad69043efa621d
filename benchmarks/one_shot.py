"""What gradient-based one-shot strategies derive in NAS-Bench-201's space, and what their guard says meanwhile.

Each searches on scikit-learn's digits, in a small supernet. The cell derived is looked up in a table of the benchmark:
its accuracy on CIFAR-10's test data after 200 epochs, which the search has nothing to do with; the table's mean and
best cell stand below. On CIFAR-10 itself, DARTS is known to derive skip connections only (54.30 %; Dong and Yang 2020).
"""

from __future__ import annotations

import csv
import gzip
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from report import by_turns, machine, number, parser, print_head, print_table, versions

import nasengine
from nasengine import Run, Trial
from nasengine.search_spaces.nasbench201 import to_nasbench201

STRATEGIES = {
    "darts": "darts",
    "darts, second order": "darts:order=2",
    "darts, guard=stop": "darts:guard=stop",
    "pc_darts": "pc_darts:learning_rate=0.025",
    "drnas": "drnas",
    "sdarts": "sdarts",
    "sdarts, adversarial": "sdarts:perturbation=adversarial",
    "gdas": "gdas",
    "snas": "snas",
    "proxyless": "proxyless",
}
FREE = ("skip_connect", "avg_pool_3x3")


def searched(strategy: str, options: str, channels: int, seed: int) -> tuple[Trial, float]:
    """The search's one trial, and how many seconds the run took."""
    whole = f"{strategy}{',' if ':' in strategy else ':'}{options}"
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run: Run = nasengine.search(
            f"nasbench201:cells=1,channels={channels}", whole, "digits", out=Path(folder) / "run", seed=seed,
            baseline=0, final_fidelity="epochs=1",
        )  # fmt: skip
    return run.all_trials[0], time.perf_counter() - started


def accuracies(path: str) -> Mapping[str, float]:
    """By cell, the accuracy on CIFAR-10's test data after 200 epochs, in percent."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return {row["arch_str"]: float(row["c10_test_ep200"]) for row in rows}


def ends(trial: Trial) -> str:
    """The size of the Hessian's eigenvalue, as a mean over the first and over the last five epochs."""
    sizes = [abs(point["eigenvalue"]) for point in trial.curve]
    return f"{number(statistics.fmean(sizes[:5]))} → {number(statistics.fmean(sizes[-5:]))}"


def main() -> None:
    options = parser(__doc__, repetitions=2)
    options.add_argument("--epochs", type=int, default=50, help="of each search (default: %(default)s)")
    options.add_argument("--channels", type=int, default=8, help="of the first stage (default: %(default)s)")
    options.add_argument(
        "--alpha-learning-rate", type=float, default=0.01, help="of all strategies (default: %(default)s)"
    )
    options.add_argument("--only", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES), metavar="NAME")
    options.add_argument("--table", metavar="CSV.GZ", help="NAS-Bench-201's results, with arch_str and c10_test_ep200")
    given = options.parse_args()
    epochs, repetitions = (2, 1) if given.quick else (given.epochs, given.repetitions)
    channels = 4 if given.quick else given.channels
    known = accuracies(given.table) if given.table else {}
    facts = {
        "machine": machine(),
        "versions": versions(),
        "space": f"nasbench201, 1 cell a stage, {channels} channels",
        "task": "digits, 1,078 training images in two halves",
        "search": f"{epochs} epochs, batches of 64, α's learning rate {given.alpha_learning_rate} (steps are few), "
        f"everything else as the strategy's default, but pc_darts' learning rate is that of the others",
        "repetitions": f"{repetitions}, seeds 0 to {repetitions - 1}, a row each",
        "eigenvalue": "of the validation loss's Hessian in α, its size in the first five epochs → in the last five",
    }
    if known:
        worth = list(known.values())
        facts["table"] = f"accuracy of all cells: mean {statistics.fmean(worth):.2f} %, best {max(worth):.2f} %"
    print_head("Gradient-based one-shot strategies, and their guard", facts, given.markdown)
    settings = f"epochs={epochs},batch_size=64,alpha_learning_rate={given.alpha_learning_rate}"
    cases = {name: partial(searched, STRATEGIES[name], settings, channels) for name in given.only}
    rows, said = [], []
    for name, results in by_turns(cases, repetitions).items():
        for seed, (trial, seconds) in enumerate(results):
            if trial.derived is None:
                rows.append([name, str(seed), trial.error or trial.state, "", "", "", "", ""])
                continue
            picks = list(trial.derived.picks.values())
            cell = to_nasbench201(trial.derived)
            worth_it = f"{known[cell]:.2f}" if known else "not looked up"
            shown = cell.replace("|", r"\|") if given.markdown else cell
            rows.append(
                [
                    name, str(seed), shown, str(picks.count("skip_connect")), str(sum(pick in FREE for pick in picks)),
                    ends(trial), f"{trial.metrics['entropy']:.2f}", worth_it, f"{seconds:.0f}",
                ]
            )  # fmt: skip
            said += [f"{name}, seed {seed}: {note}" for note in trial.notes]
    header = [
        "strategy", "seed", "cell derived", "skips", "without parameters", "eigenvalue", "entropy",
        "CIFAR-10 test, %", "seconds",
    ]  # fmt: skip
    print_table(header, rows, given.markdown)
    print("\nWhat the guard said:" if said else "\nThe guard said nothing.")
    print("\n".join(said))


if __name__ == "__main__":
    main()
