"""Stoppers that are Optuna's pruners: the same trials end after the same epochs as in a study of Optuna's own."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)

from nasengine import Architecture, Evaluate, Metrics, Objective, Trial
from nasengine.evaluators.stoppers.hyperband import Hyperband
from nasengine.evaluators.stoppers.median import Median
from nasengine.evaluators.stoppers.percentile import Percentile
from nasengine.evaluators.stoppers.successive_halving import SuccessiveHalving
from nasengine.evaluators.stoppers.threshold import Threshold

REQUEST = Evaluate(Architecture("any", {}, {}))
TRIALS, EPOCHS = 40, 27
Direction: TypeAlias = Literal["maximize", "minimize"]


def curves(seed: int) -> np.ndarray:
    """(trials, epochs): noisy curves that cross."""
    rng = np.random.default_rng(seed)
    heights, rates = rng.uniform(0.3, 0.9, (TRIALS, 1)), rng.uniform(0.1, 1.5, (TRIALS, 1))
    return heights * (1 - np.arange(2, EPOCHS + 2) ** -rates) + 0.02 * rng.standard_normal((TRIALS, EPOCHS))


def ends_in_optuna(
    pruner: BasePruner, values: np.ndarray, direction: Direction, under_way: int, name: str
) -> list[int]:
    """The epochs that each trial had, with several trials under way that report by turns."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction, pruner=pruner, study_name=name)
    ends = [0] * TRIALS
    running: dict[int, optuna.Trial] = {}
    begun = 0
    while begun < TRIALS or running:
        while begun < TRIALS and len(running) < under_way:
            running[begun] = study.ask()
            begun += 1
        for number, trial in list(running.items()):
            ends[number] += 1
            trial.report(values[number, ends[number] - 1], ends[number])
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                del running[number]
            elif ends[number] == EPOCHS:
                study.tell(trial, values[number, -1])
                del running[number]
    return ends


def ends_here(stopper: Any, values: np.ndarray, direction: Direction, under_way: int) -> list[int]:
    metric = Objective("accuracy", "max" if direction == "maximize" else "min")
    stopper.start([metric], np.random.default_rng(0), EPOCHS)
    points: list[list[Metrics]] = [[{"accuracy": float(value)} for value in row] for row in values]
    ends = [0] * TRIALS
    running: list[int] = []
    begun = 0
    while begun < TRIALS or running:
        while begun < TRIALS and len(running) < under_way:
            running.append(begun)
            begun += 1
        for number in list(running):
            ends[number] += 1
            curve = tuple(points[number][: ends[number]])
            why = stopper.stop(number, REQUEST, curve, EPOCHS)
            if why is not None or ends[number] == EPOCHS:
                stopper.tell(Trial(number, REQUEST, "pruned" if why else "done", curve[-1], curve))
                running.remove(number)
    return ends


CASES = {
    "median": (Median(), MedianPruner()),
    "median, later": (
        Median(n_startup_trials=3, n_warmup_steps=4, interval_steps=3, n_min_trials=4),
        MedianPruner(n_startup_trials=3, n_warmup_steps=4, interval_steps=3, n_min_trials=4),
    ),
    "percentile": (Percentile(percentile=70.0, n_startup_trials=2), PercentilePruner(70.0, n_startup_trials=2)),
    "threshold": (Threshold(lower=0.1, upper=0.6), ThresholdPruner(lower=0.1, upper=0.6)),
    "halving": (SuccessiveHalving(), SuccessiveHalvingPruner(min_resource=1)),
    "halving, later": (
        SuccessiveHalving(min_resource=2, reduction_factor=2, min_early_stopping_rate=1, bootstrap_count=3),
        SuccessiveHalvingPruner(min_resource=2, reduction_factor=2, min_early_stopping_rate=1, bootstrap_count=3),
    ),
    "hyperband": (Hyperband(), HyperbandPruner(max_resource=EPOCHS)),
    "hyperband, of 9": (
        Hyperband(max_resource=9, min_resource=2, reduction_factor=2, bootstrap_count=1),
        HyperbandPruner(max_resource=9, min_resource=2, reduction_factor=2, bootstrap_count=1),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("direction", "under_way"), [("maximize", 1), ("minimize", 1), ("maximize", 3)])
def test_the_same_trials_end_after_the_same_epochs(case: str, direction: Direction, under_way: int) -> None:
    stopper, pruner = CASES[case]
    values = curves(seed=len(case))
    here = ends_here(stopper, values, direction, under_way)
    assert here == ends_in_optuna(pruner, values, direction, under_way, getattr(stopper, "name", "a study"))
    assert any(end < EPOCHS for end in here)
    assert case.startswith("threshold") or max(here) == EPOCHS


@pytest.mark.parametrize("case", CASES)
def test_a_stopper_that_is_told_the_past_at_once_goes_on_as_before(case: str) -> None:
    """As a resumed run tells it: each trial with its whole curve, without having asked about any epoch."""
    stopper = CASES[case][0]
    values = curves(seed=3)
    whole = ends_here(stopper, values, "maximize", 1)
    stopper.start([Objective("accuracy")], np.random.default_rng(0), EPOCHS)
    half = TRIALS // 2
    for number in range(half):
        curve = tuple({"accuracy": float(value)} for value in values[number, : whole[number]])
        stopper.tell(Trial(number, REQUEST, "done" if len(curve) == EPOCHS else "pruned", curve[-1], curve))
    for number in range(half, TRIALS):
        points = [{"accuracy": float(value)} for value in values[number]]
        first = whole[number] // 2 if number == half else 1  # one was under way: it is shown whole again
        for end in range(max(first, 1), EPOCHS + 1):
            why = stopper.stop(number, REQUEST, tuple(points[:end]), EPOCHS)
            if why is not None or end == EPOCHS:
                state: Any = "pruned" if why else "done"
                stopper.tell(Trial(number, REQUEST, state, points[end - 1], tuple(points[:end])))
                assert end == whole[number]
                break


def test_a_known_network_that_is_told_again_counts_once() -> None:
    stopper: Any = Median(n_startup_trials=2)
    stopper.start([Objective("accuracy")], np.random.default_rng(0), EPOCHS)
    curve = tuple({"accuracy": 0.9} for _ in range(3))
    stopper.tell(Trial(0, REQUEST, "done", curve[-1], curve))
    stopper.tell(Trial(1, REQUEST, "done", curve[-1], curve, same_as=0))
    assert stopper.stop(2, REQUEST, ({"accuracy": 0.1},), 3) is None
    stopper.tell(Trial(3, REQUEST, "done", curve[-1], curve))
    assert stopper.stop(2, REQUEST, ({"accuracy": 0.1}, {"accuracy": 0.1}), 3) is not None
