"""Long searches: a trial costs as much at the end as at the beginning, nothing is judged twice, resuming is quick.

The numbers in comments are the rows of the table of faults in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nasengine
from nasengine import Architecture, Context, Evaluator, Fidelity, Metrics, Observer, Request, Strategy, Trial
from nasengine.testing import TinySpace, TinyTask

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
CHAIN = "chain:stages=3,layers=4"


class Stops(Observer):
    """Interrupts the process when a number of trials have ended, or at the first that begins."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def ended(self, trial: Trial) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def started(self, number: int, request: Request) -> None:
        if self.left < 0:
            raise KeyboardInterrupt


# 1: the time that resuming takes


def test_resuming_costs_less_than_the_search_did_though_its_candidates_cost_nothing(tmp_path: Path) -> None:
    """From being asked to resume to the first trial that begins; importing aside."""
    settings = {"evaluator": CHEAP, "trials": 1_001, "baseline": 0, "durable": False, "out": tmp_path / "run"}
    began = time.thread_time()
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "evolution", observer=Stops(1_000), **settings)  # type: ignore[arg-type]
    searched = time.thread_time()
    with pytest.raises(KeyboardInterrupt):
        nasengine.resume(tmp_path / "run", observer=Stops(-1))
    resumed = time.thread_time()
    print(f"search {searched - began:.2f} s, resume {resumed - searched:.2f} s")
    assert resumed - searched < searched - began


# 13: duplicates


class Anything(Strategy):
    """Asks for any architecture at all, also for those that it has asked for."""

    def ask(self) -> Request | None:
        return self.evaluate(self.domain.sample(self.rng))

    def tell(self, trial: Trial) -> None:
        pass


class Counts(Evaluator):
    """Counts how often each network was judged."""

    def __init__(self) -> None:
        self.judged: Counter[str] = Counter()

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        if not context.final:
            self.judged[context.space.canonical(architecture).id] += 1
        return {"accuracy": int(architecture.id[:8], 16) / 16**8}


class Folded(TinySpace):
    """Of two widths one network: what differs in nothing else is the same."""

    def canonical(self, architecture: Architecture) -> Architecture:
        return Architecture(architecture.space, architecture.options, {**architecture.picks, "width": 2})


def check_duplicates(folder: Path, proposals: int) -> None:
    counts = Counts()
    run = nasengine.search(
        Folded(), Anything(), TinyTask(), counts, trials=proposals, baseline=0, out=folder, durable=False
    )
    assert set(counts.judged.values()) == {1}
    assert 100 < len(counts.judged) <= 162
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert len(searched) == proposals
    assert sum(trial.same_as is None for trial in searched) == len(counts.judged)


def test_of_many_proposals_in_a_small_space_none_is_evaluated_twice(tmp_path: Path) -> None:
    check_duplicates(tmp_path / "run", 2_000)


@pytest.mark.slow
def test_of_100000_proposals_in_a_small_space_none_is_evaluated_twice(tmp_path: Path) -> None:
    check_duplicates(tmp_path / "run", 100_000)


def test_a_strategy_that_only_repeats_itself_is_recorded_as_it_goes(tmp_path: Path) -> None:
    """And so is heard of, and can be asked to end, in between."""

    class Heard(Observer):
        trials = 0

        def ended(self, trial: Trial) -> None:
            self.trials += 1

    class Repeats(Anything):
        asked = silence = 0

        def ask(self) -> Request | None:
            self.asked += 1
            self.silence = max(self.silence, self.asked - heard.trials)
            return super().ask()

    heard, strategy = Heard(), Repeats()
    nasengine.search(
        Folded(), strategy, TinyTask(), Counts(), trials=3_000, baseline=0, out=tmp_path / "run", observer=heard
    )
    assert strategy.silence < 500


# 22: 100,000 trials

MEASURE = """
import json, os, sys, time
import nasengine

class Measures(nasengine.Observer):
    def __init__(self):
        self.times, self.memory = [], []
    def ended(self, trial):
        self.times.append(time.perf_counter())
        with open("/proc/self/statm") as file:
            self.memory.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

watch = Measures()
strategy, evaluator, trials, folder = sys.argv[1:]
nasengine.search(
    "chain:stages=3,layers=4", strategy, evaluator=evaluator, trials=int(trials), baseline=0, out=folder,
    observer=watch, durable=False,
)
print(json.dumps([watch.times, watch.memory]))
"""


def grown(folder: Path, strategy: str, trials: int) -> tuple[float, float]:
    """How many times longer a trial took in the last tenth of a search than in the first, and bytes added a trial."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, strategy, CHEAP, str(trials), str(folder / "run")],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    times, memory = map(np.array, json.loads(done.stdout))
    tenth = trials // 10
    each = np.diff(times)
    slower = float(np.median(each[-tenth:]) / np.median(each[:tenth]))
    added = float(memory[-tenth:].mean() - memory[tenth : 2 * tenth].mean()) / (trials - 2 * tenth)
    print(f"{strategy}: × {slower:.2f} a trial, {added:.0f} bytes a trial")
    return slower, added


@pytest.mark.slow
def test_a_trial_takes_as_long_at_the_end_of_a_search_as_at_its_beginning(tmp_path: Path) -> None:
    slower, _ = grown(tmp_path, "evolution", 1_500)
    assert slower < 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "evolution"])
def test_100000_trials_take_flat_memory_and_flat_time(strategy: str, tmp_path: Path) -> None:
    slower, added = grown(tmp_path, strategy, 100_000)
    assert slower < 1.5
    assert added < 512  # a network's id in a table of those that were judged; a trial itself is some kilobytes
