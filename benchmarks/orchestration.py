"""What keeping workers busy costs: nasengine on Ray beside Ray Tune and Optuna, over 100,000 trials, at 256 workers.

throughput: trials a second with an evaluator that returns at once. efficiency: the share of two workers' time that
trials of a second fill. endurance: time and memory of 100,000 trials. driver: what a trial costs the engine's process
at 1 to 256 workers, which are simulated.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import optuna
from loop_throughput import INSTANT, SPACE
from report import by_turns, machine, number, parser, print_head, print_table, ratios, spread, versions
from simulated import driven

import nasengine
from nasengine import Domain, Observer, Trial
from nasengine.evaluators.tasks.digits import Digits
from nasengine.registry import make

SECTIONS = ("endurance", "driver", "throughput", "efficiency")
"""In the order in which they run: those without Ray first, so that its threads are not there yet."""
WORKERS = 2
SLEEPING = f"{Path(__file__).with_name('sleeping.py')}:Sleeping"
OURS = "nasengine on Ray, durable"
REUSED = "Ray Tune, class trainable, reused actors"
FUNCTION = "Ray Tune, function trainable"
TARGET = 30
Ended = Sequence[tuple[float, str]]
"""When each trial's result was there, in seconds, and which worker made it."""


class Clock(Observer):
    """Notes when each trial of the search ended, and on which worker."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, str]] = []

    def ended(self, trial: Trial) -> None:
        if trial.purpose == "search":
            self.ends.append((time.perf_counter(), trial.worker))


class Tenths(Observer):
    """Notes when each trial of the search ended, and the process's memory after each tenth of them."""

    def __init__(self, trials: int) -> None:
        self.size, self.ends, self.memory = trials // 10, array("d"), [resident()]

    def ended(self, trial: Trial) -> None:
        if trial.purpose == "search":
            self.ends.append(time.perf_counter())
            if len(self.ends) % self.size == 0:
                self.memory.append(resident())
                print(f"endurance: {len(self.ends):,} of {10 * self.size:,} trials", file=sys.stderr)


def resident() -> float:
    """MiB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def search(evaluator: str, workers: int, trials: int, seed: int, durable: bool = True) -> Ended:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        nasengine.search(
            SPACE, "random", evaluator=evaluator, trials=trials, baseline=0, seed=seed, out=folder, workers=workers,
            observer=clock, durable=durable,
        )  # fmt: skip
    return clock.ends


def pace(ended: Ended) -> float:
    """Seconds a trial from when every worker has ended its first: their start-up is not counted."""
    moments = sorted(ended)
    first: dict[str, float] = {}
    for moment, worker in moments[: len(moments) // 2]:
        first.setdefault(worker, moment)
    began = max(first.values())
    return (moments[-1][0] - began) / sum(moment > began for moment, _ in moments)


def filled(ended: Ended, seconds: float) -> float:
    """Which share, in %, of the time from each worker's first result to its last the trials took in between fill."""
    ends = defaultdict(list)
    for moment, worker in ended:
        ends[worker].append(moment)
    work = sum(len(moments) - 1 for moments in ends.values()) * seconds
    return 100 * work / sum(max(moments) - min(moments) for moments in ends.values())


def start_ray() -> None:
    """One for all, of as many CPUs as there are workers, reachable from this machine only."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if not ray.is_initialized():
        ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def throughput(given: Namespace, repetitions: int, domain: Domain) -> None:
    start_ray()
    from other_loops import Reusable, function, studied, tuned

    many, some, few = (200, 20, 4) if given.quick else (given.trials, 300, 12)

    def started_anew(seed: int) -> float:
        """Each process ends one trial: counted from the first result."""
        return pace([(moment, "") for moment, _ in tuned(function, domain, WORKERS, few, seed)])

    cases: dict[str, tuple[int, Callable[[int], float]]] = {
        OURS: (many, lambda seed: pace(search(INSTANT, WORKERS, many, seed))),
        "nasengine on Ray, not durable": (many, lambda seed: pace(search(INSTANT, WORKERS, many, seed, False))),
        "nasengine, 1 worker in the process, durable": (many, lambda seed: pace(search(INSTANT, 1, many, seed))),
        REUSED: (some, lambda seed: pace(tuned(Reusable, domain, WORKERS, some, seed))),
        FUNCTION: (few, started_anew),
        "Optuna, 2 threads, SQLite": (some, partial(studied, True, domain, WORKERS, some)),
        "Optuna, 2 threads, in memory": (many, partial(studied, False, domain, WORKERS, many)),
    }
    results = by_turns({name: case for name, (_, case) in cases.items()}, repetitions)
    rows = []
    for name, times in results.items():
        milliseconds, factor = spread([1000 * value for value in times]), spread(ratios(times, results[OURS]))
        rows.append([name, f"{cases[name][0]:,}", spread([1 / value for value in times]), milliseconds, factor])
    print_table(["what", "trials", "a second", "ms each", f"time, × {OURS}"], rows, given.markdown)
    best = [min(times) for times in zip(results[REUSED], results[FUNCTION], strict=True)]
    print(f"{OURS}: {spread(ratios(best, results[OURS]))} times the trials a second of the best of Tune; the target is "
          f"{TARGET}.\n")  # fmt: skip


def efficiency(given: Namespace, repetitions: int, domain: Domain) -> None:
    start_ray()
    from other_loops import Reusable, tuned

    seconds, trials = (0.1, 12) if given.quick else (1.0, 40)
    cases: dict[str, Callable[[int], float]] = {
        OURS: lambda seed: filled(search(f"{SLEEPING}:seconds={seconds}", WORKERS, trials, seed), seconds),
        REUSED: lambda seed: filled(tuned(Reusable, domain, WORKERS, trials, seed, seconds), seconds),
    }
    results = by_turns(cases, repetitions)
    rows = [[name, str(trials), f"{seconds:g}", spread(shares)] for name, shares in results.items()]
    print_table(["what", "trials", "seconds each", "workers' time filled, %"], rows, given.markdown)


def endurance(given: Namespace, repetitions: int, domain: Domain) -> None:
    trials = 2000 if given.quick else given.endurance
    watch = Tenths(trials)
    with tempfile.TemporaryDirectory() as folder:
        nasengine.search(SPACE, "random", evaluator=INSTANT, trials=trials, baseline=0, out=folder, observer=watch)
    rows, medians = [], []
    for tenth in range(10):
        ends = watch.ends[tenth * watch.size : (tenth + 1) * watch.size]
        taken = [1000 * (later - earlier) for earlier, later in pairwise(ends)]
        medians.append(statistics.median(taken))
        until = f"{(tenth + 1) * watch.size:,}"
        rows.append([until, number(medians[-1]), number(statistics.fmean(taken)), f"{watch.memory[tenth + 1]:.0f}"])
    print_table(["trials until", "ms a trial, median", "mean", "memory, MiB"], rows, given.markdown)
    grown = (watch.memory[-1] - watch.memory[1]) * 2**20 / (9 * watch.size)
    print(f"Last tenth: {medians[-1] / medians[0]:.2f} times the first's median; {grown:,.0f} bytes a trial kept.\n")


def driver(given: Namespace, repetitions: int, domain: Domain) -> None:
    trials, counts = (50, (1, 64)) if given.quick else (1000, (1, 8, 64, 256))
    combinations = list(product(("random", "evolution"), (0, 5), counts))
    cases = {
        f"{strategy}, {reports} reports, {workers} workers": partial(driven, strategy, workers, reports, trials)
        for strategy, reports, workers in combinations
    }
    rows = []
    for (strategy, reports, workers), costs in zip(combinations, by_turns(cases, repetitions).values(), strict=True):
        computed, passed = [1000 * cost.computed for cost in costs], [1000 * cost.passed for cost in costs]
        busy = [workers * value / 10 for value in passed]
        rows.append([strategy, str(reports), str(workers), spread(computed), spread(passed), spread(busy)])
    columns = ["strategy", "reports a trial", "workers", "ms computed a trial", "ms passed a trial"]
    print_table([*columns, "driver busy at trials of 1 s, %"], rows, given.markdown)


TITLES: dict[str, tuple[str, Callable[[Namespace, int, Domain], None]]] = {
    "endurance": ("Endurance: a search of many trials that return at once, in this process, durable", endurance),
    "driver": ("Driver: what a trial costs the engine at simulated workers, durable", driver),
    "throughput": ("Throughput: trials that return at once, 2 workers", throughput),
    "efficiency": ("Efficiency: trials that sleep, 2 workers", efficiency),
}


def chosen(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SECTIONS):
        raise ValueError(unknown)
    return [name for name in SECTIONS if name in names]


def main() -> None:
    options = parser(__doc__, repetitions=5)
    options.add_argument("--only", type=chosen, default=SECTIONS, metavar="NAMES", help=f"of {','.join(SECTIONS)}")
    options.add_argument("--trials", type=int, default=2000, help="of a throughput search (default: %(default)s)")
    options.add_argument("--endurance", type=int, default=100_000, help="how many trials (default: %(default)s)")
    given = options.parse_args()
    repetitions = 1 if given.quick else given.repetitions
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: Any = make("space", *nasengine.registry.split(SPACE))
    domain = space.domain(Digits())
    facts = {
        "machine": machine(),
        "versions": versions("ray", "optuna"),
        "space": f"{SPACE}: {len(domain.decisions)} decisions, {domain.size:.1e} architectures; random picks",
        "seeds": f"0 to {repetitions - 1}, one a repetition; 0 for endurance",
        "repetitions": f"{repetitions}, by turns; endurance once; all numbers as median (min–max)",
        "Ray": f"one instance of {WORKERS} CPUs, started beforehand, for everything that uses it",
        "counted": "from when every worker has ended a trial (function trainables: from the first result) to the last "
        "result, so without start-up and without Tune's winding up; Optuna: all of `optimize`",
        "Tune": "the same random picks drawn in one go, max_concurrent_trials=2, no loggers, no callbacks, verbose=0, "
        "checkpoints at their defaults",
    }
    print_head("Orchestration", facts, given.markdown)
    for name in given.only:
        title, section = TITLES[name]
        print(f"#### {title}\n" if given.markdown else f"{title}\n")
        section(given, repetitions, domain)


if __name__ == "__main__":
    main()
