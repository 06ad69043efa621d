"""What says how good a generator is: closed forms, the floor of real against real, and what makes examples worse."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch.nn import functional
from torchmetrics.image.inception import InceptionScore

from nasengine.evaluators.data.gaussians import DEVIATION, centres
from nasengine.evaluators.tasks.generation import Generation
from nasengine.evaluators.tasks.sample_quality import (
    Given,
    covered,
    frechet,
    inception,
    kernel,
    near_centres,
    precision_and_recall,
)


@cache
def digits() -> Any:
    return Generation()


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(count: int, mean: Tensor, covariance: Tensor, seed: int) -> Tensor:
    """Points whose mean and covariance are these, to the last digits."""
    drawn = noise((count, len(mean)), seed)
    drawn = drawn - drawn.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(drawn.T)), drawn.T, upper=False).T
    return white @ torch.linalg.cholesky(covariance).T + mean  # type: ignore[no-any-return]


def test_the_frechet_distance_of_two_gaussians_has_a_closed_form() -> None:
    """Of covariances that commute: ‖μ − ν‖² + Σ(√λᵢ − √κᵢ)²."""
    turn = torch.linalg.qr(noise((5, 5))).Q
    first, second = torch.tensor([1.0, 2, 3, 4, 0.5]).double(), torch.tensor([4.0, 2, 0.1, 1, 0.5]).double()
    mean = torch.tensor([1.0, 0, -1, 2, 0]).double()
    real = exactly(400, torch.zeros(5).double(), turn @ first.diag() @ turn.T, 1)
    made = exactly(300, mean, turn @ second.diag() @ turn.T, 2)
    wanted = 6.0 + float((first.sqrt() - second.sqrt()).square().sum())
    assert frechet(real, made) == pytest.approx(wanted, abs=1e-8)
    assert frechet(made, real) == pytest.approx(wanted, abs=1e-8)
    assert frechet(real, real) == pytest.approx(0, abs=1e-8)
    flat = torch.cat([real, torch.zeros(400, 2)], 1)  # a covariance without an inverse
    assert frechet(flat, flat) == pytest.approx(0, abs=1e-6)


def test_the_kernel_distance_is_the_mean_over_pairs_and_unbiased() -> None:
    real, made = noise((6, 3)), noise((6, 3), 1)

    def value(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    pairs = [sum(value(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j) for a in (real, made)]
    between = sum(value(x, y) for x in real for y in made)
    assert kernel(real, made) == pytest.approx((pairs[0] + pairs[1]) / 30 - 2 * between / 36)
    found = [kernel(noise((40, 8), seed), noise((40, 8), 1000 + seed)) for seed in range(200)]
    error = torch.tensor(found).std() / math.sqrt(200)
    assert abs(sum(found) / 200) < 3 * float(error)


def test_the_inception_score_is_between_one_and_the_number_of_classes() -> None:
    assert inception(torch.eye(5).repeat(3, 1)) == pytest.approx(5)
    assert inception(torch.full((8, 5), 0.2)) == pytest.approx(1)
    assert inception(torch.eye(5)[[0, 0, 0]]) == pytest.approx(1)
    assert inception(torch.eye(4)[[0, 0, 1, 1]]) == pytest.approx(2)


def test_precision_and_recall_tell_quality_from_variety() -> None:
    real, far = noise((300, 2)), noise((300, 2), 1) + 100
    assert precision_and_recall(real, real) == (1.0, 1.0)
    assert precision_and_recall(real, far) == (0.0, 0.0)
    precision, recall = precision_and_recall(real, real[:30] * 0.1)  # good ones, all alike
    assert precision > 0.95
    assert recall < 0.1
    precision, recall = precision_and_recall(real, torch.cat([noise((300, 2), 2), far]))  # all there, and as much else
    assert precision == pytest.approx(0.5, abs=0.05)
    assert recall > 0.95


def test_a_mode_is_covered_by_a_tenth_of_its_share() -> None:
    assert covered(torch.tensor([50, 5, 4, 41]), 100) == 4
    assert covered(torch.tensor([97, 3, 0, 0]), 100) == 2
    assert covered(torch.tensor([98, 2, 0, 0]), 100) == 1


@pytest.mark.parametrize(("kind", "count"), [("ring", 8), ("grid", 25)])
def test_modes_are_counted_on_gaussians(kind: Any, count: int) -> None:
    task: Any = Generation(data=kind)
    middle = torch.from_numpy(centres(kind))
    points = torch.from_numpy(task.splits.test.pixels).double()
    found = near_centres(points, middle, DEVIATION[kind])
    assert found["modes"] == count
    assert found["near"] == pytest.approx(1 - math.exp(-4.5), abs=0.01)  # three deviations, in two dimensions
    kept = points[torch.from_numpy(task.splits.test.labels) < 3]
    assert near_centres(kept, middle, DEVIATION[kind])["modes"] == 3
    uniform = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    assert near_centres(uniform, middle, DEVIATION[kind])["near"] < 0.3


WORSE: dict[str, list[Callable[[Tensor, Tensor, int], Tensor]]] = {
    "noise": [
        lambda images, labels, seed, size=size: images + size * noise(tuple(images.shape), seed).float()  # type: ignore[misc]
        for size in (0.1, 0.3, 0.6, 1.0)
    ],
    "blur": [
        lambda images, labels, seed, share=share: images.lerp(functional.avg_pool2d(images, 3, 1, 1), share)  # type: ignore[misc]
        for share in (0.2, 0.4, 0.7, 1.0)
    ],
    "modes": [
        lambda images, labels, seed, kept=kept: images[labels < kept].repeat(10, 1, 1, 1)  # type: ignore[misc]
        for kept in (8, 6, 3, 1)
    ],
}


@pytest.mark.parametrize("what", WORSE)
def test_distances_begin_at_the_floor_and_grow_as_examples_get_worse(what: str) -> None:
    task = digits()
    images, labels = task._tensors["train"]
    count = task.count("valid")
    for seed in range(3):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        images, labels = images[order], labels[order]
        floor = task.judged(images[:count], "valid")
        found = [task.judged(worse(images, labels, seed)[:count], "valid") for worse in WORSE[what]]
        distances = [metrics["frechet"] for metrics in (floor, *found)]
        assert distances == sorted(distances)
        assert distances[0] < 0.3
        assert distances[-1] > 10 * distances[0]
        kernels = [metrics["kernel"] for metrics in (floor, *found)]
        assert kernels == sorted(kernels)
        assert abs(kernels[0]) < 0.05
    if what == "modes":
        assert [metrics["modes"] for metrics in found] == [8, 6, 3, 1]
        assert found[-1]["recall"] < 0.3 < 0.8 < found[-1]["precision"]
        assert found[0]["inception"] > found[1]["inception"] > found[2]["inception"] > found[3]["inception"]
    else:
        assert found[-1]["precision"] < 0.5 < floor["precision"]


def test_the_distance_of_points_sees_modes_that_means_and_covariances_do_not() -> None:
    task: Any = Generation(data="ring")
    points = torch.from_numpy(task.splits.train.pixels[:1000])
    modes = torch.from_numpy(task.splits.train.labels[:1000])
    angles = 2 * math.pi * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    ring = torch.stack([angles.cos(), angles.sin()], 1)
    four = points[modes % 2 == 0].repeat(2, 1)[:1000]
    assert frechet(points, ring) < 0.05  # blind
    floor, even, half = (task.judged(made, "valid")["frechet"] for made in (points, ring, four))
    assert floor < 0.5
    assert even > 10 * floor
    assert half > 10 * floor


def test_the_distance_is_that_of_a_matrix_square_root() -> None:
    """Heusel et al. 2017, equation 6, with SciPy's square root of the product."""
    real, made = noise((200, 16)), 0.3 + 1.2 * noise((200, 16), 1)
    one, other = (torch.cov(features.T).numpy() for features in (real, made))
    apart = float((real.mean(0) - made.mean(0)).square().sum())
    wanted = apart + (one + other - 2 * sqrtm(one @ other).real).trace()
    assert frechet(real, made) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_the_inception_score_is_that_of_torchmetrics() -> None:
    """Whose own is not taken because it draws from the global generator."""
    real = noise((200, 16))
    score = InceptionScore(feature=Given(16), splits=1)
    score.update(real)
    assert inception(real.softmax(1)) == pytest.approx(float(score.compute()[0]), rel=1e-5)
