"""The engine at more workers than the machine has: an executor whose trials take virtual seconds, nothing sleeping."""

from __future__ import annotations

import heapq
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loop_throughput import INSTANT, SPACE

from nasengine.config import Config
from nasengine.engine import Engine
from nasengine.executors import Message
from nasengine.ledger import Ledger
from nasengine.parts import resolve
from nasengine.storage import storage_at
from nasengine.trial import Outcome, Report, Request, Verdict


class Simulated:
    """Workers whose trials take a virtual second each, and report so many times on the way.

    One message a turn: no two trials share a commit, as they would where several end while the driver works.
    """

    def __init__(self, workers: int, reports: int) -> None:
        self.free, self.reports = workers, reports
        self._now = 0.0
        self._due: list[tuple[float, int, int]] = []

    @property
    def room(self) -> int:
        return self.free

    def submit(self, number: int, request: Request, seed: int) -> str:
        self.free -= 1
        self._go_on(number, 1)
        return "simulated"

    def wait(self) -> list[Message]:
        self._now, number, epoch = heapq.heappop(self._due)
        metrics = {"accuracy": number * 2654435761 % 2**32 / 2**32}
        if epoch <= self.reports:
            self._go_on(number, epoch + 1)
            return [Report(number, epoch, metrics)]
        self.free += 1
        return [Outcome(number, "done", metrics, (metrics,) * self.reports, 1.0, "simulated")]

    def stop(self, number: int, verdict: Verdict) -> None:
        """No trial is stopped here."""

    def close(self) -> None:
        """Nothing runs."""

    def _go_on(self, number: int, epoch: int) -> None:
        heapq.heappush(self._due, (self._now + 1 / (self.reports + 1), number, epoch))


@dataclass(frozen=True)
class Cost:
    """Of a trial, in seconds: what the driver's process computed, and what passed until the next."""

    computed: float
    passed: float


def driven(strategy: str, workers: int, reports: int, trials: int, seed: int) -> Cost:
    """A whole search with a durable record, by the real engine."""
    config = Config.of(
        {"space": SPACE, "strategy": strategy, "evaluator": INSTANT, "trials": trials, "baseline": 0, "seed": seed}
    )
    plan = resolve(config, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = Ledger.create(folder, {})
        engine = Engine(plan, ledger, Simulated(workers, reports), storage_at(name), folder)
        computed, passed = time.process_time(), time.perf_counter()
        engine.run()
        cost = Cost((time.process_time() - computed) / trials, (time.perf_counter() - passed) / trials)
        ledger.close()
    return cost
