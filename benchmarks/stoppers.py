"""What stoppers save, and what they cost: recorded learning curves, played back through every stopper.

Random architectures are trained once, to the end, and their curves kept in --out. Each stopper then sees them one trial
after the other, in several random orders. `training saved`: epochs that were not trained, of all. `best stopped`: in
how many of the orders the trial that was best in the end was stopped. `regret`: how much worse than that the trial is,
trained to its end, that the search would have shown as best. `calibration`: how often the 90 % interval of the
extrapolation holds the last value, by the model alone, and corrected by its errors with (up to 30) others of the
curves, as in a run that has finished these.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, mean, parser, print_head, print_table, versions

import nasengine
from nasengine import Evaluate, Metrics, Objective, Run, Trial
from nasengine.evaluators.stoppers.extrapolation import RECENT, Extrapolation
from nasengine.evaluators.stoppers.families import FAMILIES, at_places
from nasengine.evaluators.stoppers.foresight import foresee
from nasengine.registry import make, split

ACCURACY, PARAMETERS = Objective("accuracy"), Objective("parameters", "min")
STOPPERS = {
    "patience": "patience:epochs=5",
    "threshold": "threshold:lower=0.5,n_warmup_steps=5",
    "median": "median",
    "percentile": "percentile:percentile=25",
    "successive_halving": "successive_halving:min_resource=2",
    "hyperband": "hyperband:min_resource=2",
    "extrapolation": "extrapolation",
    "hypervolume": "hypervolume",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trial that was trained to its end: its request, the metrics after each epoch, and its result."""

    request: Evaluate
    curve: tuple[Metrics, ...]
    result: Metrics


@dataclass(frozen=True, slots=True)
class Played:
    """What a stopper did to the trials in one order: fractions, a difference in accuracy, and seconds in all."""

    saved: float
    best_stopped: float
    regret: float
    seconds: float


def recorded(folder: Path, space: str, task: str, seed: int, architectures: int, epochs: int) -> list[Recorded]:
    """Curves of random architectures, of the folder's run where there is one."""
    if not folder.exists():
        nasengine.search(
            space, "random", task, f"train:patience=0,epochs={epochs}", seed=seed, trials=architectures, baseline=0,
            out=folder,
        )  # fmt: skip
    run = Run(folder)
    if not run.finished:
        run = nasengine.resume(folder)
    found = []
    for trial in run.all_trials:
        if trial.purpose == "search" and trial.state == "done" and trial.same_as is None:
            size = trial.metrics["parameters"]  # known before training: a curve may as well show it
            curve = tuple({**point, "parameters": size} for point in run.curve(trial.number))
            found.append(Recorded(trial.request, curve, trial.metrics))  # type: ignore[arg-type]
    return found


def play(asked: str, trials: Sequence[Recorded], objectives: Sequence[Objective], seed: int) -> Played:
    """The trials in a random order, one after the other."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(trials))
    stopper: Any = make("stopper", *split(asked))
    stopper.start(objectives, rng, len(trials[0].curve))
    used, stopped, shown, seconds = 0, set(), {}, 0.0
    for number, index in enumerate(order):
        trial = trials[index]
        began = time.perf_counter()
        for epoch in range(1, len(trial.curve)):
            if stopper.stop(number, trial.request, trial.curve[:epoch], len(trial.curve)) is not None:
                stopped.add(index)
                break
        else:
            epoch = len(trial.curve)
        metrics = trial.curve[epoch - 1] if index in stopped else trial.result
        state: Any = "pruned" if index in stopped else "done"
        stopper.tell(Trial(number, trial.request, state, metrics, trial.curve[:epoch]))
        seconds += time.perf_counter() - began
        used += epoch
        shown[index] = metrics["accuracy"]
    results = [trial.result["accuracy"] for trial in trials]
    best = {index for index, result in enumerate(results) if result == max(results)}  # there may be several
    picked = max(shown, key=lambda index: shown[index])
    return Played(
        1 - used / sum(len(trial.curve) for trial in trials),
        float(best <= stopped),
        max(results) - results[picked],
        seconds,
    )


def members(count: int, epochs: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Curves of the eleven families in turn that rise by a tenth or more, ever more slowly, with noise of 0.003 to
    0.03."""
    found: list[np.ndarray] = []
    x = np.arange(1.0, epochs + 1)
    while len(found) < count:
        family = FAMILIES[len(found) % len(FAMILIES)]
        curve = at_places(family, rng.random((1, len(family.lower))), x)[0]
        slows = (np.diff(curve) >= -1e-9).all() and (np.diff(curve, 2) <= 1e-9).all()
        if slows and 0.05 <= curve[0] <= 0.7 and curve[0] + 0.1 < curve[-1] <= 0.99:
            noise = np.exp(rng.uniform(np.log(0.003), np.log(0.03)))
            found.append(curve + noise * rng.standard_normal(epochs))
    return found


def calibration(curves: Sequence[np.ndarray], seen: float, steps: int, rng: np.random.Generator) -> list[str]:
    """Of the 90 % intervals of the last values, given a fraction of the epochs: how many hold it, and their width, by
    the model alone, and by its errors with others of the curves; and the processor's milliseconds for one."""
    foreseen, times = [], []
    for curve in curves:
        began = time.process_time()
        foresight = foresee(curve[: max(round(seen * len(curve)), 5)], len(curve), 1.0, 100, steps, rng)
        times.append(1000 * (time.process_time() - began))
        if foresight is not None:
            foreseen.append((foresight, curve[-1]))
    errors = [foresight.error(end) for foresight, end in foreseen]
    inside: dict[bool, list[bool]] = {True: [], False: []}
    widths: dict[bool, list[float]] = {True: [], False: []}
    for index, (foresight, end) in enumerate(foreseen):
        others = rng.permutation(errors[:index] + errors[index + 1 :])[:RECENT].tolist()
        ends = foresight.ends + foresight.noise * rng.standard_normal(len(foresight.ends))
        for corrected in (False, True):
            low, high = foresight.interval_after(others) if corrected else np.quantile(ends, [0.05, 0.95])
            inside[corrected].append(bool(low <= end <= high))
            widths[corrected].append(float(high - low))
    found = [(f"{np.mean(inside[kind]):.2f}", f"{np.mean(widths[kind]):.3f}") for kind in (False, True)]
    return [str(len(foreseen)), *found[0], *found[1], f"{np.median(times):.0f}"]


def main() -> None:
    options = parser(__doc__, repetitions=5)
    options.add_argument("--architectures", type=int, default=40, help="how many are trained (default: %(default)s)")
    options.add_argument("--epochs", type=int, default=25, help="of each training (default: %(default)s)")
    options.add_argument("--space", default="nasbench201:channels=4,cells=1", help="default: %(default)s")
    options.add_argument("--task", default="digits", help="default: %(default)s")
    options.add_argument("--seed", type=int, default=0, help="of the architectures (default: %(default)s)")
    options.add_argument("--out", type=Path, help="the folder of the recorded curves; by default they are not kept")
    options.add_argument("--stoppers", nargs="+", default=list(STOPPERS), help="names, or as --stopper takes them")
    given = options.parse_args()
    architectures, epochs = (6, 7) if given.quick else (given.architectures, given.epochs)
    orders, steps, synthetic = (2, 40, 11) if given.quick else (given.repetitions, Extrapolation().steps, 110)
    facts = {
        "machine": machine(),
        "versions": versions("numpy", "optuna"),
        "curves": f"{architectures} random architectures of {given.space}, {epochs} epochs on {given.task}, "
        f"seed {given.seed}",
        "seeds": f"of the orders: 0 to {orders - 1}",
        "repetitions": f"{orders} orders; mean ± sd over them",
    }
    print_head("What stoppers save on recorded curves", facts, given.markdown)
    with tempfile.TemporaryDirectory() as folder:
        place = given.out or Path(folder) / "run"
        trials = recorded(place, given.space, given.task, given.seed, architectures, epochs)
    names = [STOPPERS.get(name, name) for name in given.stoppers]
    cases = [(name, [ACCURACY]) for name in names]
    cases += [(name, [ACCURACY, PARAMETERS]) for name in names if name.startswith("hypervolume")]
    rows = []
    for name, objectives in cases:
        played = [play(name, trials, objectives, seed) for seed in range(orders)]
        rows.append([
            name,
            " and ".join(objective.metric for objective in objectives),
            mean([one.saved for one in played], 2),
            f"{sum(one.best_stopped for one in played):.0f} of {orders}",
            mean([one.regret for one in played], 4),
            mean([1000 * one.seconds / len(trials) for one in played], 1),
        ])  # fmt: skip
    columns = ["stopper", "objectives", "training saved", "best stopped", "regret, accuracy", "ms a trial"]
    print_table(columns, rows, given.markdown)
    print("#### Calibration of the extrapolation\n" if given.markdown else "Calibration of the extrapolation\n")
    sources = {
        "recorded": [np.array([point["accuracy"] for point in trial.curve]) for trial in trials],
        "members of the families, with noise": members(synthetic, 30, np.random.default_rng(0)),
    }
    rows = [
        [name, f"{seen:.0%}", *calibration(curves, seen, steps, np.random.default_rng(1))]
        for name, curves in sources.items()
        for seen in (0.3, 0.6)
    ]
    columns = [
        "curves", "epochs seen", "how many", "held by the 90 % interval", "its width", "held when corrected",
        "width when corrected", "ms each",
    ]  # fmt: skip
    print_table(columns, rows, given.markdown)


if __name__ == "__main__":
    main()
