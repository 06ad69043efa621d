"""Optuna, both ways: a run as a study, for its importances, plots and dashboard; any strategy as a sampler.

    study = nasengine.Run("runs/mine").study()
    optuna.importance.get_param_importances(study)

A study is derived from the run's record and changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..decision import Decision
from ..errors import NasError
from ..ledger import Ledger
from ..trial import Evaluate, Trial
from .encoding import NOT_ACTIVE, decode, distributions, encode, observed
from .sampler import StrategySampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from ..run import Run

__all__ = [
    "NOT_ACTIVE", "StrategySampler", "add", "decisions_of", "decode", "distributions", "empty_study", "encode", "study",
]  # fmt: skip

STATES = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
"""Every other state of a trial is Optuna's FAIL."""


def study(run: Run) -> optuna.Study:
    """The run's search as a study in memory: the trials that evaluated an architecture and have come back.

    Their values are the run's objectives, the first one's curve their intermediate values. The user attributes hold
    the trial's number in the run (`trial`), the architecture's id, the other metrics, `seconds`, `purpose`, `same_as`
    and `error`.
    """
    made = empty_study(run, optuna.storages.InMemoryStorage())
    add(made, run, run.all_trials)
    return made


def empty_study(run: Run, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """A study for the run's trials, in a storage of the caller's."""
    directions = [
        StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE
        for objective in run.objectives
    ]
    with quiet():
        made = optuna.create_study(storage=storage, study_name=run.folder.resolve().name, directions=directions)
        made.set_metric_names([objective.metric for objective in run.objectives])
    for kind in ("space", "strategy", "evaluator", "task"):
        made.set_user_attr(kind, getattr(run.config, kind).to_dict())
    made.set_user_attr("seed", run.config.seed)
    return made


def add(
    study: optuna.Study, run: Run, trials: Iterable[Trial], decisions: Sequence[Decision] | None = None
) -> list[int]:
    """Adds those of the run's trials that evaluated an architecture for the search; the numbers of those added.

    `decisions` are the parameters' (by default, what `decisions_of` finds); a study's trials must agree in them.
    """
    searched = [t for t in trials if isinstance(t.request, Evaluate) and t.purpose == "search"]
    if not searched:
        return []
    decisions = decisions_of(run) if decisions is None else decisions
    parameters: dict[str, BaseDistribution] = dict(distributions(decisions))
    for trial, (started, ended) in zip(searched, _times(run, searched), strict=True):
        study.add_trial(_frozen(run, trial, decisions, parameters, started, ended))
    return [trial.number for trial in searched]


def decisions_of(run: Run) -> list[Decision]:
    """The decisions of the run's space; where it cannot be made again, those that its trials show."""
    try:
        return list(run.space.domain(run.task).decisions.values())
    except NasError:
        tried = [request.architecture for request in run.requests.values() if isinstance(request, Evaluate)]
        return observed(tried)


def _frozen(
    run: Run,
    trial: Trial,
    decisions: Sequence[Decision],
    parameters: dict[str, BaseDistribution],
    started: datetime,
    ended: datetime,
) -> FrozenTrial:
    architecture = trial.architecture
    if architecture is None:
        raise TypeError(f"trial {trial.number} has no architecture")
    scores = [objective.score(trial) for objective in run.objectives]
    state = STATES.get(trial.state, TrialState.FAIL)
    if state == TrialState.COMPLETE and None in scores:
        state = TrialState.FAIL
    values = [trial.metrics[objective.metric] for objective in run.objectives] if None not in scores else None
    metric = run.objectives[0].metric
    judged = {objective.metric for objective in run.objectives}
    attributes: dict[str, Any] = {name: value for name, value in trial.metrics.items() if name not in judged}
    attributes |= {
        "trial": trial.number,
        "architecture": architecture.id,
        "seconds": trial.seconds,
        "purpose": trial.purpose,
    }
    if trial.same_as is not None:
        attributes["same_as"] = trial.same_as
    if trial.error is not None:
        attributes["error"] = trial.error
    return FrozenTrial(
        number=-1,  # the study gives its own
        trial_id=-1,
        state=state,
        value=None,
        values=None if state == TrialState.FAIL else values,
        datetime_start=started,
        datetime_complete=ended,
        params=dict(encode(decisions, architecture)),
        distributions=parameters,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={epoch: p[metric] for epoch, p in enumerate(trial.curve, 1) if metric in p},
    )


def _times(run: Run, trials: Sequence[Trial]) -> Iterator[tuple[datetime, datetime]]:
    """When each began and ended: as recorded, or, where nothing was handed out, when the one before it ended."""
    settings: Path = run.folder / "config.yaml"
    last = datetime.fromtimestamp((settings if settings.exists() else run.folder).stat().st_mtime)
    ledger = Ledger.read(run.folder)
    try:
        for trial in trials:
            start = ledger.start_of(trial.number)
            began = datetime.fromtimestamp(start.at) if start else last
            last = began + timedelta(seconds=trial.seconds)
            yield began, last
    finally:
        ledger.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from announcing a study that only mirrors a run, and from warning of names for its metrics."""
    import warnings

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
