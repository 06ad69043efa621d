"""Optuna, both ways: a run as a study, and a strategy as a sampler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, Decision, Domain, Request, Run, Strategy, Trial
from nasengine.errors import ReplayError
from nasengine.integrations.optuna import NOT_ACTIVE, StrategySampler, decode, distributions, encode, study
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
STEPWISE = f"{PARTS}:Stepwise"
FAULTY = f"{PARTS}:Faulty:how=raise,every=3"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"


@pytest.fixture(autouse=True)
def _few_words() -> Iterator[None]:
    """Keeps Optuna's line a trial out of what a failed test shows."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(verbosity)


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


def value_of(architecture: Architecture) -> float:
    """What the evaluator `Cheap` says of an architecture."""
    return int(architecture.id[:8], 16) / 16**8


def objective_of(sampler: StrategySampler, tried: list[str] | None = None) -> Callable[[optuna.Trial], float]:
    def objective(trial: optuna.Trial) -> float:
        architecture = sampler.architecture(trial)
        if tried is not None:
            tried.append(architecture.id)
        return value_of(architecture)

    return objective


def tiny(strategy: str | Strategy = "evolution:population=4", **settings: Any) -> StrategySampler:
    return StrategySampler(strategy, TinySpace(), TinyTask(), **settings)


@pytest.mark.parametrize("strategy", ["random", "evolution:population=4"])
def test_a_strategy_proposes_to_optuna_exactly_what_it_proposes_to_the_engine(strategy: str, tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), strategy, TinyTask(), CHEAP, trials=15, seed=3, baseline=0, out=tmp_path / "run"
    )
    ours = [t.architecture.id for t in run.all_trials if t.purpose == "search" and t.architecture]
    sampler = tiny(strategy, trials=15, seed=3)
    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.optimize(objective_of(sampler), n_trials=15)
    assert [trial.user_attrs["architecture"] for trial in made.trials] == ours
    assert [trial.value for trial in made.trials] == [t.metrics["accuracy"] for t in run.all_trials[:15]]


@pytest.mark.parametrize(("direction", "expected"), [("maximize", 3), ("minimize", 0)])
def test_a_study_is_searched_in_its_direction(direction: str, expected: int) -> None:
    sampler = tiny("evolution:population=10,sample=5", trials=120)

    def convolutions(trial: optuna.Trial) -> float:
        return list(sampler.architecture(trial).picks.values()).count("conv")

    made = optuna.create_study(direction=direction, sampler=sampler)  # type: ignore[arg-type]
    made.optimize(convolutions, n_trials=120)
    assert np.median([float(trial.value or 0) for trial in made.trials[60:]]) == expected


class Listens(Strategy):
    """Proposes at random, one at a time if told so, and remembers what it was told."""

    several_objectives = True

    def __init__(self, *, alone: bool = False, limit: int = 100) -> None:
        self.alone, self.limit = alone, limit

    def prepare(self) -> None:
        self.told: list[Trial] = []
        self.asked = 0

    def ask(self) -> Request | None:
        if self.asked == self.limit or (self.alone and self.asked > len(self.told)):
            return None
        self.asked += 1
        return self.evaluate(self.domain.sample(self.rng))

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


def listener(sampler: StrategySampler) -> Listens:
    strategy = sampler._conversation.strategy
    assert isinstance(strategy, Listens)
    return strategy


def test_failed_pruned_and_undefined_trials_are_told_as_what_they_are() -> None:
    sampler = tiny(Listens())

    def objective(trial: optuna.Trial) -> float:
        sampler.architecture(trial)
        trial.report(0.25, 1)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ValueError("no")
        return float("nan") if trial.number == 3 else 0.5

    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.optimize(objective, n_trials=4, catch=ValueError)
    told = listener(sampler).told
    assert [trial.state for trial in told] == ["done", "pruned", "failed", "failed"]
    assert [dict(trial.metrics) for trial in told] == [{"value": 0.5}, {"value": 0.25}, {}, {}]
    assert [list(trial.curve) for trial in told] == [[{"value": 0.25}]] * 4
    assert [trial.error for trial in told] == [None, None, "the objective failed", "the objective failed"]


def test_several_objectives_are_told_by_name_to_strategies_that_take_them() -> None:
    sampler = tiny(Listens())
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        made.set_metric_names(["accuracy", "latency"])
    made.optimize(lambda trial: (value_of(sampler.architecture(trial)), 2.0), n_trials=3)
    assert [str(objective) for objective in listener(sampler).objectives] == ["accuracy:max", "latency:min"]
    assert [dict(t.metrics)["latency"] for t in listener(sampler).told] == [2.0] * 3
    refused = tiny()
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=refused)
    with pytest.raises(ConfigError, match="'evolution' looks at one objective only, and there are 2"):
        made.optimize(lambda trial: (value_of(refused.architecture(trial)), 2.0), n_trials=1)


def test_threads_share_a_strategy_that_waits_for_results() -> None:
    sampler = tiny(Listens(alone=True))
    under_way, most = 0, 0
    lock = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        nonlocal under_way, most
        architecture = sampler.architecture(trial)
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= 1
        return value_of(architecture)

    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.optimize(objective, n_trials=20, n_jobs=4)
    assert most == 1
    assert [trial.number for trial in listener(sampler).told] == list(range(20))
    assert len(made.get_trials(states=[TrialState.COMPLETE])) == 20


def test_threads_do_not_confuse_whose_trial_is_whose() -> None:
    sampler = tiny(Listens())
    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.optimize(objective_of(sampler), n_trials=60, n_jobs=8)
    told = listener(sampler).told
    assert len(told) == 60
    assert all(trial.architecture and trial.metrics["value"] == value_of(trial.architecture) for trial in told)


def test_a_strategy_that_waits_is_not_asked_twice_by_one_thread() -> None:
    sampler = tiny(Listens(alone=True))
    made = optuna.create_study(direction="maximize", sampler=sampler)
    sampler.architecture(made.ask())
    with pytest.raises(ConfigError, match="waits for the results of the 1 trials that are under way"):
        sampler.architecture(made.ask())


def test_a_strategy_that_is_done_ends_the_study() -> None:
    sampler = tiny(Listens(limit=5))
    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.optimize(objective_of(sampler), n_trials=50)
    assert [trial.state.name for trial in made.trials] == ["COMPLETE"] * 5 + ["PRUNED"]


def test_a_strategy_that_learns_in_a_supernet_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="'darts' learns inside a supernet, which only `nas run` gives it"):
        tiny("darts")


def test_a_study_on_disk_goes_on_where_it_was_after_a_kill(tmp_path: Path) -> None:
    expected: list[str] = []
    whole = tiny(seed=5, trials=30)
    optuna.create_study(direction="maximize", sampler=whole).optimize(objective_of(whole, expected), n_trials=30)
    storage, tried = f"sqlite:///{tmp_path / 'study.db'}", list[str]()
    for trials in (11, 4, 15):
        sampler = tiny(seed=5, trials=30)
        made = optuna.create_study(
            storage=storage, study_name="mine", direction="maximize", sampler=sampler, load_if_exists=True
        )
        made.optimize(objective_of(sampler, tried), n_trials=trials)
    assert tried == expected


def test_what_was_running_when_a_study_died_is_told_as_failed_once(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for died in range(3):
        sampler = tiny(Listens())
        made = optuna.create_study(storage=storage, study_name="mine", sampler=sampler, load_if_exists=True)
        made.optimize(objective_of(sampler), n_trials=2)
        told = [(trial.number, trial.state) for trial in listener(sampler).told]
        assert told == [(n, "failed" if n % 3 == 2 else "done") for n in range(3 * died + 2)]
        sampler.architecture(made.ask())  # never told


def test_a_study_is_not_gone_on_with_by_another_seed(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = tiny(seed=0)
    optuna.create_study(storage=storage, study_name="mine", sampler=first).optimize(objective_of(first), n_trials=3)
    other = tiny(seed=1)
    made = optuna.load_study(storage=storage, study_name="mine", sampler=other)
    with pytest.raises(ReplayError, match="'evolution' does not propose again what it proposed for trial 0"):
        made.optimize(objective_of(other), n_trials=1)


def test_parameters_beside_the_architecture_and_enqueued_trials_are_the_users() -> None:
    sampler = tiny(Listens())
    rates = []

    def objective(trial: optuna.Trial) -> float:
        rates.append(trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True))
        return value_of(sampler.architecture(trial)) * rates[-1]

    made = optuna.create_study(direction="maximize", sampler=sampler)
    own = encode(sampler.domain.decisions.values(), next(sampler.domain.enumerate()))
    made.enqueue_trial({**own, "learning_rate": 0.01})
    same = tiny(Listens())
    proposed = same.architecture(optuna.create_study(sampler=same).ask()).picks["width"]
    made.enqueue_trial({"width": 2 if proposed == 4 else 4})
    made.optimize(objective, n_trials=5)
    assert rates[0] == 0.01
    assert len(set(rates)) == 5
    assert {name: made.trials[0].params[name] for name in own} == own
    told = listener(sampler).told
    assert [trial.state for trial in told] == ["failed", "done", "done", "done"]
    assert told[0].error == "another architecture was tried than the one proposed"


def test_hyperbands_pruner_works_with_it() -> None:
    sampler = tiny(Listens())

    def objective(trial: optuna.Trial) -> float:
        value = value_of(sampler.architecture(trial))
        for step in range(1, 10):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    made = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    made.optimize(objective, n_trials=30)
    states = [trial.state.name.lower() for trial in made.trials]
    assert set(states) == {"complete", "pruned"}
    assert [t.state for t in listener(sampler).told] == [s.replace("complete", "done") for s in states]


def test_a_sampler_serves_one_study() -> None:
    sampler = tiny()
    optuna.create_study(study_name="first", sampler=sampler).optimize(objective_of(sampler), n_trials=1)
    with pytest.raises(ConfigError, match="serves the study 'first' already; make another for 'second'"):
        optuna.create_study(study_name="second", sampler=sampler).optimize(objective_of(sampler), n_trials=1)
