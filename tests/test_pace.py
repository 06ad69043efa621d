"""Trials that are over in a moment travel together, and nobody learns less for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasengine
from nasengine import Architecture, ConfigError, Context, Evaluator, Fidelity, Metrics
from nasengine.config import Config
from nasengine.engine import Engine
from nasengine.executors.local import LocalExecutor
from nasengine.executors.pace import MOST, Pace
from nasengine.executors.ray import RayExecutor, Slot
from nasengine.ledger import Ledger
from nasengine.parts import resolve
from nasengine.registry import make
from nasengine.storage import storage_at
from nasengine.trial import Evaluate, Outcome, Report, Request
from nasengine.worker import Worker

CHAIN = "chain:stages=1,layers=3,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


class Instant(Evaluator):
    """Returns at once; or first says something after an epoch, or shows a mistake of the user's."""

    def __init__(self, *, epochs_of: int = -1, mistake_of: int = -1) -> None:
        self.epochs_of, self.mistake_of, self.judged = epochs_of, mistake_of, 0

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        number, self.judged = self.judged, self.judged + 1
        if number == self.mistake_of:
            raise ConfigError("this is a mistake")
        if number == self.epochs_of:
            yield {"accuracy": 0.1}
        return {"accuracy": 0.5}


def executor(evaluator: Evaluator, folder: Path) -> tuple[LocalExecutor, Iterator[tuple[int, Request, int]]]:
    """And requests for it."""
    space, task = make("space", *nasengine.registry.split(CHAIN)), make("task", "digits", {})
    strategy = make("strategy", "random", {})
    worker = Worker(space, strategy, evaluator, task, "cpu", storage_at(folder))  # type: ignore[arg-type]
    architecture = space.domain(task).sample(np.random.default_rng(0))  # type: ignore[attr-defined]
    return LocalExecutor(worker), ((number, Evaluate(architecture), number) for number in range(100))


def test_one_request_is_given_until_something_is_known_then_as_many_as_fill_a_moment() -> None:
    pace = Pace()
    assert pace.at_once == 1
    given = []
    for _ in range(100):
        pace.ended(1e-6)
        given.append(pace.at_once)
    assert given[:3] == [1, 2, 3]
    assert given[-1] == MOST
    pace.ended(0.01)
    assert pace.at_once == 4  # the longest counts
    pace.ended(3.0)
    assert pace.at_once == 1


def test_trials_that_end_within_a_moment_come_back_together(tmp_path: Path) -> None:
    local, requests = executor(Instant(), tmp_path)
    for _ in range(8):
        local.submit(*next(requests))
    assert (local.free, local.room) == (0, 0)
    assert [message.number for message in local.wait()] == list(range(8))
    assert (local.free, local.room) == (1, 1)


def test_a_report_is_handed_over_before_anything_else_begins(tmp_path: Path) -> None:
    local, requests = executor(Instant(epochs_of=1), tmp_path)
    for _ in range(3):
        local.submit(*next(requests))
    first, second = local.wait()
    assert isinstance(first, Outcome)
    assert isinstance(second, Report)
    local.stop(second.number, "pruned")
    ended, last = local.wait()
    assert (ended.number, ended.state) == (1, "pruned")  # type: ignore[union-attr]
    assert (last.number, last.state) == (2, "done")  # type: ignore[union-attr]


def test_what_waits_when_the_search_is_interrupted_never_begins(tmp_path: Path) -> None:
    evaluator = Instant(epochs_of=0)
    local, requests = executor(evaluator, tmp_path)
    for _ in range(3):
        local.submit(*next(requests))
    local.wait()
    local.stop_all("interrupted")
    assert sorted((m.number, m.state) for m in local.wait() if isinstance(m, Outcome)) == [
        (0, "interrupted"), (1, "interrupted"), (2, "interrupted"),
    ]  # fmt: skip
    assert evaluator.judged == 1


def test_a_worker_on_ray_is_interrupted_also_where_the_trial_that_it_was_at_has_ended() -> None:
    pool = object.__new__(RayExecutor)  # without Ray
    pool._pace, pool._idle = Pace(), deque()
    slot = Slot("w0", None, None, numbers=[3, 4])
    pool._slots = [slot]
    pool.stop(3, "interrupted")
    pool._taken(slot, Outcome(3, "done"))
    assert (slot.numbers, slot.verdict) == ([4], "interrupted")
    pool.stop(4, "pruned")
    pool._taken(slot, Outcome(4, "pruned"))
    assert (slot.verdict, list(pool._idle)) == (None, [slot])


def test_results_that_came_before_a_mistake_are_handed_over_first(tmp_path: Path) -> None:
    local, requests = executor(Instant(mistake_of=2), tmp_path)
    for _ in range(4):
        local.submit(*next(requests))
    assert [message.number for message in local.wait()] == [0, 1]
    with pytest.raises(ConfigError, match="this is a mistake"):
        local.wait()


class Eager(LocalExecutor):
    """Takes eight requests at once, as a worker on Ray that is known to be quick."""

    @property
    def room(self) -> int:
        return 8 - len(self._queue) - (self._running is not None)


def searched(folder: Path, strategy: str, evaluator: Any = None) -> tuple[list[Any], int]:
    """The architectures of a search, and how many the strategy was asked for in a row, at most."""
    evaluator = evaluator or Instant()
    config = Config.of({"space": CHAIN, "strategy": strategy, "trials": 40, "baseline": 0})
    plan = resolve(config, {"evaluator": evaluator})
    folder.mkdir()
    ledger, storage = Ledger.create(folder, {}), storage_at(folder)
    worker = Worker(plan.space, plan.strategy, plan.evaluator, plan.task, "cpu", storage)
    Engine(plan, ledger, Eager(worker), storage, folder).run()
    events = [event for event in ledger.events() if event.number is not None]
    ledger.close()
    asked = [event.body["architecture"]["picks"] for event in events if event.kind == "ask"]
    return asked, max(len(list(several)) for kind, several in groupby(e.kind for e in events) if kind == "ask")


def test_a_strategy_that_learns_is_asked_one_by_one(tmp_path: Path) -> None:
    assert searched(tmp_path / "run", "evolution")[1] == 1


def test_one_that_does_not_is_asked_ahead_and_asks_the_same(tmp_path: Path) -> None:
    ahead, at_once = searched(tmp_path / "run", "random")
    assert at_once == 8
    slowly = nasengine.search(CHAIN, "random", evaluator=Instant(), trials=40, baseline=0, out=tmp_path / "slow")
    assert [dict(trial.architecture.picks) for trial in slowly.all_trials if trial.purpose == "search"] == ahead  # type: ignore[union-attr]


def test_nobody_is_asked_ahead_where_results_are_foreseen_by_those_before(tmp_path: Path) -> None:
    surrogate = make("evaluator", "surrogate", {"evaluator": CHEAP, "initial": 30})
    assert searched(tmp_path / "run", "random", surrogate)[1] == 1
