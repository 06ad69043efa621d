"""Candidates that fail in every way, one after the other: each is a trial with its state, and the next starts clean."""

from __future__ import annotations

import ctypes
import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import nasengine
from nasengine import Observer
from nasengine.testing import TinySpace, TinyTask

TROUBLED = f"{Path(__file__).parent / 'parts' / 'troubled.py'}:Troubled"
STATES = {"done": 1, "failed": 3, "out_of_memory": 1, "timed_out": 1}  # of every six


def resident() -> int:
    """Bytes of this process in memory, what is free given back first; on a GPU, the bytes that torch holds there."""
    gc.collect()
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Measures(Observer):
    """Notes how much memory there is after every candidate of a round."""

    def __init__(self) -> None:
        self.levels: list[int] = []

    def ended(self, trial: Any) -> None:
        self.levels.append(resident())


class Fresh(nasengine.Strategy):
    """Draws, whatever it drew before; of what was judged, nothing is told again."""

    def ask(self) -> nasengine.Evaluate:
        self.drawn = getattr(self, "drawn", 0) + 1
        fidelity = nasengine.Fidelity(epochs=self.drawn)  # so that no candidate is one that is known
        return nasengine.Evaluate(self.domain.sample(self.rng), fidelity)

    def tell(self, trial: nasengine.Trial) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("count", [204])
def test_each_ends_in_its_state_and_leaves_no_memory_behind(count: int, tmp_path: Path) -> None:
    measures = Measures()
    run = nasengine.search(
        TinySpace(), Fresh(), TinyTask(), f"{TROUBLED}:megabytes=32", trials=count, baseline=0, max_failures=1.0,
        time_per_trial=2.0, out=tmp_path / "run", observer=measures, durable=False,
    )  # fmt: skip
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert Counter(trial.state for trial in searched) == {state: n * count // 6 for state, n in STATES.items()}
    assert all(trial.metrics["held"] == 1.0 for trial in searched if trial.state == "done")
    settled, last = max(measures.levels[:12]), max(measures.levels[count - 6 : count])
    assert last <= 1.01 * settled, (settled, last)
