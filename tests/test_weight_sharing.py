"""Judging by shared weights: what a path learns, what a candidate gets, and a learning that happens once."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nasengine
from nasengine import (
    Architecture,
    Chooser,
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    Metrics,
    Observer,
    Run,
    SearchSpace,
    Task,
    TrainingDiverged,
    fair_paths,
    inherit,
    recalibrate,
    train_paths,
)
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.errors import Interrupted
from nasengine.evaluators.train import Train
from nasengine.evaluators.weight_sharing import WeightSharing
from nasengine.models import weights
from nasengine.registry import make
from nasengine.search_spaces.chain import ChainSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.storage import Folder
from nasengine.testing import EvaluatorContract, TinySpace, TinyTask
from nasengine.trial import Teach

CPU = torch.device("cpu")
SMALL = {"epochs": 2, "batch_size": 16, "calibration": 2}
TINY, TINY_TASK = "nasengine.testing:TinySpace", "nasengine.testing:TinyTask"


def small_201() -> SearchSpace:
    return NASBench201Space(channels=2, cells=1)


class TestUniformSampling(EvaluatorContract):
    def make(self) -> Evaluator:
        return WeightSharing(**SMALL)


class TestStrictFairness(EvaluatorContract):
    def make(self) -> Evaluator:
        return WeightSharing(**SMALL, sampling="fair")

    def space(self) -> SearchSpace:
        return small_201()


class TestTrainThatInheritsFromTheSupernet(EvaluatorContract):
    def make(self) -> Evaluator:
        return Train(epochs=3, inherit="supernet", supernet_epochs=1, seeds=2)


class Lossy(TinyTask):
    """Says the validation loss, too: it shows differences that the accuracy on 24 images hides."""

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Any) -> Mapping[str, float]:
        found = super().metrics(model, split)
        return {**found, "loss": float(self.loss(model, self._parts[split]))}


def taught(evaluator: Any, space: SearchSpace, task: Task) -> dict[str, Tensor]:
    context = Context(space, task, CPU, seed=1)
    assert list(evaluator.learn(context))
    assert context.saved is not None
    return weights(context.saved)


def judged(
    evaluator: Any,
    space: SearchSpace,
    task: Task,
    learnt: Mapping[str, Tensor],
    architecture: Architecture,
    seed: int = 0,
) -> Metrics:
    return evaluator.evaluate(architecture, Fidelity(), Context(space, task, CPU, seed, learnt=learnt))


# How paths learn


def test_fair_paths_have_every_option_of_every_decision_once() -> None:
    domain, rng = small_201().domain(TinyTask()), np.random.default_rng(0)
    for _ in range(20):
        paths = fair_paths(domain, rng)
        assert len(paths) == 5
        for name, decision in domain.decisions.items():
            assert sorted(path.picks[name] for path in paths) == sorted(decision.options)


SPACES: dict[str, dict[str, Any]] = {
    TINY: {},
    "cell": {"layers": 2, "channels": 2, "nodes": 2},
    "chain": {"stages": 1, "layers": 2, "widths": (4, 8)},
    "hierarchical": {"motifs": (2, 1), "nodes": (3, 3), "cells": 1, "channels": 4},
    "mobile": {"layers": 2, "widths": ((4, 8), (8, 16)), "strides": (1, 2), "stem": 4, "head": 8},
    "nasbench101": {"vertices": 5, "channels": 4, "stacks": 1, "cells": 1},
    "nasbench201": {"channels": 2, "cells": 1},
    "nasbench_macro": {"channels": 2},
    "nasnet": {"layers": 2, "channels": 2, "blocks": 1},
}


@pytest.mark.parametrize("space", SPACES)
def test_fair_paths_of_any_space_are_allowed_and_fair_where_decisions_are_made(space: str) -> None:
    made_space: Any = make("space", space, SPACES[space])
    domain = made_space.domain(TinyTask())
    paths = fair_paths(domain, np.random.default_rng(1))
    for path in paths:
        domain.validate(path)
    for name, decision in domain.decisions.items() if domain.violation is None else ():
        met = Counter(decision.options[i] for p in paths if name in p.picks for i in decision.indices(p.picks[name]))
        counts = [met[option] for option in decision.options]
        assert max(counts) - min(counts) <= 1, name


def test_what_comes_up_once_more_is_drawn_by_lot() -> None:
    domain, rng = TinySpace().domain(TinyTask()), np.random.default_rng(0)
    often = Counter(path.picks["width"] for _ in range(200) for path in fair_paths(domain, rng))
    assert len(fair_paths(domain, rng)) == 3
    assert abs(often[2] - often[4]) < 60  # 300 each; by a fixed order one would have 400


def test_a_step_is_one_along_the_sum_of_the_gradients_of_its_paths() -> None:
    task, space = TinyTask(), TinySpace()
    supernet = Context(space, task, CPU, seed=0).supernet()
    rng = np.random.default_rng(3)
    paths = [supernet.domain.sample(rng) for _ in range(3)]
    batch = next(task.train_batches(16, torch.Generator().manual_seed(0)))
    expected = {name: torch.zeros_like(p) for name, p in supernet.named_parameters()}
    losses = []
    for path in paths:
        other = deepcopy(supernet)
        other.pick(path)
        loss = functional.cross_entropy(other(batch[0]), batch[1])
        losses.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in other.named_parameters():
            expected[name] += 0 if p.grad is None else p.grad
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    step = torch.optim.SGD(supernet.parameters(), 0.5)
    assert train_paths(supernet, task, [batch], step, lambda: paths) == pytest.approx(sum(losses) / 3)
    for name, p in supernet.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] - 0.5 * expected[name], msg=name)


class Three(SearchSpace):
    """Three decisions in a row, of three layers each."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        rows = [choose.one(f"{i}", {name: lambda: nn.Linear(16, 16) for name in "abc"}) for i in range(3)]
        return nn.Sequential(nn.Flatten(), *rows, nn.Linear(16, 2))


def test_a_fair_step_moves_every_option_and_a_uniform_one_a_path() -> None:
    space, task = Three(), TinyTask()
    before = Context(space, task, CPU, seed=1).supernet().module.state_dict()
    for sampling, moved in (("fair", 3 * 3 + 1), ("uniform", 3 + 1)):
        after = taught(WeightSharing(epochs=1, batch_size=48, sampling=sampling), space, task)
        assert sum(not torch.equal(after[name], before[name]) for name in before) == 2 * moved, sampling


# What a candidate gets


def test_a_candidate_is_a_plain_model_with_the_supernets_weights_and_statistics_of_its_own() -> None:
    """Weights copied by name; statistics from a loop over the inputs of each normalisation."""
    space, task = small_201(), Lossy()
    evaluator = WeightSharing(**SMALL)
    learnt = taught(evaluator, space, task)
    rng = np.random.default_rng(0)
    for architecture in (space.domain(task).sample(rng) for _ in range(4)):
        model = space.model(architecture, task)
        model.load_state_dict({name: learnt[name] for name in model.state_dict()})
        found = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
        inputs: dict[str, list[Tensor]] = {name: [] for name in found}
        for name, module in found.items():
            module.register_forward_pre_hook(lambda _, given, seen=inputs[name]: seen.append(given[0]))
        model.train()
        with torch.no_grad():
            for images, _ in islice(task.train_batches(16, torch.Generator().manual_seed(0)), 2):
                model(images)
        for name, module in found.items():
            for buffer, statistic in ((module.running_mean, Tensor.mean), (module.running_var, Tensor.var)):
                assert buffer is not None
                batches = [statistic(value.transpose(0, 1).flatten(1), dim=1) for value in inputs[name]]
                buffer.copy_(torch.stack(batches).mean(0))
        expected = task.metrics(model, "valid")
        metrics = judged(evaluator, space, task, learnt, architecture)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
        assert metrics["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("space", SPACES)
def test_a_candidate_of_any_space_is_judged_as_its_path_is(space: str) -> None:
    task: Task = Lossy()
    made_space: Any = make("space", space, SPACES[space])
    evaluator: Any = WeightSharing(epochs=1, batch_size=24, calibration=2)
    learnt = taught(evaluator, made_space, task)
    supernet = Context(made_space, task, CPU, seed=9).supernet()
    supernet.module.load_state_dict(learnt)
    path = made_space.domain(task).sample(np.random.default_rng(1))
    supernet.pick(path)
    recalibrate(supernet, task, islice(task.train_batches(24, torch.Generator().manual_seed(0)), 2))
    expected = task.metrics(supernet, "valid")
    metrics = judged(evaluator, made_space, task, learnt, path)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_candidate_does_not_depend_on_what_its_worker_did_before() -> None:
    space, task = ChainSpace(stages=1, layers=2, widths=(4, 8), dropouts=(0.5,)), TinyTask()
    for evaluator, fresh in (
        (WeightSharing(**SMALL), WeightSharing(**SMALL)),
        (Train(**INHERITING), Train(**INHERITING)),
    ):
        learnt = taught(evaluator, space, task)
        first, second = (space.domain(task).sample(np.random.default_rng(seed)) for seed in (0, 1))
        all_of(evaluator, space, task, learnt, first)
        again = all_of(evaluator, space, task, learnt, second)
        assert again == all_of(fresh, space, task, learnt, second)


INHERITING: dict[str, Any] = {"epochs": 2, "inherit": "supernet", "supernet_epochs": 1}


def all_of(evaluator: Any, space: Any, task: Task, learnt: Mapping[str, Tensor], architecture: Architecture) -> Any:
    return result_of(judged(evaluator, space, task, learnt, architecture, seed=5))


def result_of(judged: Any) -> Any:
    """The judgement, after the curve, if there is one."""
    if isinstance(judged, Mapping):
        return judged
    curve: list[Metrics] = []
    while True:
        try:
            curve.append(next(judged))
        except StopIteration as ended:
            return curve, ended.value


def test_a_worker_builds_the_supernet_once_and_anew_for_what_was_learnt_anew() -> None:
    class Counts(TinySpace):
        built = 0

        def supernet(self, task: Task) -> Any:
            Counts.built += 1
            return super().supernet(task)

    space, task = Counts(), TinyTask()
    evaluator = WeightSharing(**SMALL)
    learnt = taught(evaluator, space, task)
    rng = np.random.default_rng(0)
    for _ in range(3):
        judged(evaluator, space, task, learnt, space.domain(task).sample(rng))
    assert Counts.built == 2
    judged(evaluator, space, task, dict(learnt), space.domain(task).sample(rng))
    assert Counts.built == 3


def test_a_fidelity_that_makes_networks_smaller_says_nothing_of_the_supernet() -> None:
    task = Lossy()
    space: Any = NASBench201Space(channels=4, cells=1)
    evaluator = WeightSharing(**SMALL)
    learnt = taught(evaluator, space, task)
    whole = space.domain(task).sample(np.random.default_rng(0))
    smaller = Architecture(whole.space, {**whole.options, "channels": 2}, whole.picks)
    found = [judged(evaluator, space, task, learnt, architecture) for architecture in (whole, smaller)]
    assert found[0] == found[1]


def test_images_of_another_size_are_refused() -> None:
    context = Context(TinySpace(), TinyTask(), CPU, 0, learnt={"x": torch.zeros(1)})
    architecture = TinySpace().domain(TinyTask()).complete({})
    for evaluator in (WeightSharing(), Train(inherit="supernet")):
        with pytest.raises(ConfigError, match="resolution"):
            result_of(evaluator.evaluate(architecture, Fidelity(resolution=2), context))


# Training that begins with the supernet's weights


class Notes(TinyTask):
    """Notes what each training begins with, and whether it is a final one."""

    begun: list[tuple[bool, dict[str, Tensor]]]

    def fit(self, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Any = None) -> Iterator[Any]:
        self.begun.append((context.final, weights(model)))
        yield from super().fit(model, fidelity, context, recipe)


def test_candidates_begin_with_the_supernets_weights_and_the_final_trainings_anew(tmp_path: Path) -> None:
    task, space = Notes(), TinySpace()
    task.begun = []
    evaluator = Train(**INHERITING)
    run = nasengine.search(space, "random", task, evaluator, trials=3, baseline=1, out=tmp_path / "run")
    (taught_by,) = [trial for trial in run.all_trials if isinstance(trial.request, Teach)]
    context = Context(space, task, CPU, taught_by.seed)
    curve = [dict(point) for point in evaluator.learn(context)]
    assert curve == [dict(point) for point in taught_by.curve]
    supernet: Any = Context(space, task, CPU, 0).supernet()
    supernet.module.load_state_dict(weights(context.saved))  # type: ignore[arg-type]
    trials = [trial for trial in run.all_trials if trial.architecture is not None]
    assert [final for final, _ in task.begun] == [False] * 3 + [True] * 2
    for trial, (final, begun) in zip(trials, task.begun, strict=True):
        assert trial.architecture is not None
        model = Context(space, task, CPU, trial.seed).model(trial.architecture)
        fresh = weights(model)
        inherit(model, supernet)
        expected, other = (fresh, weights(model)) if final else (weights(model), fresh)
        assert all(torch.equal(begun[name], expected[name]) for name in expected)
        assert any(not torch.equal(begun[name], other[name]) for name in other)


def test_a_parents_weights_come_before_the_supernets() -> None:
    space, task = TinySpace(), Notes()
    task.begun = []
    evaluator = Train(**INHERITING)
    learnt = taught(evaluator, space, task)
    architecture = space.domain(task).complete({})
    parent = weights(space.model(architecture, task))
    context = Context(space, task, CPU, 0, inherited=parent, learnt=learnt)
    list(evaluator.evaluate(architecture, Fidelity(), context))
    assert all(torch.equal(task.begun[0][1][name], parent[name]) for name in parent)


# Whole searches


@pytest.mark.parametrize("sampling", ["uniform", "fair"])
def test_learning_stopped_after_any_epoch_ends_with_the_same_weights(sampling: str, tmp_path: Path) -> None:
    space, task = TinySpace(), TinyTask()
    evaluator = WeightSharing(epochs=3, batch_size=16, sampling=sampling)
    whole = Context(space, task, CPU, seed=1)
    curve = []
    for metrics in evaluator.learn(whole):
        curve.append(metrics)
        write_checkpoint(Folder(tmp_path), len(curve), whole.state())
    for epoch in (1, 2):
        context = Context(space, task, CPU, 1, checkpoint=read_checkpoint(Folder(tmp_path), epoch))
        assert list(evaluator.learn(context)) == curve[epoch:]
        ends = [weights(one.saved) for one in (whole, context)]  # type: ignore[arg-type]
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


class StopsAfter(Observer):
    """Asks for an end after so many epochs."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def reported(self, report: object) -> None:
        self.left -= 1
        self.stop_requested = self.left <= 0


def results(run: Run) -> list[Any]:
    return [(t.architecture, t.purpose, dict(t.metrics), [dict(point) for point in t.curve]) for t in run.all_trials]


@pytest.mark.parametrize(
    "evaluator",
    ["weight_sharing:epochs=3,batch_size=16,calibration=2", "train:epochs=2,inherit=supernet,supernet_epochs=3"],
)
def test_a_search_interrupted_while_it_learns_resumes_to_the_same_end(evaluator: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"strategy": "evolution:population=3", "trials": 6, "baseline": 1, "evaluator": evaluator}
    whole = nasengine.search(TINY, task=TINY_TASK, out=tmp_path / "whole", **asked)
    with pytest.raises(Interrupted):
        nasengine.search(TINY, task=TINY_TASK, out=tmp_path / "stopped", observer=StopsAfter(1), **asked)
    assert not list((tmp_path / "stopped").glob("learnt/*"))
    resumed = nasengine.resume(tmp_path / "stopped")
    assert results(resumed) == results(whole)
    assert [len(t.curve) for t in resumed.all_trials if isinstance(t.request, Teach)] == [3]
    assert not list((tmp_path / "stopped").glob("learnt/*"))


def test_what_shared_weights_find_is_trained_in_the_end(tmp_path: Path) -> None:
    run = nasengine.search(
        TINY, "random", TINY_TASK, "weight_sharing:epochs=1", trials=3, baseline=1, out=tmp_path / "run"
    )
    assert run.best.curve
    assert "test_accuracy" in run.best.metrics
    assert run.comparison() is not None
    assert all(set(t.metrics) == {"accuracy", "parameters", "flops"} for t in run.all_trials[1:4])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_judge_by_what_was_learnt_once(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"strategy": "random", "evaluator": "weight_sharing:epochs=2", "trials": 6, "baseline": 1}
    alone = nasengine.search(TINY, task=TINY_TASK, out=tmp_path / "alone", threads=1, **asked)
    both = nasengine.search(TINY, task=TINY_TASK, out=tmp_path / "both", workers=2, **asked)
    assert len([trial for trial in both.all_trials if isinstance(trial.request, Teach)]) == 1
    assert {trial.worker for trial in both.all_trials} == {"w0", "w1"}
    assert results(both)[:7] == results(alone)[:7]  # of equally good ones, that which came back first is trained


class Widths(SearchSpace):
    """Does not say how its width is cut down: it has no supernet."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        width = choose.value("width", (2, 4))
        return nn.Sequential(nn.Flatten(), nn.Linear(16, int(width)), nn.Linear(int(width), 2))


@pytest.mark.parametrize("evaluator", ["weight_sharing", "train:inherit=supernet"])
def test_a_space_without_a_supernet_is_refused_before_the_run(evaluator: str, tmp_path: Path) -> None:
    name = evaluator.partition(":")[0]
    with pytest.raises(ConfigError, match=f"the evaluator '{name}' needs a supernet: the space .* has no supernet"):
        nasengine.search(Widths(), "random", TINY_TASK, evaluator, trials=1, out=tmp_path / "run")
    assert not (tmp_path / "run" / "ledger.sqlite").exists()


def test_weights_that_become_infinite_end_the_learning_in_a_sentence() -> None:
    with pytest.raises(TrainingDiverged, match="the supernet's loss is"):
        taught(WeightSharing(epochs=2, learning_rate=1e30, gradient_clip=0.0), TinySpace(), TinyTask())


@pytest.mark.parametrize(
    ("cls", "options", "sentence"),
    [
        (WeightSharing, {"epochs": 0}, "'weight_sharing' has epochs = 0; expected 1 or more"),
        (WeightSharing, {"batch_size": 0}, "has batch_size = 0; expected 1 or more"),
        (WeightSharing, {"calibration": -1}, "has calibration = -1; expected 0 or more"),
        (WeightSharing, {"weight_decay": -1.0}, "has weight_decay = -1.0; expected 0 or more"),
        (WeightSharing, {"gradient_clip": float("nan")}, "has gradient_clip = nan; expected 0 or more"),
        (WeightSharing, {"learning_rate": 0.0}, "has learning_rate = 0.0; expected a positive number"),
        (WeightSharing, {"momentum": 1.0}, "has momentum = 1.0; expected at least 0, less than 1"),
        (WeightSharing, {"sampling": "fast"}, "has sampling = 'fast'; expected uniform or fair"),
        (Train, {"inherit": "parent"}, "has inherit = parent"),
        (Train, {"supernet_epochs": 3}, "epochs only with it"),
        (Train, {"inherit": "supernet", "supernet_epochs": 0}, "has supernet_epochs = 0; expected 1 or more"),
    ],
)
def test_wrong_options_are_refused(cls: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        cls(**options)


@pytest.mark.parametrize(
    ("evaluator", "fidelity", "sentence"),
    [
        ("weight_sharing", "resolution=2", "judges by a supernet of the task's own resolution"),
        ("train:inherit=supernet", "resolution=2", "makes networks of another size than the supernet's"),
        ("surrogate:evaluator=weight_sharing", "resolution=2", "judges by a supernet of the task's own resolution"),
    ],
)
def test_a_fidelity_that_shared_weights_cannot_follow_is_refused_before_the_run(
    evaluator: str, fidelity: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        nasengine.search(
            "nasbench201:cells=1,channels=4",
            "random",
            evaluator=evaluator,
            fidelity=fidelity,
            trials=2,
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
