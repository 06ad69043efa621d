"""Zero-cost proxies against slow computations in float64, closed forms, and on every built-in space."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import product
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
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    Metrics,
    SearchSpace,
    Task,
    TrainingDiverged,
)
from nasengine.evaluators.proxies import PROXIES, Agreements, Subject
from nasengine.evaluators.tasks.digits import Digits
from nasengine.evaluators.zero_cost import ZeroCost, place, vote
from nasengine.registry import make
from nasengine.testing import EvaluatorContract, TinySpace, TinyTask

CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor]


class ScoredTask(TinyTask):
    objectives = ("synflow:max",)


class VotedTask(TinyTask):
    objectives = ("vote:max",)


class TestSynflow(EvaluatorContract):
    def make(self) -> Evaluator:
        return ZeroCost(batch_size=16)

    def task(self) -> Task:
        return ScoredTask()


class TestVote(EvaluatorContract):
    def make(self) -> Evaluator:
        return ZeroCost(proxy="vote+zico", batch_size=16, reference=3, seeds=2)

    def task(self) -> Task:
        return VotedTask()


class Squares(TinyTask):
    """Half the mean squared error, in place of cross-entropy."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return 0.5 * (model(batch[0]) - batch[1]).square().mean()


def network(seed: int = 0) -> Any:
    """Two convolutions with batch normalisation and ReLU, and a linear layer; some biases; float64."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3, 2),
    ).double()  # fmt: skip


LAYERS = (0, 3, 9)
"""Those of `network` with weights."""


def batches(count: int = 1, images: int = 5) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(images, 1, 4, 4, generator=generator, dtype=torch.float64), torch.arange(images) % 2)
        for _ in range(count)
    ]


def loss_of(model: Any, batch: Batch) -> Tensor:
    """As at the first step of a training, but for dropout: layer by layer."""
    x = batch[0]
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
            x = (x - mean) / (variance + layer.eps).sqrt()
            x = x * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)
        elif not isinstance(layer, nn.Dropout):
            x = layer(x)
    return functional.cross_entropy(x, batch[1])


def slope(function: Callable[[float], float], step: float = 1e-5) -> float:
    """The derivative at zero."""
    return (function(step) - function(-step)) / (2 * step)


def differences(model: Any, batch: Batch) -> list[Tensor]:
    """The loss's gradient in every layer's weight, one number at a time."""
    found = []
    for index in LAYERS:
        flat = model[index].weight.data.view(-1)

        def moved(by: float, flat: Tensor, position: int) -> float:
            kept = flat[position].clone()
            flat[position] += by
            loss = float(loss_of(model, batch).detach())
            flat[position] = kept
            return loss

        found.append(torch.tensor([slope(partial(moved, flat=flat, position=i)) for i in range(len(flat))]).double())
    return found


def weights(model: Any) -> list[Tensor]:
    return [model[index].weight.detach().flatten() for index in LAYERS]


def score(name: str, model: nn.Module, given: list[Batch], task: Task | None = None) -> float:
    return PROXIES[name](Subject(model, task or TinyTask(), given))


def test_grad_norm_snip_and_plain_are_what_differences_of_the_loss_give() -> None:
    model, given = network(), batches()
    pairs = list(zip(weights(model), differences(model, given[0]), strict=True))
    expected = {
        "grad_norm": sum(math.sqrt(sum(float(one) ** 2 for one in g)) for _, g in pairs),
        "snip": sum(abs(float(a) * float(b)) for w, g in pairs for a, b in zip(w, g, strict=True)),
        "plain": sum(float(a) * float(b) for w, g in pairs for a, b in zip(w, g, strict=True)),
    }
    for name, value in expected.items():
        assert score(name, model, given) == pytest.approx(value, rel=1e-6, abs=1e-8), name


def test_grasp_is_what_differences_of_the_gradient_give() -> None:
    model, given = network(), batches()
    parameters = [model[index].weight for index in LAYERS]
    gradients = torch.autograd.grad(loss_of(model, given[0]), parameters)

    def along(step: float) -> float:
        """θ · ∇L, the gradient taken a step along itself, θ left where it was."""
        other = deepcopy(model)
        moved = [other[index].weight for index in LAYERS]
        for weight, gradient in zip(moved, gradients, strict=True):
            weight.data += step * gradient
        there = torch.autograd.grad(loss_of(other, given[0]), moved)
        return sum(float((w.detach() * g).sum()) for w, g in zip(parameters, there, strict=True))

    assert score("grasp", model, given) == pytest.approx(-slope(along), rel=1e-6)


def test_four_scores_of_least_squares_have_closed_forms() -> None:
    rng = np.random.default_rng(0)
    x, y, theta = rng.normal(size=(7, 3)), rng.normal(size=(7, 1)), rng.normal(size=3)
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data = torch.tensor(theta)[None]
    hessian = x.T @ x / len(x)
    gradient = hessian @ theta - (x.T @ y)[:, 0] / len(x)
    given = [(torch.tensor(x), torch.tensor(y))]
    found = {name: score(name, model, given, Squares()) for name in ("grad_norm", "snip", "plain", "grasp")}
    assert found == pytest.approx(
        {
            "grad_norm": np.linalg.norm(gradient),
            "snip": np.abs(theta * gradient).sum(),
            "plain": theta @ gradient,
            "grasp": -theta @ hessian @ gradient,
        }
    )


def test_a_hard_sigmoid_is_differentiated_twice() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(16, 3).double(), nn.Linear(3, 2).double()
    model = nn.Sequential(nn.Flatten(), first, nn.Hardsigmoid(), last)
    same = nn.Sequential(nn.Flatten(), first, nn.Hardtanh(-3, 3), Shifted(), last)
    assert score("grasp", model, batches()) == pytest.approx(score("grasp", same, batches()), rel=1e-12)


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 6 + 0.5


def test_fisher_is_what_scaling_a_channel_of_an_image_does_to_the_loss() -> None:
    """a · ∂L/∂a, summed over a channel, is the loss's slope as that channel is scaled."""
    model, given = network(), batches()
    expected = 0.0
    for index in LAYERS:
        for channel in range(model[index].weight.shape[0]):
            slopes = []
            for image in range(5):

                def scaled(by: float, place: tuple[int, int], index: int) -> float:
                    def scale(module: nn.Module, args: Any, output: Tensor) -> Tensor:
                        factor = torch.ones(output.shape[:2], dtype=torch.float64)
                        factor[place] += by
                        return output * factor.view(*output.shape[:2], *(1,) * (output.dim() - 2))

                    hook = model[index].register_forward_hook(scale)
                    loss = float(loss_of(model, given[0]).detach())
                    hook.remove()
                    return loss

                slopes.append(slope(partial(scaled, place=(image, channel), index=index)))
            expected += 0.5 * statistics.fmean(value**2 for value in slopes)
    assert score("fisher", model, given) == pytest.approx(expected, rel=1e-6)


def test_fisher_sees_what_a_layer_gave_before_others_wrote_into_it() -> None:
    torch.manual_seed(0)
    layer, last = nn.Linear(16, 3).double(), nn.Linear(3, 2).double()
    apart, inplace = (nn.Sequential(nn.Flatten(), layer, nn.SiLU(inplace), last) for inplace in (False, True))
    assert score("fisher", inplace, batches()) == score("fisher", apart, batches())


def test_zico_is_a_loop_over_weights_and_batches() -> None:
    model, given = network(), batches(3)
    found = [torch.autograd.grad(loss_of(model, b), [model[index].weight for index in LAYERS]) for b in given]
    expected = 0.0
    for layer in range(len(LAYERS)):
        ratios = []
        for values in zip(*(gradients[layer].flatten().tolist() for gradients in found), strict=True):
            if (deviation := statistics.pstdev(values)) > 0:
                ratios.append(statistics.fmean(map(abs, values)) / deviation)
        expected += math.log(sum(ratios))
    assert score("zico", model, given) == pytest.approx(expected, rel=1e-9)


def test_zico_leaves_out_weights_whose_gradient_is_always_the_same() -> None:
    model, given = network(), batches()
    assert score("zico", model, given * 2) == 0.0


def test_synflow_of_a_linear_network_is_the_product_of_the_absolute_weights() -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=shape) for shape in ((5, 16), (4, 5), (2, 4))]
    linear = [nn.Linear(m.shape[1], m.shape[0], bias=False).double() for m in matrices]
    for layer, matrix in zip(linear, matrices, strict=True):
        layer.weight.data = torch.tensor(matrix)
    flow = np.ones(2) @ abs(matrices[2]) @ abs(matrices[1]) @ abs(matrices[0]) @ np.ones(16)
    assert score("synflow", nn.Sequential(nn.Flatten(), *linear), batches()) == pytest.approx(math.log(3 * flow))


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(3), nn.GroupNorm(3, 3), nn.InstanceNorm2d(3, affine=True), nn.LayerNorm([4, 4]), nn.Identity()],
    ids=lambda norm: type(norm).__name__,
)
def test_synflow_passes_normalisation_by(norm: nn.Module) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(48, 2)
    model = nn.Sequential(nn.Sequential(first, norm), nn.ReLU(), nn.Flatten(), last).double()

    def passed(by: float, scaled: int) -> float:
        """R, where a layer's weights are scaled: its slope is Σ θ · ∂R/∂θ over them."""
        factors = [1.0, 1.0]
        factors[scaled] += by
        x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
        x = functional.conv2d(x, first.weight.abs() * factors[0], first.bias.abs(), padding=1)  # type: ignore[union-attr]
        return float(functional.linear(x.flatten(1), last.weight.abs() * factors[1], last.bias.abs()).sum())

    with torch.no_grad():
        flow = sum(slope(partial(passed, scaled=layer)) for layer in range(2))
    assert score("synflow", model, batches()) == pytest.approx(math.log(flow), rel=1e-9)


def test_synflow_of_a_network_too_deep_for_float32_is_finite() -> None:
    layers = [nn.Linear(16, 16, bias=False) for _ in range(60)]
    for layer in layers:
        layer.weight.data.fill_(2)
    model = nn.Sequential(nn.Flatten(), *layers)
    images = [(images.float(), labels) for images, labels in batches()]
    assert score("synflow", model, images) == pytest.approx(math.log(60) + 61 * math.log(16) + 60 * math.log(2))


def test_naswot_counts_the_units_in_which_two_images_agree() -> None:
    model, (images, labels) = network(), batches()[0]
    inputs: list[Tensor] = []
    for index in (2, 5):
        model[index].register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach().clone()))
    loss_of(model, (images, labels))
    codes = [[float(v) > 0 for x in inputs for v in x[image].flatten()] for image in range(len(images))]
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    for index in (2, 5):
        model[index]._forward_pre_hooks.clear()
    assert score("naswot", model, [(images, labels)]) == pytest.approx(math.log(np.linalg.det(np.array(kernel))))


def test_the_kernel_is_the_number_of_units_less_the_hamming_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(6, 3, 4, 4, generator=generator), torch.randn(6, 10, generator=generator)]
    layers[1][:, 0] = torch.tensor([0.0, 0.0, -0.0, -1.0, 1.0, 1.0])  # zero is not on
    agreements = Agreements(6)
    with agreements:
        torch.relu(layers[0].to(memory_format=torch.channels_last))
        torch.relu(layers[1])
        torch.relu(torch.randn(5, 3))  # of something other than the images
    codes = np.concatenate([layer.flatten(1).numpy() > 0 for layer in layers], axis=1)
    expected = [[58 - sum(a != b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    assert agreements.units == 58
    assert agreements.kernel.tolist() == expected


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.ELU(), nn.SELU(), nn.CELU(),
        nn.GELU(), nn.SiLU(inplace=True), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.Hardtanh(), nn.Hardswish(),
        nn.Hardsigmoid(inplace=True), nn.Softplus(), nn.RReLU(),
    ],
    ids=lambda activation: type(activation).__name__,
)  # fmt: skip
def test_every_kind_of_activation_counts(activation: nn.Module) -> None:
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    expected, found = Agreements(4), Agreements(4)
    with torch.no_grad():
        with expected:
            torch.relu(x)
        with found:
            activation.eval()(x.clone())
    assert torch.equal(found.kernel, expected.kernel)


def test_jacob_cov_is_of_the_eigenvalues_of_the_correlations_of_the_images_gradients() -> None:
    """The gradient of the summed outputs in each pixel, one at a time; the loss with labels is not asked."""
    model, (images, labels) = network(), batches()[0]
    head = nn.Sequential(*model[:-1])

    def outputs(by: float, place: tuple[int, ...]) -> float:
        moved = images.clone()
        moved[place] += by
        x = moved
        for layer in head:
            if isinstance(layer, nn.BatchNorm2d):
                mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
                x = (x - mean) / (variance + layer.eps).sqrt()
            elif not isinstance(layer, nn.Dropout):
                x = layer(x)
        return float(model[-1](x).sum())

    with torch.no_grad():
        rows = [
            [slope(partial(outputs, place=(image, 0, *pixel))) for pixel in product(range(4), repeat=2)]
            for image in range(len(images))
        ]
    correlations = np.array([[statistics.correlation(one, other) for other in rows] for one in rows])
    expected = -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in np.linalg.eigvalsh(correlations))
    assert score("jacob_cov", model, [(images, labels)]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_leaves_the_model_as_it_was(name: str) -> None:
    model, before = network().train(), {key: value.clone() for key, value in network().state_dict().items()}
    subject = Subject(model, TinyTask(), batches(2))
    first = PROXIES[name](subject)
    assert not any(module._forward_hooks for module in subject.model.modules())
    assert [PROXIES[name](subject), score(name, model, batches(2))] == [first, first]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(module.training and not module._forward_hooks for module in model.modules())


SPACES: dict[str, dict[str, Any]] = {
    "cell": {"layers": 2, "channels": 4, "nodes": 2},
    "nasnet": {"layers": 2, "channels": 4, "blocks": 2},
    "nasbench201": {"channels": 4},
    "nasbench101": {"channels": 8},
    "chain": {"layers": 2, "widths": (4, 8)},
    "hierarchical": {"motifs": (2, 1), "nodes": (3, 3), "cells": 1, "channels": 4},
    "mobile": {},
    "nasbench_macro": {},
}


@pytest.mark.parametrize("space", SPACES)
def test_every_proxy_judges_every_space(space: str) -> None:
    task = Digits()
    made: Any = make("space", space, SPACES[space])
    torch.manual_seed(0)
    model = made.model(made.domain(task).sample(np.random.default_rng(1)), task)
    generator = torch.Generator().manual_seed(0)
    subject = Subject(model, task, [next(task.train_batches(12, generator)) for _ in range(2)])
    scores = {name: proxy(subject) for name, proxy in PROXIES.items()}
    assert all(math.isfinite(value) for value in scores.values()), scores


def judged(
    evaluator: Any, space: SearchSpace, task: Task, architecture: Architecture | None = None, seed: int = 0
) -> Metrics:
    chosen = architecture or space.domain(task).sample(np.random.default_rng(0))
    return evaluator.evaluate(chosen, Fidelity(), Context(space, task, CPU, seed))


def test_the_costs_are_always_there_and_may_be_the_score_themselves() -> None:
    metrics = judged(ZeroCost(proxy="parameters"), TinySpace(), TinyTask())
    assert set(metrics) == {"parameters", "flops"}
    assert set(judged(ZeroCost(batch_size=8), TinySpace(), TinyTask())) == {"synflow", "parameters", "flops"}
    assert ZeroCost(proxy="parameters").objectives == ("parameters:max",)


def test_several_initialisations_are_averaged() -> None:
    space, task = TinySpace(), TinyTask()
    context = Context(space, task, CPU, seed=3)
    architecture = space.domain(task).sample(np.random.default_rng(0))
    batch = next(task.train_batches(16, torch.Generator().manual_seed(0)))
    single = [score("snip", context.model(architecture), [batch]) for _ in range(3)]
    together = judged(ZeroCost(proxy="snip", batch_size=16, seeds=3), space, task, architecture, seed=3)
    assert together["snip"] == pytest.approx(statistics.fmean(single))


def test_a_vote_is_the_mean_place_among_the_reference() -> None:
    space: Any = make("space", "nasbench201", {"channels": 4})
    task = Digits()
    evaluator = ZeroCost(proxy="synflow+naswot", batch_size=16, reference=4)
    assert evaluator.objectives == ("vote:max",)
    metrics = judged(evaluator, space, task)
    rng = np.random.default_rng(0)
    others = [
        judged(ZeroCost(proxy="synflow+naswot", batch_size=16, reference=1), space, task, a, seed)
        for seed, a in enumerate([space.domain(task).sample(rng) for _ in range(4)])
    ]
    places = [place(metrics[name], [other[name] for other in others]) for name in ("synflow", "naswot")]
    assert metrics["vote"] == pytest.approx(statistics.fmean(places))


def test_a_vote_does_not_depend_on_what_the_worker_has_judged_before() -> None:
    space, task = TinySpace(), TinyTask()
    first, second = (space.domain(task).sample(np.random.default_rng(seed)) for seed in (0, 1))
    evaluator = ZeroCost(proxy="vote", batch_size=16, reference=3)
    judged(evaluator, space, task, first)
    again = judged(evaluator, space, task, second, seed=7)
    assert again == judged(ZeroCost(proxy="vote", batch_size=16, reference=3), space, task, second, seed=7)
    assert set(again) == {"synflow", "jacob_cov", "snip", "parameters", "flops", "vote"}


def test_a_place_is_the_rank_and_moves_on_with_the_score() -> None:
    others = [3.0, 1.0, 2.0, 2.0, -math.inf]
    assert [place(value, others) for value in (1.0, 2.0, 3.0)] == pytest.approx([2 / 6, 3.5 / 6, 5 / 6])
    scores = [-1e6, -3.0, 0.0, 1.0, 1.5, 2.0, 2.1, 3.0, 3.5, 40.0, 1e6]
    places = [place(value, others) for value in scores]
    assert places == sorted(set(places))
    assert places[0] > 0
    assert places[-1] < 1
    assert place(1.0, [-math.inf] * 3) == 3 / 4
    assert place(5.0, [4.0, 4.0]) > place(4.0, [4.0, 4.0]) == 1.5 / 3


def test_candidates_vote_by_their_mean_rank() -> None:
    rows = [
        {"synflow": 3.0, "snip": 1.0, "naswot": 0.0},
        {"synflow": 1.0, "snip": 1.0, "naswot": 9.0},
        {"synflow": 2.0, "snip": math.nan, "naswot": 0.0},
        {"synflow": 9.0, "naswot": -math.inf},
    ]
    assert vote(rows, ["synflow", "snip"]) == [(3 + 3.5) / 2, (1 + 3.5) / 2, (2 + 1.5) / 2, (4 + 1.5) / 2]
    assert vote(rows, ["naswot"]) == [2.5, 4.0, 2.5, 1.0]


def test_a_network_that_passes_nothing_on_fails_with_a_sentence() -> None:
    cut = Architecture.from_nasbench201("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", channels=4)
    space: Any = make("space", "nasbench201", {"channels": 4})
    task = Digits()
    for name, sentence in (
        ("synflow", "the untrained network's synflow is -inf: nothing passes from its input to its output"),
        ("naswot", "the untrained network's naswot is -inf: it has no activation functions, or different examples"),
        ("jacob_cov", "the untrained network's jacob_cov is -inf: its output does not depend on some of the examples"),
    ):
        with pytest.raises(TrainingDiverged, match=sentence):
            judged(ZeroCost(proxy=name, batch_size=8), space, task, cut)


def test_naswot_makes_nothing_of_a_network_without_activations() -> None:
    assert score("naswot", nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double(), batches()) == -math.inf


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"proxy": "sinflow"},
            "has proxy = 'sinflow'; expected synflow, naswot, jacob_cov, .* or several of them with",
        ),
        ({"proxy": ""}, "has proxy = ''; expected"),
        ({"proxy": "snip+"}, "has proxy = ''; expected"),
        ({"batch_size": 1}, "has batch_size = 1; expected 2 or more"),
        ({"batches": 1}, "has batches = 1; expected 2 or more"),
        ({"seeds": 0}, "has seeds = 0; expected 1 or more"),
        ({"reference": 0}, "has reference = 0; expected 1 or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ZeroCost(**options)


def test_too_few_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expects 4 batches of 20; the training data of .* has 3: .* smaller"):
        judged(ZeroCost(proxy="zico", batches=4, batch_size=20), TinySpace(), TinyTask())


class Pairs(TinyTask):
    """A task whose models are called with two things."""

    def example(self) -> Any:
        return super().example(), super().example()


class Number(TinyTask):
    classes = 1


@pytest.mark.parametrize("task", [Pairs(), Number()])
def test_a_task_that_is_no_classifier_of_tensors_is_refused_before_the_run(task: Task) -> None:
    with pytest.raises(ConfigError, match="needs a task that sorts tensors into classes"):
        ZeroCost().check(TinySpace(), task)


def test_a_search_by_a_proxy_needs_no_objective_and_trains_what_the_proxy_likes_best(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "random", TinyTask(), ZeroCost(proxy="snip", batch_size=16), trials=4, baseline=0, out=tmp_path
    )
    trials = run.trials()
    searched = trials[trials["purpose"] == "search"]
    best = max(searched.to_dict("records"), key=lambda row: row["snip"])
    found = run.best.architecture
    assert found is not None
    assert found.to_dict()["picks"] == best["architecture"]
    assert "accuracy" in run.best.metrics
