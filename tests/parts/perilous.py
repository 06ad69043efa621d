"""Evaluators for workers of their own: they die, hang, and take too much."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path

from nasengine import Architecture, Context, Evaluator, Fidelity, Metrics


class Perilous(Evaluator):
    """Does `how` to the process, in a `share` of the trials by their seeds, at most `times` each (0: always)."""

    def __init__(self, *, how: str, marks: str, share: float = 1.0, times: int = 0, seconds: float = 0.0) -> None:
        self.how, self.marks, self.share, self.times, self.seconds = how, Path(marks), share, times, seconds

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        mark = self.marks / f"{context.seed}"
        with open(mark, "a") as file:
            file.write(f"{os.getpid()}\n")
        tries = len(mark.read_text().splitlines())
        struck = not context.final and random.Random(context.seed).random() < self.share
        if struck and (not self.times or tries <= self.times):
            self.strike()
        time.sleep(self.seconds)
        return {"accuracy": int(architecture.id[:8], 16) / 16**8}

    def strike(self) -> None:
        if self.how == "die":
            os._exit(9)
        if self.how == "sleep":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(0.1)
        if self.how == "hang":  # inside C, where no signal's handler is ever called
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sum(itertools.repeat(0))
        if self.how == "memory":
            bytearray(2**30)
        if self.how == "error":
            raise MemoryError


class Epochs(Evaluator):
    """Some epochs, each noted in a file by the trial's seed."""

    def __init__(self, *, log: str, epochs: int = 5, seconds: float = 0.05) -> None:
        self.log, self.epochs, self.seconds = log, epochs, seconds

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        value = int(architecture.id[:8], 16) / 16**8
        for epoch in context.epochs(self.epochs):
            time.sleep(self.seconds)
            with open(self.log, "a") as file:
                file.write(f"{context.seed} {epoch}\n")
            yield {"accuracy": value * (epoch + 1) / self.epochs}
        return {"accuracy": value}
