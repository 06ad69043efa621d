"""Whole candidates an hour: the evaluator `train` against the loop that many would write in its place.

The plain loop is PyTorch as its tutorials have it: a Dataset that standardises each image when it is asked for, a
DataLoader, a training and a validation pass an epoch. Both train the same network by the same recipe (SGD with Nesterov
momentum, cosine, gradient clipping, no augmentation) for the same epochs; the engine's seconds also hold what the plain
loop leaves out: the count of the costs, and the copy of the best epoch's weights. Each has a process of its own,
because the engine sets the C library's allocator, and one thread. Seconds are the processor's, so that others who use
the machine count for less.
"""

from __future__ import annotations

import multiprocessing
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from report import by_turns, machine, mean, print_head, print_table, ratios, spread, versions
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nasengine import Architecture, Context, Fidelity, SearchSpace, cost_of
from nasengine.evaluators.data.images import Images as Part
from nasengine.evaluators.tasks.classification import ImageClassification
from nasengine.evaluators.tasks.digits import Digits
from nasengine.evaluators.tasks.images import Images
from nasengine.evaluators.train import Train
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace

SPACES: dict[str, SearchSpace] = {
    "chain": ChainSpace(activations=("relu",), norms=("batch",)),
    "cell": CellSpace(layers=3, channels=4),
}
TRAIN, VALID = 1280, 256
"""How many images of CIFAR-10 are read."""
Loop: TypeAlias = Callable[[str, "Path | None", int, int], tuple[float, float]]
COLUMNS = ["data", "network", "loop", "seconds a candidate", "candidates an hour", "speed, × plain", "accuracy"]


class Standardised(Dataset[tuple[Tensor, int]]):
    """Images that are standardised one by one."""

    def __init__(self, part: Part, mean: list[float], deviation: list[float]) -> None:
        self.part = part
        self.mean, self.deviation = (torch.tensor(value).view(-1, 1, 1) for value in (mean, deviation))

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.part.pixels[index]).float()
        return (image - self.mean) / self.deviation, int(self.part.labels[index])


@cache
def task_at(path: Path | None) -> ImageClassification:
    """The digits, or the first images of CIFAR-10."""
    if path is None:
        return Digits()
    task = Images(path=str(path))
    whole = task.splits
    train, valid = (Part(p.pixels[:n], p.labels[:n]) for p, n in ((whole.train, TRAIN), (whole.valid, VALID)))
    vars(task)["splits"] = replace(whole, train=train, valid=valid, test=valid)
    return task


@cache
def sampled(name: str, path: Path | None) -> Architecture:
    """Of ten random architectures the one that takes the fewest operations."""
    space, task, rng = SPACES[name], task_at(path), np.random.default_rng(0)
    drawn = [space.domain(task).sample(rng) for _ in range(10)]
    return min(drawn, key=lambda architecture: cost_of(space.shape(architecture, task), task)["flops"])


def plain(name: str, path: Path | None, epochs: int, seed: int) -> tuple[float, float]:
    """Processor seconds, and the last epoch's accuracy on the validation data."""
    torch.set_num_threads(1)
    task, architecture = task_at(path), sampled(name, path)
    task.statistics  # noqa: B018  (the loop does not count them either)
    started = time.process_time()
    accuracy = trained(SPACES[name], task, architecture, epochs, seed)
    return time.process_time() - started, accuracy


def trained(space: SearchSpace, task: ImageClassification, architecture: Architecture, epochs: int, seed: int) -> float:
    """The plain loop: the last epoch's accuracy on the validation data."""
    mean_, deviation = task.statistics
    torch.manual_seed(seed)
    model, recipe = space.model(architecture, task), task.recipe
    train = DataLoader(Standardised(task.splits.train, mean_, deviation), recipe.batch_size, shuffle=True)
    valid = DataLoader(Standardised(task.splits.valid, mean_, deviation), recipe.batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            total += loss.item()
        schedule.step()
        model.eval()
        hits = 0
        with torch.no_grad():
            for images, labels in valid:
                hits += int((model(images).argmax(1) == labels).sum())
    return hits / len(task.splits.valid)


def engine(name: str, path: Path | None, epochs: int, seed: int) -> tuple[float, float]:
    """The same by the evaluator."""
    torch.set_num_threads(1)
    task, architecture = task_at(path), sampled(name, path)
    started = time.process_time()
    context = Context(SPACES[name], task, torch.device("cpu"), seed)
    judging = Train(epochs=epochs, patience=0, augment="none").evaluate(architecture, Fidelity(), context)
    curve = list(judging)
    return time.process_time() - started, curve[-1]["accuracy"]


def _turn(
    worker: ProcessPoolExecutor, loop: Loop, name: str, path: Path | None, epochs: int, seed: int
) -> tuple[float, float]:
    return worker.submit(loop, name, path, epochs, seed).result()


def _rows(data: str, name: str, results: Mapping[str, Sequence[tuple[float, float]]]) -> list[list[str]]:
    reference = [seconds for seconds, _ in results["plain"]]
    rows = []
    for loop, judged in results.items():
        seconds = [each for each, _ in judged]
        speeds = ratios(reference, seconds)
        hourly = [3600 / each for each in seconds]
        rows.append([data, name, loop, spread(seconds), spread(hourly), spread(speeds), mean([a for _, a in judged])])
    return rows


@contextmanager
def processes() -> Iterator[dict[str, ProcessPoolExecutor]]:
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh) as one, ProcessPoolExecutor(1, fresh) as other:
        yield {"plain": one, "train": other}


def compare(given: Namespace) -> None:
    repetitions, epochs = (1, 1) if given.quick else (given.repetitions, given.epochs)
    datasets: dict[str, Path | None] = {"digits": None}
    skipped = "" if given.path else "; CIFAR-10 is skipped: name the folder of its binary files with --path"
    if given.path:
        datasets["CIFAR-10"] = given.path.resolve()
    facts = {
        "machine": machine(),
        "versions": versions(),
        "data": f"digits; of CIFAR-10 {TRAIN:,} training and {VALID} validation images{skipped}",
        "seeds": f"0 to {repetitions - 1}, one a repetition; the networks are the cheapest of ten random ones",
        "repetitions": f"{repetitions}, by turns, {epochs} epochs a candidate, one thread; median (min–max), mean ± sd",
    }
    print_head("Candidates an hour: the evaluator train against a plain loop", facts, given.markdown)
    rows = []
    with processes() as workers:
        for data, path in datasets.items():
            for name in SPACES:
                cases = {
                    loop: partial(_turn, workers[loop], function, name, path)
                    for loop, function in (("plain", plain), ("train", engine))
                }
                for case in cases.values():  # imports, data and caches are not counted
                    case(1, 0)
                rows += _rows(data, name, by_turns({k: partial(v, epochs) for k, v in cases.items()}, repetitions))
    print_table(COLUMNS, rows, given.markdown)
