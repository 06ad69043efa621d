"""Evaluator: how a candidate is judged; Fidelity: how thoroughly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import ConfigError
from .plugin import Plugin

if TYPE_CHECKING:
    from .architecture import Architecture
    from .context import Context

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How much of a full evaluation to spend.

    epochs: training epochs; None for as many as the task's recipe says.
    data, width, resolution: the fraction (0, 1] of the training data, of the channels, of the image size.
    """

    epochs: int | None = None
    data: float = 1.0
    width: float = 1.0
    resolution: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise ConfigError(f"the fidelity's epochs are {self.epochs}; expected at least 1")
        for name in ("data", "width", "resolution"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"the fidelity's {name} is {getattr(self, name)}; expected a fraction, 0 < x <= 1")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def thoroughness(self) -> tuple[float, float, float, float]:
        """What results are compared by first: a result of more epochs, or of more data, is better known."""
        return (math.inf if self.epochs is None else self.epochs, self.data, self.width, self.resolution)


FULL = Fidelity()
"""All of it."""


class Evaluator(Plugin, ABC):
    """Judges one architecture."""

    simulates: ClassVar[bool] = False
    """Whether its metrics have `simulated_seconds`: what the judgement would take if it were not looked up. With
    `--clock simulated` the run's time limit counts these."""

    @abstractmethod
    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics] | Metrics:
        """The architecture's metrics: finite floats by name, the task's objectives among them.

        A generator yields what is known after each epoch (the trial's curve; a stopper may end it there) and returns
        the judgement. An evaluator that has no curve returns the metrics at once.
        """
