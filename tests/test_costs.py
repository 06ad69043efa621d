"""What architectures cost before they are trained, and constraints on it."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import nasengine
from nasengine import (
    Architecture,
    ArchitectureError,
    Chooser,
    ConfigError,
    Decision,
    Domain,
    Observer,
    RunFailed,
    SearchSpace,
    Task,
)
from nasengine import cost as cost_module
from nasengine.cost import Constraint, Costs, flops, lowest, parameters, refuse_the_impossible
from nasengine.registry import load, make
from nasengine.shapes import OncePerShape
from nasengine.testing import TinySpace, TinyTask

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


class Wide(SearchSpace):
    """One hidden layer of 1 to 64 units behind 16 inputs and before 2 classes: 19 w + 2 parameters."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        width = choose.value("width", tuple(range(1, 65)))
        activation = choose.one("activation", {"relu": nn.ReLU, "tanh": nn.Tanh})
        return nn.Sequential(nn.Flatten(), nn.Linear(16, width), activation, nn.Linear(width, task.classes))


def wide(*constraints: str) -> Wide:
    space = Wide()
    space.constraints = tuple(map(Constraint.parse, constraints))
    return space


@pytest.mark.parametrize(
    ("text", "metric", "sign", "limit"),
    [
        ("parameters<=1e6", "parameters", "<=", 1e6),
        ("flops <= 300M", "flops", "<=", 3e8),
        ("parameters>=2.5k", "parameters", ">=", 2500),
    ],
)
def test_a_constraint_is_read(text: str, metric: str, sign: str, limit: float) -> None:
    assert Constraint.parse(text) == Constraint(metric, sign, limit)  # type: ignore[arg-type]
    assert Constraint.parse(str(Constraint.parse(text))) == Constraint.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters<1e6", "is no constraint; expected one like parameters<=1e6"),
        ("params<=1e6", "'params' cannot be constrained; expected parameters, flops, memory or latency"),
        ("flops<=0", "expected a positive number"),
        ("flops<=1.2.3", "is no number"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Constraint.parse(text)


def test_flops_of_known_layers() -> None:
    """Two operations for each multiplication: a convolution's k² · C_in · C_out · H · W, a linear layer's in · out."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 2))
    assert flops(model, TinyTask()) == 2 * (9 * 1 * 3 * 16) + 2 * (48 * 2)
    assert parameters(model) == 27 + 3 + 96 + 2


def test_costs_are_counted_without_memory_and_agree_with_the_model() -> None:
    space, task = TinySpace(), TinyTask()
    costs = Costs(space, task)
    for architecture in [space.domain(task).sample(np.random.default_rng(seed)) for seed in range(5)]:
        model = space.model(architecture, task)
        assert costs.of(architecture, "parameters") == parameters(model)
        assert costs.of(architecture, "flops") == flops(model, task)


def test_only_what_meets_the_constraints_is_sampled_mutated_crossed_enumerated_and_decoded() -> None:
    space, task, rng = wide("parameters<=200", "parameters>=60"), TinyTask(), np.random.default_rng(0)
    domain = space.domain(task)

    def meets(architecture: Architecture) -> bool:
        return 60 <= 19 * int(architecture.picks["width"]) + 2 <= 200  # type: ignore[arg-type]

    drawn = [domain.sample(rng) for _ in range(300)]
    assert all(map(meets, drawn))
    assert {int(a.picks["width"]) for a in drawn} == set(range(4, 11))  # type: ignore[arg-type]
    assert all(meets(domain.mutate(architecture, rng)) for architecture in drawn)
    assert all(meets(domain.crossover(a, b, rng)) for a, b in zip(drawn, reversed(drawn), strict=True))
    assert all(meets(other) for other in domain.neighbors(drawn[0]))
    assert len(list(domain.enumerate())) == 7 * 2
    assert all(meets(domain.decode(rng.normal(size=domain.width))) for _ in range(20))
    assert meets(domain.complete({"width": 64}))
    assert domain.complete({"width": 64, "activation": "tanh"}).picks["activation"] == "tanh"


def test_sampling_under_a_constraint_stays_uniform() -> None:
    domain = wide("parameters<=200").domain(TinyTask())
    rng = np.random.default_rng(0)
    counts = np.bincount([int(domain.sample(rng).picks["width"]) for _ in range(2000)], minlength=11)[1:]  # type: ignore[arg-type]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees of freedom, one in a thousand


def test_a_rare_architecture_is_walked_to() -> None:
    """One of 64 widths: too few for 100 draws to be sure of; nearer is better, so the walk gets there."""
    domain = wide("parameters<=21", "parameters>=21").domain(TinyTask())
    for seed in range(10):
        assert domain.sample(np.random.default_rng(seed)).picks["width"] == 1


def test_what_breaks_a_constraint_is_refused_where_a_strategy_asks_for_it() -> None:
    space = wide("parameters<=200")
    domain = space.domain(TinyTask())
    with pytest.raises(ArchitectureError, match="breaks a rule or constraint"):
        domain.validate(wide().domain(TinyTask()).complete({"width": 64}))


def test_the_supernet_derives_only_what_meets_the_constraints() -> None:
    supernet_domain = TinySpace().supernet(TinyTask()).domain
    assert supernet_domain.violation is None
    space = TinySpace()
    space.constraints = (Constraint.parse("parameters<=100"),)
    domain = space.supernet(TinyTask()).domain
    derived = domain.complete({"width": 4, "edge.a": "conv", "edge.b": "conv", "repeated": "conv", "depth": 2})
    assert Costs(space, TinyTask()).of(derived, "parameters") <= 100


def test_an_impossible_constraint_says_what_the_smallest_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the smallest that was found has 21 parameters"):
        nasengine.search(Wide(), "random", TinyTask(), CHEAP, constraints="parameters<=20", out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"the largest that was found has 1,218 parameters"):
        nasengine.search(Wide(), "random", TinyTask(), CHEAP, constraints="parameters>=5k", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["random", "evolution:population=3,sample=2"])
def test_a_search_keeps_to_its_constraints(strategy: str, tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), strategy, TinyTask(), "train:epochs=1", trials=6, baseline=2, out=tmp_path / "run",
        constraints=["parameters<=200", "flops<=10k"],
    )  # fmt: skip
    trained = [trial.metrics for trial in run.all_trials if trial.metrics]
    assert len(trained) >= 3
    assert all(metrics["parameters"] <= 200 for metrics in trained)


def test_darts_keeps_to_its_constraints(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "darts:epochs=1", TinyTask(), "train:epochs=1", baseline=0, out=tmp_path / "run",
        constraints="parameters<=60",
    )  # fmt: skip
    assert run.best.metrics["parameters"] <= 60


def test_torch_counts_on_meta_what_it_counts_on_the_cpu() -> None:
    with torch.device("meta"):
        model = nasengine.build("lenet5", (1, 28, 28), 10)
    shapes = nasengine.Shapes((1, 28, 28), 10)
    assert flops(model, shapes) == flops(nasengine.build("lenet5", (1, 28, 28), 10), shapes)
    by_hand = 25 * 6 * 24 * 24 + 25 * 6 * 16 * 8 * 8 + 256 * 120 + 120 * 84 + 84 * 10
    assert flops(model, shapes) == 2 * by_hand


def test_an_architecture_that_breaks_a_constraint_is_not_derived(tmp_path: Path) -> None:
    """Whatever a one-shot strategy derives is held against the run's own domain."""

    class Careless(nasengine.OneShotStrategy):
        def learn(
            self, supernet: nasengine.Supernet, task: Task, context: nasengine.Context
        ) -> Iterator[nasengine.Derivation]:
            free = TinySpace().domain(task)
            yield nasengine.Derivation(Architecture(supernet.domain.space, {}, free.complete({"width": 4}).picks))

    with pytest.raises(RunFailed, match=r"derived an invalid architecture.*breaks a rule or constraint"):
        nasengine.search(
            TinySpace(), Careless(), TinyTask(), CHEAP, out=tmp_path / "run", constraints="parameters<=30", trials=1
        )


def test_where_one_architecture_is_allowed_evolution_asks_for_it_again(tmp_path: Path) -> None:
    run = nasengine.search(
        Wide(), "evolution:population=2,sample=2", TinyTask(), CHEAP, trials=6, baseline=1, out=tmp_path / "run",
        constraints="parameters<=21",
    )  # fmt: skip
    assert run.finished
    assert {trial.architecture.picks["width"] for trial in run.all_trials if trial.architecture} == {1}


def test_a_random_search_ends_where_nothing_new_is_allowed(tmp_path: Path) -> None:
    run = nasengine.search(
        Wide(), "random", TinyTask(), CHEAP, trials=20, baseline=0, out=tmp_path / "run", constraints="parameters<=40"
    )
    assert len([trial for trial in run.all_trials if trial.purpose == "search"]) == 4  # two widths, two activations


def test_a_space_that_is_given_keeps_nothing_of_a_runs_constraints(tmp_path: Path) -> None:
    space = Wide()
    bound = "parameters<=40"
    nasengine.search(space, "random", TinyTask(), CHEAP, trials=1, baseline=0, out=tmp_path / "run", constraints=bound)
    assert space.domain(TinyTask()).violation is None


def test_what_is_decoded_gives_up_what_it_wants_least() -> None:
    """Of two edits that meet the constraint, the one whose entry was the weaker."""
    domain = wide("parameters<=40").domain(TinyTask())
    wanted = np.zeros(domain.width)
    wanted[[63, 64 + 1]] = 1.0  # width 64, tanh
    wanted[1] = 0.5  # width 2
    decoded = domain.decode(wanted)
    assert (decoded.picks["width"], decoded.picks["activation"]) == (2, "tanh")


def test_a_single_architecture_that_is_too_large_is_a_sentence(tmp_path: Path) -> None:
    class Fixed(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return nn.Sequential(nn.Flatten(), choose.one("only", {"linear": lambda: nn.Linear(16, 2)}))

    with pytest.raises(ConfigError, match="the smallest that was found has 34 parameters"):
        nasengine.search(Fixed(), "random", TinyTask(), CHEAP, constraints="parameters<=33", out=tmp_path / "run")


def test_a_task_whose_examples_are_no_tensors_is_trained_without_a_count() -> None:
    class Pairs(TinyTask):
        def example(self) -> object:
            return {"image": torch.zeros(2, 1, 4, 4)}

    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    assert nasengine.cost_of(model, Pairs()) == {"parameters": 34.0}
    with pytest.raises(ConfigError, match="FLOPs, memory and latency are of tensors, or of what has"):
        flops(model, Pairs())


def counted(name: str, options: dict[str, Any], constraints: str) -> tuple[Any, list[str]]:
    """A built-in space under constraints, and the ids of the architectures that were built to be counted."""
    built: list[str] = []
    base: Any = load("space", name)

    def shape(self: Any, architecture: Architecture, task: Task) -> nn.Module:
        built.append(architecture.id)
        return base.shape(self, architecture, task)

    space = type("Counted", (base,), {"shape": shape})(**options)
    space.known_as = name
    return space.constrained(constraints.split(",")), built


SMALL: dict[str, dict[str, Any]] = {
    "cell": {"layers": 2, "nodes": 2},
    "nasnet": {"layers": 2, "blocks": 1},
    "hierarchical": {"motifs": (2, 1), "nodes": (3, 3)},
    "nasbench201": {"cells": 1},
    "nasbench101": {},
    "chain": {"stages": 1, "layers": 2},
    "mobile": {},
    "nasbench_macro": {},
}


@pytest.mark.parametrize("constraints", ["parameters<=1,flops<=10", "parameters<=1e9,flops>=1e12"])
@pytest.mark.parametrize("name", SMALL)
def test_the_impossible_is_refused_after_few_counts(name: str, constraints: str) -> None:
    space, built = counted(name, SMALL[name], constraints)
    task: Any = make("task", "digits", {})
    with pytest.raises(ConfigError, match=r"was found; the (smallest|largest) that was found has [\d,]+ (par|flops)"):
        refuse_the_impossible(space, task, space.domain(task), seed=0)
    assert len(built) <= 150


def test_bounds_that_are_met_alone_but_not_together_are_refused_with_the_nearest() -> None:
    """Of width w there are 19 w + 2 parameters, and 36 w operations."""
    space = wide("parameters<=100", "flops>=1000")
    width = min(range(1, 65), key=lambda w: max(0, (19 * w + 2) / 100 - 1) + max(0, 1000 / (36 * w) - 1))
    said = (
        f"each of these can be met alone; the nearest that was found has {19 * width + 2} parameters and {36 * width}"
    )
    for seed in range(5):
        with pytest.raises(ConfigError, match=said):
            refuse_the_impossible(space, TinyTask(), space.domain(TinyTask()), seed)


def test_a_bound_that_most_architectures_meet_costs_one_count() -> None:
    space, built = counted("cell", SMALL["cell"], "parameters<=1e9")
    task: Any = make("task", "digits", {})
    refuse_the_impossible(space, task, space.domain(task), seed=0)
    assert len(built) == 1


def test_the_lowest_cost_is_found_where_decisions_do_not_work_against_each_other() -> None:
    domain, task = TinySpace().domain(TinyTask()), TinyTask()
    costs = Costs(TinySpace(), task)
    for sign in (1, -1):
        cost = lambda one, sign=sign: sign * costs.of(one, "flops")  # noqa: E731
        architecture, found = lowest(domain, cost)
        assert found == cost(architecture) == min(map(cost, domain.enumerate()))  # type: ignore[no-untyped-call]


def test_the_largest_is_found_though_the_first_option_hides_the_other_decisions() -> None:
    """Where every edge of a cell picks nothing, what its motifs pick makes no difference."""
    space: Any = make("space", "hierarchical", SMALL["hierarchical"])
    task: Any = make("task", "digits", {})
    costs, domain = Costs(space, task), space.domain(task)
    every = {name: decision.options[-1] for name, decision in domain.decisions.items()}
    cells = {name: pick for name, pick in every.items() if name.startswith("level3")}
    motifs = [name for name in every if name.startswith("level2")]
    primitives = domain.decisions[motifs[0]].options
    known = [domain.complete({**cells, **dict.fromkeys(motifs, primitive)}) for primitive in primitives]
    assert costs.least(domain, Constraint.parse("flops>=1e15")) == max(costs.of(one, "flops") for one in known)


def test_a_walk_that_leads_nowhere_ends_early() -> None:
    asked = []

    def violation(architecture: Architecture) -> float:
        asked.append(architecture)
        return 1.0

    domain = Domain("numbers", {}, [Decision(f"v{i}", "value", (0, 1, 2, 3)) for i in range(4)], violation=violation)
    with pytest.raises(ArchitectureError, match="is allowed"):
        domain.sample(np.random.default_rng(0))
    assert len(asked) < 200


def test_a_walk_finds_the_one_architecture_that_is_allowed() -> None:
    """Of 4¹² = 16,777,216."""
    decisions = [Decision(f"v{i}", "value", (0, 1, 2, 3)) for i in range(12)]
    domain = Domain("numbers", {}, decisions, violation=lambda a: float(sum(map(int, a.picks.values()))))  # type: ignore[arg-type]
    for seed in range(10):
        found = domain.sample(np.random.default_rng(seed))
        assert not any(found.picks.values())
        assert domain.nearest(np.random.default_rng(seed)) == found


def test_a_long_search_for_what_meets_the_constraints_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Wide):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            time.sleep(0.004)
            return super().build(choose, task)

    class Notes(Observer):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    monkeypatch.setattr(cost_module, "WHILE", 0.02)
    quick, slow = Notes(), Notes()
    for space, observer in ((Slow(), slow), (Wide(), quick)):
        monkeypatch.setattr(cost_module, "WHILE", 0.02 if observer is slow else 60.0)
        with pytest.raises(ConfigError):
            nasengine.search(
                space, "random", TinyTask(), CHEAP, constraints="parameters<=20", out=tmp_path, observer=observer
            )
    assert slow.notes == ["looking for an architecture with parameters<=20"]
    assert quick.notes == []


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v2"])
def test_flops_are_exactly_what_torchs_counter_says(name: str) -> None:
    reference = nasengine.reference(name)
    shape = (1, 28, 28) if name == "lenet5" else (3, 32, 32)
    with torch.device("meta"):
        model = nasengine.build(reference, shape, 10).eval()
    for _ in range(2):  # what it counts, and what it remembers
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            model(torch.zeros(2, *shape, device="meta"))
        with torch.no_grad(), OncePerShape() as remembered:
            given = model(torch.zeros(2, *shape, device="meta"))
        assert remembered.flops == counter.get_total_flops() > 0
        assert given.shape == (2, 10)


def test_an_operation_is_worked_out_once_for_each_shape() -> None:
    model = nn.Sequential(*(nn.Conv2d(5, 5, 3, padding=1) for _ in range(7)), nn.ReLU(inplace=True)).to("meta")
    images = torch.zeros(1, 5, 11, 11, device="meta")
    ran: list[Any] = []

    class Ran(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            ran.append(func)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Ran(), OncePerShape() as counter:  # type: ignore[no-untyped-call]
        assert model(images).shape == images.shape
    assert counter.flops == 7 * 2 * 9 * 5 * 5 * 11 * 11
    assert [func.name() for func in ran if "empty" not in func.name()] == ["aten::convolution", "aten::relu_"]


def test_what_has_values_is_computed() -> None:
    model, images = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), torch.rand(2, 4)
    for _ in range(2):
        with torch.no_grad(), OncePerShape() as counter:
            assert torch.equal(model(images), model(images))
            assert torch.allclose(model(images).sum(-1), torch.ones(2))
        assert counter.flops == 3 * 2 * 2 * 4 * 3
