"""The stopper of several objectives, against hypervolumes that are counted cell by cell."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from nasengine import Architecture, Evaluate, Objective, Trial
from nasengine.evaluators.stoppers.hypervolume import Hypervolume

REQUEST = Evaluate(Architecture("any", {}, {}))
SIDE = 5


def started(objectives: list[Objective], **options: Any) -> Any:
    stopper = Hypervolume(**options)
    stopper.start(objectives, np.random.default_rng(0), 10)
    return stopper


def cells(points: list[tuple[int, ...]], dimensions: int) -> int:
    """The hypervolume above the origin of points with whole coordinates, higher is better: the cells below any."""
    grid = product(range(SIDE), repeat=dimensions)
    return sum(any(all(c < p for c, p in zip(cell, point, strict=True)) for point in points) for cell in grid)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_trial_ends_exactly_where_its_end_would_add_no_hypervolume(dimensions: int) -> None:
    """Curves that are flat leave no margin: the optimistic end is the value now."""
    objectives = [Objective(f"metric{i}", "min" if i == 1 else "max") for i in range(dimensions)]
    rng = np.random.default_rng(dimensions)
    verdicts = []
    for _ in range(30):
        finished = [tuple(map(int, rng.integers(1, SIDE + 1, dimensions))) for _ in range(4)]
        candidate = tuple(map(int, rng.integers(1, SIDE + 1, dimensions)))
        stopper = started(objectives, n_startup_trials=1)

        def shown(point: tuple[int, ...]) -> dict[str, float]:
            return {o.metric: float(v if o.direction == "max" else -v) for o, v in zip(objectives, point, strict=True)}

        for number, point in enumerate(finished):
            stopper.tell(Trial(number, REQUEST, "done", shown(point), (shown(point),) * 3))
        adds_nothing = cells([*finished, candidate], dimensions) == cells(finished, dimensions)
        assert (stopper.stop(9, REQUEST, [shown(candidate)], 3) is not None) == adds_nothing
        verdicts.append(adds_nothing)
    assert {True, False} == set(verdicts)


def test_the_margin_is_the_quantile_of_what_others_still_gained() -> None:
    stopper = started([Objective("accuracy")], quantile=0.5, n_startup_trials=5)
    for number, gain in enumerate((1, 2, 3, 4, 5)):
        curve = tuple({"accuracy": value} for value in (4 - gain, 3 - gain, 4.0))  # the best of the first two counts
        stopper.tell(Trial(number, REQUEST, "done", {"accuracy": 4.0}, curve))
    for value, ends in ((1.0, True), (1.1, False)):  # 1 + 3 is as good as the best result, 1.1 + 3 is better
        why = stopper.stop(9, REQUEST, [{"accuracy": value}, {"accuracy": value - 1}], 3)
        assert (why is not None) == ends
    assert stopper.stop(9, REQUEST, [{"accuracy": 1.0}] * 2, 3) == (
        "after 2 epochs even accuracy 4 at the end would add nothing to the front"
    )


def test_what_was_stopped_is_on_the_front_but_teaches_no_margin() -> None:
    stopper = started([Objective("accuracy")], n_startup_trials=2)
    for number in range(2):
        stopper.tell(Trial(number, REQUEST, "done", {"accuracy": 0.5}, ({"accuracy": 0.5},) * 3))
    assert stopper.stop(9, REQUEST, [{"accuracy": 0.6}], 3) is None
    stopper.tell(Trial(2, REQUEST, "pruned", {"accuracy": 0.7}, ({"accuracy": 0.2}, {"accuracy": 0.7})))
    assert stopper.stop(9, REQUEST, [{"accuracy": 0.6}], 3) is not None


def test_an_objective_that_curves_do_not_show_stops_nothing() -> None:
    stopper = started([Objective("accuracy"), Objective("parameters", "min")], n_startup_trials=1)
    metrics = {"accuracy": 0.9, "parameters": 10.0}
    for number in range(3):
        stopper.tell(Trial(number, REQUEST, "done", metrics, ({"accuracy": 0.9},) * 3))
    assert stopper.stop(9, REQUEST, [{"accuracy": 0.1}], 3) is None


def test_too_few_trials_or_epochs_stop_nothing() -> None:
    stopper = started([Objective("accuracy")], n_startup_trials=2, n_warmup_steps=2)
    for number in range(2):
        assert stopper.stop(9, REQUEST, [{"accuracy": 0.1}] * 2, 3) is None
        stopper.tell(Trial(number, REQUEST, "done", {"accuracy": 0.9}, ({"accuracy": 0.9},) * 3))
    assert stopper.stop(9, REQUEST, [{"accuracy": 0.1}], 3) is None
    assert stopper.stop(9, REQUEST, [{"accuracy": 0.1}] * 2, 3) is not None
