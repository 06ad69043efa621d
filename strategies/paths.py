"""Paths of a supernet, judged with the weights that they share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch

from nasengine import Architecture, Objective, Supernet, Task, recalibrate


class Paths:
    """A supernet's paths, judged on the validation data. Something that a checkpoint can keep.

    scores: by the path's canonical id its score, higher is better, and the path.
    """

    def __init__(self, supernet: Supernet, task: Task, calibration: int, batch_size: int) -> None:
        self.supernet, self.task, self.calibration, self.batch_size = supernet, task, calibration, batch_size
        self.objective = Objective.parse(task.objectives[0])
        self.scores: dict[str, tuple[float, Architecture]] = {}

    @property
    def score(self) -> float:
        """The best path's value of the task's first objective."""
        best = max(score for score, _ in self.scores.values())
        return best if self.objective.direction == "max" else -best

    def best(self, count: int) -> list[Architecture]:
        """The best first; of equals, that which was judged first."""
        return [path for _, path in sorted(self.scores.values(), key=lambda found: -found[0])[:count]]

    def judge(self, paths: Iterable[Architecture]) -> None:
        for path in paths:
            self.supernet.pick(path)
            # the same batches for every path
            batches = self.task.train_batches(self.batch_size, torch.Generator().manual_seed(0))
            recalibrate(self.supernet, self.task, islice(batches, self.calibration))
            value = self.task.metrics(self.supernet, "valid")[self.objective.metric]
            score = value if self.objective.direction == "max" else -value
            name = self.supernet.domain.canonical(path).id
            self.scores[name] = (score if math.isfinite(score) else -math.inf, path)

    def state_dict(self) -> dict[str, Any]:
        return {name: [score, path.to_json()] for name, (score, path) in self.scores.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores = {name: (score, Architecture.from_json(path)) for name, (score, path) in state.items()}
