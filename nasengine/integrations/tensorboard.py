"""TensorBoard: event files in the run's folder. Look with: tensorboard --logdir RUN/tensorboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from ..observers import Logger, outcome_of, settings_of
from ..run import Run
from ..trial import Trial


class TensorBoard(Logger):
    """The search by trial in one place, and each trial's curve by epoch in one of its own, `trial-0003`.

    Options:
        folder: where the event files go; by default `tensorboard` in the run's folder.
    """

    name = "tensorboard"

    def __init__(self, *, folder: str | None = None) -> None:
        self._given = folder

    def begin(self, identity: str | None) -> str:
        self._where = Path(self._given) if self._given else self.folder / "tensorboard"
        self._search = SummaryWriter(str(self._where / "search"))
        self._curves: dict[int, SummaryWriter] = {}
        if identity is None:
            settings = "\n".join(f"| {name} | {value} |" for name, value in settings_of(self.plan).items())
            self._search.add_text("settings", f"| setting | value |\n|---|---|\n{settings}")
        return "events"

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        if number not in self._curves:
            self._curves[number] = SummaryWriter(str(self._where / f"trial-{number:04}"))
        for name, value in metrics.items():
            self._curves[number].add_scalar(name, value, epoch)
        self._curves[number].flush()

    def log_trial(self, trial: Trial) -> None:
        if trial.number in self._curves:
            self._curves.pop(trial.number).close()
        for name, value in {**trial.metrics, "seconds": trial.seconds}.items():
            self._search.add_scalar(f"{trial.purpose}/{name}", value, trial.number)
        if self.best is not None and trial.purpose == "search":
            self._search.add_scalar(f"best/{self.objective.metric}", self.best, trial.number)
        shown = {"state": trial.state, "error": trial.error, "architecture": None}
        if trial.architecture is not None:
            shown["architecture"] = trial.architecture.to_dict()["picks"]
        self._search.add_text(f"{trial.purpose}/trial", f"```\n{json.dumps(shown, indent=2)}\n```", trial.number)
        self._search.flush()

    def end(self, run: Run) -> None:
        for writer in self._curves.values():
            writer.close()
        if run.finished:
            for name, value in outcome_of(run).items():
                self._search.add_scalar(name, value, len(run.all_trials))
            if run.best.architecture is not None:
                self._search.add_text("found/architecture", f"```\n{run.best.architecture.to_json(indent=2)}\n```")
        self._search.close()
