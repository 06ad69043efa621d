"""Generative adversarial networks, small: DCGAN on the digits, a search against it, and several generators on a ring.

Four questions. How far from real digits is what DCGAN makes, after how long? Does a search of twenty candidates, each
judged by the mean over three seeds of short trainings, find anything better than DCGAN when both are trained as long?
Do the several generators of MAD-GAN cover more of a ring of eight Gaussians than one of the same kind does? Do
strategies that learn in a supernet find networks for the ring that are better than random ones?
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import machine, number, parser, print_head, print_table, versions

import nasengine
from nasengine import Architecture, Context, Fidelity
from nasengine.evaluators.train import Train
from nasengine.registry import make

ONE_SHOT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("darts", {"hessian": False}), ("gdas", {"hessian": False}), ("spos", {}), ("enas", {"batch_size": 64}),
    ("darts", {"hessian": False, "optimizer": "sgd"}),
)  # fmt: skip
RANDOM = 5
"""How many random networks are trained as long as those that were found, for each seed."""
CPU = torch.device("cpu")
QUALITY = ("frechet", "precision", "recall", "inception", "modes")
"""Of digits."""
WIDE = 272
"""Units of each layer of a generator that has as many weights as four of 128 units."""
SPREAD = ("frechet", "precision", "recall", "near", "modes")
"""Of points."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--parts", nargs="+", default=["dcgan", "search", "ring", "one_shot"], help="default: all four"
    )
    options.add_argument("--epochs", type=int, default=15, help="of 102 steps, on the digits (default: 15)")
    options.add_argument("--short", type=int, default=3, help="epochs of a candidate's trainings (default: 3)")
    options.add_argument("--trials", type=int, default=20, help="candidates of the search (default: 20)")
    options.add_argument("--search-epochs", type=int, default=40, help="in a supernet, on the ring (default: 40)")
    options.add_argument("--searches", type=int, default=3, help="in a supernet, each strategy (default: 3)")
    options.add_argument("--ring-epochs", type=int, default=12, help="of 112 steps, on the ring (default: 12)")
    options.add_argument("--deviation", type=float, help="of the ring's Gaussians (default: the task's, 0.01)")
    options.add_argument("--seeds", type=int, default=3, help="trainings each, on the digits (default: 3)")
    options.add_argument("--ring-seeds", type=int, default=10, help="trainings each, on the ring (default: 10)")
    given = options.parse_args()
    if given.quick:
        given.epochs, given.short, given.trials, given.ring_epochs, given.seeds, given.ring_seeds = 1, 1, 2, 1, 2, 2
        given.search_epochs, given.searches = 1, 2
    steps = ",steps=1" if given.quick else ""
    torch.set_num_threads(1)
    facts = {
        "machine": machine(),
        "versions": versions("numpy"),
        "asked": f"{', '.join(given.parts)}; {given.epochs} epochs on digits, {given.ring_epochs} on rings; 1 thread",
        "seeds": f"0 to {given.seeds - 1} on the digits, 0 to {given.ring_seeds - 1} on the ring; 0 of the search, "
        f"0 to {given.searches - 1} in supernets",
        "repetitions": "as many as seeds; mean ± standard deviation over them, on the test data",
    }
    print_head("Generative adversarial networks", facts, given.markdown)
    digits: Any = make("task", "generation", {"data": "digits", **({"steps": 1} if given.quick else {})})
    rows: list[list[str]] = []
    if "dcgan" in given.parts or "search" in given.parts:
        rows.append(trained("DCGAN, digits", nasengine.reference("dcgan"), digits, given.epochs, given.seeds, QUALITY))
    if "search" in given.parts:
        found, seconds, among = searched(f"generation:data=digits{steps}", given.trials, given.short, given.seeds)
        rows.append(trained("found, digits", found, digits, given.epochs, given.seeds, QUALITY))
        print(f"The search took {seconds:.0f} s. {among}", file=sys.stderr)
    if rows:
        print_table(["network", "generators' weights", *QUALITY, "s a training"], rows, given.markdown)
    if "search" in given.parts:
        print(among)
        space: Any = make("space", "gan", dict(found.options))
        print(space.describe(found))
    asked = {"deviation": given.deviation} if given.deviation else {}
    ring: Any = make("task", "generation", {"data": "ring", **asked, **({"steps": 1} if given.quick else {})})
    if "ring" in given.parts:
        rows = [
            trained(name, network, ring, given.ring_epochs, given.ring_seeds, SPREAD, **changes)
            for name, network, changes in on_the_ring()
        ]
        print_table(["network", "generators' weights", *SPREAD, "s a training"], rows, given.markdown)
    if "one_shot" in given.parts:
        columns = ["found by", "s of the search", "frechet of shared weights", "frechet", "near", "modes"]
        rows = list(in_a_supernet(ring, given.search_epochs, given.short, given.ring_epochs, given.searches))
        print_table(columns, rows, given.markdown)


def on_the_ring() -> Iterator[tuple[str, Architecture, dict[str, Any]]]:
    """Four generators, and what one has to be held against: as it is, of as many weights as the four have together, and
    of as many examples in each step as the four make together. Discriminators are the same."""
    one = nasengine.reference("mlp_gan")
    wide = Architecture(one.space, {**one.options, "units": [128, WIDE]}, {**one.picks, "generator.units": WIDE})
    four = Architecture(one.space, {**one.options, "games": ["mad_gan"], "generators": [4]}, one.picks)
    yield "one generator", one, {}
    yield "one, as large as four", wide, {}
    yield "one, batches of 512", one, {"batch_size": 512}
    yield "MAD-GAN of four", four, {}


def trained(
    name: str, architecture: Architecture, task: Any, epochs: int, seeds: int, columns: Sequence[str], **changes: Any
) -> list[str]:
    """A row: what trainings from several seeds come to on the test data, each at its best validation epoch. changes: of
    the recipe."""
    found, began = [], time.perf_counter()
    for seed in range(seeds):
        print(f"{name}: training {seed + 1} of {seeds}", file=sys.stderr)
        model = fitted(architecture, task, epochs, seed, **changes)
        found.append(task.metrics(model, "test"))
    seconds = (time.perf_counter() - began) / seeds
    weights = sum(weight.numel() for weight in model.generator.parameters())
    row = [name, f"{weights:,}", *(spread([one[column] for one in found]) for column in columns), number(seconds)]
    print(" | ".join(row), file=sys.stderr)
    return row


def fitted(architecture: Architecture, task: Any, epochs: int, seed: int, **changes: Any) -> Any:
    """The network after its training, at its best validation epoch."""
    space: Any = make("space", architecture.space, dict(architecture.options))
    context = Context(space, task, CPU, seed)
    for _ in Train(epochs=epochs, patience=0, **changes).evaluate(architecture, Fidelity(), context):
        pass
    return context.saved


def in_a_supernet(task: Any, epochs: int, short: int, final: int, seeds: int) -> Iterator[list[str]]:
    """Rows: what strategies derive, trained as long as random networks are; and the best of as many random networks as
    can be trained for a short while in the time that a search by these strategies takes on average."""
    space: Any = make("space", "gan", {})
    budget = []
    for strategy, options in ONE_SHOT:
        seconds, shared, found = [], [], []
        for seed in range(seeds):
            print(f"{strategy}: search {seed + 1} of {seeds}", file=sys.stderr)
            context, learner = (
                Context(space, task, CPU, seed),
                make("strategy", strategy, {"epochs": epochs, **options}),
            )
            supernet, began = context.supernet(), time.perf_counter()
            for derivation in learner.learn(supernet, task, context):  # type: ignore[attr-defined]
                derived = derivation.architecture
            seconds.append(time.perf_counter() - began)
            shared.append(of_random_paths(supernet, task))
            found.append(task.metrics(fitted(derived, task, final, seed), "test"))
        budget += seconds
        name = ", ".join([strategy, *(f"{key}={value}" for key, value in options.items() if key == "optimizer")])
        yield told([name, spread(seconds), spread(shared), *results(found)])
    domain, best, every, allowed = space.domain(task), [], [], statistics.fmean(budget)
    for seed in range(seeds):
        print(f"random networks: search {seed + 1} of {seeds}", file=sys.stderr)
        tried: list[tuple[float, int, Architecture]] = []
        rng, began = np.random.default_rng(seed), time.perf_counter()
        while not tried or time.perf_counter() - began < allowed:
            network = domain.sample(rng)
            tried.append((task.metrics(fitted(network, task, short, seed), "valid")["frechet"], len(tried), network))
        best.append(task.metrics(fitted(min(tried)[2], task, final, seed), "test"))
        every += [task.metrics(fitted(network, task, final, seed), "test") for _, _, network in tried[:RANDOM]]
    yield told([f"the best of as many random ones as {short} epochs each allow", number(allowed), "", *results(best)])
    yield told([f"random networks, {len(every)}", "", "", *results(every)])


def results(found: Sequence[dict[str, float]]) -> list[str]:
    return [spread([one[column] for one in found]) for column in ("frechet", "near", "modes")]


def told(row: list[str]) -> list[str]:
    print(" | ".join(row), file=sys.stderr)
    return row


def of_random_paths(supernet: Any, task: Any) -> float:
    """The mean distance of six random paths, on the validation data, by the weights that they share."""
    distances, rng = [], np.random.default_rng(0)
    for _ in range(6):
        supernet.pick(supernet.domain.sample(rng))
        batches = task.train_batches(64, torch.Generator().manual_seed(0))
        nasengine.recalibrate(supernet, task, islice(batches, 20))
        distances.append(task.metrics(supernet, "valid")["frechet"])
    return statistics.fmean(distances)


def spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return number(values[0])
    return f"{statistics.fmean(values):.3g} ± {statistics.stdev(values):.2g}"


def searched(task: str, trials: int, epochs: int, seeds: int) -> tuple[Architecture, float, str]:
    """What evolution finds among networks no larger than 100,000 weights; the seconds; and where DCGAN would stand."""
    judge = f"train:seeds={seeds},epochs={epochs},patience=0"
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = nasengine.search(
            "gan", "evolution:population=8,sample=4", task, judge, trials=trials, baseline=0, threads=1,
            constraints=["parameters<=100k"], final_fidelity="epochs=1", out=Path(folder) / "search",
        )  # fmt: skip
        seconds = time.perf_counter() - began
        dcgan = nasengine.train("dcgan", task, judge, out=Path(folder) / "dcgan", threads=1)
        trials_done = [trial for trial in run.all_trials if trial.purpose == "search" and trial.state == "done"]
        best = min(trials_done, key=lambda trial: trial.metrics["frechet"])
        distances = sorted(trial.metrics["frechet"] for trial in trials_done)
        own = dcgan.best.metrics["frechet"]
        assert best.architecture is not None
        text = (
            f"After {epochs} epochs, on the validation data: the best of {len(distances)} candidates has "
            f"{distances[0]:.3g}, the median {statistics.median(distances):.3g}, DCGAN {own:.3g} (better than "
            f"{sum(own < distance for distance in distances)} of them); means over {seeds} seeds."
        )
        return best.architecture, seconds, text


if __name__ == "__main__":
    main()
