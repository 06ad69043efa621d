"""Training: recipes, augmentation, averaged weights, what hangs on a model while it learns, several seeds."""

from __future__ import annotations

import copy
import math
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasengine import Architecture, ConfigError, Context, Fidelity, Recipe, Task, TrainingDiverged
from nasengine.evaluators.data.augmentation import augmented, chosen, cut_out, mixed, moved, smoothed
from nasengine.evaluators.tasks.digits import Digits
from nasengine.evaluators.train import Train
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.mobile import MobileSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.search_spaces.nasnet import NASNetSpace
from nasengine.testing import EvaluatorContract, TinySpace, TinyTask
from nasengine.training import Average, attached, learning_rate, optimizer_of

CPU = torch.device("cpu")
SPACE = TinySpace()
ARCHITECTURE = SPACE.domain(TinyTask()).sample(np.random.default_rng(0))
CELL = CellSpace(layers=3, channels=2, nodes=2)


class Smoothing(TinyTask):
    """The tiny task with what the image tasks have."""

    def augment(self, batch: Any, recipe: Recipe, generator: torch.Generator) -> Any:
        return batch[0], smoothed(batch[1], self.classes, recipe.label_smoothing)


def context(seed: int = 3, space: Any = SPACE, task: Task | None = None, checkpoint: Any = None) -> Context:
    return Context(space, task or TinyTask(), CPU, seed, checkpoint=checkpoint)


def judge(train: Train, around: Context, architecture: Architecture = ARCHITECTURE) -> tuple[list[Any], Any]:
    """The curve and the judgement."""
    judging = train.evaluate(architecture, Fidelity(), around)
    curve: list[Any] = []
    try:
        while True:
            curve.append(dict(next(judging)))
    except StopIteration as stop:
        return curve, stop.value


def a_cell(space: Any = CELL, task: Task | None = None) -> nn.Module:
    domain = space.domain(task or TinyTask())
    return context(space=space, task=task).model(domain.sample(np.random.default_rng(1)))


# the learning rate


def rates(**changes: Any) -> list[float]:
    recipe = Recipe(learning_rate=1.0, **changes)
    return [learning_rate(recipe, epoch, recipe.epochs) for epoch in range(recipe.epochs)]


def test_the_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    expected = []
    for _ in range(12):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(epochs=12) == pytest.approx(expected)


def test_the_rate_rises_in_the_warm_up_and_then_follows_its_schedule() -> None:
    assert rates(epochs=8, warmup=3, schedule="constant") == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    warmed = rates(epochs=13, warmup=3)
    assert warmed[3:] == pytest.approx(rates(epochs=10))
    assert rates(epochs=10, schedule="one_cycle") == pytest.approx(rates(epochs=10, warmup=3))


def test_a_shorter_training_has_a_shorter_warm_up() -> None:
    recipe = Recipe(epochs=40, warmup=4, learning_rate=1.0)
    assert [learning_rate(recipe, epoch, 10) for epoch in range(2)] == [0.5, 1.0]
    assert learning_rate(recipe, 0, 1) == pytest.approx(1 / 1.1)


def test_adamw_takes_the_step_of_its_paper() -> None:
    """Loshchilov and Hutter 2019, algorithm 2: the first step is the rate times the gradient's sign, and the decay."""
    weight = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = optimizer_of([weight], Recipe(optimizer="adamw", learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.tensor([4.0, -0.5])
    optimizer.step()
    assert weight.tolist() == pytest.approx([2 * 0.95 - 0.1, -3 * 0.95 + 0.1], abs=1e-6)


def test_adams_weight_decay_is_a_term_of_the_loss() -> None:
    """Kingma and Ba 2015, algorithm 1: the first step is the rate times the gradient's sign, here with the decay."""
    weight = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = optimizer_of([weight], Recipe(optimizer="adam", learning_rate=0.1, weight_decay=0.5))
    weight.grad = torch.tensor([4.0, 0.5])  # with 0.5 · weight: 5 and −1
    optimizer.step()
    assert weight.tolist() == pytest.approx([2 - 0.1, -3 + 0.1], abs=1e-6)


def test_adamw_has_its_own_rate_unless_one_is_given() -> None:
    plain = Recipe(learning_rate=0.7)
    assert Train(optimizer="adamw").recipe(plain).learning_rate == 0.003
    assert Train(optimizer="adamw", learning_rate=0.01).recipe(plain).learning_rate == 0.01
    assert Train(optimizer="sgd").recipe(plain) == plain
    assert Train().recipe(replace(plain, optimizer="adamw")).learning_rate == 0.7


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ema": 1.0}, "ema = 1.0; expected at least 0, less than 1"),
        ({"drop_path": -0.1}, "drop_path = -0.1"),
        ({"epochs": 0}, "epochs = 0; expected a positive number"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"epochs": 3, "warmup": 4}, "warmup = 4; expected at most its epochs, 3"),
        ({"schedule": "cosin"}, "schedule = 'cosin'; expected cosine or one_cycle or constant"),
        ({"precision": "fp8"}, "precision = 'fp8'"),
        ({"seeds": 0}, "seeds = 0; expected 1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("'", ".")):
        Train(**options)


# augmentation


def some_images(count: int = 6, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    images = torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(1))
    return images.contiguous(memory_format=torch.channels_last)


def test_moving_and_mirroring_is_what_it_is_for_one_image_after_the_other() -> None:
    images, outside = some_images(), torch.tensor([5.0, 6.0, 7.0]).view(1, 3, 1, 1)
    down, right = torch.tensor([0, 2, -2, 1, 0, -1]), torch.tensor([3, -3, 0, 1, 0, -2])
    mirrored = torch.tensor([False, True, False, True, True, False])
    expected = outside.expand(6, 3, 16, 24).clone()
    for n in range(6):
        for y in range(16):
            for x in range(24):
                from_y, from_x = y - int(down[n]), x - int(right[n])
                if 0 <= from_y < 16 and 0 <= from_x < 24:
                    expected[n, :, y, x] = images[n, :, from_y, from_x]
        if mirrored[n]:
            expected[n] = torch.tensor(expected[n].numpy()[:, :, ::-1].copy())
    found = moved(images, down, right, mirrored, (2, 3), outside)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_cutting_out_is_what_it_is_for_one_image_after_the_other() -> None:
    images, rows, columns = some_images(3), torch.tensor([0, 8, 15]), torch.tensor([12, 23, 1])
    expected = images.clone()
    for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        expected[n, :, max(0, row - 4) : row + 4, max(0, column - 6) : column + 6] = 0
    assert torch.equal(cut_out(images, rows, columns, (8, 12)), expected)


def test_crops_reach_an_eighth_of_the_side_in_all_directions_and_half_are_mirrored() -> None:
    where = torch.zeros(4000, 1, 16, 16)
    where[:, :, 8, 4] = 1
    found = augmented(where, ("crop", "flip"), torch.zeros(1, 1, 1, 1), torch.Generator().manual_seed(0))
    rows, columns = np.unravel_index(found.flatten(1).argmax(1).numpy(), (16, 16))
    assert set(rows) == {6, 7, 8, 9, 10}
    assert set(columns) == {2, 3, 4, 5, 6, 9, 10, 11, 12, 13}
    assert abs((columns > 7).mean() - 0.5) < 0.04  # 5 standard deviations
    assert np.bincount(rows)[6:].min() > 0.2 * 4000 - 5 * 26


def test_the_same_generator_augments_alike_and_without_names_nothing_is_drawn() -> None:
    images, outside = some_images(), torch.zeros(1, 3, 1, 1)
    names = ("crop", "flip", "cutout")
    one, other = (augmented(images, names, outside, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, augmented(images, names, outside, torch.Generator().manual_seed(5)))
    task, generator = Digits(), torch.Generator().manual_seed(0)
    batch = next(task.train_batches(8, torch.Generator()))
    before = generator.get_state()
    assert task.augment(batch, task.recipe, generator) == batch
    assert torch.equal(generator.get_state(), before)


def test_mixing_gives_images_and_labels_the_same_shares() -> None:
    """Each image is its own label, so that what was done to one can be read off the other."""
    targets = torch.eye(5)
    images = targets.view(5, 5, 1, 1).clone()
    found, probabilities = mixed(images, targets, torch.Generator().manual_seed(2))
    assert torch.allclose(found.flatten(1), probabilities)
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    assert not torch.equal(probabilities, targets)


def test_smoothing_and_mixing_on_the_task_keep_the_loss_what_it_is_by_torch() -> None:
    task = Digits()
    batch = next(task.train_batches(32, torch.Generator().manual_seed(0)))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    smooth = task.augment(batch, replace(task.recipe, label_smoothing=0.1), torch.Generator())
    expected = nn.functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)
    assert float(task.loss(model, smooth).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    images, targets = task.augment(batch, replace(task.recipe, augment="mixup"), torch.Generator().manual_seed(1))
    assert images.shape == batch[0].shape
    assert targets.shape == (32, 10)


def test_what_is_chosen_by_itself_depends_on_the_colours() -> None:
    assert chosen("auto", 3) == ("crop",)
    assert chosen("auto", 1) == chosen("none", 3) == ()
    assert chosen("crop+cutout", 1) == ("crop", "cutout")
    with pytest.raises(ConfigError, match="no augmentation 'rotate'; expected crop, flip, cutout, mixup"):
        chosen("crop+rotate", 3)


def test_a_task_that_cannot_augment_says_so() -> None:
    with pytest.raises(ConfigError, match="can neither augment its data nor smooth labels"):
        judge(Train(epochs=1, augment="crop"), context())


# averaged weights


def test_the_average_is_the_recursion_of_its_definition() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = Average(model, 0.5)
    expected = model.weight.detach().clone().double()
    for step in range(1, 6):
        with torch.no_grad():
            model.weight += step
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    learnt = model.weight.detach().clone()
    average.swap()
    assert torch.allclose(model.weight.double(), expected, rtol=1e-5)
    average.swap()
    assert torch.equal(model.weight, learnt)


def test_what_is_judged_and_kept_are_the_averaged_weights() -> None:
    around, plain = context(), context()
    _, judged = judge(Train(epochs=3, ema=0.9, patience=0), around)
    judge(Train(epochs=3, patience=0), plain)
    assert around.saved is not None
    assert plain.saved is not None
    assert TinyTask().metrics(around.saved, "valid")["accuracy"] == judged["accuracy"]
    assert not torch.equal(next(around.saved.parameters()), next(plain.saved.parameters()))


class TestTrainWithEverything(EvaluatorContract):
    def task(self) -> Task:
        return Smoothing()

    def make(self) -> Train:
        return Train(
            epochs=4, patience=2, optimizer="adamw", schedule="one_cycle", warmup=1, ema=0.9, label_smoothing=0.1,
            precision="bf16", gradient_clip=1.0,
        )  # fmt: skip


class TestTrainFromSeveralSeeds(EvaluatorContract):
    def make(self) -> Train:
        return Train(epochs=3, patience=0, seeds=3)


# what hangs on a model while it learns


def test_the_auxiliary_head_and_drop_path_leave_nothing_behind() -> None:
    model, task = a_cell(), TinyTask()
    names = list(model.state_dict())
    hooks = [len(module._forward_hooks) for module in model.modules()]
    with attached(model, task, Recipe(auxiliary=0.4, drop_path=0.2)) as extras:
        assert sum(len(module._forward_hooks) for module in model.modules()) > 0
        model.train()
        extras.set_drop_path(0.5)
        images = next(task.valid_batches())[0]
        assert not torch.equal(model(images), model(images))
        assert extras.auxiliary is not None
        assert extras.auxiliary(images).shape == (len(images), 2)
        model.eval()
        assert torch.equal(model(images), model(images))
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert list(model.state_dict()) == names


def test_the_auxiliary_loss_counts_with_its_weight() -> None:
    model, task = a_cell(), TinyTask()
    batch = next(task.valid_batches())
    with attached(model, task, Recipe(auxiliary=0.4)) as extras:
        assert extras.auxiliary is not None
        model.train()
        model(batch[0])
        seen: dict[str, Tensor] = {}
        hook = model.get_submodule("cells.2").register_forward_hook(lambda m, i, o: seen.update(cell=o))
        task.loss(model, batch)
        hook.remove()
        by_hand = nn.functional.cross_entropy(extras.auxiliary.head(seen["cell"]), batch[1])
        assert float(task.loss(extras.auxiliary, batch).detach()) == pytest.approx(float(by_hand.detach()), rel=1e-4)
        by_hand.backward()  # type: ignore[no-untyped-call]
        stem = next(model.parameters())
        assert stem.grad is not None
        assert float(stem.grad.abs().sum()) > 0


def test_a_path_is_left_out_as_often_as_said_and_the_mean_stays() -> None:
    class Path(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 1, bias=False)
            self.inner, self.straight = nn.Sequential(self.layer), nn.Sequential(nn.Identity())

        def paths(self) -> list[nn.Module]:
            return [self.inner, self.straight]

    model = Path()
    with torch.no_grad():
        model.layer.weight.fill_(1.0)
    torch.default_generator.manual_seed(0)
    with attached(model, TinyTask(), Recipe(drop_path=0.3)) as extras:
        extras.set_drop_path(0.3)
        ones = torch.ones(5000, 1, 2, 2)
        out = model.inner(ones).detach()
        assert torch.equal(model.straight(ones), ones)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(out.amin((1, 2, 3)), out.amax((1, 2, 3)))
    assert abs(float((out == 0).float().mean()) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 5000)


@pytest.mark.parametrize(
    "space", [CELL, NASNetSpace(layers=3, channels=2, blocks=2), NASBench201Space(cells=1, channels=2), MobileSpace()]
)
def test_the_spaces_with_cells_or_shortcuts_name_their_paths(space: Any) -> None:
    task = Digits() if isinstance(space, MobileSpace) else TinyTask()
    model = a_cell(space, task)
    with attached(model, task, Recipe(drop_path=0.2)):
        assert any(module._forward_hooks for module in model.modules())


def test_a_model_without_such_a_place_says_so() -> None:
    with pytest.raises(ConfigError, match="does not say where one may read"):
        judge(Train(epochs=1, auxiliary=0.4), context())
    with pytest.raises(ConfigError, match=r"no module of the model .* names `paths`"):
        judge(Train(epochs=1, drop_path=0.2), context())


def test_drop_path_leaves_a_network_without_shortcuts_as_it_is() -> None:
    space = MobileSpace(widths=[[8], [16]], layers=1, kernels=[3], expansions=[2, 3])
    model = a_cell(space, Digits())
    with attached(model, Digits(), Recipe(drop_path=0.2)):
        assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("drop_path=0.2", "names `paths`"),
        ("auxiliary=0.4", "does not say where one may read"),
        ("augment=crop+autoaugment", "there is no augmentation 'autoaugment'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_there_is_a_folder(
    options: str, expected: str, nas: Any, tmp_path: Path
) -> None:
    space = "chain:stages=1,layers=1,widths=[4]"
    code, _, err = nas(
        "run", "--space", space, "--strategy", "random", "--evaluator", f"train:{options}", "--out", "run"
    )
    assert code == 2
    assert expected in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("space", "task", "options", "expected"),
    [
        ("gnn", "karate", "augment=crop", "can neither augment its data nor smooth labels"),
        ("gnn", "karate", "drop_path=0.2", "names `paths`"),
        ("gan", "generation:data=ring", "label_smoothing=0.1", "without labels to smooth"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_for_every_family(
    space: str, task: str, options: str, expected: str, nas: Any, tmp_path: Path
) -> None:
    given = ["--space", space, "--task", task, "--strategy", "random", "--evaluator", f"train:{options}"]
    code, _, err = nas("run", *given, "--out", "run")
    assert code == 2
    assert expected in err
    assert not (tmp_path / "run").exists()


def test_a_cell_learns_with_both_and_goes_on_from_a_checkpoint() -> None:
    train = Train(epochs=3, patience=0, auxiliary=0.4, drop_path=0.2)
    architecture = CELL.domain(TinyTask()).sample(np.random.default_rng(1))
    whole = context(space=CELL)
    curve, judged = judge(train, whole, architecture)
    stopped = context(space=CELL)
    first = next(train.evaluate(architecture, Fidelity(), stopped))
    rest, resumed = judge(train, context(space=CELL, checkpoint=copy.deepcopy(stopped.state())), architecture)
    assert [first, *rest] == curve
    assert resumed == judged
    assert whole.saved is not None
    assert not any(module._forward_hooks for module in whole.saved.modules())
    assert not any("auxiliary" in name for name in whole.saved.state_dict())


# precision and compilation


def test_mixed_precision_trains_otherwise_and_keeps_float32() -> None:
    around = context()
    curve, _ = judge(Train(epochs=2, patience=0, precision="bf16"), around)
    exact, _ = judge(Train(epochs=2, patience=0), context())
    assert around.saved is not None
    assert {parameter.dtype for parameter in around.saved.parameters()} == {torch.float32}
    assert curve[0]["train_loss"] != exact[0]["train_loss"]
    assert curve[0]["train_loss"] == pytest.approx(exact[0]["train_loss"], rel=0.05)


def test_a_failing_compilation_is_the_trial_s_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: nn.Sequential(model, Broken()))
    with pytest.raises(RuntimeError, match="no compiler"):
        judge(Train(epochs=1, compile=True), context())


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no compiler")


@pytest.mark.slow
def test_a_compiled_model_trains_as_the_plain_one_and_the_plain_one_is_kept() -> None:
    task, losses = TinyTask(), []
    for compiles in (True, False):
        around = context()
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        recipe = Recipe(epochs=2, batch_size=16, compile=compiles)
        losses.append([point["train_loss"] for point in task.fit(model, Fidelity(), around, recipe)])
        assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# several seeds


def test_several_seeds_give_the_mean_and_the_spread() -> None:
    train = Train(epochs=2, patience=0, seeds=3)
    around = context()
    curve, judged = judge(train, around)
    assert len(curve) == 6
    assert around.planned == 6
    once, alone = judge(Train(epochs=2, patience=0), context())
    assert curve[:2] == once
    assert curve[2]["accuracy"] == curve[3]["accuracy"] == alone["accuracy"]
    assert judged["accuracy_spread"] >= 0
    assert {"accuracy", "accuracy_spread", "parameters"} <= judged.keys()


def test_each_seed_has_other_weights_and_the_best_model_is_kept() -> None:
    class Watching(TinyTask):
        def fit(self, model: Any, *given: Any, **named: Any) -> Any:
            models.append(model)
            first.append(next(model.parameters()).detach().clone())
            return super().fit(model, *given, **named)

    models: list[nn.Module] = []
    first: list[Tensor] = []
    task = Watching()
    around = context(seed=1, task=task)
    _, judged = judge(Train(epochs=1, patience=0, seeds=3), around)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    assert around.saved is models[0]
    each = [task.metrics(model, "valid")["accuracy"] for model in (*models[1:], around.saved)]
    assert each[-1] == max(each)
    assert judged["accuracy"] <= each[-1]


def test_the_spread_is_the_sample_standard_deviation() -> None:
    class Scripted(TinyTask):
        """Its first epochs are worth 0.5, 0.8 and 0.9."""

        def fit(self, model: Any, fidelity: Any, context: Context, recipe: Any = None) -> Any:
            for _ in context.epochs(1):
                values.append(0.0)
                yield {"accuracy": [0.5, 0.8, 0.9][len(values) - 1], "train_loss": 1.0}

    values: list[float] = []
    curve, judged = judge(Train(epochs=1, seeds=3), context(task=Scripted()))
    assert judged["accuracy"] == pytest.approx((0.5 + 0.8 + 0.9) / 3)
    assert judged["accuracy_spread"] == pytest.approx(statistics.stdev([0.5, 0.8, 0.9]))
    assert [point["accuracy"] for point in curve] == pytest.approx([0.5, 0.5, 0.65])


@pytest.mark.parametrize("epochs_before", [1, 2, 3, 5])
def test_seeds_go_on_from_a_checkpoint_in_the_middle(epochs_before: int) -> None:
    train = Train(epochs=2, patience=0, seeds=3)
    curve, judged = judge(train, context())
    stopped = context()
    judging = train.evaluate(ARCHITECTURE, Fidelity(), stopped)
    before = [dict(next(judging)) for _ in range(epochs_before)]
    later = context(checkpoint=copy.deepcopy(stopped.state()))
    rest, resumed = judge(train, later)
    assert before + rest == curve
    assert resumed == judged
    whole = context()
    judge(train, whole)
    assert later.saved is not None
    assert whole.saved is not None
    for one, other in zip(later.saved.state_dict().values(), whole.saved.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_patience_counts_anew_for_each_seed() -> None:
    class Falling(TinyTask):
        def fit(self, model: Any, fidelity: Any, context: Context, recipe: Any = None) -> Any:
            for epoch in context.epochs(10):
                yield {"accuracy": 0.9 - 0.1 * epoch, "train_loss": 1.0}

    curve, judged = judge(Train(patience=2, seeds=2), context(task=Falling()))
    assert len(curve) == 6  # the best epoch and two more, twice
    assert judged["accuracy"] == pytest.approx(0.9)
    assert judged["epochs"] == 1


@pytest.mark.parametrize(("of_task", "given", "epochs"), [(3, None, 4), (3, 1, 2), (0, None, 10), (3, 0, 10)])
def test_patience_is_the_tasks_unless_it_is_given(of_task: int, given: int | None, epochs: int) -> None:
    class Falling(TinyTask):
        recipe = Recipe(epochs=10, patience=of_task)

        def fit(self, model: Any, fidelity: Any, context: Context, recipe: Any = None) -> Any:
            for epoch in context.epochs(10):
                yield {"accuracy": 0.9 - 0.1 * epoch, "train_loss": 1.0}

    curve, _ = judge(Train(patience=given), context(task=Falling()))
    assert len(curve) == epochs


@pytest.mark.skipif(sys.platform != "linux", reason="the C library's allocator is set on Linux only")
def test_a_training_step_on_the_cpu_does_not_ask_the_system_for_memory_again() -> None:
    """In a process of its own: the setting is for all of it."""
    code = """
import resource, numpy
from nasengine.device import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        layers = [numpy.ones(1_000_000) for _ in range(8)]
        del layers
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, ended.stdout.split())
    assert before > 10_000
    assert after < 100


def test_the_best_epoch_s_weights_are_restored() -> None:
    around = context()
    curve, judged = judge(Train(epochs=6, patience=0, learning_rate=0.5), around)
    assert around.saved is not None
    assert judged["accuracy"] == max(point["accuracy"] for point in curve)
    assert TinyTask().metrics(around.saved, "valid")["accuracy"] == judged["accuracy"]


def test_the_last_epoch_s_weights_are_kept_where_that_is_asked_for_and_patience_looks_at_the_best() -> None:
    class Falling(TinyTask):
        def fit(self, model: Any, fidelity: Any, context: Any, recipe: Any = None) -> Any:
            for epoch in context.epochs(6):
                with torch.no_grad():
                    for weight in model.parameters():
                        weight.fill_(epoch)
                yield {"train_loss": 0.0, "accuracy": [0.5, 0.9, 0.8, 0.7, 0.6, 0.4][epoch]}

    for patience, epochs, accuracy in ((0, 6, 0.4), (2, 4, 0.7)):
        around = context(task=Falling())
        _, metrics = judge(Train(keep="last", patience=patience), around)
        assert (metrics["epochs"], metrics["accuracy"]) == (epochs, accuracy)
        assert around.saved is not None
        assert all(bool((weight == epochs - 1).all()) for weight in around.saved.parameters())


def test_a_loss_that_is_no_number_is_said() -> None:
    with pytest.raises(TrainingDiverged, match="the training loss is"):
        judge(Train(epochs=2, learning_rate=1e20), context())


def test_the_spread_over_seeds_stands_beside_the_mean(nas: Any) -> None:
    space = "chain:stages=1,layers=1,widths=[4]"
    given = ["--strategy", "random", "--trials", "1", "--baseline", "0", "--evaluator", "train:epochs=1,seeds=2"]
    _, out, _ = nas("run", "--space", space, *given, "--out", "run")
    assert re.search(r"validation accuracy +\d+\.\d\d % ± \d+\.\d\d\n", out)
    _, out, _ = nas("show", "run", "--trial", "0")
    assert re.search(r"accuracy_spread +\d+\.\d\d %\n", out)
