"""Candidates an hour on all of the machine: a search on as many workers as cores, against a plain loop on all cores.

    python benchmarks/whole_machine.py --path cifar-10-batches-bin

The search is nasengine's: random networks, the evaluator `train`, one thread a worker, everything on record. The plain
loop is that of plain_training.py: the same networks one after the other, by the same recipe for as many epochs, with
PyTorch's own number of threads. Counted is the search from when each worker has ended its first trial, and the loop
from its second network: neither's start-up. What a worker waits at the end for the other's last trial counts. Small
networks are those of at most 20 million FLOPs an image, a quarter of ResNet-20's 82 million (He et al. 2016); all of
these spaces on the digits are. With the defaults it takes twenty minutes on two quiet cores.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from orchestration import Clock, pace, start_ray
from plain_training import TRAIN, VALID, trained
from report import by_turns, cores, machine, mean, parser, print_head, print_table, ratios, spread, versions

import nasengine
from nasengine import Architecture, cost_of
from nasengine.evaluators.tasks.images import Images
from nasengine.registry import make, split

CHAIN, CELL = "chain:activations=[relu],norms=[batch]", "cell:layers=3,channels={}"
SMALL = 2e7
NETWORKS = {
    "digits": {"chain": (CHAIN, SMALL), "cell, 4 channels": (CELL.format(4), SMALL)},
    "CIFAR-10": {
        "small chain": (CHAIN, SMALL),
        "cell, 4 channels": (CELL.format(4), SMALL),
        "cell, 8 channels": (CELL.format(8), SMALL),
        "cell, 16 channels": (CELL.format(16), math.inf),
        "chain of any size": (CHAIN, math.inf),
    },
}
"""By data: what they are called, their space, and how many FLOPs they may have at most."""
SIZES = {"digits": (8, 12), "CIFAR-10": (2, 6)}
"""Epochs of a candidate, and candidates of a turn."""
Turn: TypeAlias = tuple[float, list[float]]
"""Seconds a candidate, and the accuracies."""


def parts(space: str, task: str) -> tuple[Any, Any]:
    return make("space", *split(space)), make("task", *split(task))


def drawn(space: str, task: str, most: float, count: int, seed: int) -> list[Architecture]:
    """So many different random networks, of at most so many FLOPs."""
    built, data = parts(space, task)
    domain, rng, found = built.domain(data), np.random.default_rng(seed), dict[str, Architecture]()
    while len(found) < count:
        architecture = domain.sample(rng)
        if most == math.inf or cost_of(built.shape(architecture, data), data)["flops"] <= most:
            found[architecture.id] = architecture
    return list(found.values())


def subset(path: Path, folder: Path) -> str:
    """The task of the first images of CIFAR-10, as a file that workers can read."""
    splits = Images(path=str(path.resolve())).splits
    parts = [(splits.train, TRAIN), (splits.valid, VALID)]
    file = folder / "cifar.npz"
    pixels, labels = (
        np.concatenate([np.asarray(getattr(part, name)[:count]) for part, count in parts])
        for name in ("pixels", "labels")
    )
    np.savez(file, x=pixels.transpose(0, 2, 3, 1), y=labels)
    return f"images:path={file}"


def searched(space: str, task: str, epochs: int, networks: Sequence[list[dict[str, Any]]], seed: int) -> Turn:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = nasengine.search(
            space, "random", task, f"train:epochs={epochs},patience=0,augment=none", trials=len(networks[seed]),
            start_from=networks[seed], baseline=0, seed=seed, workers=cores(), out=folder, observer=clock,
        )  # fmt: skip
        accuracies = [trial.curve[-1]["accuracy"] for trial in run.all_trials if trial.purpose == "search"]
    return pace(clock.ends), accuracies


def looped(space: str, task: str, epochs: int, networks: Sequence[dict[str, Any]]) -> Turn:
    """In a process of its own, which has the threads that PyTorch gives it."""
    built, data = parts(space, task)
    accuracies, began = [], time.perf_counter()
    for index, architecture in enumerate(networks):
        if index == 1:
            began = time.perf_counter()
        accuracies.append(trained(built, data, Architecture.from_dict(architecture), epochs, index))
    return (time.perf_counter() - began) / (len(networks) - 1), accuracies


def in_process(
    process: ProcessPoolExecutor,
    space: str,
    task: str,
    epochs: int,
    networks: Sequence[list[dict[str, Any]]],
    seed: int,
) -> Turn:
    return process.submit(looped, space, task, epochs, networks[seed]).result()


def main() -> None:
    options = parser(__doc__, repetitions=3)
    options.add_argument("--epochs", type=int, help="of a candidate (default: 8, of CIFAR-10 2)")
    options.add_argument("--candidates", type=int, help="of a turn (default: 12, of CIFAR-10 6)")
    options.add_argument("--networks", nargs="+", help="chain, cell, or what the table calls them (default: all)")
    options.add_argument("--data", nargs="+", choices=("digits", "CIFAR-10"), default=["digits", "CIFAR-10"])
    options.add_argument("--path", type=Path, help="CIFAR-10, binary version: the folder cifar-10-batches-bin")
    given = options.parse_args()
    known = {name for networks in NETWORKS.values() for name in networks}
    for asked in given.networks or ():
        if not any(asked in name for name in known):
            options.error(
                f"there are no networks {asked!r}; expected chain, cell, or one of {', '.join(sorted(known))}"
            )
    repetitions = 1 if given.quick else given.repetitions
    sizes = {
        data: (1, 6) if given.quick else (given.epochs or epochs, given.candidates or candidates)
        for data, (epochs, candidates) in SIZES.items()
    }
    sizes_text = ", ".join(f"{c} networks, {e} epochs each, on {d}" for d, (e, c) in sizes.items() if d in given.data)
    skipped = "" if given.path else "; CIFAR-10 is skipped: name the folder of its binary files with --path"
    facts = {
        "machine": machine(),
        "versions": versions("ray"),
        "data": f"digits; of CIFAR-10 {TRAIN:,} training and {VALID} validation images{skipped}",
        "seeds": f"0 to {repetitions - 1}, one a repetition; random networks: {sizes_text}",
        "repetitions": f"{repetitions}, by turns; median (min–max), accuracy mean ± sd",
    }
    print_head("Candidates an hour on all cores", facts, given.markdown)
    start_ray()
    rows = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        tasks = {"digits": "digits"} | ({"CIFAR-10": subset(given.path, Path(folder))} if given.path else {})
        chosen = [(d, n, *network) for d in tasks for n, network in NETWORKS[d].items() if d in given.data]
        for data, name, space, most in chosen:
            if given.networks and not any(asked in name for asked in given.networks):
                continue
            task, (epochs, candidates) = tasks[data], sizes[data]
            networks = [
                [architecture.to_dict() for architecture in drawn(space, task, most, candidates, seed)]
                for seed in range(repetitions)
            ]
            fresh.submit(looped, space, task, 1, networks[0][:2]).result()  # imports and data are not counted
            cases: dict[str, Callable[[int], Turn]] = {
                "plain": partial(in_process, fresh, space, task, epochs, networks),
                "nasengine": partial(searched, space, task, epochs, networks),
            }
            results = by_turns(cases, repetitions)
            reference = [3600 / seconds for seconds, _ in results["plain"]]
            for loop, turns in results.items():
                hourly = [3600 / seconds for seconds, _ in turns]
                accuracies = [accuracy for _, several in turns for accuracy in several]
                rows.append([data, name, loop, spread(hourly), spread(ratios(hourly, reference)), mean(accuracies)])
    print_table(["data", "networks", "loop", "candidates an hour", "speed, × plain", "accuracy"], rows, given.markdown)


if __name__ == "__main__":
    main()
