"""Optuna, both ways: a run as a study, and a strategy as a sampler."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import nasengine
from nasengine import Architecture, ArchitectureError, Decision, Domain, Run
from nasengine.integrations.optuna import NOT_ACTIVE, decode, distributions, encode, study
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
STEPWISE = f"{PARTS}:Stepwise"
FAULTY = f"{PARTS}:Faulty:how=raise,every=3"
CHAIN = "chain:stages=1,layers=2,widths=[4,8]"


@pytest.fixture(scope="module")
def domain() -> Domain:
    return TinySpace().domain(TinyTask())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of eight trials with curves, and its final training."""
    out = tmp_path_factory.mktemp("run") / "run"
    return nasengine.search(TinySpace(), "evolution:population=4", TinyTask(), STEPWISE, trials=8, baseline=1, out=out)


def test_every_architecture_has_every_parameter_and_comes_back_from_them(domain: Domain) -> None:
    parameters = distributions(domain.decisions.values())
    seen = []
    for architecture in domain.enumerate():
        values = encode(domain.decisions.values(), architecture)
        assert values.keys() == parameters.keys()
        assert all(values[name] in parameters[name].choices for name in values)
        assert decode(domain, values) == architecture
        seen.append(tuple(values.values()))
    assert len(set(seen)) == domain.size == 324


def test_a_k_of_n_choice_is_one_in_or_out_an_option_and_what_has_no_place_is_not_active(domain: Domain) -> None:
    picks: dict[str, Any] = {
        "width": 2,
        "edges": ("a", "c"),
        "edge.a": "conv",
        "edge.c": "pool",
        "repeated": "none",
        "depth": 1,
    }
    values = encode(domain.decisions.values(), Architecture(domain.space, {}, picks))
    assert [values[f"edges: {option}"] for option in "abc"] == ["in", "out", "in"]
    assert (values["edge.a"], values["edge.b"]) == ("conv", NOT_ACTIVE)
    parameters = distributions(domain.decisions.values())
    assert NOT_ACTIVE in parameters["edge.b"].choices
    assert NOT_ACTIVE not in parameters["width"].choices


def test_values_of_no_architecture_are_refused_by_name(domain: Domain) -> None:
    values = encode(domain.decisions.values(), next(domain.enumerate()))
    with pytest.raises(ArchitectureError, match="edges"):
        decode(domain, {**values, "edges: a": "in", "edges: b": "in", "edges: c": "in"})


def test_many_options_are_no_trouble() -> None:
    decision = Decision("layer", "one", tuple(range(500)))
    assert len(distributions([decision])["layer"].choices) == 500


def test_a_run_as_a_study_has_its_evaluations_their_values_curves_and_times(run: Run) -> None:
    before = datetime.fromtimestamp((run.folder / "config.yaml").stat().st_mtime)
    made = run.study()
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert made.direction == optuna.study.StudyDirection.MAXIMIZE
    assert made.metric_names == ["accuracy"]
    assert [t.user_attrs["trial"] for t in made.trials] == [t.number for t in searched]
    for theirs, ours in zip(made.trials, searched, strict=True):
        assert theirs.state == TrialState.COMPLETE
        assert theirs.value == ours.metrics["accuracy"]
        assert theirs.intermediate_values == {epoch: p["accuracy"] for epoch, p in enumerate(ours.curve, 1)}
        assert ours.architecture is not None
        assert theirs.user_attrs["architecture"] == ours.architecture.id
        assert theirs.user_attrs["seconds"] == ours.seconds
        assert decode(TinySpace().domain(TinyTask()), theirs.params) == ours.architecture
        assert theirs.datetime_start is not None
        assert theirs.duration is not None
        assert before.timestamp() - 1 < theirs.datetime_start.timestamp() < datetime.now().timestamp()
        assert theirs.duration.total_seconds() == pytest.approx(ours.seconds, abs=1e-5)
    assert made.best_value == max(t.metrics["accuracy"] for t in searched)


def test_importances_can_be_computed_of_every_parameter(run: Run) -> None:
    importances = optuna.importance.get_param_importances(
        run.study(), evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    assert importances.keys() == distributions(run.space.domain(run.task).decisions.values()).keys()
    assert sum(importances.values()) == pytest.approx(1)


def test_objectives_keep_their_directions_and_failures_say_why(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator=FAULTY, trials=6, baseline=0, out=tmp_path / "run",
    )  # fmt: skip
    made = study(run)
    assert [t.state.name for t in made.trials] == ["COMPLETE", "COMPLETE", "FAIL"] * 2
    assert made.trials[2].value is None
    assert made.trials[2].user_attrs["error"] == "ValueError: this candidate is not for us"
    both = nasengine.search(
        CHAIN, "random", evaluator="train:epochs=1", fidelity="data=0.1", trials=3, baseline=0, out=tmp_path / "both",
        objectives=("accuracy:max", "parameters:min"),
    ).study()  # fmt: skip
    assert [direction.name for direction in both.directions] == ["MAXIMIZE", "MINIMIZE"]
    front = {(t.metrics["accuracy"], t.metrics["parameters"]) for t in Run(tmp_path / "both").front()}
    assert {tuple(trial.values) for trial in both.best_trials} == front


def test_a_space_that_cannot_be_made_again_shows_what_was_tried(tmp_path: Path) -> None:
    class Local(TinySpace):
        pass

    nasengine.search(Local(), "random", TinyTask(), CHEAP, trials=12, baseline=0, out=tmp_path / "run")
    read = Run(tmp_path / "run")
    made = read.study()
    assert len(made.trials) == 12
    assert len({tuple(trial.params) for trial in made.trials}) == 1
    assert {trial.params["edge.a"] for trial in made.trials} > {NOT_ACTIVE}
    assert {trial.params["edges: a"] for trial in made.trials} == {"in", "out"}
