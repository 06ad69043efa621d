"""GAN dissection: a planted generator is recovered wholly, what is random has no effect, numbers are as by hand."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor, nn

import nasengine
from nasengine import Chooser, ConfigError, Context, Fidelity, Recipe, SearchSpace, Split, Task
from nasengine.dissection import Dissection, interval
from nasengine.evaluators.data.segments import coloured, shapes, strokes
from nasengine.evaluators.tasks.generation import Generation
from nasengine.maps import layers
from nasengine.report.dissected import edges
from nasengine.thresholds import best_thresholds, information_quality

SIZE, RANDOM = 12, 6
LATENTS = 6 + 2 * RANDOM


class Maps(nn.Module):
    """Of latents (N, Z): a disc, a square and a cross, (N, 3, 12, 12), each at a place of its own; then random maps."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(RANDOM, SIZE * SIZE, generator=torch.Generator().manual_seed(1)))

    def forward(self, z: Tensor) -> Tensor:
        middle = SIZE / 2 + (SIZE / 4) * torch.tanh(z[:, :6].reshape(-1, 3, 2, 1, 1))
        at = torch.arange(SIZE, dtype=torch.float32, device=z.device)
        down, across = (at[:, None] - middle[:, :, 0]).abs(), (at - middle[:, :, 1]).abs()
        far, near = torch.maximum(down, across), torch.minimum(down, across)
        disc, square, cross = down**2 + across**2 <= 7, far <= 2, (far <= 3) & (near <= 1)
        drawn = torch.stack([disc[:, 0], square[:, 1], cross[:, 2]], 1).float()
        noise = (z[:, 6 : 6 + RANDOM, None] * self.weight > 0).float().reshape(-1, RANDOM, SIZE, SIZE)
        return torch.cat([drawn, noise], 1)


class Planted(nn.Module):
    """Draws each shape in a channel of its own. The random units brighten a last channel, or darken it: as a latent has
    it, which is as often the one as the other."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = Maps()

    def forward(self, z: Tensor) -> Tensor:
        maps = self.maps(z)
        signs = z[:, -RANDOM:].sign()[:, :, None, None]
        grain = torch.sin(1e3 * z[:, :1, None] * (1 + torch.arange(SIZE * SIZE, device=z.device))).reshape(
            -1, 1, SIZE, SIZE
        )
        return torch.cat([maps[:, :3], grain + (signs * maps[:, 3:]).sum(1, keepdim=True)], 1)


def planted_segments(images: Tensor) -> dict[str, Tensor]:
    names = ("disc", "square", "cross")
    return {**{name: images[:, i] > 0.5 for i, name in enumerate(names)}, "bright": images[:, 3] > 0}


def latents(count: int, size: int = LATENTS, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def planted() -> Dissection:
    return Dissection(Planted(), latents(400), planted_segments, "maps")


def small_generator() -> nn.Sequential:
    """From (N, 4) to (N, 1, 8, 8): two blocks and what makes the image."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 32), nn.Unflatten(1, (8, 2, 2)), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(6, 1, 3, padding=1), nn.Tanh(),
    ).eval()  # fmt: skip


def bright(images: Tensor) -> Mapping[str, Tensor]:
    return {"bright": images[:, 0] > 0, "dark": images[:, 0] < -0.05}


# What a planted generator draws


def test_a_planted_generator_is_recovered_wholly(planted: Dissection) -> None:
    matches = planted.matches()
    assert {(match.unit, match.segment) for match in matches} == {(0, "disc"), (1, "square"), (2, "cross")}
    assert [match.iou for match in matches] == [1.0, 1.0, 1.0]
    assert [match.quality for match in matches] == pytest.approx([1.0] * 3)
    drawn = planted_segments(planted.tap(slice(200, 400))[1])
    assert [match.share for match in matches] == pytest.approx(
        [float(drawn[m.segment].float().mean()) for m in matches]
    )


def test_a_planted_unit_is_all_the_cause_of_its_shape_and_of_no_other(planted: Dissection) -> None:
    for unit, name in enumerate(("disc", "square", "cross")):
        ranked = planted.ranked(name, range(5))
        assert (ranked[0].units, ranked[0].inserted, ranked[0].ablated, ranked[0].ace) == ((unit,), 1.0, 0.0, 1.0)
        assert all((effect.ace, effect.low, effect.high) == (0, 0, 0) for effect in ranked[1:])


def test_random_units_have_an_effect_of_0_within_the_interval_though_they_change_each_image() -> None:
    effects = []
    for seed in range(100, 106):
        dissection = Dissection(Planted(), latents(120, seed=seed), planted_segments, "maps")
        effects += dissection.ranked("bright", range(3, 3 + RANDOM))
    held = [effect.low <= 0 <= effect.high for effect in effects]
    assert len(held) == 36
    assert sum(held) >= 31  # what holds 95 times in 100 does so 30 times or less, of 36, once in 120
    assert all(0.01 < effect.high - effect.low < 0.25 for effect in effects)  # images change, this way and that
    assert all(abs(effect.ace) < 0.12 for effect in effects)


def test_an_interval_is_that_of_the_normal_distribution_where_there_are_many_samples() -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(500, generator=generator, dtype=torch.float64) + 0.3
    low, high = interval(values, generator)
    mean, apart = float(values.mean()), 1.96 * float(values.std()) / math.sqrt(500)
    assert low == pytest.approx(mean - apart, abs=0.1 * apart)
    assert high == pytest.approx(mean + apart, abs=0.1 * apart)


class Twice(nn.Module):
    """White where unit 0 or unit 1 is, which draw the same disc; unit 2 does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = TwiceMaps()

    def forward(self, z: Tensor) -> Tensor:
        return self.maps(z)[:, :2].amax(1, keepdim=True)


class TwiceMaps(Maps):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z)[:, [0, 0, 4]]


def test_units_that_only_together_remove_a_shape_are_found_together() -> None:
    dissection = Dissection(Twice(), latents(80), lambda images: {"disc": images[:, 0] > 0.5}, "maps")
    alone, covered = dissection.effect([0], "disc"), float(dissection.tap(slice(40, 80))[1].mean())
    assert alone.ace == pytest.approx(1 - covered)  # the other one goes on drawing
    found = dissection.together("disc", [2, 1, 0])
    assert (sorted(found.units), found.ace) == ([0, 1], 1.0)


# By hand


def test_thresholds_are_those_that_brute_force_finds() -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randint(0, 12, (4, 150), generator=generator).float()
    values[3] = 7
    segments = torch.stack([values[0] + values[1] > 12, values[2] > 8, torch.rand(150, generator=generator) < 0.2])
    thresholds, quality, iou = best_thresholds(values, segments)
    for unit, row in enumerate(values):
        for column, segment in enumerate(segments):
            tried = {float(t): brute_quality(row > t, segment) for t in row.unique()}
            assert quality[unit, column] == pytest.approx(max(tried.values()), abs=1e-6)
            assert tried[float(thresholds[unit, column])] == pytest.approx(max(tried.values()), abs=1e-6)
            on = row > thresholds[unit, column]
            assert iou[unit, column] == pytest.approx(float((on & segment).sum() / (on | segment).sum()))


def brute_quality(first: Tensor, second: Tensor) -> float:
    joint = scipy.stats.entropy(np.bincount(2 * first.int() + second.int(), minlength=4))
    return mutual_info_score(first, second) / joint if joint else 0.0


def test_the_information_quality_ratio_is_1_for_equals_and_0_for_strangers() -> None:
    both, first, second = torch.tensor([[30, 25, 0], [30, 50, 0], [30, 50, 40]])
    assert information_quality(both, first, second, 100).tolist() == pytest.approx([1, 0, 0])


def test_maps_are_enlarged_and_cut_and_compared_as_by_hand() -> None:
    generator, z = small_generator(), latents(50, 4)
    dissection = Dissection(generator, z, bright, "6", batch=7)
    maps, images = generator[:7](z).detach(), generator(z).detach()
    large = nn.Upsample(size=(8, 8), mode="bilinear")(maps)
    t, k = dissection.chosen.thresholds, dissection.chosen.levels
    for column, segment in enumerate(bright(images).values()):
        for unit in range(6):
            on, there = large[25:, unit] > t[unit, column], segment[25:]
            expected = (on & there).sum() / (on | there).sum().clamp(min=1)
            assert dissection.iou[unit, column] == pytest.approx(float(expected), abs=1e-6)
            assert k[unit, column] == pytest.approx(float(large[:25, unit][segment[:25]].mean()), abs=1e-5)
    assert dissection.most_active(2, 3) == (25 + large[25:, 2].amax((1, 2)).argsort(descending=True)[:3]).tolist()


def test_ablation_and_insertion_are_what_editing_the_maps_by_hand_gives() -> None:
    generator, z = small_generator(), latents(40, 4)
    dissection = Dissection(generator, z, bright, "6")
    places = torch.zeros(4, 4, dtype=torch.bool)
    places[:2] = True
    maps = generator[:7](z).detach()
    for units in ([1], [0, 4]):
        levels = dissection.chosen.levels[units, 1]
        for where in (None, places):
            x_a, x_i = maps.clone(), maps.clone()
            for unit, level in zip(units, levels, strict=True):
                x_a[:, unit, : 4 if where is None else 2] = 0
                x_i[:, unit, : 4 if where is None else 2] = level
            x_a, x_i = generator[7:](x_a).detach(), generator[7:](x_i).detach()
            torch.testing.assert_close(dissection.tap(slice(None), units, None, where)[1], x_a)
            torch.testing.assert_close(dissection.tap(slice(None), units, levels, where)[1], x_i)
            rows = slice(8) if where is None else slice(4)
            shares = [float((x[20:, 0, rows] < -0.05).double().mean()) for x in (x_i, x_a)]
            effect = dissection.effect(units, "dark", where)
            assert (effect.inserted, effect.ablated) == pytest.approx(shares)
            assert effect.ace == pytest.approx(shares[0] - shares[1])
            assert effect.low <= effect.ace <= effect.high
    torch.testing.assert_close(dissection.tap(slice(None))[1], generator(z))  # no hook is left behind


def test_the_first_half_chooses_and_the_second_is_measured() -> None:
    z = latents(60, 4)
    changed = torch.cat([z[:30], latents(30, 4, seed=1)])
    one, other = (Dissection(small_generator(), given, bright, "6") for given in (z, changed))
    assert torch.equal(one.chosen.thresholds, other.chosen.thresholds)
    assert torch.equal(one.chosen.levels, other.chosen.levels)
    assert not torch.equal(one.iou, other.iou)


def test_the_size_of_batches_changes_nothing() -> None:
    one, other = (Dissection(small_generator(), latents(60, 4), bright, "6", batch=size) for size in (4, 60))
    torch.testing.assert_close(one.chosen.thresholds, other.chosen.thresholds)
    torch.testing.assert_close(one.iou, other.iou)
    torch.testing.assert_close(one.shares, other.shares)
    assert one.effect([3], "bright").ace == pytest.approx(other.effect([3], "bright").ace, abs=1e-6)


def test_thresholds_come_of_a_bounded_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasengine.dissection.PIXELS", 900)
    few = Dissection(Planted(), latents(100), planted_segments, "maps")
    assert [few.chosen.quality[unit, unit] for unit in range(3)] == pytest.approx([1.0] * 3)
    assert {(match.unit, match.iou) for match in few.matches(0.9)} == {(0, 1.0), (1, 1.0), (2, 1.0)}


# Layers


class Cell(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), nn.Conv2d(before, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.inner(x), scale_factor=2)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(4, 16)
        self.cells = nn.ModuleList([Cell(4, 4), Cell(4, 6)])
        self.end = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        x = self.start(z).reshape(-1, 4, 2, 2)
        for cell in self.cells:
            x = cell(x)
        return self.end(x)


class Both(nn.Module):
    """Two generators side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = small_generator(), small_generator()

    def forward(self, z: Tensor) -> Tensor:
        return self.one(z) + self.other(-z)


def test_the_blocks_of_a_generator_are_found_with_what_normalises_and_activates_them() -> None:
    assert layers(small_generator(), [latents(20, 4)]) == ["2", "6"]
    assert layers(Cells().eval(), [latents(20, 4)]) == ["cells.0", "end.1"]
    assert layers(Both().eval(), [latents(20, 4)]) == ["one.2", "one.6", "other.2", "other.6"]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("66", r"no layer '66'\. Did you mean '6'\? Its outermost are: 0, 1, 2"),
        ("0", r"layer '0' gives a tensor of \(2, 32\) in a pass of the generator; expected one map"),
    ],
)
def test_a_layer_without_maps_is_refused_in_a_sentence(layer: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Dissection(small_generator(), latents(8, 4), bright, layer)


def test_inputs_units_segments_and_segmenters_that_cannot_be_are_refused_in_a_sentence() -> None:
    dissection = Dissection(small_generator(), latents(8, 4), bright, "6")
    with pytest.raises(ConfigError, match="no unit 6; it has 0 to 5"):
        dissection.effect([6], "bright")
    with pytest.raises(ConfigError, match=r"no segment is named 'brigt'\. Did you mean 'bright'\?"):
        dissection.effect([1], "brigt")
    with pytest.raises(ConfigError, match="8, 7 rows; expected as many"):
        Dissection(small_generator(), [latents(8, 4), latents(7, 4)], bright, "6")
    with pytest.raises(ConfigError, match="samples = 1; expected 2 or more"):
        Dissection(small_generator(), latents(1, 4), bright, "6")
    with pytest.raises(ConfigError, match=r"\(4, 8, 8\) of torch.float32 for 'light'; expected yes and no"):
        Dissection(small_generator(), latents(8, 4), lambda images: {"light": images[:, 0]}, "6").matches()
    with pytest.raises(ConfigError, match="no segments, or others than before"):
        Dissection(small_generator(), latents(8, 4), lambda images: {}, "6").matches()


# Segments


def test_shapes_are_segmented_by_their_colours_exactly() -> None:
    images = shapes(60, 16, np.random.default_rng(0))
    assert set(images.labels) == {0, 1, 2}
    found = coloured(torch.from_numpy(images.pixels))
    drawn = torch.from_numpy(images.pixels).amax(1) > 0
    for label, name in enumerate(("circle", "square", "cross")):
        of_it = torch.from_numpy(images.labels == label)[:, None, None]
        assert torch.equal(found[name], drawn & of_it)
    assert torch.equal(found["background"], ~drawn)
    assert (drawn.sum((1, 2)) >= 9).all()
    noisy = torch.from_numpy(images.pixels) + 0.2 * torch.randn(60, 3, 16, 16)
    assert all((coloured(noisy)[name] == found[name]).float().mean() > 0.97 for name in found)


def test_strokes_are_where_they_are() -> None:
    drawn = [
        "########",
        "#......#",
        "#.##...#",
        "#.##...#",
        "########",
        "#.......",
        "#....#..",
        "#......#",
    ]
    image = torch.tensor([[float(c == "#") for c in row] for row in drawn])[None, None]
    found = {name: place[0] for name, place in strokes(image).items()}
    ink = image[0, 0] > 0.5
    assert torch.equal(found["ink"], ink)
    assert torch.equal(found["background"], ~ink)
    assert found["upper"].sum() == ink[:4].sum()
    assert found["lower"].sum() == ink[4:].sum()
    assert found["left"].sum() == ink[:, :4].sum()
    assert found["right"].sum() == ink[:, 4:].sum()
    assert found["horizontal"].sum(1).tolist() == [8, 0, 0, 0, 8, 0, 0, 0]
    assert found["vertical"].sum(0).tolist() == [8, 0, 0, 0, 0, 0, 0, 5]
    assert torch.equal(found["hole"], ~ink & (torch.arange(8)[:, None] < 4))


def test_the_task_generation_tells_what_is_where_in_digits_and_draws_all_classes_in_turn() -> None:
    task = Generation(conditional=True, latents=5)
    drawn = task.inputs(23, torch.Generator().manual_seed(0))
    assert drawn.shape == (23, 15)
    assert drawn[:, 5:].argmax(1).tolist() == [*range(10), *range(10), 0, 1, 2]
    images = 2 * (torch.rand(3, 1, 8, 8) > 0.5).float() - 1
    assert torch.equal(task.segments(images)["ink"], images[:, 0] > 0)
    with pytest.raises(ConfigError, match="cannot tell what is where in images"):
        Generation(data="ring").segments(images)


# The command


class Players(nn.Module):
    """A model whose generator is the planted one."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Planted(), nn.Linear(1, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)


class Planting(SearchSpace):
    def build(self, choose: Chooser, task: Task) -> nn.Module:
        choose.value("nothing", (1, 2))
        return Players()


class Learnt(Task):
    """Nothing is to be learnt any more."""

    input_shape, classes = (4, SIZE, SIZE), 1
    recipe = Recipe(epochs=1)

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[Tensor]:
        yield self.example()

    def valid_batches(self) -> Iterator[Tensor]:
        yield self.example()

    def test_batches(self) -> Iterator[Tensor]:
        yield self.example()

    def example(self) -> Tensor:
        return latents(2)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        return model(batch).sum()

    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        return {"accuracy": 1.0}

    def fit(
        self, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Recipe | None = None
    ) -> Iterator[Mapping[str, float]]:
        for _ in context.epochs(1):
            yield self.metrics(model, "valid")


class Told(Learnt):
    """The same, and it tells what is where."""

    def segments(self, images: Tensor) -> Mapping[str, Tensor]:
        return planted_segments(images)


def broken(images: Tensor) -> Mapping[str, Tensor]:
    raise ValueError("no images of mine")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `told`, `learnt`, and `digits` of a space without a generator."""
    folder, here = tmp_path_factory.mktemp("runs"), __file__
    parts = {
        "told": (f"{here}:Planting", f"{here}:Told"),
        "learnt": (f"{here}:Planting", f"{here}:Learnt"),
        "tiny": ("nasengine.testing:TinySpace", "nasengine.testing:TinyTask"),
    }
    for name, (space, task) in parts.items():
        nasengine.search(space, "random", task, "train:epochs=1", trials=1, baseline=0, out=folder / name)
    return folder


Nas = Callable[..., tuple[int, str, str]]


def test_nas_dissect_names_what_units_draw_and_writes_a_table_and_sheets(runs: Path, nas: Nas) -> None:
    code, out, err = nas("dissect", runs / "told", "--samples", 200)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if line.startswith("  maps")]
    assert sorted(row[:4] for row in rows) == [
        ["maps", "0", "disc", "1.000"], ["maps", "1", "square", "1.000"], ["maps", "2", "cross", "1.000"],
    ]  # fmt: skip
    assert [row[5:] for row in rows] == [["+1.000", "+1.000", "to", "+1.000"]] * 3
    assert "3 of 9 units agree with a segment" in out
    assert "of 10 batches" in err
    folder = runs / "told" / "dissection"
    assert {path.name for path in folder.iterdir()} == {"units.csv", "maps-0.png", "maps-1.png", "maps-2.png"}
    table = list(csv.DictReader((folder / "units.csv").read_text().splitlines()))
    assert len(table) == 9 * 4
    assert {(row["unit"], row["segment"], row["ace"]) for row in table if row["ace"]} == {
        ("0", "disc", "1"), ("1", "square", "1"), ("2", "cross", "1"),
    }  # fmt: skip
    height, width, _ = matplotlib.image.imread(folder / "maps-0.png").shape
    assert (width, height) == (2100, pytest.approx(300 * (0.46 + 3 * 6.04 / 8), abs=2))


def test_nas_dissect_takes_a_segmenter_and_layers_of_the_users_own(runs: Path, nas: Nas, tmp_path: Path) -> None:
    arguments = ["--segmenter", f"{__file__}:planted_segments", "--layer", "maps", "--together", 2, "--units", 2]
    code, out, err = nas("dissect", runs / "learnt", *arguments, "--samples", 80, "-o", "here", "--json", "-q")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["layers"] == [{"path": "maps", "units": 9, "size": [SIZE, SIZE]}]
    assert found["segments"] == ["disc", "square", "cross", "bright"]
    assert [(unit["iou"], unit["ace"], unit["low"]) for unit in found["units"]] == [(1, 1, 1)] * 2
    assert all(len(one["units"]) == 1 and one["ace"] == 1 for one in found["together"])
    assert found["written"] == ["here/units.csv", *(unit["sheet"] for unit in found["units"])]
    assert all((tmp_path / path).is_file() for path in found["written"])


@pytest.mark.parametrize(
    ("run", "arguments", "says"),
    [
        ("tiny", [], "has no `generator` to dissect"),
        ("learnt", [], "cannot tell what is where in images; give a function that can"),
        ("told", ["--samples", "19"], "--samples is 19; expected 20 or more"),
        ("told", ["--layer", "map"], "the generator has no layer 'map'. Did you mean 'maps'? Its outermost are: maps"),
        ("told", ["--segmenter", "mine"], "the segmenter is 'mine'; expected a file or module and its function"),
        ("told", ["--segmenter", "./none.py:segments"], "no file"),
        ("told", ["--segmenter", f"{__file__}:planted_segment"], "Did you mean 'planted_segments'?"),
        ("told", ["--segmenter", f"{__file__}:broken"], "failed: ValueError: no images of mine"),
        ("told", ["-o", f"{__file__}/there"], "cannot be written: Not a directory; choose another folder"),
        ("none", [], "does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    run: str, arguments: list[str], says: str, runs: Path, nas: Nas
) -> None:
    code, out, err = nas(
        "dissect", runs / run, *arguments, "-q", *([] if "--samples" in arguments else ["--samples", 20])
    )
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_an_outline_runs_along_the_edges_of_pixels() -> None:
    on = torch.tensor([[False, True], [False, False]])
    around: Any = {
        ((0.5, -0.5), (0.5, 0.5)),
        ((1.5, -0.5), (1.5, 0.5)),
        ((0.5, -0.5), (1.5, -0.5)),
        ((0.5, 0.5), (1.5, 0.5)),
    }
    assert set(edges(on)) == around
