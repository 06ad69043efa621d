"""MLflow: the search as a run, each trial as a run nested in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from ..observers import Logger, outcome_of, settings_of
from ..run import Run
from ..trial import Evaluate, Trial

PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"
BATCH = 100
"""How many parameters MLflow takes at once."""


class MLflow(Logger):
    """The settings as parameters, the trials as nested runs with their curves, the best so far by trial.

    Options:
        experiment: the experiment's name, made where there is none.
        uri: the tracking server or database; a folder gets a database of its own. By default MLFLOW_TRACKING_URI.
        run: the run's name; by default that of the run's folder.
    """

    name = "mlflow"

    def __init__(self, *, experiment: str = "nasengine", uri: str | None = None, run: str | None = None) -> None:
        self._experiment_name, self._uri, self._run_name = experiment, uri, run

    def begin(self, identity: str | None) -> str:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces every table of a new database
        uri, artifacts = self._uri, None
        if uri is not None and "://" not in uri and uri != "databricks":
            folder = Path(uri).expanduser().resolve()
            folder.mkdir(parents=True, exist_ok=True)
            uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        self._children: dict[int, str] = {}
        found = self._client.get_experiment_by_name(self._experiment_name)
        self._experiment: str = (
            found.experiment_id
            if found is not None
            else self._client.create_experiment(self._experiment_name, artifact_location=artifacts)
        )
        if identity is not None:
            self._client.update_run(identity, "RUNNING")
            self._run = identity
            return identity
        name = self._run_name or self.folder.resolve().name
        tags = {"nasengine.folder": str(self.folder.resolve())}
        self._run = str(self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)
        self._parameters(self._run, settings_of(self.plan))
        return self._run

    def log_epoch(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        now = _milliseconds()
        points = [Metric(name, value, now, epoch) for name, value in metrics.items()]
        self._client.log_batch(self._child(number), metrics=points)

    def log_trial(self, trial: Trial) -> None:
        child, now = self._child(trial.number), _milliseconds()
        tags = {NAME: f"{trial.purpose} {trial.number}", "state": trial.state, "purpose": trial.purpose}
        if trial.error is not None:
            tags["error"] = trial.error
        values = {**trial.metrics, "seconds": trial.seconds}
        metrics = [Metric(name, value, now, len(trial.curve)) for name, value in values.items()]
        self._client.log_batch(child, metrics=metrics, tags=[RunTag(*tag) for tag in tags.items()])
        architecture = trial.architecture
        if architecture is not None:
            picks = {f"pick.{name}": str(pick) for name, pick in architecture.to_dict()["picks"].items()}
            self._parameters(child, {"architecture": architecture.id, **picks})
        if isinstance(trial.request, Evaluate):
            self._parameters(child, {f"fidelity.{n}": v for n, v in trial.request.fidelity.to_dict().items()})
        self._client.set_terminated(child, "FINISHED" if trial.state in ("done", "pruned") else "FAILED")
        del self._children[trial.number]
        if trial.purpose != "search":
            return
        step = {o.metric: trial.metrics[o.metric] for o in self.plan.objectives if o.metric in trial.metrics}
        step |= {} if self.best is None else {f"best_{self.objective.metric}": self.best}
        self._client.log_batch(self._run, metrics=[Metric(name, v, now, trial.number) for name, v in step.items()])

    def end(self, run: Run) -> None:
        for child in self._children.values():
            self._client.set_terminated(child, "KILLED")
        if run.finished:
            now = _milliseconds()
            points = [Metric(name, value, now, 0) for name, value in outcome_of(run).items()]
            self._client.log_batch(self._run, metrics=points)
            if run.best.architecture is not None:
                self._client.log_dict(self._run, run.best.architecture.to_dict(), "architecture.json")
        self._client.set_terminated(self._run, "FINISHED" if run.finished else "KILLED")

    def _child(self, number: int) -> str:
        """The nested run of a trial, made when it is first spoken of."""
        if number not in self._children:
            made = self._client.create_run(self._experiment, tags={PARENT: self._run}, run_name=f"trial {number}")
            self._children[number] = str(made.info.run_id)
        return self._children[number]

    def _parameters(self, run: str, values: Mapping[str, object]) -> None:
        parameters = [Param(name, str(value)) for name, value in values.items()]
        for first in range(0, len(parameters), BATCH):
            self._client.log_batch(run, params=parameters[first : first + BATCH])


def _milliseconds() -> int:
    return int(1000 * time.time())
