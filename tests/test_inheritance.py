"""Weights handed down from a trial to its children: that they arrive, how long they stay, and what their loss costs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nasengine
from nasengine import (
    Architecture,
    Context,
    Evaluate,
    Evaluator,
    Fidelity,
    Learn,
    Metrics,
    Objective,
    Observer,
    Request,
    Run,
    RunFailed,
    Strategy,
    TrainingDiverged,
    Trial,
)
from nasengine.evaluators.train import Train
from nasengine.inheritance import Legacies, hand_down, take_over, weights_name, weights_of
from nasengine.standing import Standing
from nasengine.storage import Folder
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Outcome, request_from_dict, request_to_dict
from nasengine.worker import Worker

CPU = torch.device("cpu")
DOMAIN = TinySpace().domain(TinyTask())
WIDE, NARROW = (DOMAIN.complete({"width": width, "edges": ("a", "b")}) for width in (4, 2))
OTHER = DOMAIN.complete({"width": 4, "edges": ("a", "c")})


class Family(Strategy):
    """Asks for the architectures in order, each with the parent named: a number, or None."""

    inherits = True

    def __init__(self, *wanted: tuple[Architecture, int | None], keeps: Collection[int] | None = None) -> None:
        self.wanted, self.keeps = list(wanted), keeps

    def prepare(self) -> None:
        self.left = list(self.wanted)

    def ask(self) -> Request | None:
        return self.evaluate(*self.left.pop(0)) if self.left else None

    def parents(self) -> Collection[int] | None:
        return self.keeps

    def tell(self, trial: Trial) -> None:
        pass


class Childless(Family):
    inherits = False


class Remembers(Evaluator):
    """Keeps what each model began with and what became of it, by the trial's seed; trains by changing every tensor.

    fails: the architecture that it fails on, after it handed the model over.
    """

    def __init__(self, fails: Architecture | None = None) -> None:
        self.fails = fails
        self.begun: dict[int, dict[str, Tensor]] = {}
        self.ended: dict[int, dict[str, Tensor]] = {}

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        model = context.model(architecture)
        context.save(model)
        self.begun[context.seed] = copied(model.state_dict())
        for epoch in context.epochs(2):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1 + torch.rand(parameter.shape))
            self.ended[context.seed] = copied(model.state_dict())
            yield {"accuracy": epoch / 2}
        if architecture == self.fails:
            raise TrainingDiverged("it was not to be")
        return {"accuracy": len(self.begun) / 100}


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def searched(
    folder: Path, strategy: Strategy, evaluator: Evaluator | None = None, **options: Any
) -> tuple[list[Trial], Remembers]:
    """The trials of a search on the tiny space, and what the evaluator remembers of them."""
    evaluator = evaluator or Remembers()
    settings = {"trials": 9, "baseline": 0, "out": folder, **options}
    run = nasengine.search(TinySpace(), strategy, TinyTask(), evaluator, **settings)
    assert isinstance(evaluator, Remembers)
    return run.all_trials, evaluator


def fresh(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    return copied(Context(TinySpace(), TinyTask(), CPU, seed).model(architecture).state_dict())


# What arrives


def test_a_child_of_the_same_architecture_begins_with_exactly_its_parents_trained_weights(tmp_path: Path) -> None:
    trials, saw = searched(tmp_path, Family((WIDE, None), (WIDE, 0)))
    parent, child = trials[0].seed, trials[1].seed
    assert equal(saw.begun[child], saw.ended[parent])
    assert equal(saw.begun[parent], fresh(WIDE, parent))
    assert not equal(saw.begun[child], fresh(WIDE, child))


def test_what_does_not_agree_in_name_or_shape_is_initialised_from_the_childs_own_seed(tmp_path: Path) -> None:
    trials, saw = searched(tmp_path, Family((WIDE, None), (OTHER, 0), (NARROW, 0)))
    parent, other, narrow = (saw.ended[trials[0].seed], saw.begun[trials[1].seed], saw.begun[trials[2].seed])
    own = fresh(OTHER, trials[1].seed)
    shared = {name for name in other if name in parent}
    assert shared
    assert set(other) - shared
    for name in other:
        assert torch.equal(other[name], parent[name] if name in shared else own[name])
    alike = {name for name in narrow if name in parent and narrow[name].shape == parent[name].shape}
    own = fresh(NARROW, trials[2].seed)
    assert alike == {"head.bias"}
    for name in narrow:
        assert torch.equal(narrow[name], parent[name] if name in alike else own[name])


def test_statistics_are_taken_over_as_well_and_what_is_not_the_models_is_ignored() -> None:
    model, other = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)) for _ in range(2))
    other(torch.randn(8, 2))
    take_over(model, {**other.state_dict(), "2.weight": torch.ones(3)})
    assert equal(model.state_dict(), other.state_dict())


def test_the_final_training_is_from_scratch(tmp_path: Path) -> None:
    trials, saw = searched(tmp_path, Family((NARROW, None), (WIDE, 0), (WIDE, 1)), baseline=1)
    final, baseline = trials[3:]
    assert (final.purpose, baseline.purpose) == ("final", "baseline")
    for trial in (final, baseline):
        assert trial.architecture is not None
        assert equal(saw.begun[trial.seed], fresh(trial.architecture, trial.seed))


def test_weights_travel_by_way_of_the_storage_that_was_asked_for(tmp_path: Path) -> None:
    storage = tmp_path / "elsewhere"
    trials, saw = searched(
        tmp_path / "run", Family((WIDE, None), (WIDE, 0)), storage=str(storage), observer=Counts(storage)
    )
    assert equal(saw.begun[trials[1].seed], saw.ended[trials[0].seed])
    assert not (tmp_path / "run" / "weights").exists()


# How long weights stay


class Counts(Observer):
    """Remembers whose weights were there when each trial had ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen = folder, list[set[int]]()

    def ended(self, trial: Trial) -> None:
        self.seen.append({int(path.stem) for path in self.folder.glob("weights/*.safetensors")})


def test_weights_stay_to_the_end_of_the_run_where_any_trial_may_be_named(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    searched(tmp_path, Family((WIDE, None), (OTHER, None), (WIDE, 1)), observer=counts)
    assert counts.seen == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}]
    assert not list(tmp_path.glob("weights/*"))


def test_weights_that_the_strategy_has_no_more_use_for_are_removed_at_once(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    searched(tmp_path, Family((WIDE, None), (OTHER, None), (WIDE, 1), (OTHER, 1), keeps=(1,)), observer=counts)
    assert counts.seen == [set(), {1}, {1}, {1}, {1}]


def test_weights_stay_while_a_request_under_way_begins_with_them(tmp_path: Path) -> None:
    storage = Folder(tmp_path)
    for number in range(3):
        storage.write(weights_name(number), b"something")
    legacies = Legacies(storage, True)
    for number in range(3):
        legacies.add(Trial(number, Evaluate(WIDE), "done"))
    legacies.settle((), [Evaluate(WIDE, parent=1), Evaluate(OTHER), Learn()])
    assert [(tmp_path / weights_name(number)).exists() for number in range(3)] == [False, True, False]
    assert (0 in legacies, 1 in legacies) == (False, True)
    legacies.settle((), [])
    assert not list(tmp_path.glob("weights/*"))


def test_a_strategy_that_hands_nothing_down_leaves_no_weights(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    searched(tmp_path, Childless((WIDE, None), (OTHER, None)), observer=counts)
    assert counts.seen == [set()] * 3
    assert not (tmp_path / "weights").exists()


def test_a_trial_that_failed_leaves_no_weights(tmp_path: Path) -> None:
    counts = Counts(tmp_path)
    trials, _ = searched(tmp_path, Family((WIDE, None), (OTHER, None)), Remembers(fails=OTHER), observer=counts)
    assert [trial.state for trial in trials] == ["done", "failed", "done"]
    assert counts.seen == [{0}] * 3


def test_a_trial_that_is_stopped_leaves_the_weights_of_its_last_epoch(tmp_path: Path) -> None:
    evaluator, storage = Remembers(), Folder(tmp_path)
    work = Worker(TinySpace(), Family(), evaluator, TinyTask(), "cpu", storage).perform(7, Evaluate(WIDE), 5)
    next(work)
    with pytest.raises(StopIteration) as ended:
        work.send("pruned")
    assert isinstance(ended.value.value, Outcome)
    assert ended.value.value.state == "pruned"
    assert equal(weights_of(storage, weights_name(7)), evaluator.ended[5])


def test_training_hands_its_model_over_before_it_may_be_stopped(tmp_path: Path) -> None:
    storage = Folder(tmp_path)
    work = Worker(TinySpace(), Family(), Train(epochs=3), TinyTask(), "cpu", storage).perform(0, Evaluate(WIDE), 5)
    next(work)
    with pytest.raises(StopIteration):
        work.send("pruned")
    left = weights_of(storage, weights_name(0))
    assert left.keys() == fresh(WIDE, 5).keys()
    assert not equal(left, fresh(WIDE, 5))


# What their loss costs


class Destroys(Observer):
    """Does something to a trial's weights as soon as it has ended."""

    def __init__(self, folder: Path, damage: str) -> None:
        self.folder, self.damage = folder, damage

    def ended(self, trial: Trial) -> None:
        path = self.folder / weights_name(trial.number)
        if path.exists():
            if self.damage == "removed":
                path.unlink()
            else:
                path.write_bytes(b"" if self.damage == "emptied" else path.read_bytes()[:100])


@pytest.mark.parametrize("damage", ["removed", "emptied", "torn"])
def test_a_child_whose_parents_weights_are_missing_begins_anew(damage: str, tmp_path: Path) -> None:
    strategy = Family((WIDE, None), (WIDE, 0))
    trials, saw = searched(tmp_path, strategy, observer=Destroys(tmp_path, damage))
    assert [trial.state for trial in trials] == ["done"] * 3
    assert [trial.notes for trial in trials] == [(), ("it began anew: trial 0 had left no weights",), ()]
    assert equal(saw.begun[trials[1].seed], fresh(WIDE, trials[1].seed))


def test_where_there_is_no_room_for_weights_the_search_goes_on_without(tmp_path: Path) -> None:
    class Full(Observer):
        def opened(self, folder: Path, plan: object) -> None:
            (folder / "weights").write_text("a file where a folder is expected")

    trials, saw = searched(tmp_path, Family((WIDE, None), (WIDE, 0)), observer=Full())
    assert [trial.state for trial in trials] == ["done"] * 3
    assert equal(saw.begun[trials[1].seed], fresh(WIDE, trials[1].seed))


# Who is whose child


def test_a_request_with_a_parent_survives_json_and_an_older_record_has_none() -> None:
    for request in (Evaluate(WIDE, parent=3), Evaluate(WIDE, Fidelity(epochs=2)), Evaluate(WIDE, parent=0), Learn()):
        assert request_from_dict(request_to_dict(request)) == request
    older = {"kind": "evaluate", "architecture": WIDE.to_dict(), "fidelity": Fidelity().to_dict(), "purpose": "search"}
    assert request_to_dict(Evaluate(WIDE)) == older
    assert request_from_dict(older) == Evaluate(WIDE)


def test_the_same_network_is_judged_again_where_it_begins_with_other_weights(tmp_path: Path) -> None:
    wanted = ((WIDE, None), (OTHER, None), (WIDE, 0), (WIDE, 1), (WIDE, 0), (WIDE, None))
    trials, saw = searched(tmp_path, Family(*wanted))
    assert [trial.same_as for trial in trials] == [None, None, None, None, 2, 0, None]
    assert [trial.origin for trial in trials] == [0, 1, 2, 3, 2, 0, 6]
    assert len(saw.begun) == 5
    standing = Standing(DOMAIN, [Objective("accuracy")], 1.0)
    requests = [Evaluate(WIDE, parent=parent) for parent in (None, 0, 1, 11)]
    assert len({standing.network(request) for request in requests}) == 4


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        (Family((WIDE, None), (WIDE, 1)), "1"),
        (Family((WIDE, 0)), "0"),
        (Family((WIDE, None), (OTHER, None), (WIDE, 0), keeps=(1,)), "0"),
        (Family((WIDE, None), (WIDE, "0")), "'0'"),  # type: ignore[arg-type]
        (Family((WIDE, None), (WIDE, False)), "False"),
        (Family((WIDE, None), (WIDE, None), (WIDE, 1)), "1"),
        (Childless((WIDE, None), (WIDE, 0)), "0"),
    ],
    ids=["unknown", "itself", "given up", "text", "bool", "another's result", "none kept"],
)
def test_a_parent_whose_weights_are_not_kept_is_refused(strategy: Strategy, named: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=f"asked for a child of trial {named}, whose weights are not kept; expected"):
        searched(tmp_path, strategy)


# Stopped and resumed


class Lineage(Strategy):
    """Mutants of one of the last three trials, whose weights they inherit."""

    inherits = True

    def prepare(self) -> None:
        self.last: list[Trial] = []

    def parents(self) -> Collection[int]:
        return {trial.number for trial in self.last}

    def ask(self) -> Request:
        if not self.last:
            return self.evaluate(self.domain.sample(self.rng))
        parent = self.last[int(self.rng.integers(len(self.last)))]
        assert parent.architecture is not None
        return self.evaluate(self.domain.mutate(parent.architecture, self.rng), parent.number)

    def tell(self, trial: Trial) -> None:
        if trial.same_as is None:
            self.last = [*self.last, trial][-3:]


class StopsAt(Observer):
    """Interrupts the process at the nth thing that it is told."""

    def __init__(self, stop: int) -> None:
        self.left = stop

    def count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    opened = began = started = reported = ended = count  # type: ignore[assignment]


def table(run: Run) -> list[Any]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_search_with_heirs_stopped_anywhere_resumes_to_the_same_end(step: int, tmp_path: Path) -> None:
    def settings(name: str) -> dict[str, Any]:
        plugins = {"space": TinySpace(), "strategy": Lineage(), "task": TinyTask(), "evaluator": "train:epochs=1"}
        return {**plugins, "trials": 4, "baseline": 0, "out": tmp_path / name}

    whole = nasengine.search(**settings("whole"))
    parents = [trial.request.parent for trial in whole.all_trials if isinstance(trial.request, Evaluate)]
    assert parents == [None, 0, 0, 1, None]
    for stop in itertools.count(4, step):
        name = f"stopped{stop}"
        try:
            nasengine.search(**settings(name), observer=StopsAt(stop))
            break
        except KeyboardInterrupt:
            run = nasengine.resume(tmp_path / name, observer=Observer())
        assert table(run) == table(whole), f"stopped at event {stop}"
        assert not list((tmp_path / name).glob("weights/*")), f"stopped at event {stop}"
    assert stop > 10


def test_what_a_trial_leaves_is_what_its_model_has(tmp_path: Path) -> None:
    model = TinySpace().model(WIDE, TinyTask())
    hand_down(Folder(tmp_path), weights_name(4), model)
    assert equal(weights_of(Folder(tmp_path), weights_name(4)), model.state_dict())
    assert weights_of(Folder(tmp_path), weights_name(5)) == {}


@pytest.mark.slow
def test_a_search_with_heirs_that_dies_at_any_write_resumes_to_the_same_end(tmp_path: Path) -> None:
    """(Where the disk is full it may come to another one: a child whose parent could leave no weights begins anew.)"""
    dying = Path(__file__).parent / "parts" / "dying.py"
    command = [sys.executable, str(dying), "inheriting", "die", str(tmp_path), "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    assert result["times"] > 30


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_workers_on_ray_inherit_as_one_process_does(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"strategy": "large_scale_evolution:population=2", "trials": 8, "baseline": 0}
    asked |= {"space": "nasengine.testing:TinySpace", "task": "nasengine.testing:TinyTask"}
    alone = nasengine.search(**asked, out=tmp_path / "alone", threads=1)
    there = nasengine.search(**asked, out=tmp_path / "there", ray="local")
    assert table(there) == table(alone)
    assert np.sum([trial.request.parent is not None for trial in there.all_trials]) > 3  # type: ignore[union-attr]
