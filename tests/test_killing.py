"""kill -9 at random moments of a real `nas run`, resumed each time: nothing lost, nothing finished run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nasengine
from nasengine import Run

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
TRIALS = 400
NAS = [sys.executable, "-m", "nasengine"]


SPACE, STRATEGY = (
    "chain:stages=1,layers=3,widths=[4,8],kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0",
    "evolution:population=20,sample=5",
)


def command(folder: Path, log: Path) -> list[str]:
    return [
        *NAS, "run", "--space", SPACE, "--strategy", STRATEGY, "--evaluator", f"{CHEAP}:log={log},seconds=0.003",
        "--trials", str(TRIALS), "--out", str(folder), "--quiet",
    ]  # fmt: skip


def result(folder: Path) -> list[tuple[object, ...]]:
    return [(t.number, t.purpose, t.state, t.architecture, dict(t.metrics), t.same_as) for t in Run(folder).all_trials]


def kill_and_resume(folder: Path, kills: int, rng: random.Random) -> None:
    """Starts a search, kills it at random moments after its start-up, resumes it; then lets it finish."""
    whole, log = folder / "whole", folder / "log"
    # in this process, in which strings hash in another way than in those that are killed
    nasengine.search(SPACE, STRATEGY, evaluator=CHEAP, trials=TRIALS, out=whole)
    rounds, done = 0, 0
    while done < kills:
        run = folder / f"killed{rounds}"
        rounds += 1
        acknowledged: list[tuple[int, set[int]]] = []
        arguments = command(run, log)
        log.unlink(missing_ok=True)
        while True:
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            before = len(log.read_text()) if log.exists() else 0
            if done < kills and killed(process, log, before, rng):
                done += 1
            else:
                _, errors = process.communicate()
                assert process.returncode == 0, errors.decode()
                break
            if (run / "ledger.sqlite").exists():
                told = {seed for seed in seeds(run)}
                acknowledged.append((len(log.read_text().splitlines()) if log.exists() else 0, told))
                arguments = [*NAS, "resume", str(run), "--quiet"]
        assert result(run) == result(whole)
        evaluated = [int(line) for line in log.read_text().splitlines()]
        for lines, told in acknowledged:
            again = told & set(evaluated[lines:])
            assert not again, f"{len(again)} finished evaluations were run again"


def seeds(run: Path) -> set[int]:
    """The seeds of the trials whose results are on record."""
    from nasengine.plan import trial_seed

    return {trial_seed(0, trial.number) for trial in Run(run).all_trials}


def killed(process: subprocess.Popen[bytes], log: Path, before: int, rng: random.Random) -> bool:
    """Waits for the first evaluation, then for a random while, and kills; False if the process ended first."""
    while process.poll() is None and (len(log.read_text()) if log.exists() else 0) == before:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.25))
    if process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return True


@pytest.mark.usefixtures("warm_python")
def test_a_search_killed_five_times_is_the_search_it_would_have_been(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 5, random.Random(0))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_search_killed_a_thousand_times_is_the_search_it_would_have_been(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 1000, random.Random(1))
