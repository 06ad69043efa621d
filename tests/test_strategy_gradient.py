"""Gradient-based one-shot strategies: their draws against closed forms, their gradients against finite differences."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasengine import Chooser, ConfigError, Context, SearchSpace, Strategy, Supernet, Task
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.storage import Folder
from nasengine.strategies.bilevel import Step, gradients
from nasengine.strategies.darts import DARTS
from nasengine.strategies.drnas import Dirichlet, DrNAS, gammas
from nasengine.strategies.gdas import GDAS, Hard
from nasengine.strategies.pc_darts import PCDARTS
from nasengine.strategies.proxyless import BinaryGates, ProxylessNAS
from nasengine.strategies.relaxation import Relaxation
from nasengine.strategies.sdarts import SDARTS, Perturbed
from nasengine.strategies.snas import SNAS, Concrete, gumbel
from nasengine.testing import StrategyContract, TinySpace, TinyTask

CPU = torch.device("cpu")
SMALL = {"epochs": 2, "batch_size": 24}
STRATEGIES: dict[str, Callable[..., Any]] = {
    "darts": DARTS,
    "pc_darts": PCDARTS,
    "gdas": GDAS,
    "drnas": DrNAS,
    "sdarts": SDARTS,
    "sdarts, adversarial": partial(SDARTS, perturbation="adversarial", steps=2),
    "snas": SNAS,
    "proxyless": ProxylessNAS,
}


class TestPCDARTS(StrategyContract):
    def make(self) -> Strategy:
        return PCDARTS(**SMALL)


class TestGDAS(StrategyContract):
    def make(self) -> Strategy:
        return GDAS(**SMALL)


class TestDrNAS(StrategyContract):
    def make(self) -> Strategy:
        return DrNAS(**SMALL)


class TestSDARTS(StrategyContract):
    def make(self) -> Strategy:
        return SDARTS(**SMALL)


class TestAdversarialSDARTS(StrategyContract):
    def make(self) -> Strategy:
        return SDARTS(perturbation="adversarial", **SMALL)


class TestSNAS(StrategyContract):
    def make(self) -> Strategy:
        return SNAS(**SMALL)


class TestProxylessNAS(StrategyContract):
    def make(self) -> Strategy:
        return ProxylessNAS(**SMALL)


class Edges(SearchSpace):
    """A node with two of three edges, on each of which one of three operations; and another choice of five."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        def convolution() -> nn.Module:
            return nn.Conv2d(4, 4, 3, padding=1)

        def edge(name: str) -> nn.Module:
            return choose.one(name, {"none": Nothing, "skip": nn.Identity, "conv": convolution})

        edges = {source: partial(edge, f"from{source}") for source in "012"}
        five = {f"conv{index}": convolution for index in range(5)}
        return Node(choose.some("inputs", edges, k=2), choose.one("five", five), task.classes)


class Nothing(nn.Module):
    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


class Node(nn.Module):
    def __init__(self, edges: Any, five: nn.Module, classes: int) -> None:
        super().__init__()
        self.stem, self.edges, self.five = nn.Conv2d(1, 4, 1), edges, five
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.stack([edge(x) for _, edge in self.edges.items()]).sum(0)
        return self.head(self.five(x).mean((2, 3)))


def relaxed(kind: Callable[..., Any], *options: Any, space: SearchSpace | None = None) -> tuple[Any, Supernet]:
    """A relaxation of that kind with α spread out."""
    space = space or Edges()
    context = Context(space, TinyTask(), CPU, seed=0)
    net = context.supernet()
    relaxation = kind(net, context, *options)
    with torch.no_grad():
        relaxation.alpha.copy_(torch.linspace(-1, 1, len(relaxation.alpha)).roll(3))
    return relaxation, net


def weights_of(net: Supernet, relaxation: Any) -> Tensor:
    """All relaxed decisions' weights as they are set now."""
    found = [net.gates[name].weights for name in relaxation.slices]
    return torch.cat([weights for weights in found if weights is not None])


def learnt(
    strategy: Any, space: SearchSpace, seed: int = 0, checkpoint: dict[str, Any] | None = None
) -> list[tuple[Tensor, Any]]:
    """α and what would be derived, after each epoch."""
    task = TinyTask()
    context = Context(space, task, CPU, seed, checkpoint=checkpoint)
    history = []
    for derivation in strategy.learn(context.supernet(), task, context):
        history.append((context.state()["kept"]["alpha"].clone(), derivation))
    return history


# Draws


def test_dirichlet_draws_have_the_gradients_of_their_moments() -> None:
    """E[(a·w)²] = Σ aᵢaⱼ cᵢ(δᵢⱼ + cⱼ) / (S (S + 1)) for w ~ Dirichlet(c), S = Σc: differentiated in α as a mean over
    draws, and in closed form."""
    alpha = torch.tensor([-1.0, 0.3, 0.0, 1.2], requires_grad=True)
    a = torch.tensor([1.0, -2.0, 0.5, 3.0])
    count = 400_000
    concentrations = nn.functional.elu(alpha) + 1
    drawn = gammas(concentrations.expand(count, 4), torch.Generator().manual_seed(0))
    weights = drawn / drawn.sum(1, keepdim=True)
    total = concentrations.sum()
    torch.testing.assert_close(weights.mean(0).float(), concentrations / total, rtol=0, atol=2e-3)
    (found,) = torch.autograd.grad(((weights @ a.double()) ** 2).mean(), alpha, retain_graph=True)

    outer = concentrations[:, None] * (torch.diag(torch.ones(4)) + concentrations)
    (exact,) = torch.autograd.grad(a @ outer @ a / (total * (total + 1)), alpha)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.01)
    assert float(exact.norm()) > 0.5


def test_tiny_concentrations_still_give_weights() -> None:
    drawn = gammas(torch.full((1000, 5), 1e-4), torch.Generator().manual_seed(0))
    weights = drawn / drawn.sum(1, keepdim=True)
    assert torch.isfinite(weights).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(1000).double())


def test_drnas_sets_gates_to_draws_whose_mean_it_derives_from() -> None:
    relaxation, net = relaxed(Dirichlet)
    draws = []
    for _ in range(3000):
        with torch.no_grad():
            relaxation.apply()
            draws.append(weights_of(net, relaxation))
    mean = torch.stack(draws).mean(0)
    relaxation.settle()
    torch.testing.assert_close(mean, weights_of(net, relaxation).detach(), rtol=0, atol=0.02)
    c = nn.functional.elu(relaxation.alpha.detach()) + 1
    part = relaxation.slices["five"]
    torch.testing.assert_close(weights_of(net, relaxation).detach()[part], c[part] / c[part].sum())
    assert relaxation.derive().picks["five"] == f"conv{int(c[part].argmax())}"


def test_gumbel_noise_picks_as_often_as_the_softmax_says() -> None:
    alpha = torch.tensor([0.0, 1.0, -1.0, 2.0])
    noise = gumbel(torch.zeros(100_000, 4), torch.Generator().manual_seed(0))
    shares = torch.bincount((alpha + noise).argmax(1), minlength=4) / 100_000
    torch.testing.assert_close(shares, alpha.softmax(0), rtol=0, atol=0.006)


@pytest.mark.parametrize("tau", [10.0, 1.0, 0.3])
def test_the_concrete_distribution_has_the_gradient_of_its_mean(tau: float) -> None:
    """Of E[f(w)] with the same noise on both sides of α: the mean's finite differences are the draws' gradient."""
    relaxation, net = relaxed(Concrete, tau, tau)
    a = torch.linspace(-2, 3, len(relaxation.alpha))

    def mean(count: int = 200) -> Tensor:
        relaxation.generator.manual_seed(7)
        total = torch.zeros(())
        for _ in range(count):
            relaxation.apply()
            total = total + (weights_of(net, relaxation) @ a) ** 2
        return total / count

    (found,) = torch.autograd.grad(mean(), relaxation.alpha)
    assert float(found.abs().max()) > 0.01
    for index in range(0, len(found), 5):
        sides = []
        for shift in (1e-2, -1e-2):
            with torch.no_grad():
                relaxation.alpha[index] += shift
                sides.append(float(mean()))
                relaxation.alpha[index] -= shift
        assert (sides[0] - sides[1]) / 2e-2 == pytest.approx(float(found[index]), rel=0.03, abs=0.01)


def test_gdas_computes_one_option_of_each_decision_with_the_gradient_of_the_soft_weights() -> None:
    hard, net = relaxed(Hard, 0.7, 0.7)
    soft, other = relaxed(Concrete, 0.7, 0.7)
    for relaxation in (hard, soft):
        relaxation.generator.manual_seed(3)
        relaxation.apply()
    a = torch.linspace(-2, 3, len(hard.alpha))
    assert all(len(net.gates[name].active) == 1 for name in hard.slices)
    values = weights_of(net, hard)
    largest = [weights_of(other, soft)[part].argmax() for part in soft.slices.values()]
    sizes = [part.stop - part.start for part in soft.slices.values()]
    picked = torch.cat([nn.functional.one_hot(i, size) for i, size in zip(largest, sizes, strict=True)])
    torch.testing.assert_close(values.detach(), picked.float())
    (found,) = torch.autograd.grad(values @ a, hard.alpha)
    (expected,) = torch.autograd.grad(weights_of(other, soft) @ a, soft.alpha)
    torch.testing.assert_close(found, expected)


def test_gdas_draws_options_as_often_as_the_softmax_says() -> None:
    relaxation, net = relaxed(Hard, 1.0, 1.0)
    counts: Counter[int] = Counter()
    for _ in range(4000):
        relaxation.apply()
        counts.update(net.gates["five"].active)
    expected = relaxation.alpha.detach()[relaxation.slices["five"]].softmax(0)
    for index in range(5):
        assert counts[index] / 4000 == pytest.approx(float(expected[index]), abs=0.03)


def test_k_of_n_choices_keep_k_in_a_hard_draw() -> None:
    class Kept(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            kept = choose.some("kept", {name: partial(nn.Conv2d, 4, 4, 1) for name in "0123"}, k=2)
            return Node(kept, nn.Identity(), task.classes)

    relaxation, net = relaxed(Hard, 1.0, 1.0, space=Kept())
    relaxation.apply()
    gate = net.gates["kept"]
    assert len(gate.active) == 2
    assert gate.weights is not None
    assert sorted(gate.weights.tolist()) == pytest.approx([0, 0, 1, 1])
    binary, net = relaxed(BinaryGates, space=Kept())
    binary.apply()
    assert len(net.gates["kept"].active) == 3
    assert net.gates["kept"].weights is not None
    assert sorted(net.gates["kept"].weights.tolist()) == pytest.approx([0, 0, 1, 1])
    binary.apply_for_weights()
    assert len(net.gates["kept"].active) == 2
    assert net.gates["kept"].weights is None


@pytest.mark.parametrize(
    ("kind", "ends"), [(Concrete, (10.0, 0.1)), (Hard, (10.0, 0.1)), (Concrete, (1.0, 0.03))], ids=["a", "b", "c"]
)
def test_the_temperature_falls_linearly_over_the_epochs(kind: Any, ends: tuple[float, float]) -> None:
    relaxation, _ = relaxed(kind, *ends)
    found = []
    for epoch in range(5):
        relaxation.begin(epoch / 4)
        found.append(relaxation.tau)
    assert found == pytest.approx([ends[0] + (ends[1] - ends[0]) * epoch / 4 for epoch in range(5)])


# ProxylessNAS


def test_binary_gates_open_one_of_two_paths_and_pass_on_the_gradient_of_the_paper() -> None:
    """∂L/∂αᵢ = Σⱼ ∂L/∂gⱼ pⱼ (δᵢⱼ − pᵢ) over the two sampled paths, p their softmax."""
    relaxation, net = relaxed(BinaryGates)
    upstream = torch.linspace(-2, 3, len(relaxation.alpha))
    for _ in range(20):
        relaxation.apply()
        gates = weights_of(net, relaxation)
        (found,) = torch.autograd.grad(gates @ upstream, relaxation.alpha)
        for name, part in relaxation.slices.items():
            sampled = list(net.gates[name].active)
            assert len(sampled) == 2
            values = gates[part].detach()
            assert sorted(values.tolist()) == pytest.approx([0.0] * (len(values) - 1) + [1.0])
            assert float(values[sampled].sum()) == pytest.approx(1)
            p = relaxation.alpha[part].detach()[sampled].softmax(0)
            expected = torch.zeros(len(values))
            for i, place in enumerate(sampled):
                for j, other in enumerate(sampled):
                    expected[place] += upstream[part][other] * p[j] * (float(i == j) - p[i])
            torch.testing.assert_close(found[part], expected)


def test_paths_that_were_not_sampled_keep_their_probability() -> None:
    relaxation, net = relaxed(BinaryGates)
    part = relaxation.slices["five"]
    before = relaxation.alpha[part].detach().softmax(0)
    relaxation.apply()
    sampled = list(net.gates["five"].active)
    with torch.no_grad():
        relaxation.alpha[part.start + sampled[0]] += 0.7
        relaxation.alpha[part.start + sampled[1]] -= 0.1
    relaxation.stepped()
    after = relaxation.alpha[part].detach().softmax(0)
    others = [index for index in range(5) if index not in sampled]
    torch.testing.assert_close(after[others], before[others])
    assert after[sampled[0]] > before[sampled[0]]
    assert after[sampled[1]] < before[sampled[1]]


def test_one_path_is_computed_while_w_learns_as_often_as_its_probability_says() -> None:
    relaxation, net = relaxed(BinaryGates)
    counts: Counter[int] = Counter()
    for _ in range(4000):
        relaxation.apply_for_weights()
        gate = net.gates["five"]
        assert gate.weights is None
        assert len(gate.active) == 1
        counts.update(gate.active)
    expected = relaxation.alpha.detach()[relaxation.slices["five"]].softmax(0)
    for index in range(5):
        assert counts[index] / 4000 == pytest.approx(float(expected[index]), abs=0.03)


# SDARTS


def test_perturbed_weights_are_still_a_distribution_and_near_the_expected_ones() -> None:
    relaxation, _ = relaxed(Perturbed, 0.03, 0.3)
    expected = relaxation.expected()
    for progress, epsilon in ((0.0, 0.03), (0.5, 0.165), (1.0, 0.3)):
        relaxation.begin(progress)
        assert relaxation.epsilon == pytest.approx(epsilon)
        for _ in range(20):
            noise = relaxation.noise()
            assert float(noise.abs().max()) <= epsilon
            moved = relaxation.projected(expected + noise)
            assert float(moved.min()) >= 0
            for part in relaxation.slices.values():
                assert float(moved[part].sum()) == pytest.approx(1)
        assert float(noise.abs().max()) > 0.5 * epsilon


def test_the_adversary_makes_the_training_loss_worse_than_chance_does() -> None:
    strategy = SDARTS(perturbation="adversarial", steps=7)
    relaxation, net = relaxed(Perturbed, 0.3, 0.3)
    task = TinyTask()
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    batch = next(task.train_batches(48, generator))
    step = Step(task, net, relaxation, list(net.parameters()), Any, Any, train_batch=batch)
    expected = relaxation.expected()

    def loss(at: Tensor) -> float:
        relaxation.set(at.detach())
        return float(task.loss(net, batch).detach())

    gains = []
    for _ in range(5):
        begun = relaxation.projected(expected + relaxation.noise())
        gains.append(loss(strategy.worst(step, relaxation, expected, begun.clone()).detach()) - loss(begun))
    assert min(gains) > 0


def test_without_perturbation_sdarts_is_darts() -> None:
    still = {"epsilon_min": 0.0, "epsilon_max": 0.0, **SMALL}
    darts = learnt(DARTS(**SMALL), Edges())
    for strategy in (SDARTS(**still), SDARTS(perturbation="adversarial", **still)):
        for (alpha, derived), (other, expected) in zip(learnt(strategy, Edges()), darts, strict=True):
            torch.testing.assert_close(alpha, other, rtol=0, atol=1e-6)
            assert derived.architecture == expected.architecture
    moved = learnt(SDARTS(**SMALL), Edges())
    assert not torch.equal(moved[-1][0], darts[-1][0])


# PC-DARTS


def test_with_all_channels_pc_darts_is_darts_where_no_edges_are_normalised() -> None:
    space = NASBench201Space(cells=1, channels=4)
    options = {"learning_rate": 0.1, "alpha_learning_rate": 6e-4, "warmup": 0.5, "epochs": 2, "batch_size": 24}
    darts, pc_darts = learnt(DARTS(**options), space), learnt(PCDARTS(partial=1, **options), space)
    for (alpha, _), (other, _) in zip(darts, pc_darts, strict=True):
        assert torch.equal(alpha, other)
    assert not torch.equal(darts[0][0], darts[1][0])
    parts = learnt(PCDARTS(partial=4, **options), space)
    assert not torch.equal(parts[1][0], darts[1][0])


def test_alpha_stands_still_while_w_learns_alone() -> None:
    history = learnt(PCDARTS(epochs=4, batch_size=24, warmup=0.5), Edges())
    alphas = [alpha for alpha, _ in history]
    assert torch.equal(alphas[0], alphas[1])
    assert not torch.equal(alphas[1], alphas[2])
    assert ["valid_loss" in derived.metrics for _, derived in history] == [False, False, True, True]
    assert len({derived.metrics["train_loss"] for _, derived in history}) == 4


def test_edges_are_weighed_by_a_softmax_and_kept_by_it_times_their_best_operation() -> None:
    """Xu et al. 2020, equation 4; and the authors' derivation."""
    space = Edges()
    context = Context(space, TinyTask(), CPU, seed=0)
    net = context.supernet()
    relaxation = Relaxation(net, context, edges=True)
    assert "inputs" in relaxation.slices
    alpha = {"inputs": [0.0, math.log(2), 0.0], "from0": [0, 3, 0], "from1": [0, 0, 0.5], "from2": [5, 2, 0]}
    with torch.no_grad():
        relaxation.alpha.zero_()
        for name, values in alpha.items():
            relaxation.alpha[relaxation.slices[name]] = torch.tensor(values, dtype=torch.float32)
    relaxation.settle()
    torch.testing.assert_close(net.gates["inputs"].weights, torch.tensor([0.25, 0.5, 0.25]))
    # 0.25 · 0.91 and 0.5 · 0.45 against 0.25 · 0.05
    picks = relaxation.derive().picks
    assert (picks["inputs"], picks["from0"], picks["from1"]) == (("0", "1"), "skip", "conv")
    with torch.no_grad():  # and now the last edge by β alone
        relaxation.alpha[relaxation.slices["inputs"]] = torch.tensor([0.0, 0.0, 9.0])
    assert relaxation.derive().picks["inputs"] == ("0", "2")


def test_pc_darts_says_so_where_no_part_of_the_channels_can_pass() -> None:
    first, second = learnt(PCDARTS(**SMALL), TinySpace())
    assert first[1].note == (
        "no choice of this space has options that a part of the channels can pass (partial=4 asks for 1/4): all pass"
    )
    assert second[1].note is None
    assert learnt(PCDARTS(**SMALL), Edges())[0][1].note is None


# All of them


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    "space", [NASBench201Space(cells=1, channels=4), CellSpace(layers=3, channels=4, nodes=1)], ids=["201", "cell"]
)
def test_each_derives_an_architecture_of_the_space(name: str, space: SearchSpace) -> None:
    domain = space.domain(TinyTask())
    history = learnt(STRATEGIES[name](epochs=1, batch_size=24), space)
    for alpha, derivation in history:
        domain.validate(derivation.architecture)
        assert torch.isfinite(alpha).all()
        assert {"train_loss", "entropy", "eigenvalue", "parameter_free"} <= set(derivation.metrics)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_resumed_from_a_checkpoint_ends_where_the_whole_one_does(name: str, tmp_path: Path) -> None:
    strategy, space, task = STRATEGIES[name](epochs=3, batch_size=24, alpha_learning_rate=0.01), Edges(), TinyTask()
    whole = learnt(strategy, space, seed=3)
    context = Context(space, task, CPU, seed=3)
    interrupted = strategy.learn(context.supernet(), task, context)
    next(interrupted)
    write_checkpoint(Folder(tmp_path), 0, {"context": context.state(), "curve": [], "derived": None})
    interrupted.close()
    torch.manual_seed(99)  # a new process knows nothing of the old one's generators
    checkpoint = read_checkpoint(Folder(tmp_path), 0)
    assert checkpoint is not None
    rest = learnt(strategy, space, seed=3, checkpoint=checkpoint["context"])
    assert len(rest) == 2
    for (alpha, derived), (other, expected) in zip(rest, whole[1:], strict=True):
        torch.testing.assert_close(alpha, other, rtol=0, atol=1e-6)
        assert derived.architecture == expected.architecture
        assert derived.metrics["eigenvalue"] == pytest.approx(expected.metrics["eigenvalue"], rel=1e-3, abs=1e-6)
    assert float((whole[-1][0] - whole[0][0]).norm()) > 1e-3  # something was learnt in between


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_gives_the_same_search_and_another_another(name: str) -> None:
    one, same, other = (learnt(STRATEGIES[name](**SMALL), Edges(), seed)[-1][0] for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class Notes(TinyTask):
    """Notes what the models' outputs are computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: list[torch.dtype] = []

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        handle = model.register_forward_hook(lambda _, inputs, output: self.computed.append(output.dtype))
        try:
            return super().loss(model, batch)
        finally:
            handle.remove()


@pytest.mark.parametrize("name", STRATEGIES)
def test_in_bfloat16_each_learns_and_looks_at_the_hessian_in_float32(name: str) -> None:
    task = Notes()
    options = {"epochs": 2, "batch_size": 24, "alpha_learning_rate": 0.01}
    options |= {"warmup": 0.0} if name in ("proxyless", "pc_darts") else {}
    context = Context(NASBench201Space(cells=1, channels=4), task, CPU, 0)
    net = context.supernet()
    learning = STRATEGIES[name](precision="bf16", **options).learn(net, task, context)
    alphas, found = [], []
    for derived in learning:
        alphas.append(context.state()["kept"]["alpha"])
        found.append((task.computed[:-1], task.computed[-1]))
        task.computed.clear()
        assert all(math.isfinite(value) for value in derived.metrics.values())
        assert derived.metrics["eigenvalue"] != 0
    assert [(set(steps), last) for steps, last in found] == [({torch.bfloat16}, torch.float32)] * 2
    assert not torch.equal(*alphas)
    kept = [*alphas, *net.parameters(), *net.buffers()]
    assert {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}


def test_in_bfloat16_the_gradients_are_those_of_float32_but_for_what_rounding_does() -> None:
    relaxation, net = relaxed(Relaxation, space=NASBench201Space(cells=1, channels=4))
    net.train()
    task = TinyTask()
    batch = next(task.train_batches(48, torch.Generator().manual_seed(0)))
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    found = []
    for precision in ("float32", "bf16"):
        step = Step(task, net, relaxation, weights, Any, Any, batch, batch, precision)
        _, (of_alpha, *of_weights) = gradients(step.valid_loss, [relaxation.alpha, *weights])
        found.append((of_alpha, torch.cat([gradient.flatten() for gradient in of_weights])))
    for exact, rounded in zip(*found, strict=True):
        assert not torch.equal(exact, rounded)
        assert float(nn.functional.cosine_similarity(exact, rounded, dim=0)) > 0.98


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_finds_the_operation_that_solves_the_task(name: str) -> None:
    """Of five options one sees the image, the others only zeros: it alone can lower the loss."""

    class Blind(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            options: dict[str, Callable[[], nn.Module]] = {f"blind{index}": Zeroed for index in range(4)}
            options |= {"seeing": partial(nn.Conv2d, 1, 4, (4, 1))}
            return nn.Sequential(choose.one("sight", options), nn.Flatten(), nn.Linear(16, task.classes))

    class Zeroed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.value[:, None, None].expand(len(x), 4, 1, 4)

    fast = {"epochs": 30, "batch_size": 8, "learning_rate": 0.1, "alpha_learning_rate": 0.05, "hessian": False}
    options = {**fast, "warmup": 0.2} if name == "proxyless" else fast
    assert learnt(STRATEGIES[name](**options), Blind())[-1][1].architecture.picks["sight"] == "seeing"


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (partial(PCDARTS, partial=0), "partial"),
        (partial(DrNAS, partial=0), "partial"),
        (partial(GDAS, tau_min=0.0), "tau_min"),
        (partial(SNAS, tau_max=-1.0), "tau_max"),
        (partial(SDARTS, perturbation="worst"), "perturbation = 'worst'; expected random or adversarial"),
        (partial(SDARTS, steps=0), "steps"),
        (partial(SDARTS, epsilon_min=-0.1), "epsilon_min"),
        (partial(ProxylessNAS, warmup=1.0), "warmup"),
        (partial(DARTS, guard="on"), "the strategy 'darts' has guard = 'on'; expected warn, stop or off"),
        (partial(SNAS, guard="stop", hessian=False), "hessian"),
        (partial(GDAS, epochs=0), "epochs"),
        (partial(GDAS, precision="half"), "the strategy 'gdas' has precision = 'half'; expected float32 or bf16"),
        (partial(DARTS, order=2, precision="bf16"), "order = 2 and precision = 'bf16'; order 2 takes small diff"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(make: Callable[[], Any], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        make()
