"""Training with the images in memory as one tensor, against the same training through a torch DataLoader.

Both rows of a comparison run the same loop (`Task.fit`) on the same network, from the same initial weights, with the
same recipe and the same number of threads; only where the training batches come from differs. The loader has its best
case: its dataset is standardised beforehand, its workers are started before the clock and are kept.

With --plain: whole candidates an hour, against the plain loop of `plain_training.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import plain_training
import torch
from report import by_turns, cores, machine, mean, parser, print_head, print_table, ratios, spread, versions
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from nasengine import Architecture, Context, Fidelity, SearchSpace
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace

PARAMETERS = range(20_000, 60_000)
MEMORY = "tensor in memory"
Cases: TypeAlias = "Mapping[str, Callable[[int], Training]]"


class LoadedDigits(Digits):  # type: ignore[misc]
    """The same digits, the training batches collected image by image by a DataLoader."""

    def __init__(self, *, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers
        self.order = torch.Generator()
        batches = Digits().train_batches(self.recipe.batch_size, torch.Generator())
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.loader = DataLoader(
            TensorDataset(images, labels), self.recipe.batch_size, shuffle=True, generator=self.order,
            num_workers=workers, persistent_workers=workers > 0,
        )  # fmt: skip
        next(iter(self.loader))  # starts the workers

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.order.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        for images, labels in self.loader:
            yield images.contiguous(memory_format=torch.channels_last), labels


@dataclass(frozen=True)
class Training:
    """seconds: of an epoch. accuracy: on the validation data after the last epoch; None where nothing was trained."""

    seconds: float
    accuracy: float | None = None


def train(
    space: SearchSpace, architecture: Architecture, task: Digits, threads: int, epochs: int, seed: int
) -> Training:
    torch.set_num_threads(threads)
    context = Context(space, task, torch.device("cpu"), seed)
    model = context.model(architecture)
    started = time.perf_counter()
    curve = list(task.fit(model, Fidelity(epochs=epochs), context))
    return Training((time.perf_counter() - started) / epochs, curve[-1]["accuracy"])


def read(task: Digits, epochs: int, seed: int) -> Training:
    """The batches alone, as a training would ask for them, with no network to wait for."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    for _ in range(epochs):
        for _batch in task.train_batches(task.recipe.batch_size, generator):
            pass
    return Training((time.perf_counter() - started) / epochs)


def sampled(space: SearchSpace, task: Digits) -> tuple[Architecture, int]:
    """The first random architecture with as many parameters as wanted, and how many it has."""
    domain, rng = space.domain(task), np.random.default_rng(0)
    while True:
        architecture = domain.sample(rng)
        parameters = sum(weight.numel() for weight in space.model(architecture, task).parameters())
        if parameters in PARAMETERS:
            return architecture, parameters


def compare(network: str, threads: int, cases: Cases, repetitions: int) -> list[list[str]]:
    """A row for each source of batches."""
    results = by_turns(cases, repetitions)
    reference = [training.seconds for training in results[MEMORY]]
    rows = []
    for source, trainings in results.items():
        seconds = [training.seconds for training in trainings]
        accuracies = [training.accuracy for training in trainings if training.accuracy is not None]
        rows.append(
            [
                network,
                str(threads),
                source,
                spread([1000 * value for value in seconds]),
                spread(ratios(seconds, reference)),
                mean(accuracies) if accuracies else "–",
            ]
        )
    return rows


def main() -> None:
    options = parser(__doc__, repetitions=7)
    options.add_argument("--epochs", type=int, default=5, help="of a training (default: %(default)s)")
    options.add_argument("--threads", type=int, default=cores(), help="compared with one (default: %(default)s)")
    options.add_argument("--plain", action="store_true", help="candidates an hour, against a loop written by hand")
    options.add_argument("--path", type=Path, help="with --plain: a folder with CIFAR-10's binary files")
    given = options.parse_args()
    if given.plain:
        plain_training.compare(given)
        return
    repetitions, epochs = (1, 1) if given.quick else (given.repetitions, given.epochs)
    thread_counts = [1] if given.quick else sorted({1, given.threads})
    tasks = {
        MEMORY: Digits(),
        "DataLoader, no workers": LoadedDigits(),
        "DataLoader, 2 workers": LoadedDigits(workers=2),
    }
    spaces: dict[str, SearchSpace] = {"chain": ChainSpace(activations=("relu",), norms=("batch",)), "cell": CellSpace()}
    networks = {name: sampled(space, tasks[MEMORY]) for name, space in spaces.items()}
    facts = {
        "machine": machine(),
        "versions": versions(),
        "data": f"{tasks[MEMORY].found}; batches of {Digits.recipe.batch_size}",
        "seeds": f"0 to {repetitions - 1}, one a repetition; the networks are random ones of seed 0",
        "repetitions": f"{repetitions}, by turns, of {epochs} epochs each; times as median (min–max), accuracy ± sd",
    }
    print_head("Training: a tensor in memory against a DataLoader", facts, given.markdown)

    rows = compare(
        "none: batches only", 1, {name: partial(read, task, epochs) for name, task in tasks.items()}, repetitions
    )
    for name, (architecture, parameters) in networks.items():
        for threads in thread_counts:
            cases = {
                source: partial(train, spaces[name], architecture, task, threads, epochs)
                for source, task in tasks.items()
            }
            if not given.quick:
                cases[MEMORY](0)  # warms caches up, not counted
            rows += compare(f"{name}, {parameters:,} parameters", threads, cases, repetitions)
    columns = ["network", "threads", "batches from", "ms an epoch", "time, × memory", "validation accuracy"]
    print_table(columns, rows, given.markdown)


if __name__ == "__main__":
    main()
