"""BANANAS, part by part: the ensemble against torch, Thompson sampling against a closed form, paths against a list of
all of them; and what it finds."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import gzip
import math
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasengine import (
    Architecture,
    ConfigError,
    Decision,
    Domain,
    Evaluate,
    Fidelity,
    Objective,
    Request,
    Strategy,
    Trial,
)  # fmt: skip
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.nasbench101 import NASBench101Space
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.strategies.bananas import BANANAS, BATCH, Ensemble, path_encoding, thompson
from nasengine.strategies.rounds import standardised
from nasengine.testing import StrategyContract, TinySpace, TinyTask

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nas" / "nas_bench_201.csv.gz"
SMALL: dict[str, Any] = {"ensemble": 3, "layers": 2, "width": 8, "epochs": 30}
WIDE = Domain("wide", {}, [Decision(f"v{index}", "value", tuple(range(5))) for index in range(16)])
"""5¹⁶ architectures: random ones are many edits apart, so that a mutant shows who its parent is."""


class TestBANANAS(StrategyContract):
    def make(self) -> Strategy:
        return BANANAS(initial=5, k=3, **SMALL)


class TestBANANASOfOneHotEncoding(StrategyContract):
    def make(self) -> Strategy:
        return BANANAS(k=4, encoding="one_hot", source="both", candidates=20, **SMALL)


def started(domain: Domain, seed: int = 0, trials: int = 100, **options: Any) -> Any:
    strategy = BANANAS(**{**SMALL, **options})
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)
    return strategy


def asked(strategy: Any) -> Architecture:
    request = strategy.ask()
    assert isinstance(request, Evaluate)
    return request.architecture


def told(strategy: Any, architecture: Architecture, score: float | None) -> None:
    request: Request = Evaluate(architecture)
    metrics = {} if score is None else {"accuracy": score}
    strategy.tell(Trial(0, request, "failed" if score is None else "done", metrics))


def edits(a: Architecture, b: Architecture) -> int:
    return sum(a.picks[name] != b.picks[name] for name in a.picks)


def total(architecture: Architecture) -> float:
    return float(sum(int(str(pick)) for pick in architecture.picks.values()))


# The ensemble


def torch_parameters(ensemble: Any) -> list[list[torch.Tensor]]:
    return [
        [torch.tensor(np.array(part), dtype=torch.float64, requires_grad=True) for part in parts]
        for parts in ensemble._parts
    ]


def torch_error(parameters: list[list[torch.Tensor]], x: Any, y: Any) -> torch.Tensor:
    """Each network by itself, layer by layer, as its paper would have it; the sum of their mean absolute errors."""
    networks, errors = parameters[0][0].shape[0], []
    for network in range(networks):
        state = torch.tensor(x[network], dtype=torch.float64)
        for index, (weight, bias) in enumerate(parameters):
            state = state @ weight[network] + bias[network]
            state = state.relu() if index < len(parameters) - 1 else state
        errors.append((state[:, 0] - torch.tensor(y[network], dtype=torch.float64)).abs().mean())
    return torch.stack(errors).sum()


def test_the_gradient_is_that_of_torch() -> None:
    rng = np.random.default_rng(0)
    ensemble = Ensemble(7, networks=3, layers=4, width=6, rng=rng)
    x, y = rng.normal(size=(3, 9, 7)).astype(np.float32), rng.normal(size=(3, 9)).astype(np.float32)
    ensemble.backward(x, y)
    parameters = torch_parameters(ensemble)
    torch_error(parameters, x, y).backward()  # type: ignore[no-untyped-call]
    for parts, expected in zip(ensemble._gradients, parameters, strict=True):
        for part, tensor in zip(parts, expected, strict=True):
            assert tensor.grad is not None
            assert np.allclose(part, tensor.grad, atol=1e-6)
            assert np.abs(part).max() > 0


def test_training_is_adams_as_torch_has_it() -> None:
    """With fewer examples than a batch has, their order does not matter."""
    rng = np.random.default_rng(1)
    ensemble = Ensemble(5, networks=2, layers=2, width=6, rng=rng)
    x, y = rng.normal(size=(BATCH - 4, 5)).astype(np.float32), rng.normal(size=BATCH - 4).astype(np.float32)
    parameters = torch_parameters(ensemble)
    optimizer = torch.optim.Adam([p for parts in parameters for p in parts], 0.01, betas=(0.9, 0.99), eps=1e-7)
    ensemble.fit(x, y, epochs=12, learning_rate=0.01, rng=rng)
    for _ in range(12):
        optimizer.zero_grad()
        torch_error(parameters, [x, x], [y, y]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for parts, expected in zip(ensemble._parts, parameters, strict=True):
        for part, tensor in zip(parts, expected, strict=True):
            assert np.allclose(part, tensor.detach(), atol=2e-4)


def test_an_ensemble_learns_what_a_sum_is_and_its_networks_differ() -> None:
    rng = np.random.default_rng(2)
    x = (rng.random((200, 10)) < 0.5).astype(np.float32)
    y = standardised(x[:, :5].sum(1) - x[:, 5:].sum(1))
    ensemble = Ensemble(10, networks=5, layers=10, width=20, rng=rng)
    ensemble.fit(x[:150], y[:150], 100, 0.01, rng)
    predicted = ensemble.predict(x[150:])
    assert predicted.shape == (5, 50)
    assert np.corrcoef(predicted.mean(0), y[150:])[0, 1] > 0.9
    assert predicted.std(0).min() > 0


# Thompson sampling


def test_a_candidate_is_first_as_often_as_the_normal_distributions_say() -> None:
    """Means 1 and 0, deviations 2 and 1: the first's draw is larger with probability Φ(1 / √5)."""
    predicted = np.array([[3.0, 1.0], [-1.0, -1.0]], np.float32)
    rng = np.random.default_rng(0)
    wins = sum(thompson(predicted, rng)[0] == 0 for _ in range(4_000))
    expected = 0.5 * (1 + math.erf(1 / math.sqrt(5) / math.sqrt(2)))
    assert abs(wins / 4_000 - expected) < 5 * math.sqrt(expected * (1 - expected) / 4_000)


def test_where_the_networks_agree_the_order_is_that_of_their_predictions() -> None:
    predicted = np.array([[0.1, 0.5, 0.3]] * 4, np.float32)
    assert thompson(predicted, np.random.default_rng(0)) == [1, 2, 0]


# Paths


def test_paths_of_nasbench201_are_those_of_a_list_of_all() -> None:
    space = NASBench201Space()
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    ways = [(0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]
    for architecture in [domain.canonical(domain.sample(rng)) for _ in range(200)]:
        edges = {(s, n): architecture.picks[f"node{n}.from{s}"] for n in range(1, 4) for s in range(n)}
        found = {
            tuple(edges[edge] for edge in pairwise(way))
            for way in ways
            if all(edges[edge] != "none" for edge in pairwise(way))
        }
        # `none` is drawn where a node would hang in the air
        listed = {path[2:] for path in space.paths(architecture) if "none" not in path}
        assert listed == found
        assert {path[:2] for path in space.paths(architecture)} <= {("", "input")}
        assert domain.paths is not None
        assert domain.paths(architecture) == space.paths(architecture)


def test_paths_of_nasbench101_are_those_of_all_vertices_in_all_ways() -> None:
    space = NASBench101Space()
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    several = 0
    for architecture in [domain.sample(rng) for _ in range(60)]:
        picks, found = architecture.picks, set()
        for count in range(6):
            for inner in combinations(range(1, 6), count):
                if all(picks[f"edge{a}-{b}"] for a, b in pairwise((0, *inner, 6))):
                    found.add(("", "input", *(str(picks[f"vertex{v}"]) for v in inner), "output"))
        assert space.paths(architecture) == found
        several += len(found) > 2
    assert several > 20


def test_a_cells_paths_say_which_cell_and_input_they_are_of() -> None:
    space = CellSpace(layers=3, channels=2, nodes=1)
    architecture = space.domain(TinyTask()).sample(np.random.default_rng(0))
    picks = architecture.picks
    assert space.paths(architecture) == {
        (part, f"input −{2 - source}", picks[f"{kind}.node0.from{source}"])
        for kind, part in (("normal", "Normal cell"), ("reduce", "Reduction cell"))
        for source in range(2)
    }


def test_a_space_without_a_graph_of_its_own_has_one_path_of_all_picks() -> None:
    space = TinySpace()
    domain = space.domain(TinyTask())
    assert {len(space.paths(architecture)) for architecture in domain.enumerate()} == {1}
    assert len({space.paths(architecture) for architecture in domain.enumerate()}) == domain.size


def test_path_encoding_has_a_place_for_each_path_judged_the_most_frequent_first() -> None:
    a, b, c, unknown = ("a",), ("b",), ("c",), ("d",)
    ways = [{a, b}, {b, c}, {b}, {c, unknown}, {a}]
    assert path_encoding(ways, judged=3, most=10).tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert path_encoding(ways, judged=3, most=1).tolist() == [[1], [1], [1], [0], [0]]


# What it asks for


def test_after_random_ones_candidates_are_mutants_of_the_best() -> None:
    strategy = started(WIDE, initial=4, k=5)
    first = [asked(strategy) for _ in range(4)]
    assert min(edits(a, b) for a, b in combinations(first, 2)) > 3
    for architecture, score in zip(first, (0.1, 0.9, 0.5, 0.2), strict=True):
        told(strategy, architecture, score)
    batch = [asked(strategy) for _ in range(5)]
    # one mutant in a hundred is somebody's twin, so the best's alone are nearly a hundred candidates
    assert {min(range(4), key=lambda i: edits(first[i], mutant)) for mutant in batch} <= {1, 2}
    assert {min(edits(parent, mutant) for parent in first) for mutant in batch} == {1}


def test_random_candidates_are_random() -> None:
    strategy = started(WIDE, initial=4, k=5, source="random")
    first = [asked(strategy) for _ in range(4)]
    for number, architecture in enumerate(first):
        told(strategy, architecture, number / 10)
    assert min(edits(parent, asked(strategy)) for parent in first) > 3


def test_it_learns_what_is_better_before_it_has_asked() -> None:
    """Results of others, told first, count among the initial ones: candidates are the best's mutants at once."""
    strategy, rng = started(WIDE, initial=10, k=20, epochs=150), np.random.default_rng(1)
    given = [WIDE.sample(rng) for _ in range(150)]
    for architecture in given:
        told(strategy, architecture, total(architecture))
    best = max(map(total, given))
    batch = [asked(strategy) for _ in range(20)]
    assert min(edits(parent, mutant) for parent in given for mutant in batch) == 1
    assert np.mean([total(mutant) for mutant in batch]) > best - 1  # a mutant of the best, on average, falls below
    assert max(map(total, batch)) > best


@pytest.mark.parametrize("encoding", ["path", "one_hot"])
def test_a_small_space_is_asked_for_once_each_and_then_nothing(encoding: str) -> None:
    space = NASBench201Space()
    whole = space.domain(TinyTask())
    few = [
        d if index > 2 else Decision(d.name, "one", d.options[:1]) for index, d in enumerate(whole.decisions.values())
    ]
    domain = Domain("nasbench201", whole.options, few, space.canonical, paths=space.paths)
    networks = {domain.canonical(architecture).id for architecture in domain.enumerate()}
    strategy, found = started(domain, encoding=encoding, epochs=2), []
    while (request := strategy.ask()) is not None:
        found.append(request.architecture)
        told(strategy, found[-1], len(found) % 7 / 7)
    assert {domain.canonical(architecture).id for architecture in found} == networks
    assert len(found) == len(networks) < domain.size


def test_under_a_constraint_all_that_is_asked_for_is_allowed() -> None:
    domain = TinySpace().constrained(["parameters<=60"]).domain(TinyTask())
    strategy = started(domain, epochs=2)
    for _ in range(40):
        if (request := strategy.ask()) is None:
            break
        assert domain.allows(request.architecture)
        told(strategy, request.architecture, 0.5)


def test_where_all_failed_random_ones_follow() -> None:
    strategy = started(WIDE, initial=3, k=2)
    found = []
    for _ in range(10):
        found.append(asked(strategy))
        told(strategy, found[-1], None)
    assert min(edits(a, b) for a, b in combinations(found, 2)) > 3


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_one_best_of_4096(seed: int) -> None:
    """150 random architectures would contain it 4 times in 100."""
    target = np.random.default_rng(seed + 100).integers(4, size=6).tolist()
    domain = Domain("tiny", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])
    strategy, best = started(domain, seed, trials=150, epochs=60), 0
    for _ in range(150):
        architecture = asked(strategy)
        right = sum(architecture.picks[f"v{index}"] == wanted for index, wanted in enumerate(target))
        told(strategy, architecture, right)
        best = max(best, right)
    assert best == 6


@pytest.mark.slow
@pytest.mark.skipif(not TABLE.is_file(), reason=f"needs the benchmark's table, {TABLE}")
@pytest.mark.parametrize("encoding", ["path", "one_hot"])
def test_it_finds_the_best_of_nasbench201(encoding: str) -> None:
    """As it stands in the benchmark: 94.37 % on CIFAR-10's test images after 200 epochs."""
    with gzip.open(TABLE, "rt", encoding="utf-8") as lines:
        scores = {row["arch_str"]: float(row["c10_test_ep200"]) for row in csv.DictReader(lines)}
    strategy = BANANAS(encoding=encoding)
    domain = NASBench201Space().domain(TinyTask())
    strategy.start(domain, np.random.default_rng(0), [Objective("accuracy")], Fidelity(), 192)
    best = 0.0
    for _ in range(192):
        architecture = asked(strategy)
        best = max(best, scores[architecture.to_nasbench201()])
        told(strategy, architecture, scores[architecture.to_nasbench201()])
    assert best == max(scores.values())


# Options


@pytest.mark.parametrize(
    "options",
    [{"k": 0}, {"initial": 0}, {"layers": 0}, {"ensemble": -1}, {"paths": 0}, {"encoding": "x"}, {"source": "x"}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        BANANAS(**options)


@pytest.mark.parametrize(("trials", "initial"), [(200, 10), (24, 6), (3, 2)])
def test_random_ones_are_fewer_where_the_budget_is_small(trials: int, initial: int) -> None:
    strategy = started(WIDE, trials=trials)
    first = [asked(strategy) for _ in range(initial)]
    for number, architecture in enumerate(first):
        told(strategy, architecture, number)
    assert min(edits(a, b) for a, b in combinations(first, 2)) > 3
    assert min(edits(asked(strategy), one) for one in first) == 1
