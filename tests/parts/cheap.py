"""Plugins for tests: named by file, as a user would name theirs."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

from torch import nn

from nasengine import Architecture, Context, Evaluator, Fidelity, Metrics


class Cheap(Evaluator):
    """An accuracy from the architecture's id; each evaluation is noted in a file, by the trial's seed."""

    def __init__(self, *, log: str = "", seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{context.seed}\n")
        time.sleep(self.seconds)
        return {"accuracy": int(architecture.id[:8], 16) / 16**8}


class Stepwise(Evaluator):
    """Four epochs of nothing: a curve without a model. They take no time once the file `until` is there."""

    def __init__(self, *, seconds: float = 0.0, until: str = "") -> None:
        self.seconds, self.until = seconds, until

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        value = int(architecture.id[:8], 16) / 16**8
        for epoch in context.epochs(4):
            time.sleep(0.0 if self.until and Path(self.until).exists() else self.seconds)
            yield {"accuracy": value * (epoch + 1) / 4}
        return {"accuracy": value}


class Faulty(Evaluator):
    """Fails in the way it is told to, on every nth architecture."""

    def __init__(self, *, how: str, every: int = 2) -> None:
        self.how, self.every, self.count = how, every, 0

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        self.count += 1
        if self.count % self.every == 0:
            if self.how == "raise":
                raise ValueError("this candidate is not for us")
            if self.how == "memory":
                raise MemoryError
            if self.how == "allocate":
                nn.Linear(10**7, 10**7)
            if self.how == "nan":
                return {"accuracy": float("nan")}
            if self.how == "text":
                return {"accuracy": "high"}  # type: ignore[dict-item]
            if self.how == "nothing":
                return {}
            if self.how == "other":
                return {"precision": 1.0}
            if self.how == "die":
                os._exit(9)
        return {"accuracy": self.count / (self.count + 1)}


HERE = str(Path(__file__).resolve())
