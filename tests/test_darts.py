"""DARTS against exact derivatives, against a second implementation of algorithm 1, and on searches with one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from nasengine import (
    Architecture,
    Chooser,
    ConfigError,
    Context,
    SearchSpace,
    Split,
    Supernet,
    Task,
    TrainingDiverged,
    mask_channels,
)
from nasengine.checkpoint import read_checkpoint, write_checkpoint
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.storage import Folder
from nasengine.strategies.bilevel import gradients
from nasengine.strategies.darts import DARTS, unrolled_gradient
from nasengine.strategies.relaxation import Relaxation
from nasengine.testing import TinyTask

CPU = torch.device("cpu")


class Regression(Task):
    """y = f(x) for 96 random points x; the mean squared error counts."""

    classes = 1
    objectives = ("error:min",)

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: int, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.input_shape = (inputs,)
        self.x = 2 * torch.rand(96, inputs, generator=generator) - 1
        self.y = function(self.x) + noise * torch.randn(96, 1, generator=generator)

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        start, end = round(part[0] * 64), round(part[1] * 64)
        order = start + torch.randperm(end - start, generator=generator)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            yield self.x[chosen], self.y[chosen]

    def valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x[64:80], self.y[64:80]

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.x[80:], self.y[80:]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        batch = next(self.valid_batches() if split == "valid" else self.test_batches())
        return {"error": float(self.loss(model.eval(), batch))}


class Written(SearchSpace):
    """The space whose `build` is the function given."""

    def __init__(self, choices: Callable[[Chooser], nn.Module]) -> None:
        self.choices = choices

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return self.choices(choose)


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Zero(nn.Module):
    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


class Summed(nn.Module):
    """The sum of what a k-of-n choice keeps, each option fed its own column of x."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([module(x[:, [int(name)]]) for name, module in self.kept.items()]).sum(0)


def two_edges(choose: Chooser) -> nn.Module:
    """x → edge → edge → y; every option is smooth, and no two compute alike."""

    def edge(name: str) -> nn.Module:
        return choose.one(
            name,
            {
                "tanh": lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
                "soft": lambda: nn.Sequential(nn.Linear(4, 4), nn.Softplus()),
                "skip": nn.Identity,
            },
        )

    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), edge("first"), edge("second"), nn.Linear(4, 1))


CURVE = Regression(lambda x: torch.sin(2 * x[:, :1]) * x[:, 1:] + x[:, :1] ** 2, inputs=2)


# The gradient of α


class Toy:
    """The two-edge supernet in float64, with α, a training and a validation batch, and momentum buffers."""

    def __init__(self, momentum: float = 0.9, weight_decay: float = 3e-2, rate: float = 0.2) -> None:
        self.momentum, self.weight_decay, self.rate = momentum, weight_decay, rate
        torch.manual_seed(1)
        self.net = Written(two_edges).supernet(CURVE).double()
        self.names = [name for name, _ in self.net.named_parameters()]
        self.weights = [weight for _, weight in self.net.named_parameters()]
        generator = torch.Generator().manual_seed(2)
        self.alpha = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
        self.buffers: list[Tensor | None] = [
            0.3 * torch.randn(w.shape, generator=generator).double() for w in self.weights
        ]
        x, y = CURVE.x.double(), CURVE.y.double()
        self.train_batch, self.valid_batch = (x[:32], y[:32]), (x[32:64], y[32:64])

    def loss(self, batch: tuple[Tensor, Tensor], weights: Sequence[Tensor]) -> Tensor:
        """The loss as a function of α and of any weights, written without the strategy's help."""
        self.net.gates["first"].set(self.alpha[:3].softmax(0))
        self.net.gates["second"].set(self.alpha[3:].softmax(0))
        out: Tensor = functional_call(self.net, dict(zip(self.names, weights, strict=True)), (batch[0],))
        return ((out - batch[1]) ** 2).mean()

    def train_loss(self) -> Tensor:
        return self.loss(self.train_batch, self.weights)

    def valid_loss(self) -> Tensor:
        return self.loss(self.valid_batch, self.weights)

    def exact(self) -> tuple[Tensor, Tensor]:
        """Validation loss and its total derivative in α, through the step of the weights that α influences."""
        grads = torch.autograd.grad(self.train_loss(), self.weights, create_graph=True)
        stepped = [
            w - self.rate * (self.momentum * (0.0 if b is None else b) + g + self.weight_decay * w)
            for w, g, b in zip(self.weights, grads, self.buffers, strict=True)
        ]
        loss = self.loss(self.valid_batch, stepped)
        return loss.detach(), torch.autograd.grad(loss, self.alpha)[0]

    def partial(self) -> Tensor:
        """∇α L_val(w′, α) with w′ held fixed: the first term of equation 7."""
        grads = torch.autograd.grad(self.train_loss(), self.weights)
        stepped = [
            (w - self.rate * (self.momentum * (0.0 if b is None else b) + g + self.weight_decay * w)).detach()
            for w, g, b in zip(self.weights, grads, self.buffers, strict=True)
        ]
        return torch.autograd.grad(self.loss(self.valid_batch, stepped), self.alpha)[0]

    def unrolled(self) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = unrolled_gradient(
            self.train_loss,
            self.valid_loss,
            self.weights,
            self.alpha,
            self.buffers,
            self.rate,
            self.momentum,
            self.weight_decay,
        )
        return found


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm())


def test_the_reference_is_the_derivative_of_the_unrolled_loss() -> None:
    """Central differences of the whole composition, α to validation loss after one step, agree with autograd."""
    toy = Toy()
    _, gradient = toy.exact()
    for index in range(6):
        sides = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                toy.alpha[index] += shift
            sides.append(float(toy.exact()[0]))
            with torch.no_grad():
                toy.alpha[index] -= shift
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(float(gradient[index]), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 3e-2), (0.0, 0.0), (0.9, 0.0), (0.0, 0.3)])
def test_the_second_order_gradient_is_the_exact_one_up_to_the_finite_differences(
    momentum: float, weight_decay: float
) -> None:
    toy = Toy(momentum, weight_decay)
    loss, gradient = toy.unrolled()
    exact_loss, exact = toy.exact()
    second_order = distance(exact, toy.partial())
    torch.testing.assert_close(loss, exact_loss)
    assert distance(gradient, exact) < 1e-3 * second_order
    # and this is far from what is left without the second term, or at the weights as they are
    first_order = torch.autograd.grad(toy.valid_loss(), toy.alpha)[0]
    assert second_order > 0.05 * float(exact.norm())
    assert distance(gradient, first_order) > 0.05 * float(exact.norm())


def test_a_missing_momentum_buffer_counts_as_none() -> None:
    toy = Toy()
    toy.buffers = [None] * len(toy.weights)
    _, gradient = toy.unrolled()
    _, exact = toy.exact()
    assert distance(gradient, exact) < 1e-3 * distance(exact, toy.partial())


@pytest.mark.parametrize("forgotten", ["momentum", "weight_decay", "rate"])
def test_the_comparison_would_see_a_forgotten_term(forgotten: str) -> None:
    toy = Toy(weight_decay=0.3)
    _, exact = toy.exact()
    setattr(toy, forgotten, 0.0)
    _, wrong = toy.unrolled()
    assert distance(wrong, exact) > 0.02 * float(exact.norm())


def test_the_unrolled_step_leaves_weights_gradients_and_alpha_exactly_as_they_were() -> None:
    toy = Toy()
    before = [weight.detach().clone() for weight in toy.weights]
    alpha = toy.alpha.detach().clone()
    buffers = [buffer.clone() for buffer in toy.buffers if buffer is not None]
    toy.unrolled()
    assert all(torch.equal(weight, old) for weight, old in zip(toy.weights, before, strict=True))
    assert torch.equal(toy.alpha, alpha)
    assert all(torch.equal(b, old) for b, old in zip(toy.buffers, buffers, strict=True) if b is not None)
    assert all(weight.grad is None and weight.requires_grad for weight in toy.weights)
    assert toy.alpha.grad is None


@pytest.mark.parametrize("steps_before", [0, 1, 5])
def test_the_virtual_step_is_the_optimisers_own_next_step(steps_before: int) -> None:
    """The validation loss at w′ is the one after torch's SGD has really stepped."""
    toy = Toy()
    optimizer = torch.optim.SGD(toy.weights, toy.rate, toy.momentum, weight_decay=toy.weight_decay)

    def step() -> None:
        optimizer.zero_grad()
        toy.train_loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for _ in range(steps_before):
        step()
    toy.buffers = [optimizer.state[weight].get("momentum_buffer") for weight in toy.weights]
    expected, _ = toy.unrolled()
    step()
    torch.testing.assert_close(toy.valid_loss(), expected)


def test_weights_without_influence_are_survived() -> None:
    """Where the validation loss is at a minimum of w, ∇w is zero, and ε = 0.01 / ‖∇w‖ has nothing to divide by."""
    weight = torch.zeros(2, requires_grad=True)
    alpha = torch.tensor([1.0, 2.0], requires_grad=True)
    loss, gradient = unrolled_gradient(
        lambda: (weight * alpha).sum(), lambda: (alpha**2).sum(), [weight], alpha, [None], 0.1, 0.9, 0.0
    )
    assert loss.item() == 5.0
    torch.testing.assert_close(gradient, torch.tensor([2.0, 4.0]))
    assert torch.equal(weight, torch.zeros(2))


def test_the_second_order_term_of_a_quadratic_is_exact() -> None:
    """L_train = a·w + w²/2, L_val = w²/2 + a²/2, so w′ = w − ξ(a + w) and dL/da = a − ξw′: central differences of a
    quadratic have no error."""
    w, a, rate = 0.7, 0.4, 0.25
    weight = torch.tensor([w], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([a], dtype=torch.float64, requires_grad=True)
    _, gradient = unrolled_gradient(
        lambda: (alpha * weight + weight**2 / 2).sum(),
        lambda: (weight**2 / 2 + alpha**2 / 2).sum(),
        [weight],
        alpha,
        [None],
        rate,
        0.0,
        0.0,
    )
    stepped = w - rate * (a + w)
    assert float(gradient) == pytest.approx(a - rate * stepped, rel=1e-12)


def test_the_first_order_gradient_is_plain_autograd() -> None:
    toy = Toy()
    loss, (alpha_gradient, *weight_gradients) = gradients(toy.valid_loss, [toy.alpha, *toy.weights])
    expected = toy.valid_loss()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(alpha_gradient, toy.alpha.grad)
    for weight, gradient in zip(toy.weights, weight_gradients, strict=True):
        torch.testing.assert_close(gradient, weight.grad)


def test_what_the_loss_does_not_use_has_a_gradient_of_zero() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    loss, found = gradients(lambda: (2 * used).sum(), [unused, used])
    assert loss.item() == 4.0
    assert [gradient.tolist() for gradient in found] == [[0.0, 0.0, 0.0], [2.0, 2.0]]


# Algorithm 1, a second time


def reference(darts: Any, space: SearchSpace, task: Task, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Algorithm 1 with hand-written SGD, Adam and cosine, and for order 2 the exact gradient by autograd."""
    context = Context(space, task, CPU, seed)
    net = context.supernet()
    net.train()
    names, weights = zip(*net.named_parameters(), strict=True)
    sizes = {name: len(decision.options) for name, decision in net.domain.decisions.items()}
    alpha = (1e-3 * torch.randn(sum(sizes.values()), generator=context.generator)).requires_grad_()
    buffers: list[Tensor | None] = [None for _ in weights]
    first, second = torch.zeros_like(alpha), torch.zeros_like(alpha)
    history: list[dict[str, Any]] = []
    step = 0

    def loss(batch: tuple[Tensor, Tensor], values: Sequence[Tensor]) -> Tensor:
        start = 0
        for name, size in sizes.items():
            net.gates[name].set(alpha[start : start + size].softmax(0))
            start += size
        out: Tensor = functional_call(net, dict(zip(names, values, strict=True)), (batch[0],))
        return ((out - batch[1]) ** 2).mean()

    for epoch in range(epochs):
        low, high = darts.learning_rate_min, darts.learning_rate
        rate = low + (high - low) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        train = list(task.train_batches(darts.batch_size, context.generator, part=(0.0, 0.5)))
        valid = list(task.train_batches(darts.batch_size, context.generator, part=(0.5, 1.0)))
        losses = []
        for train_batch, valid_batch in zip(train, valid, strict=True):
            if darts.order == 1:
                values: Sequence[Tensor] = weights
            else:
                grads = torch.autograd.grad(loss(train_batch, weights), weights, create_graph=True)
                values = [
                    w - rate * (darts.momentum * (0.0 if b is None else b) + g + darts.weight_decay * w)
                    for w, g, b in zip(weights, grads, buffers, strict=True)
                ]
            valid_loss = loss(valid_batch, values)
            gradient = torch.autograd.grad(valid_loss, alpha)[0]
            step += 1
            with torch.no_grad():  # Adam (Kingma and Ba 2015, algorithm 1), β = (0.5, 0.999), L2 in the gradient
                gradient = gradient + darts.alpha_weight_decay * alpha
                first = 0.5 * first + 0.5 * gradient
                second = 0.999 * second + 0.001 * gradient**2
                rise = (first / (1 - 0.5**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
                alpha -= darts.alpha_learning_rate * rise
            train_loss = loss(train_batch, weights)
            grads = torch.autograd.grad(train_loss, weights)
            norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
            clip = min(1.0, darts.gradient_clip / (norm + 1e-6))
            with torch.no_grad():
                for index, (w, g) in enumerate(zip(weights, grads, strict=True)):
                    buffer = buffers[index]
                    change = clip * g + darts.weight_decay * w
                    buffers[index] = change if buffer is None else darts.momentum * buffer + change
                    w -= rate * buffers[index]
            losses.append((float(valid_loss.detach()), float(train_loss.detach())))
        history.append(
            {
                "alpha": alpha.detach().clone(),
                "valid_loss": sum(v for v, _ in losses) / len(losses),
                "train_loss": sum(t for _, t in losses) / len(losses),
            }
        )
    return history


def learnt(
    darts: Any, space: SearchSpace, task: Task, seed: int = 0, checkpoint: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """What DARTS has after each epoch: α, weights, metrics, and what it would derive."""
    task.to(CPU)
    context = Context(space, task, CPU, seed, checkpoint=checkpoint)
    net = context.supernet()
    history = []
    for derivation in darts.learn(net, task, context):
        state = context.state()
        weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        alpha = state["kept"]["alpha"].clone()
        history.append({"alpha": alpha, "weights": weights, "derived": derivation.architecture, **derivation.metrics})
    return history


@pytest.mark.parametrize(("order", "precision"), [(1, 1e-4), (2, 2e-2)])
@pytest.mark.parametrize("clip", [5.0, 0.05])
def test_a_second_implementation_of_algorithm_1_goes_the_same_way(order: int, precision: float, clip: float) -> None:
    """Clipped and not. The second order's tolerance is that of single-precision finite differences."""
    darts = DARTS(
        order=order,
        epochs=4,
        batch_size=8,
        learning_rate=0.2,
        learning_rate_min=0.01,
        momentum=0.9,
        weight_decay=1e-2,
        gradient_clip=clip,
        alpha_learning_rate=0.02,
        alpha_weight_decay=0.1,
    )
    ours = learnt(darts, Written(two_edges), CURVE, seed=5)
    theirs = reference(darts, Written(two_edges), CURVE, seed=5, epochs=4)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        moved = float(other["alpha"].norm())
        assert distance(mine["alpha"], other["alpha"]) < precision * moved
        assert mine["train_loss"] == pytest.approx(other["train_loss"], rel=precision)
        assert mine["valid_loss"] == pytest.approx(other["valid_loss"], rel=precision)
    assert float(theirs[-1]["alpha"].norm()) > 0.05  # of 0.02 a step at most


def test_the_two_orders_go_different_ways() -> None:
    """Farther apart than the tolerance above, or it would prove nothing."""
    options = {"epochs": 4, "batch_size": 8, "learning_rate": 0.2, "alpha_learning_rate": 0.02}
    first, second = (learnt(DARTS(order=order, **options), Written(two_edges), CURVE)[-1]["alpha"] for order in (1, 2))
    assert distance(first, second) > 0.1 * float(first.norm())


# Derivation


class Hand:
    """A space's relaxation with α set by hand."""

    def __init__(self, build: Callable[[Chooser], nn.Module] | SearchSpace, task: Task = CURVE) -> None:
        space = build if isinstance(build, SearchSpace) else Written(build)
        self.net: Supernet = space.supernet(task)
        self.relaxation = Relaxation(self.net, Context(space, task, CPU, seed=0))

    def derive(self, **alpha: Sequence[float]) -> dict[str, Any]:
        with torch.no_grad():
            self.relaxation.alpha.zero_()
            for name, values in alpha.items():
                part = self.relaxation.alpha[self.relaxation.slices[name]]
                part.copy_(torch.tensor(values))
        derived: Architecture = self.relaxation.derive()
        self.net.domain.validate(derived)
        return dict(derived.picks)


def operation(choose: Chooser, name: str, *options: str) -> nn.Module:
    return choose.one(name, {option: (Zero if option == "none" else nn.Identity) for option in options})


def node(choose: Chooser) -> nn.Module:
    """Two of three edges; on each none, conv or pool."""
    edges = {str(i): partial(operation, choose, f"from{i}", "none", "conv", "pool") for i in range(3)}
    return Summed(choose.some("inputs", edges, k=2))


def test_a_node_keeps_its_two_edges_of_the_strongest_operation() -> None:
    picks = Hand(node).derive(from0=[0, 1, 0], from1=[0, 0, 3], from2=[0, 2, 0])
    assert picks == {"inputs": ("1", "2"), "from1": "pool", "from2": "conv"}


def test_edges_are_compared_by_softmax_with_none_in_it() -> None:
    """Edge 0 has the largest α of all operations, but its `none` takes nearly all of the softmax: e³ / (e⁶ + e³ + 1) is
    0.05, e^0.1 / (2 + e^0.1) is 0.36."""
    picks = Hand(node).derive(from0=[6, 3, 0], from1=[0, 0.1, 0], from2=[0, 0, 0.2])
    assert picks == {"inputs": ("1", "2"), "from1": "conv", "from2": "pool"}


def test_none_is_never_picked_on_an_edge_that_is_kept() -> None:
    picks = Hand(node).derive(from0=[9, 1, 2], from1=[9, 2, 1], from2=[9, 0, 0])
    assert picks == {"inputs": ("0", "1"), "from0": "pool", "from1": "conv"}


def test_equal_weights_leave_the_first() -> None:
    assert Hand(node).derive() == {"inputs": ("0", "1"), "from0": "conv", "from1": "conv"}


def test_none_may_be_picked_at_the_top() -> None:
    hand = Hand(lambda choose: nn.Sequential(operation(choose, "top", "none", "conv"), node(choose)))
    assert hand.derive(top=[1, 0])["top"] == "none"
    assert hand.derive(top=[0, 1])["top"] == "conv"


def test_none_may_be_picked_deeper_inside_an_edge() -> None:
    """Only the choice of the edge itself has its strength compared; one within an operation is any choice."""

    def build(choose: Chooser) -> nn.Module:
        def edge(index: int) -> nn.Module:
            inner = partial(operation, choose, f"after{index}", "none", "conv")
            return choose.one(f"from{index}", {"none": Zero, "block": inner})

        return Summed(choose.some("inputs", {str(i): partial(edge, i) for i in range(3)}, k=2))

    picks = Hand(build).derive(from0=[0, 2], from1=[0, 1], from2=[1, 0], after0=[1, 0], after1=[0, 1])
    assert picks == {"inputs": ("0", "1"), "from0": "block", "from1": "block", "after0": "none", "after1": "conv"}


def test_k_of_n_without_choices_inside_keeps_the_k_strongest() -> None:
    hand = Hand(lambda choose: Summed(choose.some("inputs", dict.fromkeys("0123", nn.Identity), k=2)))
    for kept in combinations("0123", 2):
        alpha = [1.0 + 0.1 * int(name) if name in kept else -float(name) for name in "0123"]
        assert hand.derive(inputs=alpha) == {"inputs": kept}


def test_k_of_n_with_choices_inside_some_options_has_weights_of_its_own() -> None:
    def build(choose: Chooser) -> nn.Module:
        edge = partial(operation, choose, "from0", "none", "conv")
        return Summed(choose.some("inputs", {"0": edge, "1": nn.Identity, "2": nn.Identity}, k=1))

    hand = Hand(build)
    assert hand.derive(inputs=[0, 2, 1], from0=[0, 9]) == {"inputs": ("1",)}
    assert hand.derive(inputs=[2, 1, 0], from0=[9, 0]) == {"inputs": ("0",), "from0": "conv"}


def test_a_choice_of_one_operation_gives_an_edge_no_strength_of_its_own() -> None:
    """There is nothing to learn inside the edges, so the edges themselves are weighed."""

    def build(choose: Chooser) -> nn.Module:
        edges = {str(i): partial(operation, choose, f"from{i}", "conv") for i in range(3)}
        return Summed(choose.some("inputs", edges, k=2))

    hand = Hand(build)
    assert list(hand.relaxation.slices) == ["inputs"]
    assert hand.derive(inputs=[1, 0, 2]) == {"inputs": ("0", "2"), "from0": "conv", "from2": "conv"}


@pytest.mark.parametrize("inside", [True, False])
def test_n_of_n_keeps_all(inside: bool) -> None:
    def build(choose: Chooser) -> nn.Module:
        def edge(index: int) -> nn.Module:
            return operation(choose, f"from{index}", "none", "conv", "pool") if inside else nn.Identity()

        return Summed(choose.some("inputs", {str(i): partial(edge, i) for i in range(3)}, k=3))

    if inside:
        picks = Hand(build).derive(from0=[9, 1, 0], from1=[0, 0, 1], from2=[0, 1, 0])
        assert picks == {"inputs": ("0", "1", "2"), "from0": "conv", "from1": "pool", "from2": "conv"}
    else:
        assert Hand(build).derive() == {"inputs": ("0", "1", "2")}


def tall(choose: Chooser) -> nn.Module:
    layers = [partial(operation, choose, f"layer{i}", "none", "conv", "pool") for i in range(3)]
    return nn.Sequential(choose.depth("depth", layers), mask_channels(choose.value("width", (1, 4, 2))))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 4, 2])
def test_depth_and_value_are_the_strongest_and_layers_beyond_are_left_out(layers: int, width: int) -> None:
    hand = Hand(tall)
    alpha: dict[str, Sequence[float]] = {
        "depth": [float(d == layers) for d in (1, 2, 3)],
        "width": [float(w == width) for w in (1, 4, 2)],
        "layer0": [0, 1, 0],
        "layer1": [0, 0, 1],
        "layer2": [1, 0, 0],
    }
    strongest = {"layer0": "conv", "layer1": "pool", "layer2": "none"}
    kept = {name: strongest[name] for name in [f"layer{i}" for i in range(layers)]}
    assert hand.derive(**alpha) == {"depth": layers, "width": width, **kept}


def test_a_choice_of_one_has_no_weight_and_is_picked() -> None:
    hand = Hand(lambda choose: nn.Sequential(operation(choose, "only", "conv"), operation(choose, "op", "a", "b")))
    assert list(hand.relaxation.slices) == ["op"]
    assert hand.derive(op=[0, 1]) == {"only": "conv", "op": "b"}


def test_random_weights_of_a_cell_derive_as_the_paper_says() -> None:
    """Section 2.4, written anew: for each node the two of its edges whose best operation but `none` has the largest
    softmax; on each edge that operation."""
    hand = Hand(CellSpace(layers=3, channels=2, nodes=3), TinyTask())
    operations = list(hand.net.domain.decisions["normal.node0.from0"].options)
    assert operations[0] == "none"
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        alpha = {name: 2 * torch.randn(8, generator=generator) for name in hand.relaxation.slices}
        expected: dict[str, Any] = {}
        for kind in ("normal", "reduce"):
            for number in range(3):
                shares = {s: alpha[f"{kind}.node{number}.from{s}"].softmax(0)[1:] for s in range(2 + number)}
                best = sorted(shares, key=lambda s: float(shares[s].max()), reverse=True)[:2]
                expected[f"{kind}.node{number}.inputs"] = tuple(str(s) for s in sorted(best))
                for s in best:
                    expected[f"{kind}.node{number}.from{s}"] = operations[1 + int(shares[s].argmax())]
        assert hand.derive(**{name: values.tolist() for name, values in alpha.items()}) == expected


# The relaxation


def test_gates_are_set_to_the_softmax_and_k_times_it_for_k_of_n() -> None:
    def build(choose: Chooser) -> nn.Module:
        kept = Summed(choose.some("inputs", dict.fromkeys("012", nn.Identity), k=2))
        return nn.Sequential(kept, operation(choose, "op", "a", "b"))

    hand = Hand(build)
    hand.derive(inputs=[0.0, math.log(2), math.log(5)], op=[0.0, math.log(3)])
    hand.relaxation.apply()
    gates = hand.net.gates
    torch.testing.assert_close(gates["inputs"].weights, 2 * torch.tensor([1, 2, 5]) / 8)
    torch.testing.assert_close(gates["op"].weights, torch.tensor([0.25, 0.75]))
    assert gates["inputs"].weights is not None
    assert gates["inputs"].weights.requires_grad


def test_edges_of_a_cell_stay_open_and_only_operations_have_weights() -> None:
    hand = Hand(CellSpace(layers=3, channels=2), TinyTask())
    assert len(hand.relaxation.slices) == 2 * 14
    assert hand.relaxation.alpha.shape == (2 * 14 * 8,)
    hand.relaxation.apply()
    assert all((gate.weights is None) == name.endswith("inputs") for name, gate in hand.net.gates.items())


def test_alpha_begins_near_zero_and_differs_by_seed() -> None:
    space = CellSpace(layers=3, channels=2)
    net = space.supernet(TinyTask())
    first, second = (Relaxation(net, Context(space, TinyTask(), CPU, seed)).alpha.detach() for seed in (0, 1))
    assert not torch.equal(first, second)
    for alpha in (first, second):
        assert float(alpha.std()) == pytest.approx(1e-3, rel=0.2)
        assert abs(float(alpha.mean())) < 5 * 1e-3 / math.sqrt(len(alpha))


def test_entropy_is_one_where_nothing_is_decided_and_zero_where_all_is() -> None:
    hand = Hand(tall)
    hand.derive()
    assert hand.relaxation.entropy() == pytest.approx(1.0)
    decided = {name: [0.0, 0.0, 1e4] for name in hand.relaxation.slices}
    hand.derive(**decided)
    assert hand.relaxation.entropy() == pytest.approx(0.0, abs=1e-9)
    half = {**decided, "depth": [0.0, 0.0, 0.0]}
    hand.derive(**half)
    assert hand.relaxation.entropy() == pytest.approx(1 / 5)


# Searches with one answer


LEGENDRE: dict[str, Callable[[Tensor], Tensor]] = {
    "first": lambda x: x * math.sqrt(3),
    "second": lambda x: (3 * x**2 - 1) / 2 * math.sqrt(5),
    "third": lambda x: (5 * x**3 - 3 * x) / 2 * math.sqrt(7),
}
"""Orthonormal for x uniform in [−1, 1]: where one made the data, the others explain nothing of it."""


def two_functions(choose: Chooser) -> nn.Module:
    """a · f(x₀) + b · g(x₁) + c, f and g to be found."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("f", "g"):
                options = {option: partial(Apply, function) for option, function in LEGENDRE.items()}
                self.add_module(name, choose.one(name, options))
            self.head = nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            f, g = self.get_submodule("f"), self.get_submodule("g")
            return self.head(torch.cat([f(x[:, :1]), g(x[:, 1:])], 1))  # type: ignore[no-any-return]

    return Both()


FAST = {"epochs": 12, "batch_size": 8, "learning_rate": 0.1, "alpha_learning_rate": 0.05}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("f", "g"), [("second", "third"), ("third", "first"), ("first", "first")])
def test_both_orders_find_the_functions_that_made_the_data(order: int, seed: int, f: str, g: str) -> None:
    task = Regression(lambda x: LEGENDRE[f](x[:, :1]) - 2 * LEGENDRE[g](x[:, 1:]), inputs=2, noise=0.02)
    history = learnt(DARTS(order=order, **FAST), Written(two_functions), task, seed)
    assert dict(history[-1]["derived"].picks) == {"f": f, "g": g}
    assert history[-1]["entropy"] < history[0]["entropy"]


def linear_edges(choose: Chooser) -> nn.Module:
    def edge(index: int) -> nn.Module:
        return choose.one(
            f"from{index}", {"none": Zero, "linear": partial(nn.Linear, 1, 1), "flat": partial(Apply, torch.ones_like)}
        )

    return Summed(choose.some("inputs", {str(index): partial(edge, index) for index in range(4)}, k=2))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("relevant", [(0, 3), (1, 2)])
def test_both_orders_find_the_inputs_that_matter(order: int, relevant: tuple[int, int]) -> None:
    a, b = relevant
    task = Regression(lambda x: 2 * x[:, [a]] - 3 * x[:, [b]], inputs=4, noise=0.02)
    history = learnt(DARTS(order=order, **FAST), Written(linear_edges), task)
    picks = dict(history[-1]["derived"].picks)
    assert picks == {"inputs": (str(a), str(b)), f"from{a}": "linear", f"from{b}": "linear"}


# Repeating, resuming, and what is refused

IMAGES = ChainSpace(
    stages=1,
    layers=2,
    widths=(2, 4),
    kernels=(3,),
    activations=("relu",),
    norms=("batch",),
    dropouts=(0.0,),
    hidden_layers=0,
)
"""Depths, widths, operations and batch normalisation: everything that a checkpoint must hold."""


@pytest.mark.parametrize("order", [1, 2])
def test_the_same_seed_gives_the_same_history_of_alpha(order: int) -> None:
    runs = [learnt(DARTS(order=order, epochs=3, batch_size=8), IMAGES, TinyTask(), seed) for seed in (7, 7, 8)]
    for first, second, other in zip(*runs, strict=True):
        assert torch.equal(first["alpha"], second["alpha"])
        assert not torch.equal(first["alpha"], other["alpha"])


def forgetful(choose: Chooser) -> nn.Module:
    """Dropout draws from torch's own generator, which a checkpoint must hold too."""
    return nn.Sequential(nn.Dropout(0.5), two_edges(choose))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("space", "task"), [(IMAGES, TinyTask()), (Written(forgetful), CURVE)], ids=["norm", "dropout"]
)
def test_a_search_resumed_from_a_checkpoint_ends_where_the_whole_one_does(
    space: SearchSpace, task: Task, order: int, epoch: int, tmp_path: Path
) -> None:
    darts = DARTS(order=order, epochs=4, batch_size=8, alpha_learning_rate=0.01)
    whole = learnt(darts, space, task, seed=3)

    context = Context(space, task, CPU, seed=3)
    interrupted = darts.learn(context.supernet(), task, context)
    for _ in range(epoch):
        next(interrupted)
    write_checkpoint(Folder(tmp_path), 0, {"context": context.state(), "curve": [], "derived": None})
    interrupted.close()

    torch.manual_seed(99)  # a new process knows nothing of the old one's generators
    checkpoint = read_checkpoint(Folder(tmp_path), 0)
    assert checkpoint is not None
    rest = learnt(darts, space, task, seed=3, checkpoint=checkpoint["context"])
    assert len(rest) == 4 - epoch
    for resumed, straight in zip(rest, whole[epoch:], strict=True):
        torch.testing.assert_close(resumed["alpha"], straight["alpha"], rtol=0, atol=1e-6)
        torch.testing.assert_close(resumed["weights"], straight["weights"], rtol=0, atol=1e-6)
        assert resumed["derived"] == straight["derived"]
    assert distance(whole[-1]["alpha"], whole[epoch - 1]["alpha"]) > 1e-3  # something was learnt in between


def test_weights_are_fitted_to_one_half_of_the_training_data_and_alpha_to_the_other() -> None:
    asked: list[tuple[float, float]] = []

    class Watched(TinyTask):
        def train_batches(
            self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
        ) -> Iterator[tuple[Tensor, Tensor]]:
            asked.append(part)
            return super().train_batches(batch_size, generator, part)

        def valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
            raise AssertionError("the search touched the validation data")

        def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
            raise AssertionError("the search touched the test data")

    learnt(DARTS(epochs=2), IMAGES, Watched())
    assert asked == [(0.0, 0.5), (0.5, 1.0)] * 2


def test_the_supernet_keeps_its_scales_while_it_learns() -> None:
    last = learnt(DARTS(epochs=2, learning_rate=0.5), IMAGES, TinyTask())[-1]["weights"]
    net = IMAGES.supernet(TinyTask())
    net.freeze_affine()
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            assert torch.equal(last[name], parameter)
    assert any(not parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(("order", "passes"), [(1, 2), (2, 5)])
def test_a_supernet_learns_in_training_mode_and_passes_as_often_as_the_algorithm_says(order: int, passes: int) -> None:
    """First order: one pass for α, one for w. Second order: for α the virtual step, its validation, and two sides."""
    task = TinyTask()
    context = Context(IMAGES, task, CPU, seed=0)
    net = context.supernet().eval()
    darts = DARTS(order=order, epochs=3, batch_size=8)
    steps = 3 * 3  # 24 examples in each half
    assert len(list(darts.learn(net, task, context))) == 3
    counts = {int(tensor) for name, tensor in net.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {passes * steps}


def test_a_clip_of_zero_clips_nothing() -> None:
    unlimited, none = (
        learnt(DARTS(epochs=2, gradient_clip=clip), Written(two_edges), CURVE)[-1]["weights"] for clip in (1e9, 0.0)
    )
    torch.testing.assert_close(unlimited, none)


def test_a_loss_that_is_no_number_ends_the_search_in_a_sentence() -> None:
    task = Regression(lambda x: x[:, :1] / 0, inputs=2)
    with pytest.raises(TrainingDiverged, match="epoch 1"):
        learnt(DARTS(epochs=2), Written(two_edges), task)


def test_epochs_follow_the_task_unless_they_are_given() -> None:
    assert len(learnt(DARTS(), IMAGES, TinyTask())) == TinyTask.recipe.search_epochs == 2
    assert len(learnt(DARTS(epochs=3), IMAGES, TinyTask())) == 3


@pytest.mark.parametrize("options", [{"order": 3}, {"order": 0}, {"epochs": 0}, {"batch_size": 0}, {"restarts": 0}])
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        DARTS(**options)
