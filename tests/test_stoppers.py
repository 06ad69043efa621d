"""Stoppers, each against the contract; those of one rule against its closed form."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, ConfigError, Evaluate, Fidelity, Objective, Stopper, Trial
from nasengine.evaluators.stoppers.extrapolation import Extrapolation
from nasengine.evaluators.stoppers.hyperband import Hyperband
from nasengine.evaluators.stoppers.hypervolume import Hypervolume
from nasengine.evaluators.stoppers.median import Median
from nasengine.evaluators.stoppers.patience import Patience
from nasengine.evaluators.stoppers.percentile import Percentile
from nasengine.evaluators.stoppers.successive_halving import SuccessiveHalving
from nasengine.evaluators.stoppers.threshold import Threshold
from nasengine.registry import installed, make
from nasengine.testing import StopperContract

ACCURACY, LOSS = Objective("accuracy"), Objective("loss", "min")
REQUEST = Evaluate(Architecture("any", {}, {}))


class TestPatience(StopperContract):
    def make(self) -> Stopper:
        return Patience(epochs=2, min_delta=0.02)


class TestMedian(StopperContract):
    def make(self) -> Stopper:
        return Median(n_startup_trials=2)


class TestPercentile(StopperContract):
    def make(self) -> Stopper:
        return Percentile(percentile=40.0, n_startup_trials=3, n_warmup_steps=2, interval_steps=2)


class TestThreshold(StopperContract):
    def make(self) -> Stopper:
        return Threshold(lower=0.2, upper=0.6)


class TestSuccessiveHalving(StopperContract):
    def make(self) -> Stopper:
        return SuccessiveHalving(reduction_factor=2)


class TestHyperband(StopperContract):
    def make(self) -> Stopper:
        return Hyperband(reduction_factor=2)


class TestHypervolume(StopperContract):
    objectives = (ACCURACY, LOSS)

    def make(self) -> Stopper:
        return Hypervolume(n_startup_trials=2)


class TestExtrapolation(StopperContract):
    epochs = 8

    def make(self) -> Stopper:
        return Extrapolation(min_epochs=4, interval=2, walkers=20, steps=30)


def started(stopper: Any, *objectives: Objective, full_epochs: int = 10, seed: int = 0) -> Any:
    stopper.start(objectives or (ACCURACY,), np.random.default_rng(seed), full_epochs)
    return stopper


def curve(values: Sequence[float], name: str = "accuracy") -> list[Mapping[str, float]]:
    return [{name: value} for value in values]


def stopped_after(stopper: Stopper, values: Sequence[float], name: str = "accuracy", number: int = 0) -> int | None:
    """The epoch that the stopper ends the trial after."""
    points = curve(values, name)
    ends = (e for e in range(1, len(points) + 1) if stopper.stop(number, REQUEST, points[:e], len(points)) is not None)
    return next(ends, None)


def done(number: int, values: Sequence[float], name: str = "accuracy", request: Evaluate = REQUEST) -> Trial:
    return Trial(number, request, "done", {name: values[-1]}, tuple(curve(values, name)))


def test_every_stopper_of_ours_is_listed_and_made_by_its_name() -> None:
    names = {plugin.name for plugin in installed("stopper") if plugin.distribution == "nasengine"}
    assert names == {
        "extrapolation", "hyperband", "hypervolume", "median", "patience", "percentile", "successive_halving",
        "threshold",
    }  # fmt: skip
    for name in names:
        assert isinstance(make("stopper", name, {"lower": 0.5} if name == "threshold" else {}), Stopper)


@pytest.mark.parametrize(
    ("values", "epochs", "min_delta", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 2, 0.0, None),
        ([0.1, 0.3, 0.2, 0.3, 0.9], 2, 0.0, 4),  # as good is not better
        ([0.1, 0.3, 0.2, 0.31, 0.2, 0.3], 2, 0.0, 6),
        ([0.5, 0.5], 1, 0.0, 2),
        ([0.1, 0.15, 0.19, 0.21, 0.25], 2, 0.1, 3),  # 0.19 is not more than 0.1 better than 0.1
        ([0.1, 0.15, 0.21, 0.25, 0.30], 2, 0.1, 5),  # counted from the best that was an improvement
        ([float("nan")] * 3, 3, 0.0, 3),
        ([0.1, float("nan"), 0.2], 2, 0.0, None),
    ],
)
def test_patience_ends_after_so_many_epochs_without_an_improvement(
    values: list[float], epochs: int, min_delta: float, expected: int | None
) -> None:
    assert stopped_after(started(Patience(epochs=epochs, min_delta=min_delta)), values) == expected
    falling = [-value for value in values]
    assert stopped_after(started(Patience(epochs=epochs, min_delta=min_delta), LOSS), falling, "loss") == expected


def test_patience_looks_at_the_curve_and_counts_no_calls() -> None:
    stopper = started(Patience(epochs=3))
    points = curve([0.5, 0.4, 0.4])
    assert all(stopper.stop(0, REQUEST, points, None) is None for _ in range(9))
    assert stopper.stop(1, REQUEST, curve([0.5, 0.4, 0.4, 0.4]), None) == (
        "accuracy was last better 3 epochs ago, with 0.5"
    )


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"lower": 0.2}, [0.3, 0.25, 0.19, 0.5], 3),
        ({"lower": 0.2}, [0.2, 0.2], None),
        ({"upper": 1.0}, [0.5, 1.0, 1.5], 3),
        ({"lower": 0.2, "n_warmup_steps": 3}, [0.1, 0.1, 0.1], 3),
        ({"lower": 0.2, "n_warmup_steps": 2, "interval_steps": 3}, [0.1, 0.3, 0.1, 0.1, 0.1], 5),
        ({"lower": 0.2, "upper": 0.4}, [0.3, float("nan")], 2),
    ],
)
def test_threshold_ends_what_leaves_the_range(
    options: dict[str, Any], values: list[float], expected: int | None
) -> None:
    assert stopped_after(started(Threshold(**options)), values) == expected


def test_reasons_name_what_was_compared() -> None:
    stopper = started(Median(n_startup_trials=3))
    for number, height in enumerate((0.7, 0.8, 0.9)):
        stopper.tell(done(number, [0.1, height, height]))
    assert (
        stopper.stop(3, REQUEST, curve([0.2, 0.5]), 3)
        == "the median of 3 trials after 2 epochs is 0.8, its best is 0.5"
    )
    assert started(Threshold(lower=0.3)).stop(0, REQUEST, curve([0.25]), 3) == (
        "accuracy after 1 epoch is 0.25, below 0.3"
    )
    stopper = started(SuccessiveHalving(reduction_factor=2))
    assert stopper.stop(0, REQUEST, curve([0.5]), 3) is None
    assert stopper.stop(1, REQUEST, curve([0.4]), 3) == (
        "accuracy after 1 epoch is 0.4, which is not among the best 1/2 of 2 trials there"
    )


def test_another_objective_is_looked_at_where_it_is_named() -> None:
    stopper = started(Patience(epochs=1, objective="loss"), ACCURACY, LOSS)
    points = [{"accuracy": 0.5, "loss": 1.0}, {"accuracy": 0.4, "loss": 0.9}, {"accuracy": 0.6, "loss": 0.95}]
    assert stopper.stop(0, REQUEST, points[:2], None) is None
    assert stopper.stop(0, REQUEST, points, None) == "loss was last better 1 epoch ago, with 0.9"


@pytest.mark.parametrize("stopper", [Patience, Median, SuccessiveHalving, Extrapolation])
def test_an_objective_that_the_run_has_not_is_refused(stopper: Any) -> None:
    with pytest.raises(ConfigError, match="'size'; expected one of the run's: accuracy, loss"):
        started(stopper(objective="size"), ACCURACY, LOSS)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("patience", {"epochs": 0}),
        ("patience", {"min_delta": -1.0}),
        ("percentile", {"percentile": 101.0}),
        ("median", {"interval_steps": 0}),
        ("threshold", {}),
        ("threshold", {"lower": 1.0, "upper": 0.0}),
        ("successive_halving", {"reduction_factor": 1}),
        ("successive_halving", {"min_resource": 0}),
        ("hyperband", {"min_resource": 4, "max_resource": 2}),
        ("extrapolation", {"delta": 1.5}),
        ("extrapolation", {"walkers": 31}),
        ("extrapolation", {"calibrate": 1}),
        ("hypervolume", {"quantile": 2.0}),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"'{name}'") as refused:
        make("stopper", name, options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("stopper", [Median, Hypervolume, Extrapolation])
def test_trials_of_another_fidelity_are_not_compared(stopper: Any) -> None:
    kind = started(stopper(**({} if stopper is Extrapolation else {"n_startup_trials": 1})))
    kind.tell(done(0, [0.9] * 10, request=Evaluate(REQUEST.architecture, Fidelity(data=0.5))))
    bad = curve([0.1, 0.15, 0.17, 0.18, 0.185])
    assert kind.stop(1, REQUEST, bad, 10) is None
    kind.tell(done(2, [0.9] * 10))
    assert kind.stop(3, REQUEST, bad, 10) is not None


def test_what_needs_no_optuna_does_not_import_it() -> None:
    code = (
        "import sys, numpy as np\n"
        "from nasengine import Objective\n"
        "from nasengine.registry import make\n"
        "for name in ('patience', 'hypervolume', 'extrapolation'):\n"
        "    make('stopper', name, {}).start([Objective('accuracy')], np.random.default_rng(0), 10)\n"
        "print('optuna' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
