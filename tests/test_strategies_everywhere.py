"""Every installed strategy in every installed space: all pairs in the slow tests, a diagonal of them in the others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

import nasengine
from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Evaluate,
    Evaluator,
    Fidelity,
    Metrics,
    OneShotStrategy,
    SearchSpace,
    Strategy,
    Task,
    Trial,
)
from nasengine.registry import installed, load, make
from nasengine.testing import TinyTask

TRIALS = 6
SPACES: dict[str, dict[str, Any]] = {
    "cell": {"layers": 3, "channels": 4, "nodes": 1},
    "chain": {"stages": 1, "layers": 2, "widths": [4, 8], "kernels": [1, 3], "norms": ["batch"], "hidden_layers": 0},
    "gan": {"units": [4, 8]},
    "gnn": {"layers": 2, "hidden": [8, 16]},
    "graphnas": {"heads": [1, 2], "hidden": [4, 8]},
    "hierarchical": {"motifs": [2, 1], "nodes": [3, 3], "cells": 1, "channels": 4},
    "mobile": {"widths": [[4], [4, 8]], "layers": 2, "strides": [1, 1], "expansions": [1, 2], "kernels": [3, 5]},
    "nasbench101": {"vertices": 4, "edges": 5, "stacks": 1, "cells": 1, "channels": 4},
    "nasbench201": {"cells": 1, "channels": 4},
    "nasbench_graph": {"hidden": 4},
    "nasbench_macro": {"channels": 2},
    "nasnet": {"blocks": 1, "channels": 4, "layers": 3},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "bananas": {"initial": 3, "k": 2, "ensemble": 2, "layers": 2, "epochs": 5, "candidates": 10},
    "bohb": {"min_points_in_model": 2},
    "enas": {"batch_size": 24, "controller_steps": 1, "aggregate": 2, "samples": 2, "hidden": 8},
    "evolution": {"population": 3, "sample": 2},
    "generator": {"initial": 3, "k": 2, "samples": 8, "epochs": 2, "surrogate_epochs": 5, "latent": 8, "hidden": 16},
    "large_scale_evolution": {"population": 3},
    "nao": {"initial": 3, "k": 2, "embedding": 8, "hidden": 8, "predictor": 8, "epochs": 2},
    "nsga2": {"population": 3},
    "optuna": {"options": {"n_startup_trials": 3}},
    "ppo": {"batch_size": 2, "epochs": 2, "hidden": 8},
    "reinforce": {"policy": "controller", "hidden": 8},
    "spos": {"batch_size": 24, "population": 3, "generations": 1, "calibration": 1},
}
"""So small that what they learn by takes part in six trials; of the others the defaults are small enough."""
MET = "met 10,000 architectures in a row that are not allowed or isomorphic to earlier ones; expected a smaller space"
REFUSED = {("grid", "nasbench101"): MET, ("grid", "hierarchical"): MET}
"""What ends in a sentence, by strategy and space: at these spaces' own sizes the first architectures, by the ten
thousand, differ in what is not joined to the output, and are one network. A small one is gone through."""


class Formula(Evaluator):
    """A number from the picks, more or less the same for any number of epochs. It costs nothing."""

    simulates = True
    own_epochs = 9
    objectives = ("accuracy:max",)

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        return {"accuracy": worth(architecture) - 0.01 / (fidelity.epochs or 9)}


def worth(architecture: Architecture) -> float:
    return int(hashlib.sha256(architecture.to_json().encode()).hexdigest()[:8], 16) / 16**8


def own(kind: Any) -> list[str]:
    """The names of the installed plugins that are ours."""
    return [listed.name for listed in installed(kind) if listed.distribution == "nasengine"]


def learns(strategy: str) -> bool:
    return issubclass(load("strategy", strategy), OneShotStrategy)


def task_of(space: str) -> Task:
    """A small one that the space has networks for."""
    if space == "gan":
        return cast(Task, make("task", "generation", {"data": "ring", "samples": 50}))
    if load("space", space).family == "GNN":  # type: ignore[attr-defined]
        return cast(Task, make("task", "karate", {}))
    return TinyTask()


def searched(strategy: str, space: str, settings: dict[str, Any], folder: Path) -> None:
    """Searches, and checks that all went as it should; the space's settings are given."""
    one_shot = learns(strategy)
    options = STRATEGIES.get(strategy, {"batch_size": 24} if one_shot else {})
    options = {"epochs": 1, **options} if one_shot else options
    task = task_of(space)
    where = cast(SearchSpace, make("space", space, settings))
    how = cast(Strategy, make("strategy", strategy, options))
    found = nasengine.search(where, how, task, Formula(), trials=TRIALS, baseline=0, out=folder)
    domain = where.domain(task)
    trials = [trial for trial in found.all_trials if trial.purpose == "search"]
    assert [trial.state for trial in trials] == ["done"] * (1 if one_shot else TRIALS)
    for trial in trials:
        assert trial.architecture is not None
        domain.validate(trial.architecture)
        assert domain.allows(trial.architecture)
    if one_shot:
        assert found.best.architecture == trials[0].derived
    else:
        best = max(trials, key=thorough).architecture
        assert best is not None
        assert found.best.architecture is not None
        assert domain.canonical(found.best.architecture) == domain.canonical(best)


def thorough(trial: Trial) -> tuple[int, float]:
    """By how many epochs it was judged, and with what result."""
    assert isinstance(trial.request, Evaluate)
    return trial.request.fidelity.epochs or Formula.own_epochs, trial.metrics["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("space", own("space"))
@pytest.mark.parametrize("strategy", own("strategy"))
def test_every_strategy_searches_every_space(strategy: str, space: str, tmp_path: Path) -> None:
    """Those that learn in a supernet a small one, all others the space at its own size."""
    settings = SPACES[space] if learns(strategy) else {}
    if (strategy, space) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[strategy, space]):
            searched(strategy, space, settings, tmp_path / "run")
        settings = SPACES[space]
    searched(strategy, space, settings, tmp_path / "small")


def diagonal() -> list[tuple[str, str]]:
    """Each strategy with one space, each space with as many strategies as any other."""
    spaces = own("space")
    return [(strategy, spaces[place % len(spaces)]) for place, strategy in enumerate(own("strategy"))]


@pytest.mark.parametrize(("strategy", "space"), diagonal())
def test_every_strategy_searches_some_space(strategy: str, space: str, tmp_path: Path) -> None:
    searched(strategy, space, SPACES[space], tmp_path / "run")


def test_some_strategy_searches_every_space() -> None:
    assert {space for _, space in diagonal()} == set(own("space")) == set(SPACES)
