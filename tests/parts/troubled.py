"""A candidate that ends in another way each time: done, NaN, out of memory, hanging, raising, exiting."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from nasengine import Architecture, Context, Evaluator, Fidelity, Metrics

WAYS = ("done", "nan", "memory", "hang", "raise", "exit")


class Troubled(Evaluator):
    """Trains a step, holding a few megabytes, and then ends in the way that its turn is."""

    def __init__(self, *, megabytes: int = 8) -> None:
        self.megabytes, self.count = megabytes, 0

    def evaluate(  # type: ignore[override]
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Iterator[Metrics]:
        way = WAYS[self.count % len(WAYS)]
        self.count += 1
        model = context.model(architecture)
        held = nn.Parameter(torch.ones(self.megabytes * 2**18, device=context.device))
        batch = next(iter(context.task.train_batches(16, context.generator)))
        loss = context.task.loss(model, batch) + held.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        yield {"accuracy": 0.5}
        if way == "nan":
            return {"accuracy": float("nan")}  # type: ignore[return-value]
        if way == "memory":
            torch.empty(2**50, device=context.device)
        if way == "hang":
            time.sleep(60)
        if way == "raise":
            raise ValueError("this candidate is not for us")
        if way == "exit":
            raise SystemExit(3)
        return {"accuracy": 0.5 + 1e-4 * self.count, "held": float(held.detach()[0])}  # type: ignore[return-value]
