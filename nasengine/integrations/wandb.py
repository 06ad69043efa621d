"""Weights & Biases: the search as a run, each trial as a step of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wandb

from ..observers import Logger, outcome_of, settings_of
from ..run import Run
from ..trial import Trial


class WeightsAndBiases(Logger):
    """The settings as configuration, the trials as steps, their curves by epoch, the result as summary.

    Options:
        project, entity, group: as W&B knows them.
        mode: online, offline or disabled; by default WANDB_MODE.
        folder: where W&B keeps its files; by default the run's folder.
    """

    name = "wandb"

    def __init__(
        self,
        *,
        project: str = "nasengine",
        entity: str | None = None,
        group: str | None = None,
        mode: str | None = None,
        folder: str | None = None,
    ) -> None:
        self._options = {"project": project, "entity": entity, "group": group, "mode": mode}
        self._given = folder

    def begin(self, identity: str | None) -> str:
        options: dict[str, Any] = dict(self._options)
        self._run = wandb.init(
            **options,
            id=identity,
            resume="allow" if identity else None,
            dir=str(self._given or self.folder),
            name=self.folder.resolve().name,
            config=settings_of(self.plan),
            # a search's own output stays its own, and nobody's code is sent along
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )
        self._run.define_metric("trial")
        self._run.define_metric("epoch")
        for part in ("search", "final", "baseline", "best"):
            self._run.define_metric(f"{part}/*", step_metric="trial")
        self._run.define_metric("curves/*", step_metric="epoch")
        return str(self._run.id)

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **{f"curves/{number}/{name}": value for name, value in metrics.items()}})

    def log_trial(self, trial: Trial) -> None:
        point: dict[str, Any] = {f"{trial.purpose}/{name}": value for name, value in trial.metrics.items()}
        point |= {f"{trial.purpose}/seconds": trial.seconds, f"{trial.purpose}/state": trial.state}
        if trial.error is not None:
            point[f"{trial.purpose}/error"] = trial.error
        if trial.architecture is not None:
            point[f"{trial.purpose}/architecture"] = trial.architecture.to_json()
        if self.best is not None and trial.purpose == "search":
            point[f"best/{self.objective.metric}"] = self.best
        self._run.log({"trial": trial.number, **point})

    def end(self, run: Run) -> None:
        if run.finished:
            self._run.summary.update(outcome_of(run))
            architecture = run.best.architecture
            if architecture is not None:
                artifact = wandb.Artifact(f"architecture-{self._run.id}", type="architecture")
                with artifact.new_file("architecture.json", mode="w", encoding="utf-8") as file:
                    file.write(architecture.to_json(indent=2))
                self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if run.finished else 1)
