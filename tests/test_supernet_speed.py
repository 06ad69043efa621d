"""What a supernet computes once is what it would compute everywhere: outputs, gradients, running statistics."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import copy
import gc
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasengine import Chooser, Gate, One, SearchSpace, Shapes, Supernet, Task
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.search_spaces.hierarchical import HierarchicalSpace
from nasengine.search_spaces.mobile import MobileSpace
from nasengine.search_spaces.nasbench101 import NASBench101Space
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.search_spaces.nasbench_macro import NASBenchMacroSpace
from nasengine.search_spaces.nasnet import NASNetSpace
from nasengine.search_spaces.operations.darts import Zero

TASK = Shapes((3, 8, 8), 10)
SPACES: dict[str, Callable[[], SearchSpace]] = {
    "cell": partial(CellSpace, layers=3, channels=4, nodes=3),
    "chain": partial(ChainSpace, stages=2, layers=2),
    "hierarchical": partial(HierarchicalSpace, motifs=(2, 1), nodes=(3, 3), cells=1),
    "mobile": MobileSpace,
    "nasbench101": partial(NASBench101Space, vertices=4, stacks=1, channels=8),
    "nasbench201": partial(NASBench201Space, cells=1, channels=4),
    "nasbench_macro": NASBenchMacroSpace,
    "nasnet": partial(NASNetSpace, layers=3, channels=4, blocks=2),
}


class EveryTerm(nn.Module):
    """A mixed operation written plainly: each option computed by itself, also those that give zeros."""

    def __init__(self, one: One) -> None:
        super().__init__()
        self.gate: Any = one.gate
        self.options = nn.ModuleList(one.children())

    def forward(self, *inputs: Any) -> Tensor:
        terms = [w * option(*inputs) for w, option in zip(self.gate.weights, self.options, strict=True)]
        return sum(terms[1:], start=terms[0])


def plainly(net: Supernet) -> nn.Module:
    """A supernet's module with its choices written plainly: nothing is shared, and all is laid out as NCHW."""
    for parent in [*net.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, One) and child.partial == 1:
                setattr(parent, name, EveryTerm(child))
    module: Any = net.module
    return module.to(memory_format=torch.contiguous_format)


def set_gates(net: Supernet) -> list[Tensor]:
    """α of each gate, whose softmax the gate's weights are; the same each time."""
    generator = torch.Generator().manual_seed(3)
    alphas = []
    for gate in net.gates.values():
        size = len(gate.decision.options)
        alphas.append(torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_())
        gate.set(gate.decision.k * alphas[-1].softmax(0))
    return alphas


def twins(space: SearchSpace, task: Task = TASK, partial: int = 1) -> tuple[Supernet, nn.Module, Supernet]:
    """The same supernet twice, as it is and written plainly; and the second one's gates."""
    torch.manual_seed(0)
    net: Any = space.supernet(task).double()
    net = net.to(memory_format=torch.channels_last)
    net.pass_partially(partial, torch.zeros(2, *task.input_shape, dtype=torch.float64))
    for layer in net.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    with torch.no_grad():
        for name, tensor in net.named_buffers():  # no two layers begin with the same statistics
            if "running" in name:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            elif "tracked" in name:
                tensor.copy_(torch.randint_like(tensor, 10))
    net.freeze_affine()
    other = copy.deepcopy(net)
    return net, plainly(other), other


def results(net: nn.Module, gates: Supernet, twice: bool = False) -> list[Tensor]:
    """Output and gradients in all that learns of two passes, and the buffers after them; with `twice` the gradients
    are those of the gradient's norm."""
    found: list[Tensor] = []
    for seed in (1, 2):
        x = torch.randn(4, *TASK.input_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        learns = [*set_gates(gates), *(weight for weight in net.parameters() if weight.requires_grad)]
        output = net(x.to(memory_format=torch.channels_last))
        loss = (output**2).mean() + output.mean()
        grads = torch.autograd.grad(loss, learns, allow_unused=True, create_graph=twice)
        if twice:
            norm = sum((g**2).sum() for g in grads if g is not None)
            grads = torch.autograd.grad(norm, learns, allow_unused=True)  # type: ignore[arg-type]
        found += [output.detach(), *(torch.zeros(()) if g is None else g for g in grads)]
    return [*found, *(buffer.clone() for buffer in net.buffers())]


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """To 1e-12 of the largest number in each tensor."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        scale = float(b.abs().max()) if b.numel() else 0.0
        assert float((a - b).abs().max() if b.numel() else 0.0) <= 1e-12 * max(scale, 1.0)


def compare(space: SearchSpace, *, twice: bool = False, partial: int = 1) -> None:
    net, plain, gates = twins(space, partial=partial)
    ours = results(net, net, twice)
    assert_equal(ours, results(plain, gates, twice))
    assert any(float(tensor.abs().max()) > 1e-3 for tensor in ours)


@pytest.mark.parametrize("name", SPACES)
def test_a_supernet_computes_what_is_computed_plainly(name: str) -> None:
    compare(SPACES[name]())


@pytest.mark.parametrize("name", ["cell", "nasbench201"])
def test_second_derivatives_are_those_of_the_plain_computation(name: str) -> None:
    compare(SPACES[name](), twice=True)


def test_partial_channels_are_those_of_the_plain_computation() -> None:
    compare(SPACES["cell"](), partial=2)


# How often


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts torch's operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def calls(net: nn.Module, x: Tensor) -> Counter[str]:
    with Calls() as mode:
        net(x)
    return mode.counts


def test_each_state_is_pooled_once_and_nothing_is_computed_for_none() -> None:
    """Three cells of four nodes: 14 edges from 5 states. In a reduction cell, the inputs' edges to the nodes halve."""
    net, plain, other = twins(CellSpace(layers=3, channels=4))
    zeros = Counter[str]()
    for layer in net.modules():
        if isinstance(layer, Zero):
            layer.register_forward_hook(lambda *_: zeros.update("0"))
    for gates in (net, other):
        set_gates(gates)
    x = torch.zeros(2, *TASK.input_shape, dtype=torch.float64)
    ours, theirs = calls(net, x), calls(plain, x)
    for pool in ("max_pool2d_with_indices", "avg_pool2d"):
        assert (ours[pool], theirs[pool]) == (3 * 5, 3 * 14)
    saved = 2 * 3 * (14 - 5)
    assert ours["native_batch_norm"] == theirs["native_batch_norm"] - saved
    # one for the edges of each state, those among them that halve it; what follows a first convolution, or adapts an
    # input, is its own
    first = 3 * (14 * 4 - 5) + 2 * 8
    assert ours["relu"] == theirs["relu"] - first
    assert not zeros


@pytest.mark.parametrize(("name", "pool", "plain", "once"), [("nasbench201", "avg_pool2d", 18, 9)])
def test_the_other_cells_states_are_pooled_once(name: str, pool: str, plain: int, once: int) -> None:
    net, reference, other = twins(SPACES[name]())
    for gates in (net, other):
        set_gates(gates)
    x = torch.zeros(2, *TASK.input_shape, dtype=torch.float64)
    shortcuts = 2
    assert calls(net, x)[pool] == once + shortcuts
    assert calls(reference, x)[pool] == plain + shortcuts


def test_nested_choices_share_as_well() -> None:
    """Two motifs of three nodes on each of three edges: 9 pools of the lowest level on each input of the upper one."""
    net, plain, other = twins(SPACES["hierarchical"]())
    for gates in (net, other):
        set_gates(gates)
    x = torch.zeros(2, *TASK.input_shape, dtype=torch.float64)
    ours, theirs = (calls(module, x)["max_pool2d_with_indices"] for module in (net, plain))
    # two inputs; from each of them one pool, and one for the inner node of each motif on each of its edges
    assert (ours, theirs) == (2 + 3 * 2, 3 * 2 * 3)


# What is not shared


class Both(nn.Module):
    """Two edges on one input, side by side, of two options each. between: what happens to the input meanwhile."""

    def __init__(
        self,
        choose: Chooser,
        make: Callable[[], nn.Module],
        between: Callable[[Tensor], Any],
        other: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.left = choose.one("left", {"made": make, "other": other})
        self.right = choose.one("right", {"made": make, "other": other})
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        self.between(x)
        return torch.stack([left, self.right(x)])


class Written(SearchSpace):
    def __init__(self, make: Callable[[], nn.Module], between: Callable[[Tensor], Any] = lambda x: None) -> None:
        self.make, self.between = make, between

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return Both(choose, self.make, self.between)


class AddsInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0)


def sides(make: Callable[[], nn.Module], between: Callable[[Tensor], Any] = lambda x: None) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    left, right = Written(make, between).supernet(TASK).double()(x)
    return left, right


@pytest.mark.parametrize("make", [lambda: nn.Dropout(0.5), nn.RReLU, lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.5))])
def test_what_is_random_is_drawn_for_each(make: Callable[[], nn.Module]) -> None:
    left, right = sides(make)
    assert not torch.equal(left, right)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.ReLU(), AddsInPlace()),
        lambda: nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Hardtanh(inplace=True)),
        lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.Identity(), AddsInPlace())),
    ],
)
def test_layers_that_change_their_input_get_one_of_their_own(make: Callable[[], nn.Module]) -> None:
    left, right = sides(make)
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    expected = 0.5 * make()(x.clone()) + 0.5 * x
    torch.testing.assert_close(left, expected)
    torch.testing.assert_close(right, expected)


def test_an_input_that_was_changed_in_place_is_another_one() -> None:
    left, right = sides(nn.ReLU, between=lambda x: x.neg_())
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(left, 0.5 * x.relu() + 0.5 * x)
    torch.testing.assert_close(right, 0.5 * (-x).relu() - 0.5 * x)


@pytest.mark.parametrize(
    ("kernel", "step", "padding"), [(3, 2, 2), (5, 2, 4), (3, 3, 3), (3, 2, 0), (3, 2, 1), (1, 2, 0)]
)
def test_a_convolution_may_read_every_second_pixel_only(kernel: int, step: int, padding: int) -> None:
    """Whatever the size of the image; with an odd padding, those read are others."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, kernel, step, padding, step, groups=2).double()

    class Convolutions(Written):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return Both(choose, self.make, self.between, other=self.make)

    net = Convolutions(lambda: nn.Sequential(nn.ReLU(), copy.deepcopy(conv))).supernet(TASK)
    for size in ((16, 16), (15, 16), (9, 7)):
        x = torch.randn(2, 4, *size, dtype=torch.float64)
        expected = conv(x.relu())
        torch.testing.assert_close(net(x), torch.stack([expected, expected]), rtol=1e-12, atol=1e-12)


def test_settings_are_told_apart() -> None:
    """Also those that a layer does not print."""
    settings = iter([True, False])
    left, right = sides(lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=next(settings)))
    assert not torch.equal(left, right)


def test_a_layer_with_weights_of_its_own_computes_itself() -> None:
    net = Written(lambda: nn.PReLU(4)).supernet(TASK)
    net.get_submodule("module.right.made").weight.data.fill_(2.0)  # type: ignore[operator]
    left, right = net(-torch.ones(1, 4, 2, 2))
    assert left[0, 0, 0, 0].item() == pytest.approx(-0.625)
    assert right[0, 0, 0, 0].item() == pytest.approx(-1.5)


def test_evaluation_normalises_by_each_layers_own_statistics() -> None:
    net = Written(lambda: nn.BatchNorm2d(4, affine=False)).supernet(TASK).eval()
    net.get_submodule("module.right.made").running_mean.fill_(1.0)  # type: ignore[operator]
    left, right = net(torch.zeros(1, 4, 2, 2))
    assert float(left.max()) == 0.0
    assert float(right.max()) == pytest.approx(-0.5, rel=1e-4)


def test_layers_that_are_watched_are_called() -> None:
    net = Written(lambda: nn.Sequential(nn.ReLU())).supernet(TASK)
    seen = []
    for layer in net.modules():
        if isinstance(layer, nn.ReLU | nn.Sequential):
            layer.register_forward_hook(lambda module, *_: seen.append(type(module)))
    net(torch.zeros(1, 4, 2, 2))
    assert Counter(seen) == {nn.ReLU: 2, nn.Sequential: 2}


def test_what_was_found_without_gradients_is_not_taken_where_they_are_wanted() -> None:
    class First(Both):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.left(x)
            return self.right(x)

    class Peeking(Written):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return First(choose, self.make, self.between)

    x = torch.tensor([[1.0, -1.0]], requires_grad=True)
    Peeking(nn.ReLU).supernet(TASK)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.5]]


# Afterwards


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_nothing_is_kept_after_a_forward_pass() -> None:
    net, _, _ = twins(SPACES["cell"]())
    x = torch.zeros(2, *TASK.input_shape, dtype=torch.float64)
    with torch.no_grad():
        net(x)
        before = tensors()
        net(x)
        assert tensors() == before


def test_nothing_is_kept_after_a_forward_pass_that_failed() -> None:
    def fails(x: Tensor) -> None:
        raise ArithmeticError

    net = Written(nn.ReLU, fails).supernet(TASK)
    before = tensors()
    with pytest.raises(ArithmeticError):
        net(torch.zeros(1, 4, 2, 2))
    assert tensors() == before


def test_a_supernet_inside_anothers_forward_pass_leaves_it_alone() -> None:
    inner = Written(nn.ReLU).supernet(TASK)
    net = Written(nn.ReLU, between=inner).supernet(TASK)
    counts = calls(net, torch.zeros(1, 4, 2, 2))
    assert counts["relu"] == 2


def test_gates_that_share_a_dtype_only_in_part_mix_as_torch_promotes() -> None:
    gate: Gate = Written(nn.ReLU).supernet(TASK).gates["left"]
    mixed = gate.mix({0: torch.ones(2, dtype=torch.bfloat16), 1: torch.ones(2)})
    assert mixed.dtype == torch.float32
    assert mixed.tolist() == [1.0, 1.0]
