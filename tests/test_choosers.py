"""The choosers: what a recording notes, what a supernet computes, and that plain models are parts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasengine import (
    Architecture,
    ArchitectureError,
    Chooser,
    SearchSpace,
    SpaceError,
    Supernet,
    Task,
    inherit,
    mask_channels,
)
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.testing import TinySpace, TinyTask

TASK = TinyTask()


class Written(SearchSpace):
    """The space whose `build` is the function given."""

    def __init__(self, choices: Callable[[Chooser], nn.Module]) -> None:
        self.choices = choices

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return self.choices(choose)


class Times(nn.Module):
    """x · factor, the factor learnt."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Plus(nn.Module):
    def __init__(self, term: float) -> None:
        super().__init__()
        self.term = term

    def forward(self, x: Tensor) -> Tensor:
        return x + self.term


class Zero(nn.Module):
    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("an option that gives zeros was computed")


class Summed(nn.Module):
    """The sum of what a k-of-n choice keeps."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([module(x) for _, module in self.kept.items()]).sum(0)


def recorded(choices: Callable[[Chooser], nn.Module]) -> dict[str, Any]:
    return dict(Written(choices).domain(TASK).decisions)


def supernet(choices: Callable[[Chooser], nn.Module]) -> Supernet:
    return Written(choices).supernet(TASK)


def leaf(name: str, *options: str) -> Callable[[Chooser], nn.Module]:
    return lambda choose: choose.one(name, dict.fromkeys(options, nn.Identity))


X = torch.tensor([1.0, -2.0, 0.5])


# Recording


def test_decisions_have_their_verbs_options_and_order() -> None:
    def build(choose: Chooser) -> nn.Module:
        width = choose.value("width", (8, 32, 16))
        choose.one("op", {"conv": lambda: nn.Linear(width, 2), "skip": nn.Identity})
        choose.some("edges", dict.fromkeys("abc", nn.Identity), k=2)
        return choose.depth("depth", [nn.Identity] * 3, at_least=2)

    found = recorded(build)
    assert list(found) == ["width", "op", "edges", "depth"]
    assert [(d.kind, d.options, d.k) for d in found.values()] == [
        ("value", (8, 32, 16), 1),
        ("one", ("conv", "skip"), 1),
        ("some", ("a", "b", "c"), 2),
        ("depth", (2, 3), 1),
    ]
    assert all(decision.when == frozenset({()}) for decision in found.values())


def test_a_decision_inside_an_option_is_conditional_on_it() -> None:
    def build(choose: Chooser) -> nn.Module:
        def deep() -> nn.Module:
            return choose.some("edges", {"a": partial(leaf("inner", "u", "v"), choose), "b": nn.Identity}, k=1)

        def layer(index: int) -> nn.Module:
            choose.value(f"width{index}", (1, 2))
            return nn.Identity()

        choose.depth("depth", [partial(layer, index) for index in range(2)], at_least=0)
        return choose.one("top", {"deep": deep, "flat": nn.Identity})

    when = {name: decision.when for name, decision in recorded(build).items()}
    assert when == {
        "depth": {()},
        "width0": {(("depth", 0),)},
        "width1": {(("depth", 1),)},
        "top": {()},
        "edges": {(("top", "deep"),)},
        "inner": {(("top", "deep"), ("edges", "a"))},
    }


def test_one_name_met_twice_is_one_decision_with_both_conditions() -> None:
    def build(choose: Chooser) -> nn.Module:
        shared = partial(leaf("shared", "u", "v"), choose)
        return nn.Sequential(
            choose.one("left", {"x": shared, "y": nn.Identity}), choose.one("right", {"x": nn.Identity, "y": shared})
        )

    found = recorded(build)
    assert list(found) == ["left", "shared", "right"]
    assert found["shared"].when == {(("left", "x"),), (("right", "y"),)}


def test_what_is_met_unconditionally_anywhere_is_unconditional() -> None:
    def inside_first(choose: Chooser) -> nn.Module:
        shared = partial(leaf("shared", "u", "v"), choose)
        return nn.Sequential(choose.one("top", {"x": shared, "y": nn.Identity}), shared())

    def inside_last(choose: Chooser) -> nn.Module:
        shared = partial(leaf("shared", "u", "v"), choose)
        return nn.Sequential(shared(), choose.one("top", {"x": shared, "y": nn.Identity}))

    for build in (inside_first, inside_last):
        assert recorded(build)["shared"].when == {()}


@pytest.mark.parametrize(
    "again",
    [
        lambda choose: choose.one("again", dict.fromkeys(("a", "c"), nn.Identity)),
        lambda choose: choose.one("again", dict.fromkeys(("b", "a"), nn.Identity)),
        lambda choose: choose.some("again", dict.fromkeys(("a", "b"), nn.Identity), k=1),
        lambda choose: choose.depth("again", [nn.Identity] * 2),
        lambda choose: (choose.value("again", ("a", "b")), nn.Identity())[1],
    ],
)
def test_one_name_with_different_options_is_refused(again: Callable[[Chooser], nn.Module]) -> None:
    with pytest.raises(SpaceError, match="'again' is met twice, with different options"):
        recorded(lambda choose: nn.Sequential(leaf("again", "a", "b")(choose), again(choose)))


def test_one_name_with_another_k_is_refused() -> None:
    def build(choose: Chooser) -> nn.Module:
        choose.some("again", dict.fromkeys("abc", nn.Identity), k=1)
        return choose.some("again", dict.fromkeys("abc", nn.Identity), k=2)

    with pytest.raises(SpaceError, match="'again'"):
        recorded(build)


def test_a_decision_inside_its_own_option_is_refused() -> None:
    def directly(choose: Chooser) -> nn.Module:
        return choose.one("loop", {"again": lambda: directly(choose), "stop": nn.Identity})

    def far_below(choose: Chooser) -> nn.Module:
        def below() -> nn.Module:
            return choose.depth("between", [lambda: far_below(choose)])

        return choose.some("loop", {"again": below, "stop": nn.Identity}, k=1)

    for build in (directly, far_below):
        with pytest.raises(SpaceError, match="'loop' is met inside one of its own options"):
            recorded(build)


def test_after_an_option_that_cannot_be_built_its_condition_is_forgotten() -> None:
    """An author who catches an error in a factory must not find later decisions conditional on that option."""

    def build(choose: Chooser) -> nn.Module:
        def broken() -> nn.Module:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            choose.one("top", {"broken": broken})
        return leaf("after", "u", "v")(choose)

    assert recorded(build)["after"].when == {()}


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda choose: choose.one("a", {}), "'a' has the options"),
        (lambda choose: choose.some("a", {"x": nn.Identity}, k=2), "'a' keeps 2 of 1"),
        (lambda choose: choose.some("a", {"x": nn.Identity}, k=0), "'a' keeps 0 of 1"),
        (lambda choose: choose.depth("a", [nn.Identity], at_least=2), "'a' has the options"),
        (lambda choose: choose.depth("a", [nn.Identity], at_least=-1), "'a' has at_least = -1"),
        (lambda choose: choose.value("a", (1, 1)), "'a' has the options"),
        (lambda choose: choose.value("a", (1, 1.0)), "'a' has the options"),
        (lambda choose: choose.value("a", ()), "'a' has the options"),
        (lambda choose: choose.value("a", (0.5, float("nan"))), "'a' has the option nan"),
        (lambda choose: choose.value("a", ((3, 3), (5, 5))), r"'a' has the option \(3, 3\)"),
        (lambda choose: choose.value("a", ([3], [5])), r"'a' has the option \[3\]"),
        (lambda choose: choose.value("a", tuple(np.arange(1, 3))), "'a' has the option"),
        (lambda choose: choose.value("a", tuple(np.linspace(0, 1, 3))), "'a' has the option"),
        (lambda choose: choose.one("a", {3: nn.Identity, 5: nn.Identity}), "'a' has the option 3"),
        (lambda choose: choose.one("a", {"x": lambda: None}), "'a' made None"),
        (lambda choose: choose.some("a", {"x": lambda: torch.relu}, k=1), "'a' made"),
        (lambda choose: choose.depth("a", [lambda: None]), "'a' made None"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused_by_name(build: Callable[[Any], Any], named: str) -> None:
    def module(choose: Chooser) -> nn.Module:
        build(choose)
        return nn.Identity()

    with pytest.raises(SpaceError, match=named):
        recorded(module)


@pytest.mark.parametrize("name", ["a.b", "", "forward", "training", "names", "gate", "active", "children", "_modules"])
def test_an_option_whose_name_a_module_cannot_have_is_refused_everywhere(name: str) -> None:
    def one(choose: Chooser) -> nn.Module:
        return choose.one("op", {name: nn.Identity, "other": nn.Identity})

    def some(choose: Chooser) -> nn.Module:
        return choose.some("op", {name: nn.Identity, "other": nn.Identity}, k=1)

    for build, pick in ((one, name), (some, (name,))):
        for run in (recorded, supernet):
            with pytest.raises(SpaceError, match="the decision 'op'"):
                run(build)
        space = Written(build)
        with pytest.raises(SpaceError, match="the decision 'op'"):
            space.model(Architecture("written", {}, {"op": pick}), TASK)


def test_recording_takes_no_memory() -> None:
    """10¹⁵ parameters: on a real device this would be four petabytes."""
    found = recorded(lambda choose: choose.one("op", {"huge": lambda: nn.Linear(10**8, 10**7), "skip": nn.Identity}))
    assert list(found) == ["op"]


def test_recording_and_the_supernet_give_the_same_domain() -> None:
    for space in (TinySpace(), CellSpace(layers=3, channels=2), ChainSpace(stages=2, layers=2)):
        domain, net = space.domain(TASK), space.supernet(TASK)
        assert domain.decisions == net.domain.decisions
        assert list(domain.decisions) == list(net.gates)
        assert (domain.space, domain.options) == (net.domain.space, net.domain.options)


def test_a_plain_model_asks_for_exactly_the_picks_of_its_architecture() -> None:
    """It can be built from them, and from nothing less."""
    space = TinySpace()
    domain = space.domain(TASK)
    rng = np.random.default_rng(0)
    for architecture in [domain.sample(rng) for _ in range(15)]:
        space.model(architecture, TASK)
        for name in architecture.picks:
            fewer = {other: pick for other, pick in architecture.picks.items() if other != name}
            with pytest.raises(ArchitectureError, match=f"'{name}'"):
                space.model(Architecture(architecture.space, architecture.options, fewer), TASK)


def test_a_plain_model_refuses_a_pick_that_is_no_option() -> None:
    space = Written(leaf("op", "a", "b"))
    with pytest.raises(ArchitectureError, match="'op' is 'c', which is no option"):
        space.model(Architecture("written", {}, {"op": "c"}), TASK)


# Values


@pytest.mark.parametrize("values", [(8, 16), (0.1, 0.5), ("relu", "gelu"), (False, True)])
def test_a_value_that_nothing_cuts_down_leaves_no_supernet(values: tuple[Any, ...]) -> None:
    def build(choose: Chooser) -> nn.Module:
        choose.value("my width", values)
        return nn.Identity()

    assert list(recorded(build)) == ["my width"]
    with pytest.raises(SpaceError, match=r"no supernet.*'my width'"):
        supernet(build)


def test_a_value_of_one_has_nothing_to_cut_down() -> None:
    net = supernet(lambda choose: nn.Linear(choose.value("width", (3,)), 2))
    assert net(X).shape == (2,)


def test_arithmetic_that_could_turn_the_order_of_widths_loses_the_mask_and_so_the_supernet() -> None:
    """10 − width is largest where the width is smallest: better no mask than a wrong one."""
    with pytest.raises(SpaceError, match="'width'"):
        supernet(lambda choose: mask_channels(10 - choose.value("width", (2, 4))))


def test_a_value_is_its_pick_in_a_model_and_the_largest_elsewhere() -> None:
    seen: list[int] = []

    def build(choose: Chooser) -> nn.Module:
        seen.append(choose.value("width", (4, 16, 8)))
        return mask_channels(seen[-1])

    space = Written(build)
    space.domain(TASK)
    space.supernet(TASK)
    model = space.model(Architecture("written", {}, {"width": 8}), TASK)
    assert seen == [16, 16, 8]
    assert type(seen[-1]) is int
    assert isinstance(model, nn.Identity)


# Soft gates


OPTIONS: Mapping[str, Callable[[], nn.Module]] = {
    "twice": lambda: Times(2.0),
    "plus": lambda: Plus(3.0),
    "less": lambda: nn.Sequential(Times(1.0), Plus(-1.0)),
}


def test_a_mixed_operation_is_the_weighted_sum() -> None:
    net = supernet(lambda choose: choose.one("op", OPTIONS))
    weights = torch.tensor([0.5, 0.2, 0.3], requires_grad=True)
    net.gates["op"].set(weights)
    result = net(X)
    torch.testing.assert_close(result, 0.5 * (2 * X) + 0.2 * (X + 3) + 0.3 * (X - 1))
    result.sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.stack([(2 * X).sum(), (X + 3).sum(), (X - 1).sum()]))


def test_one_gate_serves_every_place_where_its_decision_is_met() -> None:
    net = supernet(lambda choose: nn.Sequential(choose.one("op", OPTIONS), choose.one("op", OPTIONS)))
    weights = torch.tensor([0.5, 0.2, 0.3])
    net.gates["op"].set(weights)

    def mixed(x: Tensor) -> Tensor:
        return 0.5 * (2 * x) + 0.2 * (x + 3) + 0.3 * (x - 1)

    torch.testing.assert_close(net(X), mixed(mixed(X)))
    assert len(list(net.parameters())) == 4  # weights are each place's own


def test_an_open_gate_is_the_mean_and_of_k_of_n_the_sum() -> None:
    net = supernet(lambda choose: choose.one("op", OPTIONS))
    torch.testing.assert_close(net(X), (2 * X + X + 3 + X - 1) / 3)
    net = supernet(lambda choose: Summed(choose.some("edges", OPTIONS, k=2)))
    torch.testing.assert_close(net(X), 2 * X + X + 3 + X - 1)


def test_a_gate_may_leave_options_out() -> None:
    net = supernet(lambda choose: choose.one("op", {**OPTIONS, "never": Zero}))
    net.gates["op"].set(torch.tensor([0.5, 0.2, 0.3, 0.9]), active=(2, 0))
    torch.testing.assert_close(net(X), 0.5 * 2 * X + 0.3 * (X - 1))


def test_an_option_of_zeros_costs_nothing_in_a_sum() -> None:
    net = supernet(lambda choose: choose.one("op", {"none": Zero, **OPTIONS}))
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], requires_grad=True)
    net.gates["op"].set(weights)
    result = net(X)  # Zero raises where it is computed
    torch.testing.assert_close(result, 0.3 * (2 * X) + 0.2 * (X + 3) + 0.1 * (X - 1))
    (gradient,) = torch.autograd.grad(result.sum(), weights)
    assert gradient[0] == 0


def test_options_of_zeros_alone_are_still_computed() -> None:
    def zeros() -> nn.Module:
        module = Times(0.0)
        module.gives_zero = True  # type: ignore[assignment]
        return module

    net = supernet(lambda choose: choose.one("op", {"none": zeros, "nothing": zeros}))
    torch.testing.assert_close(net(X), torch.zeros(3))


def test_options_may_take_several_and_named_inputs() -> None:
    class Mix(nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, x: Tensor, y: Tensor, *, scale: float) -> Tensor:
            return scale * (self.share * x + (1 - self.share) * y)

    net = supernet(lambda choose: choose.one("op", {"left": partial(Mix, 1.0), "right": partial(Mix, 0.0)}))
    net.gates["op"].set(torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(net(X, X**2, scale=2.0), 2 * (0.75 * X + 0.25 * X**2))


def test_k_of_n_scales_each_option_by_its_weight() -> None:
    net = supernet(lambda choose: Summed(choose.some("edges", OPTIONS, k=2)))
    weights = torch.tensor([1.0, 0.7, 0.3], requires_grad=True)
    net.gates["edges"].set(weights)
    result = net(X)
    torch.testing.assert_close(result, 2 * X + 0.7 * (X + 3) + 0.3 * (X - 1))
    (gradient,) = torch.autograd.grad(result.sum(), weights)
    torch.testing.assert_close(gradient, torch.stack([(2 * X).sum(), (X + 3).sum(), (X - 1).sum()]))
    net.gates["edges"].set(torch.tensor([1.0, 0.7, 0.3]), active=(0, 2))
    torch.testing.assert_close(net(X), 2 * X + 0.3 * (X - 1))


def test_k_of_n_gives_names_in_the_spaces_order_and_is_not_called_itself() -> None:
    net = supernet(lambda choose: Summed(choose.some("edges", OPTIONS, k=2)))
    kept: Any = net.module.kept
    assert [name for name, _ in kept.items()] == ["twice", "plus", "less"]
    net.gates["edges"].pick(("plus", "less"))
    assert [name for name, _ in kept.items()] == ["plus", "less"]
    with pytest.raises(SpaceError, match=r"items\(\)"):
        kept(X)


def test_a_depth_mixes_what_comes_out_after_each_number_of_layers() -> None:
    layers = [lambda: Times(2.0), lambda: Plus(1.0), lambda: Times(3.0)]
    net = supernet(lambda choose: choose.depth("depth", layers, at_least=0))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], requires_grad=True)
    net.gates["depth"].set(weights)
    result = net(X)
    outputs = [X, 2 * X, 2 * X + 1, 3 * (2 * X + 1)]
    torch.testing.assert_close(result, 0.1 * outputs[0] + 0.2 * outputs[1] + 0.3 * outputs[2] + 0.4 * outputs[3])
    (gradient,) = torch.autograd.grad(result.sum(), weights)
    torch.testing.assert_close(gradient, torch.stack([output.sum() for output in outputs]))


def test_a_depth_with_a_least_has_weights_from_there_on() -> None:
    layers = [lambda: Times(2.0), lambda: Plus(1.0), lambda: Times(3.0)]
    net = supernet(lambda choose: choose.depth("depth", layers, at_least=2))
    net.gates["depth"].set(torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(net(X), 0.25 * (2 * X + 1) + 0.75 * 3 * (2 * X + 1))


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 4, 3)), (-1, (2, 3, 4)), (0, (4,))])
def test_a_width_mixes_the_masks_of_its_values(dim: int, shape: tuple[int, ...]) -> None:
    net = supernet(lambda choose: mask_channels(choose.value("width", (2, 4, 1)), dim))
    weights = torch.tensor([0.5, 0.2, 0.3], requires_grad=True)
    net.gates["width"].set(weights)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = net(x)
    # channel 0 is in all widths, channel 1 in 2 and 4, channels 2 and 3 in 4 only
    mask = torch.tensor([1.0, 0.7, 0.2, 0.2])
    expected = (x.movedim(dim, -1) * mask).movedim(-1, dim)
    torch.testing.assert_close(result, expected)
    (gradient,) = torch.autograd.grad(result.sum(), weights)
    channels = x.movedim(dim, -1).reshape(-1, 4).sum(0)
    torch.testing.assert_close(gradient, torch.stack([channels[:2].sum(), channels.sum(), channels[0]]))


def test_gates_follow_their_tensors_in_kind() -> None:
    """Weights of one precision, activations of another, as under autocast or in a float64 check."""
    net = supernet(lambda choose: nn.Sequential(choose.one("op", OPTIONS), mask_channels(choose.value("w", (1, 3)), 0)))
    net.double()
    assert net(X.double()).dtype == torch.float64
    net.gates["op"].set(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))
    assert net.float()(X).dtype == torch.float32
    masks = supernet(lambda choose: mask_channels(choose.value("w", (1, 3)), 0))
    for kind in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        assert masks(X.to(kind)).dtype == kind


# Hard gates


def compare(space: SearchSpace, architectures: list[Architecture], x: Tensor) -> int:
    """Each architecture: the supernet with hard gates must equal a plain model with the inherited weights.

    Returns how many different outputs there were: few would mean that the weights do not show what was picked.
    """
    net, x = space.supernet(TASK).double(), x.double()  # where what is equal is equal to many more digits
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():  # as after training: no statistic is 0 or 1
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                positive = name.endswith(("running_var", "bias"))  # a positive bias keeps ReLUs alive
                tensor.copy_(noise.abs() + 0.5 if positive else tensor + 0.3 * noise)
    outputs = set()
    for architecture in architectures:
        net.pick(architecture)
        model = space.model(architecture, TASK).double()
        inherit(model, net)
        with torch.no_grad():
            ours, theirs = net.eval()(x), model.eval()(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert float(theirs.abs().max()) > 1e-3
        outputs.add(tuple(theirs.flatten().tolist()))
    return len(outputs)


def test_a_hard_gate_is_the_option_itself() -> None:
    def build(choose: Chooser) -> nn.Module:
        return nn.Sequential(
            choose.one("op", OPTIONS),
            Summed(choose.some("edges", OPTIONS, k=2)),
            choose.depth("depth", [lambda: Times(2.0), lambda: Plus(1.0)], at_least=0),
            mask_channels(choose.value("width", (1, 3)), 0),
        )

    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "twice": lambda x: 2 * x, "plus": lambda x: x + 3, "less": lambda x: x - 1,
    }  # fmt: skip
    net = supernet(build)
    checked = 0
    for architecture in net.domain.enumerate():
        op, edges, layers, width = (architecture.picks[name] for name in ("op", "edges", "depth", "width"))
        x = functions[str(op)](X)
        assert isinstance(edges, tuple)
        x = torch.stack([functions[edge](x) for edge in edges]).sum(0)
        x = [x, 2 * x, 2 * x + 1][int(layers)]  # type: ignore[arg-type]
        assert isinstance(width, int)
        x = x * (torch.arange(3) < width)
        net.pick(architecture)
        torch.testing.assert_close(net(X), x)
        checked += 1
    assert checked == 3 * 3 * 3 * 2


def test_hard_gates_of_the_tiny_space_equal_plain_models_in_all_its_architectures() -> None:
    space = TinySpace()
    architectures = list(space.domain(TASK).enumerate())
    assert compare(space, architectures, TASK.example()) > len(architectures) / 4  # `none` gives zeros in many


@pytest.mark.parametrize(
    "space",
    [
        CellSpace(layers=3, channels=4),
        ChainSpace(),
        ChainSpace(stages=3, layers=2, widths=(3, 8, 5)),
    ],
    ids=["cell", "chain", "chain of three widths"],
)
def test_hard_gates_equal_plain_models_with_inherited_weights(space: SearchSpace) -> None:
    domain, rng = space.domain(TASK), np.random.default_rng(1)
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    assert compare(space, [domain.sample(rng) for _ in range(10)], x) == 10


def test_a_pick_computes_only_what_it_keeps() -> None:
    def build(choose: Chooser) -> nn.Module:
        return nn.Sequential(
            choose.one("op", {"kept": lambda: Times(2.0), "not": Broken}),
            choose.depth("depth", [lambda: Times(3.0), Broken]),
            Summed(choose.some("edges", {"kept": lambda: Times(5.0), "not": Broken}, k=1)),
        )

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("an option was computed that was not picked")

    net = supernet(build)
    net.pick(Architecture(net.domain.space, net.domain.options, {"op": "kept", "depth": 1, "edges": ("kept",)}))
    torch.testing.assert_close(net(X), 30 * X)


def test_a_supernet_refuses_an_architecture_of_another_kind() -> None:
    net = supernet(leaf("op", "a", "b"))
    with pytest.raises(ArchitectureError, match="'op'"):
        net.pick(Architecture(net.domain.space, net.domain.options, {"op": "c"}))


# Inheriting


def test_a_narrower_model_takes_the_leading_weights() -> None:
    def build(choose: Chooser) -> nn.Module:
        width = choose.value("width", (2, 4))
        return nn.Sequential(nn.Linear(3, width), mask_channels(width), nn.Linear(width, 2))

    space = Written(build)
    net = space.supernet(TASK)
    model = space.model(Architecture("written", net.domain.options, {"width": 2}), TASK)
    inherit(model, net)
    wide = net.module.state_dict()
    torch.testing.assert_close(
        dict(model.state_dict()),
        {
            "0.weight": wide["0.weight"][:2],
            "0.bias": wide["0.bias"][:2],
            "2.weight": wide["2.weight"][:, :2],
            "2.bias": wide["2.bias"],
        },
    )
    with torch.no_grad():
        model.get_parameter("0.weight").zero_()
    assert float(wide["0.weight"].abs().sum()) > 0  # a copy, not a view


def test_a_model_with_a_tensor_of_its_own_cannot_inherit() -> None:
    built: list[int] = []

    def build(choose: Chooser) -> nn.Module:
        built.append(0)
        return choose.one("op", {"a": lambda: nn.Linear(3, 2 + len(built)), "b": nn.Identity})

    space = Written(build)
    net = space.supernet(TASK)
    model = space.model(Architecture("written", net.domain.options, {"op": "a"}), TASK)
    with pytest.raises(SpaceError, match=r"'a\.weight' \(4, 3\) has no counterpart"):
        inherit(model, net)


def test_parameter_names_agree_between_model_and_supernet() -> None:
    for space in (CellSpace(layers=3, channels=4), ChainSpace(), TinySpace()):
        net = space.supernet(TASK)
        names = set(net.module.state_dict())
        rng = np.random.default_rng(0)
        for architecture in [net.domain.sample(rng) for _ in range(5)]:
            model_names = set(space.model(architecture, TASK).state_dict())
            assert model_names < names


# Freezing


def normalised(choose: Chooser) -> nn.Module:
    def conv() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))

    return nn.Sequential(
        conv(),
        choose.one("op", {"conv": conv, "nested": lambda: choose.one("inner", {"conv": conv})}),
        Summed(choose.some("edges", {"a": conv, "b": nn.Identity}, k=1)),
        choose.one("plain", {"free": lambda: nn.BatchNorm2d(1, affine=False), "none": nn.Identity}),
    )


def test_freezing_keeps_names_and_outputs() -> None:
    for make in (
        lambda: supernet(normalised),
        lambda: CellSpace(layers=3, channels=4).supernet(TASK),
    ):
        net = make()
        x = TASK.example()
        with torch.no_grad():
            before_names, before = list(net.state_dict()), net.eval()(x)
            parameters = [name for name, _ in net.named_parameters()]
            net.freeze_affine()
            torch.testing.assert_close(net(x), before, rtol=0, atol=0)
        assert list(net.state_dict()) == before_names
        assert [name for name, _ in net.named_parameters()] == parameters


def test_freezing_stops_normalisation_inside_options_and_nothing_else() -> None:
    net = supernet(normalised)
    net.freeze_affine()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    norms = {"module.1.conv.1", "module.1.nested.conv.1", "module.2.kept.a.1"}
    assert frozen == {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}


def test_freezing_a_cell_space_leaves_every_scale_inside_its_edges_at_one() -> None:
    net = CellSpace(layers=3, channels=4).supernet(TASK)
    net.freeze_affine()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    inside = {name for name in dict(net.named_parameters()) if ".nodes." in name}
    scales = {
        f"{path}.{part}"
        for path, module in net.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module.affine and ".nodes." in path
        for part in ("weight", "bias")
    }
    assert inside - trained == scales
    assert all(float(net.get_parameter(name)[0]) == (name.endswith("weight")) for name in scales)
    assert {name for name in dict(net.named_parameters()) if ".nodes." not in name} <= trained


def test_every_subset_of_k_of_n_can_be_picked() -> None:
    net = supernet(lambda choose: Summed(choose.some("edges", OPTIONS, k=2)))
    functions = {"twice": 2 * X, "plus": X + 3, "less": X - 1}
    for subset in combinations(OPTIONS, 2):
        net.gates["edges"].pick(subset)
        torch.testing.assert_close(net(X), functions[subset[0]] + functions[subset[1]])
