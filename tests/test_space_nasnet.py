"""The NASNet space: its size, its isomorphic cells by an independent judge, and the states that no block uses."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections import defaultdict
from itertools import product
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, SearchSpace, Shapes
from nasengine.cost import Constraint
from nasengine.search_spaces.nasnet import NASNetSpace
from nasengine.search_spaces.operations.nasnet import OPERATIONS
from nasengine.testing import SpaceContract, TinyTask

Cell = list[tuple[tuple[int, str], tuple[int, str]]]
TINY = Shapes((1, 4, 4), 2)


class TestNASNetSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return NASNetSpace(layers=3, channels=2, blocks=2)


class TestNASNetSpaceThatJoinsMore(SpaceContract):
    def make(self) -> SearchSpace:
        return NASNetSpace(layers=3, channels=2, blocks=2, normal_joins=(0,), reduce_joins=(2,))


def architecture(normal: Cell, reduce: Cell, layers: int = 3, channels: int = 2) -> Architecture:
    picks: dict[str, Any] = {}
    for kind, cell in (("normal", normal), ("reduce", reduce)):
        for number, block in enumerate(cell):
            for side, (source, operation) in zip(("left", "right"), block, strict=True):
                picks[f"{kind}.block{number}.{side}"] = (str(source),)
                picks[f"{kind}.block{number}.{side}.from{source}"] = operation
    return Architecture("nasnet", {"layers": layers, "channels": channels, "blocks": len(reduce)}, picks)


def some_cell(rng: Random, blocks: int, operations: int) -> Cell:
    names = list(OPERATIONS)[:operations]
    return [
        ((rng.randrange(2 + block), rng.choice(names)), (rng.randrange(2 + block), rng.choice(names)))
        for block in range(blocks)
    ]


def relabelled(cell: Cell, rng: Random) -> Cell:
    """The same cell with its blocks in another order that is possible, and their sides exchanged at random."""
    place = {0: 0, 1: 1}
    renamed: Cell = []
    while len(renamed) < len(cell):
        ready = [s for s, block in enumerate(cell, 2) if s not in place and all(source in place for source, _ in block)]
        state = rng.choice(ready)
        sides = [(place[source], operation) for source, operation in cell[state - 2]]
        rng.shuffle(sides)
        place[state] = 2 + len(renamed)
        renamed.append((sides[0], sides[1]))
    return renamed


def multigraph(cell: Cell) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    graph.add_nodes_from((state, {"label": str(min(state, 2))}) for state in range(2 + len(cell)))
    graph.add_edges_from((s, number, {"label": o}) for number, block in enumerate(cell, 2) for s, o in block)
    return graph


def isomorphic(a: nx.MultiDiGraph, b: nx.MultiDiGraph) -> bool:
    same_node = nx.algorithms.isomorphism.categorical_node_match("label", None)
    same_edges = nx.algorithms.isomorphism.categorical_multiedge_match("label", None)
    return bool(nx.is_isomorphic(a, b, node_match=same_node, edge_match=same_edges))


# The space


def test_the_size_is_the_papers_product() -> None:
    """For each side of a block one of the states before it and one of 13 operations; two cells."""
    domain = NASNetSpace().domain(Shapes((3, 32, 32), 10))
    assert domain.size == prod(((2 + block) * 13) ** 2 for block in range(5)) ** 2
    assert len(OPERATIONS) == 13


def test_the_decisions_do_not_depend_on_the_number_of_cells() -> None:
    """So the domain is recorded from three of them, and says what was asked for all the same."""
    space = NASNetSpace(layers=5, channels=2, blocks=1)
    domain = space.domain(TINY)
    assert domain.decisions == super(NASNetSpace, space).domain(TINY).decisions
    assert domain.sample(np.random.default_rng(0)).options == {
        "layers": 5, "channels": 2, "blocks": 1, "normal_joins": (), "reduce_joins": (),
    }  # fmt: skip
    assert all(name.startswith("reduce") for name in NASNetSpace(layers=1, blocks=1).domain(TINY).decisions)


def test_a_constraint_is_held_against_the_network_as_deep_as_it_is() -> None:
    space = NASNetSpace(layers=5, channels=2, blocks=1)
    light = architecture([((0, "identity"),) * 2], [((0, "max_pool_3x3"),) * 2], layers=5)
    heavy = architecture([((0, "sep_conv_7x7"),) * 2], [((0, "max_pool_3x3"),) * 2], layers=5)
    space.known_as = "nasnet"
    parameters = sum(p.numel() for p in space.shape(light, TINY).parameters())
    space.constraints = [Constraint.parse(f"parameters<={parameters}")]
    space.domain(TINY).validate(light)
    with pytest.raises(ArchitectureError, match="breaks a rule or constraint"):
        space.domain(TINY).validate(heavy)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_an_operation_keeps_the_channels_and_divides_the_image_by_its_stride(name: str) -> None:
    for stride, size in product((1, 2), (1, 2, 7, 8)):
        out = OPERATIONS[name](5, stride).eval()(torch.randn(2, 5, size, size + 1))
        assert out.shape == (2, 5, -(-size // stride), -(-(size + 1) // stride))


def test_average_pooling_does_not_count_what_it_pads() -> None:
    ones = torch.ones(1, 2, 5, 5)
    torch.testing.assert_close(OPERATIONS["avg_pool_3x3"](2, 1)(ones), ones)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="blocks = 0; expected at least 1"):
        NASNetSpace(blocks=0)


# Isomorphic cells


def test_a_relabelled_cell_has_the_same_canonical_form_and_it_is_settled() -> None:
    space, rng = NASNetSpace(), Random(0)
    for _ in range(200):
        normal, reduce = (some_cell(rng, 5, rng.choice((1, 2, 13))) for _ in range(2))
        canonical = space.canonical(architecture(normal, reduce))
        assert space.canonical(canonical) == canonical
        for _ in range(3):
            renamed = architecture(relabelled(normal, rng), relabelled(reduce, rng))
            assert space.canonical(renamed) == canonical


def test_cells_have_one_canonical_form_where_their_graphs_are_isomorphic_and_only_there() -> None:
    """Of all cells of two blocks and two operations, and of random ones of four, networkx being the judge."""
    operations = list(OPERATIONS)[:2]
    sides = [list(product(range(2 + block), operations)) for block in range(2)]
    cells: list[Cell] = [list(blocks) for blocks in product(*(product(side, side) for side in sides))]
    rng = Random(1)
    cells += [some_cell(rng, 4, 1) for _ in range(300)]
    space = NASNetSpace()
    classes: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        classes[space.canonical(architecture([], cell)).id].append(cell)
    for members in classes.values():
        first = multigraph(members[0])
        assert all(isomorphic(first, multigraph(other)) for other in members[1:])
    by_hash: dict[Any, list[nx.MultiDiGraph]] = defaultdict(list)
    for members in classes.values():
        graph = multigraph(members[0])
        key = tuple(sorted((graph.in_degree(n), graph.out_degree(n)) for n in graph)), len(graph)
        assert not any(isomorphic(graph, other) for other in by_hash[key])
        by_hash[key].append(graph)
    assert len(classes) < len(cells)


@torch.no_grad()
def test_isomorphic_cells_compute_the_same() -> None:
    """With the same weights wherever an operation stands, their outputs join the same states, in some order."""
    rng, images = Random(2), torch.randn(1, 1, 8, 8)
    for _ in range(5):
        cell = some_cell(rng, 4, 13)
        outputs = []
        for same in (cell, relabelled(cell, rng)):
            model = NASNetSpace().model(architecture([], same, layers=1), TINY).eval()
            for tensor in model.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
            stem = model.stem(images)
            states = model.cells[0](stem, stem).split(2, dim=1)
            outputs.append(torch.stack(sorted(states, key=lambda state: float(state.sum()))))
        torch.testing.assert_close(*outputs)


# The states that no block uses


def leftover(cell: Cell) -> list[int]:
    used = {source for block in cell for source, _ in block}
    return [state for state in range(2, 2 + len(cell)) if state not in used]


def test_a_model_joins_only_the_blocks_that_no_other_uses() -> None:
    rng = Random(4)
    for _ in range(10):
        normal, reduce = some_cell(rng, 4, 13), some_cell(rng, 4, 13)
        model = NASNetSpace().shape(architecture(normal, reduce, layers=4, channels=4), TINY)
        kinds = [reduce if index in (1, 2) else normal for index in range(4)]
        widths = [len(leftover(cell)) * channels for cell, channels in zip(kinds, (4, 8, 16, 16), strict=True)]
        assert [cell.kept for cell in model.cells] == [leftover(cell) for cell in kinds]
        assert [cell.second[1].in_channels for cell in model.cells][1:] == widths[:-1]
        assert model.head[1].linear.in_features == widths[-1]


def test_a_cell_computes_what_its_description_says() -> None:
    space = NASNetSpace()
    cell: Cell = [
        ((0, "conv_1x1"), (1, "max_pool_3x3")),
        ((1, "avg_pool_3x3"), (1, "sep_conv_3x3")),
        ((2, "identity"), (1, "identity")),
    ]
    model = space.model(architecture([], cell, layers=1), TINY).eval()
    images = torch.randn(3, 1, 4, 4)
    stem = model.stem(images)
    (reduction,) = model.cells
    older, newer = reduction.first(stem), reduction.second(stem)

    def applied(block: int, side: int, source: int, name: str, x: Tensor) -> Tensor:
        return reduction.get_submodule(f"blocks.{block}.{('left', 'right')[side]}.{source}.{name}")(x)

    first = applied(0, 0, 0, "conv_1x1", older) + nn.functional.max_pool2d(newer, 3, 2, 1)
    pooled = nn.functional.avg_pool2d(newer, 3, 2, 1, count_include_pad=False)
    second = pooled + applied(1, 1, 1, "sep_conv_3x3", newer)
    third = first + applied(2, 1, 1, "identity", newer)
    joined = torch.cat([second, third], dim=1)
    torch.testing.assert_close(reduction(stem, stem), joined)
    torch.testing.assert_close(model(images), model.head[1].linear(joined.relu().mean((2, 3))))
    assert space.describe(architecture([], cell)).splitlines()[-1].strip() == "output = block 1, block 2"


def test_a_cell_joins_what_it_is_told_to_beside_the_blocks_that_no_other_uses() -> None:
    cell: Cell = [((0, "identity"), (1, "identity")), ((2, "identity"), (0, "identity"))]
    space = NASNetSpace(layers=3, channels=2, blocks=2, normal_joins=(1,), reduce_joins=(2,))
    bare = architecture(cell, cell)
    model = space.model(Architecture("nasnet", space.recorded_settings(), bare.picks), TINY).eval()
    normal, reduction = model.cells[:2]
    stem = model.stem(torch.randn(3, 1, 4, 4))
    older, newer = normal.first(stem), normal.second(stem)
    torch.testing.assert_close(normal(stem, stem), torch.cat([newer, older + newer + older], dim=1))
    assert [normal.kept, reduction.kept] == [[1, 3], [2, 3]]
    assert space.describe(bare).count("block 0, block 1") == 0  # a description is of the architecture's own options
    with_joins = Architecture("nasnet", space.recorded_settings(), bare.picks)
    assert [line.split("= ")[1] for line in space.describe(with_joins).splitlines() if "output" in line] == [
        "input −1, block 1",
        "block 0, block 1",
    ]


def test_joined_blocks_keep_their_numbers_in_the_canonical_form() -> None:
    """Two blocks that could change places are two different networks where only one of them is joined."""
    blocks: Cell = [
        ((1, "identity"), (0, "conv_1x1")),
        ((0, "conv_3x3"), (0, "identity")),
        ((2, "identity"), (3, "identity")),
    ]
    swapped: Cell = [blocks[1], blocks[0], ((3, "identity"), (2, "identity"))]
    for joins, same in (((), True), ((2,), False)):
        space = NASNetSpace(layers=3, channels=2, blocks=3, normal_joins=joins, reduce_joins=joins)
        a, b = (
            space.canonical(Architecture("nasnet", space.recorded_settings(), architecture(cell, cell).picks))
            for cell in (blocks, swapped)
        )
        assert (a == b) is same


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"normal_joins": (7,)}, r"normal_joins = \[7\]; expected states from 0 to 6"),
        ({"reduce_joins": (1,)}, r"reduce_joins = \[1\]; expected states from 2 to 6"),
    ],
)
def test_states_that_cannot_be_joined_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        NASNetSpace(**options)


def test_in_a_supernet_a_block_counts_as_far_as_no_later_side_picks_it() -> None:
    net = NASNetSpace(layers=3, channels=2, blocks=2).supernet(TINY)
    normal = net.module.cells[0]
    assert normal.joined() == pytest.approx([0, 0, (1 - 1 / 3) ** 2, 1])  # open: each of three sources counts a third
    net.gates["normal.block1.left"].set(torch.tensor([0.1, 0.2, 0.7]))
    net.gates["normal.block1.right"].set(torch.tensor([0.5, 0.1, 0.4]))
    assert float(normal.joined()[2]) == pytest.approx(0.3 * 0.6)
    net.gates["normal.block1.left"].pick(("2",))
    assert [float(share) for share in normal.joined()] == [0, 0, 0, 1]
    net.gates["normal.block1.left"].pick(("0",))
    net.gates["normal.block1.right"].pick(("1",))
    assert normal.joined() == [0, 0, 1, 1]


def test_how_a_source_is_weighted_reaches_the_loss_by_the_blocks_left_over() -> None:
    net = NASNetSpace(layers=2, channels=2, blocks=2).supernet(TinyTask())
    weights = torch.full((3,), 1 / 3, requires_grad=True)
    net.gates["reduce.block1.left"].set(weights)
    net(torch.randn(4, 1, 4, 4)).square().sum().backward()
    assert weights.grad is not None
    assert (weights.grad != 0).all()


# Drawing


def test_the_drawing_has_two_parts_and_every_operation_once() -> None:
    reference = nasengine.reference("nasnet_a")
    graph = NASNetSpace().graph(reference)
    assert {part for _, part in graph.nodes(data="part")} == {"Normal cell", "Reduction cell"}
    labels = [label for _, _, label in graph.edges(data="label") if label]
    assert sorted(o for label in labels for o in label.split(" + ")) == sorted(
        str(pick) for name, pick in reference.picks.items() if ".from" in name
    )
    assert graph.edges["normal input −2", "normal block 3"]["label"] == "avg_pool_3x3 + avg_pool_3x3"
    assert {source for source, _ in graph.in_edges("reduce output")} == {f"reduce block {n}" for n in (1, 2, 3, 4)}
    assert graph.has_edge("normal input −2", "normal output")
    assert all(graph.out_degree(node) for node in graph if "block" in node)


# Learning


@pytest.mark.parametrize("strategy", ["random", "evolution", "darts:epochs=1,batch_size=16"])
def test_strategies_find_cells(strategy: str, tmp_path: Path) -> None:
    space = NASNetSpace(layers=3, channels=2, blocks=1)
    run = nasengine.search(
        space, strategy, TinyTask(), "train:epochs=1", out=tmp_path / "run", trials=2, baseline=0, threads=1
    )
    assert run.best is not None
    assert space.describe(run.best.architecture).count("output = ") == 2
