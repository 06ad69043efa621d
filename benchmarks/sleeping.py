"""An evaluator that does nothing for a while: how much of the workers' time the engine leaves unused."""

from __future__ import annotations

import time

from nasengine import Architecture, Context, Evaluator, Fidelity, Metrics


class Sleeping(Evaluator):
    """An accuracy from the architecture's id, after a sleep.

    Options:
        seconds: how long a trial takes.
    """

    def __init__(self, *, seconds: float = 1.0) -> None:
        self.seconds = seconds

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        time.sleep(self.seconds)
        return {"accuracy": int(architecture.id[:8], 16) / 16**8}
