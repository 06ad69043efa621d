"""The hierarchical space: its size by a closed form, isomorphic descriptions by joining what relabelling makes."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations, permutations
from math import comb
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, ConfigError, Domain, SearchSpace
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.hierarchical import HierarchicalSpace, Motif
from nasengine.search_spaces.operations.hierarchical import OPERATIONS
from nasengine.testing import SpaceContract, TinyTask

Picks = dict[str, str]
Graph = tuple[int, int, int]
"""A motif: its level, its number, how many nodes it has."""


class CIFAR(TinyTask):
    """The shapes of CIFAR-10, without its images."""

    input_shape = (3, 32, 32)
    classes = 10


class TestHierarchicalSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return HierarchicalSpace(motifs=(2, 1), nodes=(3, 4), channels=2)


class TestSmallHierarchicalSpace(SpaceContract):
    """Small enough to be enumerated."""

    def make(self) -> SearchSpace:
        return HierarchicalSpace(motifs=(2, 1), nodes=(3, 3), primitives=("conv_1x1", "identity"), cells=1, channels=2)


class TestHierarchicalSpaceOfFourLevels(SpaceContract):
    def make(self) -> SearchSpace:
        return HierarchicalSpace(motifs=(2, 2, 1), nodes=(3, 3, 3), cells=1, channels=2)


@pytest.mark.slow
class TestDefaultHierarchicalSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return HierarchicalSpace()

    def task(self) -> Digits:
        return Digits()


# Counting and sampling


def ways(motifs: int, edges: int) -> int:
    """How many ways there are to pick all of the motifs, or none, on so many edges: by inclusion and exclusion."""
    return sum((-1) ** (motifs - k) * comb(motifs, k) * (k + 1) ** edges for k in range(motifs + 1))


def closed_form(motifs: int, edges: int, top: int, options: int) -> int:
    """Of two levels: the cell's edges pick exactly the motifs of some set, and each of these is free."""
    return sum(comb(motifs, used) * ways(used, top) * (options**edges) ** used for used in range(motifs + 1))


def test_the_default_space_is_the_papers() -> None:
    """Six primitives, six motifs of 4 nodes, one of 5."""
    domain = HierarchicalSpace().domain(CIFAR())
    assert len(domain.decisions) == 6 * 6 + 10
    assert domain.decisions["level2.motif3.edge0-2"].options == ("none", *OPERATIONS)
    assert domain.decisions["level3.motif0.edge1-4"].options == ("none", *(f"motif{n}" for n in range(6)))
    assert domain.size == closed_form(6, 6, 10, 7)


@pytest.mark.parametrize(("motifs", "nodes"), [(1, (2, 2)), (2, (3, 3)), (4, (3, 5)), (3, (5, 4))])
def test_a_space_of_two_levels_has_its_closed_form(motifs: int, nodes: tuple[int, int]) -> None:
    domain = HierarchicalSpace(motifs=(motifs, 1), nodes=nodes).domain(TinyTask())
    assert domain.size == closed_form(motifs, comb(nodes[0], 2), comb(nodes[1], 2), 7)


def test_a_single_level_is_a_graph_of_primitives() -> None:
    assert HierarchicalSpace(motifs=(1,), nodes=(4,)).domain(TinyTask()).size == 7**6


@pytest.mark.parametrize("task", [TinyTask(), CIFAR()])
def test_recording_counting_and_sampling_take_no_time_to_speak_of(task: TinyTask) -> None:
    """A second, and two for 10,000 samples, on a quiet machine; here with room for a busy one."""
    start = time.process_time()
    domain = HierarchicalSpace().domain(task)
    recorded = time.process_time()
    assert domain.size > 10**38
    rng = np.random.default_rng(0)
    drawn = {domain.sample(rng).id for _ in range(1_000)}
    assert recorded - start < 4
    assert time.process_time() - recorded < 2
    assert len(drawn) == 1_000


def test_every_cell_takes_the_decisions_that_one_cell_takes() -> None:
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 3), cells=3, channels=2)
    domain = space.domain(TinyTask())
    assert domain.options == Architecture("", space.recorded_settings(), {}).options
    assert domain.decisions == space.supernet(TinyTask()).domain.decisions


def test_samples_are_uniform_over_architectures() -> None:
    """A motif that is not picked is no choice: architectures that use both are 8,748 of 9,127."""
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 3), primitives=("conv_1x1", "identity"))
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    assert domain.size == 1 + 14 * 27 + 12 * 27**2 == 9_127
    draws = 20_000
    both = sum(len(domain.sample(rng).picks) == 9 for _ in range(draws))
    share = 8_748 / 9_127
    assert abs(both - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5


def test_samples_of_a_space_beyond_machine_numbers_are_uniform() -> None:
    """Of 10³⁸, nearly all use all six motifs; so an edge of the cell is `none` in this share of them."""
    domain, rng, draws = HierarchicalSpace().domain(TinyTask()), np.random.default_rng(0), 2_000
    share = ways(6, 9) / ways(6, 10)
    none = [domain.sample(rng).picks for _ in range(draws)]
    for edge in ("0-1", "0-4", "3-4"):
        found = sum(picks[f"level3.motif0.edge{edge}"] == "none" for picks in none)
        assert abs(found - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5


def test_a_mutation_changes_what_one_edge_of_one_motif_picks() -> None:
    """Section 3.1. A motif that this brings up is new, one that is no longer picked is gone; nothing else changes."""
    domain, rng = HierarchicalSpace().domain(TinyTask()), np.random.default_rng(0)
    levels = set()
    for _ in range(200):
        before = domain.sample(rng)
        after = domain.mutate(before, rng)
        kept = before.picks.keys() & after.picks.keys()
        (changed,) = [name for name in kept if before.picks[name] != after.picks[name]]
        fresh = {name.rpartition(".")[0] for name in after.picks.keys() - kept}
        gone = {name.rpartition(".")[0] for name in before.picks.keys() - kept}
        assert fresh <= {f"level2.{after.picks[changed]}"}
        assert gone <= {f"level2.{before.picks[changed]}"}
        levels.add(changed[:6])
    assert levels == {"level2", "level3"}


# Isomorphic descriptions


def pairs(graph: Graph) -> list[tuple[int, int]]:
    return list(combinations(range(graph[2]), 2))


def key(graph: Graph, source: int, node: int) -> str:
    return f"level{graph[0]}.motif{graph[1]}.edge{source}-{node}"


def graphs(space: Any, picks: Picks) -> list[Graph]:
    every = [(2 + i, n, space.nodes[i]) for i, count in enumerate(space.motifs) for n in range(count)]
    return [graph for graph in every if key(graph, 0, 1) in picks]


def reachable(space: Any, picks: Picks) -> Picks:
    """The picks of motifs that are still picked, from the cell down."""
    level = 1 + len(space.motifs)
    wanted = {0}
    left: Picks = {}
    while level > 1:
        for number in wanted:
            graph = (level, number, space.nodes[level - 2])
            left |= {key(graph, *edge): picks[key(graph, *edge)] for edge in pairs(graph)}
        below = {pick for name, pick in left.items() if name.startswith(f"level{level}.") and pick != "none"}
        level -= 1
        wanted = {int(pick.removeprefix("motif")) for pick in below} if level > 1 else set()
    return left


def alive(graph: Graph, picks: Picks) -> frozenset[tuple[int, int]]:
    """The edges on paths from the first to the last node."""
    return on_paths(graph[2], tuple(edge for edge in pairs(graph) if picks[key(graph, *edge)] != "none"))


@cache
def on_paths(nodes: int, edges: tuple[tuple[int, int], ...]) -> frozenset[tuple[int, int]]:
    drawn = nx.DiGraph(edges)
    drawn.add_nodes_from(range(nodes))
    after = nx.descendants(drawn, 0) | {0}
    before = nx.ancestors(drawn, nodes - 1) | {nodes - 1}
    return frozenset((a, b) for a, b in edges if a in after and b in before)


def with_names_exchanged(space: Any, picks: Picks, level: int, names: tuple[int, ...]) -> Picks:
    """Motif n of the level is called names[n]."""
    changed = {}
    for name, pick in picks.items():
        where, motif, edge = name.split(".")
        if where == f"level{level}":
            motif = f"motif{names[int(motif[5:])]}"
        elif where == f"level{level + 1}" and pick != "none":
            pick = f"motif{names[int(pick[5:])]}"
        changed[f"{where}.{motif}.{edge}"] = pick
    return changed


def reordered(picks: Picks, graph: Graph, order: tuple[int, ...]) -> Picks | None:
    """Node n of the motif stands at place order[n]; None where an edge would run backwards."""
    changed = dict.fromkeys((key(graph, *edge) for edge in pairs(graph)), "none")
    for a, b in pairs(graph):
        if picks[key(graph, a, b)] != "none":
            if order[a] > order[b]:
                return None
            changed[key(graph, order[a], order[b])] = picks[key(graph, a, b)]
    return {**picks, **changed}


def orders(graph: Graph) -> Iterator[tuple[int, ...]]:
    return ((0, *inner, graph[2] - 1) for inner in permutations(range(1, graph[2] - 1)))


def relabelled(space: Any, picks: Picks) -> Iterator[Picks]:
    """What one change makes of the description that leaves the network what it is."""
    found = graphs(space, picks)
    for level, count in enumerate(space.motifs[:-1], 2):
        for names in permutations(range(count)):
            yield with_names_exchanged(space, picks, level, names)
    for graph in found:
        yield from filter(None, (reordered(picks, graph, order) for order in orders(graph)))
        living = alive(graph, picks)
        for edge in pairs(graph):
            name, pick = key(graph, *edge), picks[key(graph, *edge)]
            if edge not in living:
                yield {**picks, name: "none"}
            if graph[0] > 2 and pick != "none":
                below = [g for g in found if g[0] == graph[0] - 1]
                (target,) = [g for g in below if pick == f"motif{g[1]}"]
                if not alive(target, picks):
                    yield {**picks, name: "none"}
                for twin in below:
                    if all(picks[key(twin, *e)] == picks[key(target, *e)] for e in pairs(twin)):
                        yield {**picks, name: f"motif{twin[1]}"}


SMALL: list[Any] = [
    pytest.param({"motifs": (2, 1), "nodes": (3, 3), "primitives": ("conv_1x1", "identity")}, marks=pytest.mark.slow),
    {"motifs": (2, 1), "nodes": (3, 3), "primitives": ("conv_1x1",)},
    {"motifs": (1, 1), "nodes": (4, 2), "primitives": ("conv_1x1", "identity")},
    {"motifs": (1, 2, 1), "nodes": (2, 3, 3), "primitives": ("conv_1x1",)},
    {"motifs": (2, 1), "nodes": (2, 4), "primitives": ("conv_1x1",)},
]


@pytest.mark.parametrize("settings", SMALL)
def test_there_are_as_many_canonical_descriptions_as_classes_joined_by_relabelling(settings: dict[str, Any]) -> None:
    """Union-find over all descriptions of a tiny space, which knows nothing of canonical forms."""
    space = HierarchicalSpace(**settings)
    architectures = list(space.domain(TinyTask()).enumerate())
    numbers = {frozenset(architecture.picks.items()): n for n, architecture in enumerate(architectures)}
    leader = list(range(len(architectures)))

    def find(n: int) -> int:
        while leader[n] != n:
            leader[n] = leader[leader[n]]
            n = leader[n]
        return n

    for number, architecture in enumerate(architectures):
        for picks in relabelled(space, {n: str(p) for n, p in architecture.picks.items()}):
            leader[find(number)] = find(numbers[frozenset(reachable(space, picks).items())])
    classes: dict[int, set[Architecture]] = {}
    for number, architecture in enumerate(architectures):
        classes.setdefault(find(number), set()).add(space.canonical(architecture))
    assert all(len(canonical) == 1 for canonical in classes.values())
    assert len({next(iter(canonical)) for canonical in classes.values()}) == len(classes) < len(architectures) / 2


def shuffled(space: Any, architecture: Architecture, rng: np.random.Generator, changes: int = 12) -> Architecture:
    """The same network under other names, after some changes at random."""
    picks = {n: str(p) for n, p in architecture.picks.items()}
    for _ in range(changes):
        found = graphs(space, picks)
        graph = found[rng.integers(len(found))]
        change = rng.integers(3)
        if change == 0:
            picks = with_names_exchanged(space, picks, 2, tuple(rng.permutation(space.motifs[0]).tolist()))
        elif change == 1:
            every = list(orders(graph))
            picks = reordered(picks, graph, every[rng.integers(len(every))]) or picks
        elif dead := [e for e in pairs(graph) if e not in alive(graph, picks)]:
            picks[key(graph, *dead[rng.integers(len(dead))])] = "none"
        picks = reachable(space, picks)
    return Architecture(architecture.space, architecture.options, picks)


def sparse(domain: Domain, rng: np.random.Generator) -> Architecture:
    """A sample with many edges taken out, so that some are dead and nodes can change places."""
    picks = {n: p if rng.random() < 0.5 else "none" for n, p in domain.sample(rng).picks.items()}
    return domain.complete(picks)


def test_a_description_under_other_names_has_the_same_id() -> None:
    space, rng = HierarchicalSpace(), np.random.default_rng(0)
    domain = space.domain(TinyTask())
    changed = 0
    for number in range(100):
        architecture = sparse(domain, rng) if number % 2 else domain.sample(rng)
        other = shuffled(space, architecture, rng)
        domain.validate(other)
        canonical = space.canonical(architecture)
        domain.validate(canonical)
        assert space.canonical(other) == canonical == space.canonical(canonical)
        changed += other != architecture
    assert changed > 90


class Given:
    """A chooser of a plain model in which a primitive is the same module wherever it is picked."""

    def __init__(self, architecture: Architecture, modules: dict[str, nn.Module]) -> None:
        self.picks, self.modules = architecture.picks, modules

    def one(self, name: str, options: dict[str, Callable[[], nn.Module]]) -> nn.Module:
        pick = str(self.picks[name])
        return self.modules[pick] if pick in self.modules else options[pick]()


@torch.no_grad()
def test_descriptions_with_one_id_compute_the_same() -> None:
    """With the same weights wherever a primitive stands; normalisation keeps zero at zero here."""
    space, rng = HierarchicalSpace(motifs=(3, 1), nodes=(4, 4), cells=1, channels=3), np.random.default_rng(1)
    domain = space.domain(TinyTask())
    torch.manual_seed(0)
    modules = {name: make(3).double().eval() for name, make in OPERATIONS.items()}
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)

    def output(architecture: Architecture) -> torch.Tensor:
        cell = next(m for m in space.build(Given(architecture, modules), TinyTask()).modules() if isinstance(m, Motif))
        return cell.double().eval()(x)

    some = 0
    for number in range(16):
        architecture = sparse(domain, rng) if number % 2 else domain.sample(rng)
        expected = output(architecture)
        torch.testing.assert_close(output(shuffled(space, architecture, rng)), expected)
        torch.testing.assert_close(output(space.canonical(architecture)), expected)
        some += bool(expected.abs().max() > 0)
    assert some > 8


def test_different_networks_have_different_ids() -> None:
    space = HierarchicalSpace(motifs=(1,), nodes=(3,))
    domain = space.domain(TinyTask())
    names = ("level2.motif0.edge0-1", "level2.motif0.edge1-2")
    forward = domain.complete(dict(zip(names, ("conv_1x1", "max_pool_3x3"), strict=True)))
    backward = domain.complete(dict(zip(names, ("max_pool_3x3", "conv_1x1"), strict=True)))
    assert space.canonical(forward) != space.canonical(backward)


# Networks


def test_a_cell_without_a_path_gives_zeros() -> None:
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 4))
    architecture = space.domain(Digits()).complete({})
    assert set(architecture.picks.values()) == {"none"}
    model = space.model(architecture, Digits()).eval()
    cell = next(module for module in model.modules() if isinstance(module, Motif))
    assert not cell(torch.randn(2, 4, 8, 8)).any()
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_a_motif_picked_twice_has_weights_of_its_own_in_each_place() -> None:
    space = HierarchicalSpace(motifs=(2, 1), nodes=(2, 3), cells=1, channels=2)
    picks = {"level3.motif0.edge0-1": "motif1", "level3.motif0.edge1-2": "motif1", "level2.motif1.edge0-1": "conv_1x1"}
    model = space.model(space.domain(TinyTask()).complete(picks), TinyTask())
    weights = [p for p in model.parameters() if p.shape == (2, 2, 1, 1)]
    assert len(weights) == 2
    assert weights[0] is not weights[1]


def test_the_image_is_halved_and_the_channels_doubled_between_cells() -> None:
    space = HierarchicalSpace(motifs=(1,), nodes=(3,), cells=3, channels=4)
    model = space.model(space.domain(CIFAR()).sample(np.random.default_rng(0)), CIFAR()).eval()
    shapes = []
    for child in model:
        if isinstance(child, Motif):
            child.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_the_drawing_has_a_part_for_each_motif_that_is_used() -> None:
    space, rng = HierarchicalSpace(motifs=(3, 1), nodes=(4, 4)), np.random.default_rng(0)
    domain = space.domain(TinyTask())
    for _ in range(10):
        architecture = sparse(domain, rng)
        graph = space.graph(architecture)
        parts = dict.fromkeys(part for _, part in graph.nodes(data="part"))
        assert len(parts) == len({name.rpartition(".")[0] for name in architecture.picks})
        assert next(iter(parts)) == "Cell"
        assert nx.number_weakly_connected_components(graph) == len(parts)
        drawn = sorted(label for _, _, label in graph.edges(data="label") if label != "none")
        assert drawn == sorted(str(pick) for pick in architecture.picks.values() if pick != "none")


def test_the_description_reads_from_the_cell_down() -> None:
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 3))
    picks = {
        "level3.motif0.edge0-1": "motif1",
        "level3.motif0.edge0-2": "motif1",
        "level3.motif0.edge1-2": "motif1",
        "level2.motif1.edge0-2": "identity",
        "level2.motif1.edge1-2": "conv_1x1",
    }
    assert space.describe(space.domain(TinyTask()).complete(picks)).splitlines() == [
        "Cell:",
        "  node 1 = motif1(input)",
        "  output = motif1(input) + motif1(node 1)",
        "Level 2, motif1:",
        "  node 1 = 0",
        "  output = identity(input) + conv_1x1(node 1)",
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"motifs": (6, 2)}, "1 motif on the last"),
        ({"motifs": (6, 1), "nodes": (4,)}, "a number for each level"),
        ({"nodes": (1, 5)}, "at least 2 on each level"),
        ({"primitives": ("conv_9x9",)}, "expected some of conv_1x1"),
        ({"cells": 0}, "cells = 0; expected at least 1"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        HierarchicalSpace(**options)


# Learning


def losses(space: SearchSpace, steps: int) -> list[float]:
    task = Digits()
    task.to(torch.device("cpu"))
    torch.manual_seed(0)
    supernet = space.supernet(task)
    batch = next(task.train_batches(32, torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(supernet.parameters(), 0.02)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(supernet, batch)
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def test_the_supernet_learns_digits() -> None:
    primitives = ("conv_1x1", "separable_3x3", "identity")
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 3), primitives=primitives, channels=8)
    found = losses(space, steps=12)
    assert found[-1] < 0.6 * found[0]


@pytest.mark.slow
def test_the_default_supernet_learns_digits() -> None:
    found = losses(HierarchicalSpace(), steps=4)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("strategy", ["random", "evolution", "darts:epochs=1,batch_size=16"])
def test_strategies_find_cells(strategy: str, tmp_path: Path) -> None:
    space = HierarchicalSpace(motifs=(2, 1), nodes=(3, 3), channels=2)
    run = nasengine.search(
        space, strategy, TinyTask(), "train:epochs=1", out=tmp_path / "run", trials=3, baseline=0, threads=1
    )
    assert run.best.architecture is not None
    space.domain(TinyTask()).validate(run.best.architecture)
