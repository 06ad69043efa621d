"""Stopper: whether a trial is worth going on with, judged by its curve while it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .evaluator import Metrics
from .plugin import Plugin
from .trial import Evaluate, Objective, Trial

if TYPE_CHECKING:
    import numpy as np


class Stopper(Plugin, ABC):
    """Ends trials of the search early. It sees curves only; it opens no files, prints nothing, reads no clock, and
    draws from `self.rng` only.

    The engine sets `objectives`, `rng` and `full_epochs` with `start`, once, before the first trial.
    """

    objectives: Sequence[Objective]
    rng: np.random.Generator
    full_epochs: int
    """How many epochs a full evaluation takes."""

    def start(self, objectives: Sequence[Objective], rng: np.random.Generator, full_epochs: int) -> None:
        """Called once, before the first trial. Override `prepare` to set up state.

        Raises ConfigError where the stopper cannot work with the objectives.
        """
        self.objectives, self.rng, self.full_epochs = objectives, rng, full_epochs
        self.prepare()

    def prepare(self) -> None:
        """Sets up what the stopper needs; `objectives`, `rng` and `full_epochs` are there."""

    @abstractmethod
    def stop(self, number: int, request: Evaluate, curve: Sequence[Metrics], epochs: int | None) -> str | None:
        """Why the trial is to end here, in a fragment of a sentence; None to go on. Called after each of its epochs.

        curve: the metrics after each epoch so far; curve[-1] is the latest. epochs: how many there will be at most, if
        known. A trial that was interrupted shows its curve again when it goes on: look at the curve, count no calls.
        """

    def tell(self, trial: Trial) -> None:
        """How a trial of the search ended, once. A resumed run tells all past trials again, in order."""
