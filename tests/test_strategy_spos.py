"""SPOS: uniform paths, statistics that are a plain model's own, an evolution that finds the best, and resumption."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nasengine
from nasengine import (
    Architecture,
    Chooser,
    ConfigError,
    Context,
    Decision,
    Derivation,
    Domain,
    Observer,
    Run,
    SearchSpace,
    Strategy,
    Supernet,
    Task,
    TrainingDiverged,
    batch_statistics,
    inherit,
    recalibrate,
)
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.errors import Interrupted
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.storage import Folder
from nasengine.strategies.paths import Paths
from nasengine.strategies.spos import SPOS, mutant
from nasengine.testing import StrategyContract, TinySpace, TinyTask

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 16, "population": 4, "generations": 2, "calibration": 2}


class TestSPOS(StrategyContract):
    def make(self) -> Strategy:
        return SPOS(**SMALL)  # type: ignore[no-any-return]


def small_cell() -> SearchSpace:
    return CellSpace(layers=3, channels=2, nodes=2)  # type: ignore[no-any-return]


def small_chain() -> SearchSpace:
    return ChainSpace(stages=1, layers=2, widths=(4, 8))  # type: ignore[no-any-return]


def small_201() -> SearchSpace:
    return NASBench201Space(channels=2, cells=1)  # type: ignore[no-any-return]


def learnt(strategy: Any, space: SearchSpace, task: Task, checkpoint: Any = None) -> tuple[list[Derivation], list[Any]]:
    """What it derives after each epoch, and a checkpoint of each, as it is when it comes back from a file."""
    context = Context(space, task, CPU, seed=3, checkpoint=checkpoint)
    derived, checkpoints = [], []
    for derivation in strategy.learn(context.supernet(), task, context):
        derived.append(derivation)
        checkpoints.append(context.state())
    return derived, checkpoints


# The supernet's training


class Watches(Supernet):
    """Notes the paths that are picked."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__(supernet.module, supernet.domain, supernet.gates)
        self.picked: list[Architecture] = []

    def pick(self, architecture: Architecture) -> None:
        self.picked.append(architecture)
        super().pick(architecture)


class Two(SearchSpace):
    """Two decisions, the second met only inside one option of the first: 3 + 1 architectures."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        def wide() -> nn.Module:
            return choose.one("inner", {name: lambda: nn.Linear(16, 2) for name in ("x", "y", "z")})

        return nn.Sequential(nn.Flatten(), choose.one("outer", {"wide": wide, "narrow": lambda: nn.Linear(16, 2)}))


def test_every_path_is_trained_as_often_as_every_other() -> None:
    task = TinyTask()
    context = Context(Two(), task, CPU, seed=0)
    supernet = Watches(context.supernet())
    list(SPOS(epochs=120, batch_size=16, generations=1, population=1, samples=1).learn(supernet, task, context))
    trained = [supernet.picked[i] for epoch in range(120) for i in range(4 * epoch, 4 * epoch + 3)]
    counts = Counter(trained)
    assert len(counts) == 4
    assert sum((count - 90) ** 2 / 90 for count in counts.values()) < 25  # three degrees of freedom


def test_a_step_changes_the_weights_of_its_path_and_no_others() -> None:
    task = TinyTask()
    context = Context(TinySpace(), task, CPU, seed=1)
    supernet = Watches(context.supernet())
    before = {name: p.detach().clone() for name, p in supernet.module.named_parameters()}
    next(SPOS(epochs=1, batch_size=48, generations=1, weight_decay=0.5).learn(supernet, task, context))
    path = supernet.picked[0]
    own = {name for name, _ in TinySpace().model(path, task).named_parameters()}
    changed = {n for n, p in supernet.module.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= own
    assert any("stem" in name for name in changed)
    assert len(own) < len(before)


# Statistics


@pytest.mark.parametrize("space", [small_cell(), small_201()], ids=["cell", "nasbench201"])
def test_recalibrated_statistics_are_those_of_a_plain_model_on_the_same_batches(space: SearchSpace) -> None:
    task = TinyTask()
    supernet = Context(space, task, CPU, seed=0).supernet()
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.fill_(7.0)
            module.running_var.fill_(9.0)
    batches = list(task.train_batches(16, torch.Generator().manual_seed(5)))
    path = space.domain(task).sample(np.random.default_rng(2))
    supernet.pick(path)
    recalibrate(supernet, task, batches)

    model = space.model(path, task)
    inherit(model, supernet)
    means: dict[str, list[torch.Tensor]] = {}
    variances: dict[str, list[torch.Tensor]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            means.setdefault(name, []).append(inputs[0].mean((0, 2, 3)))
            variances.setdefault(name, []).append(inputs[0].var((0, 2, 3)))

        return hook

    normalisations = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, module in normalisations.items():
        module.register_forward_pre_hook(note(name))
    model.train()
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    found = dict(supernet.module.named_modules())
    assert means
    for name in means:
        torch.testing.assert_close(found[name].running_mean, torch.stack(means[name]).mean(0))
        torch.testing.assert_close(found[name].running_var, torch.stack(variances[name]).mean(0))
        assert found[name].momentum == normalisations[name].momentum


def test_judging_uses_the_paths_own_statistics_and_leaves_dropout_out() -> None:
    class Dropped(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            one = choose.one("one", {"a": lambda: nn.Linear(16, 2), "b": lambda: nn.Linear(16, 2)})
            return nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.BatchNorm1d(16), one)

    task, space = TinyTask(), Dropped()
    paths = Paths(Context(space, task, CPU, seed=0).supernet(), task, 3, 16)
    path = space.domain(task).complete({})
    paths.judge([path])
    model = space.model(path, task)
    inherit(model, paths.supernet)
    images = torch.cat(
        [batch[0].flatten(1) for batch in task.train_batches(16, torch.Generator().manual_seed(0))]
    )  # 48 images: all three batches, of equal size
    torch.testing.assert_close(model[2].running_mean, images.mean(0))  # type: ignore[index]
    assert paths.score == task.metrics(model, "valid")["accuracy"]


def test_without_calibration_the_statistics_stay() -> None:
    task = TinyTask()
    supernet = Context(small_cell(), task, CPU, seed=0).supernet()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    Paths(supernet, task, 0, 16).judge([supernet.domain.complete({})])
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_batch_statistics_train_nothing_but_normalisations_and_end_in_evaluation() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    with batch_statistics(model):
        assert [module.training for module in model] == [False, True, False]
        assert not torch.is_grad_enabled()
    assert not any(module.training for module in model.modules())
    assert torch.is_grad_enabled()


# The evolution


def test_a_mutants_decisions_are_made_anew_with_the_probability() -> None:
    domain = Domain("wide", {}, [Decision(f"v{i}", "value", tuple(range(1000))) for i in range(20)])
    rng = np.random.default_rng(0)
    parent = domain.sample(rng)
    changes = [
        sum(child.picks[name] != parent.picks[name] for name in parent.picks)
        for child in (mutant(domain, parent, 0.1, rng) for _ in range(500))
    ]
    assert 1000 - 150 < sum(changes) < 1000 + 150  # 10,000 decisions, deviation 30
    assert mutant(domain, parent, 0.0, rng) == parent


def test_a_generation_is_half_crossovers_and_half_mutants_of_the_best_and_judges_nobody_twice() -> None:
    domain = Domain("wide", {}, [Decision(f"v{i}", "value", tuple(range(9))) for i in range(30)])
    rng = np.random.default_rng(0)
    strategy = SPOS(population=20, top=2)
    paths: Any = Paths.__new__(Paths)
    members = [domain.sample(rng) for _ in range(10)]
    paths.scores = {member.id: (float(index), member) for index, member in enumerate(members)}
    assert paths.best(2) == [members[9], members[8]]
    children = strategy._generation(domain, paths, 20, rng)
    assert len(set(children)) == 20
    assert not set(children) & set(members)
    best = members[9], members[8]
    for child in children[:10]:
        assert all(child.picks[name] in (best[0].picks[name], best[1].picks[name]) for name in child.picks)
    for child in children[10:]:
        assert min(sum(child.picks[n] != parent.picks[n] for n in child.picks) for parent in best) < 12


def test_a_small_space_is_exhausted_without_an_end_of_time() -> None:
    domain = TinySpace().domain(TinyTask())
    paths: Any = Paths.__new__(Paths)
    paths.scores = {domain.canonical(a).id: (0.0, a) for a in domain.enumerate()}
    assert SPOS()._generation(domain, paths, 5, np.random.default_rng(0)) == []


def test_what_is_derived_in_the_end_is_the_best_that_the_evolution_judged() -> None:
    task, space = TinyTask(), TinySpace()
    context = Context(space, task, CPU, seed=0)
    supernet = Watches(context.supernet())
    strategy = SPOS(epochs=3, batch_size=8, population=20, generations=4, calibration=3)
    derived = list(strategy.learn(supernet, task, context))
    judged = set(supernet.picked[3 * (6 + 2) :])
    assert len(judged) == 80 == derived[-1].metrics["paths"]
    scores = {}
    for path in judged:
        supernet.pick(path)
        recalibrate(supernet, task, islice(task.train_batches(8, torch.Generator().manual_seed(0)), 3))
        scores[path] = task.metrics(supernet, "valid")["accuracy"]
    assert derived[-1].metrics["path_score"] == max(scores.values()) == scores[derived[-1].architecture]
    curve = [derivation.metrics["path_score"] for derivation in derived[3:]]
    assert curve == sorted(curve)


def test_an_objective_to_be_minimised_is_minimised() -> None:
    class Loss(TinyTask):
        objectives = ("loss:min",)

        def metrics(self, model: nn.Module, split: Any) -> Any:
            return {"loss": 1 - super().metrics(model, split)["accuracy"]}

    derived, _ = learnt(SPOS(**SMALL), TinySpace(), Loss())
    upwards, _ = learnt(SPOS(**SMALL), TinySpace(), TinyTask())
    assert [d.architecture for d in derived] == [d.architecture for d in upwards]
    assert [d.metrics["path_score"] for d in derived] == pytest.approx([1 - d.metrics["path_score"] for d in upwards])


# Whole searches


@pytest.mark.parametrize("epoch", range(4))
def test_learning_stopped_after_any_epoch_or_generation_ends_as_the_whole_one(epoch: int, tmp_path: Any) -> None:
    whole: list[Derivation] = []
    checkpoints: list[Any] = []
    context = Context(TinySpace(), TinyTask(), CPU, seed=3)
    for derivation in SPOS(**SMALL).learn(context.supernet(), TinyTask(), context):
        whole.append(derivation)
        write_checkpoint(Folder(tmp_path), len(whole), context.state())
        checkpoints.append(read_checkpoint(Folder(tmp_path), len(whole)))
    assert len(whole) == 4
    rest, _ = learnt(SPOS(**SMALL), TinySpace(), TinyTask(), checkpoints[epoch])
    assert rest == whole[epoch + 1 :]


class StopsAfter(Observer):
    """Asks for an end after so many epochs."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def reported(self, report: object) -> None:
        self.left -= 1
        self.stop_requested = self.left <= 0


@pytest.mark.parametrize("reports", [1, 3])
def test_an_interrupted_run_goes_on_where_it_was(reports: int, tmp_path: Path) -> None:
    def settings(name: str) -> dict[str, Any]:
        plugins = {"space": TinySpace(), "strategy": SPOS(**SMALL), "task": TinyTask(), "evaluator": "train:epochs=1"}
        return {**plugins, "trials": 1, "baseline": 0, "out": tmp_path / name}

    def results(run: Run) -> list[Any]:
        return [(t.architecture, dict(t.metrics), [dict(point) for point in t.curve]) for t in run.all_trials]

    whole = nasengine.search(**settings("whole"))
    with pytest.raises(Interrupted):
        nasengine.search(**settings("stopped"), observer=StopsAfter(reports))
    assert results(nasengine.resume(tmp_path / "stopped")) == results(whole)


@pytest.mark.parametrize("space", [small_cell(), small_201(), small_chain()], ids=["cell", "nasbench201", "chain"])
def test_it_derives_a_valid_architecture_of_any_space(space: SearchSpace) -> None:
    derived, _ = learnt(SPOS(**{**SMALL, "epochs": 1, "generations": 1}), space, TinyTask())
    for derivation in derived:
        space.domain(TinyTask()).validate(derivation.architecture)
        assert all(np.isfinite(value) for value in derivation.metrics.values())


def test_short_searches_have_smaller_generations_and_fewer() -> None:
    counts = []
    for epochs in (1, 10):
        derived, _ = learnt(SPOS(epochs=epochs, batch_size=48, calibration=1, samples=1), Two(), TinyTask())
        counts.append(len(derived))
    assert counts == [1 + 1, 10 + 4]


def test_weights_that_become_infinite_end_the_search_in_a_sentence() -> None:
    strategy = SPOS(epochs=2, learning_rate=1e30, gradient_clip=0.0, generations=1)
    with pytest.raises(TrainingDiverged, match="the supernet's loss is"):
        learnt(strategy, TinySpace(), TinyTask())


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"population": 0}, {"mutation": 1.5}, {"calibration": -1}, {"samples": 0}, {"top": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="spos"):
        SPOS(**options)


@pytest.mark.slow
def test_on_digits_inherited_weights_tell_better_paths_from_worse() -> None:
    """The best path of the evolution, with the weights that all share, is good; the first random ones were not."""
    derived, _ = learnt(SPOS(epochs=15), NASBench201Space(channels=8, cells=1), Digits())
    assert derived[-1].metrics["path_score"] > 0.9
    assert derived[0].metrics["path_score"] < 0.5
