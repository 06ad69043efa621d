"""The space of NAS-Bench-201 against the benchmark's own table, its published counts, and its notation."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import gzip
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, SearchSpace
from nasengine.registry import make
from nasengine.search_spaces.nasbench201 import Cell, NASBench201Space, from_nasbench201
from nasengine.search_spaces.operations.nasbench201 import OPERATIONS
from nasengine.testing import SpaceContract, TinySpace, TinyTask

TABLE = Path(__file__).parents[1].parent / "shared" / "data" / "nas" / "nas_bench_201.csv.gz"
needs_table = pytest.mark.skipif(not TABLE.is_file(), reason=f"needs the benchmark's table, {TABLE}")


class CIFAR(TinyTask):
    """The shapes of CIFAR-10, without its images."""

    input_shape = (3, 32, 32)
    classes = 10


class TestNASBench201Space(SpaceContract):
    def make(self) -> SearchSpace:
        return NASBench201Space(cells=1, channels=4)


@cache
def table() -> list[dict[str, str]]:
    with gzip.open(TABLE, "rt", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def parameters(architecture: Architecture) -> int:
    space, task = NASBench201Space(), CIFAR()
    with torch.device("meta"):
        return sum(p.numel() for p in space.model(architecture, task).parameters())


def cell(*operations: str) -> Architecture:
    first, second, third = operations[:1], operations[1:3], operations[3:]
    return from_nasbench201(
        "+".join("|" + "".join(f"{o}~{s}|" for s, o in enumerate(node)) for node in (first, second, third))
    )


# The benchmark's table


@needs_table
def test_models_have_the_number_of_parameters_that_the_benchmark_lists() -> None:
    """Of the network for CIFAR-10: 5 cells a stage, 16 channels."""
    for row in Random(0).sample(table(), 40):
        assert parameters(Architecture.from_nasbench201(row["arch_str"])) == int(row["params_c10"])


@needs_table
def test_every_cell_of_the_benchmark_is_read_and_written_as_it_is() -> None:
    cells = {row["arch_str"]: Architecture.from_nasbench201(row["arch_str"]) for row in table()}
    assert len({a.id for a in cells.values()}) == NASBench201Space().domain(TinyTask()).size == 15_625
    assert all(architecture.to_nasbench201() == text for text, architecture in cells.items())


@needs_table
def test_the_reference_is_the_benchmarks_resnet() -> None:
    """The paper has 93.97 % and 70.86 % for its ResNet; the table's means over the seeds are within 0.1 of that."""
    text = NASBench201Space.references()["nasbench201_resnet"].to_nasbench201()
    row = next(row for row in table() if row["arch_str"] == text)
    assert float(row["c10_test_ep200"]) == pytest.approx(93.97, abs=0.1)
    assert float(row["c100_test_ep200"]) == pytest.approx(70.86, abs=0.1)


def test_the_network_has_its_closed_form() -> None:
    """Convolutions without bias, two parameters a channel for normalisation: stem, 5 cells of one 3×3 edge, blocks."""
    stem = 3 * 16 * 9 + 2 * 16
    edges = sum(5 * (9 * c * c + 2 * c) for c in (16, 32, 64))
    blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * 4 * c + c * 2 * c for c in (16, 32))
    head = 2 * 64 + 64 * 10 + 10
    assert parameters(cell("nor_conv_3x3", *["none"] * 5)) == stem + edges + blocks + head


# The notation


def test_an_architecture_survives_the_benchmarks_notation() -> None:
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    architecture = Architecture.from_nasbench201(text)
    assert architecture.to_nasbench201() == text
    assert architecture.picks["node2.from1"] == "avg_pool_3x3"
    assert Architecture.from_nasbench201(text, cells=2, channels=4).options == {"cells": 2, "channels": 4}


def test_the_architectures_of_a_search_are_those_of_the_notation() -> None:
    space = make("space", "nasbench201", {"cells": 2})
    assert isinstance(space, SearchSpace)
    for architecture in list(space.domain(TinyTask()).enumerate())[::500]:
        assert Architecture.from_nasbench201(architecture.to_nasbench201(), cells=2) == architecture


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resnet",
        "|none~0|+|none~0|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~1|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|",
        "|none~0|none~0|+|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_what_is_no_cell_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ArchitectureError, match=r"no NAS-Bench-201 cell; expected \|operation~0\|"):
        Architecture.from_nasbench201(text)


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(ArchitectureError, match="the operation 'conv_9x9'; expected none, skip_connect"):
        Architecture.from_nasbench201("|conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def test_an_architecture_of_another_space_has_no_such_notation() -> None:
    other = next(TinySpace().domain(TinyTask()).enumerate())
    with pytest.raises(ArchitectureError, match=r"TinySpace', and no NAS-Bench-201 cell"):
        other.to_nasbench201()


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="cells = 0; expected at least 1"):
        NASBench201Space(cells=0)


# Isomorphic cells


def test_of_15625_cells_6466_are_different() -> None:
    """The numbers of the paper."""
    space = NASBench201Space()
    cells = [cell(*operations) for operations in product(OPERATIONS, repeat=6)]
    canonical = {architecture.id: space.canonical(architecture) for architecture in cells}
    assert len(canonical) == 15_625
    assert len(set(canonical.values())) == 6_466
    assert all(canonical[one.id] == one for one in canonical.values())


class Given:
    """A chooser that hands out the same module wherever an operation is picked."""

    def __init__(self, architecture: Architecture, modules: dict[str, nn.Module]) -> None:
        self.picks, self.modules = architecture.picks, modules

    def one(self, name: str, options: Any) -> nn.Module:
        return self.modules[str(self.picks[name])]


def shared_operations() -> dict[str, nn.Module]:
    """Each operation with weights of its own, bent so that none is linear or homogeneous; zero stays zero."""
    torch.manual_seed(0)
    made = {name: make(3).double().eval() for name, make in OPERATIONS.items()}
    return {n: module if n == "skip_connect" else nn.Sequential(module, nn.Tanh()) for n, module in made.items()}


@torch.no_grad()
def test_cells_of_one_id_compute_the_same_and_some_of_different_ids_do_too() -> None:
    """With the same weights wherever an operation stands, all 15,625 cells compute 4,930 different functions.

    This knows nothing of texts: it runs the operations. Cells that the published rule calls one give one output.
    """
    apply, x = shared_operations(), torch.randn(1, 3, 4, 4, dtype=torch.float64)
    computed = {}
    for a in OPERATIONS:
        first = apply[a](x)
        for b, c in product(OPERATIONS, repeat=2):
            second = apply[b](x) + apply[c](first)
            ends = {(o, s): apply[o](state) for o in OPERATIONS for s, state in enumerate((x, first, second))}
            for d, e, f in product(OPERATIONS, repeat=3):
                output = ends[d, 0] + ends[e, 1] + ends[f, 2]
                computed[a, b, c, d, e, f] = tuple((output.flatten()[:6] * 1e6).round().long().tolist())
    space = NASBench201Space()
    outputs: dict[str, set[Any]] = {}
    for operations, output in computed.items():
        outputs.setdefault(space.canonical(cell(*operations)).id, set()).add(output)
    assert all(len(different) == 1 for different in outputs.values())
    assert len(set(computed.values())) == 4_930
    for operations in Random(0).sample(sorted(computed), 50):
        module = Cell(Given(cell(*operations), apply), 3)
        assert tuple((module(x).flatten()[:6] * 1e6).round().long().tolist()) == computed[operations]


# Drawing


def test_the_drawing_has_the_four_nodes_and_every_operation_but_none() -> None:
    space = NASBench201Space()
    for number, operations in enumerate(product(OPERATIONS, repeat=6)):
        if number % 101 == 0:
            graph = space.graph(cell(*operations))
            drawn = sorted(label for _, _, label in graph.edges(data="label") if label != "none")
            assert drawn == sorted(operation for operation in operations if operation != "none")
            assert len(graph) == 4
            assert nx.is_weakly_connected(graph)


def test_the_description_says_what_each_node_adds_up() -> None:
    lines = NASBench201Space().describe(NASBench201Space.references()["nasbench201_resnet"]).splitlines()
    assert lines == [
        "node 1 = nor_conv_3x3(input)",
        "node 2 = nor_conv_3x3(node 1)",
        "output = skip_connect(input) + skip_connect(node 2)",
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
    ]
    assert "output = 0" in NASBench201Space().describe(cell(*["none"] * 6))


# Learning


@pytest.mark.parametrize("strategy", ["random", "evolution", "darts:epochs=1,batch_size=16"])
def test_strategies_find_cells(strategy: str, tmp_path: Path) -> None:
    space = NASBench201Space(cells=1, channels=2)
    run = nasengine.search(
        space, strategy, TinyTask(), "train:epochs=1", out=tmp_path / "run", trials=3, baseline=0, threads=1
    )
    assert run.best.architecture is not None
    assert run.best.architecture.to_nasbench201().count("|") == 9


def test_images_of_one_pixel_and_of_odd_sizes_are_computed() -> None:
    class Odd(TinyTask):
        input_shape = (2, 7, 5)

    every = cell("nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "none", "nor_conv_3x3")
    model: nn.Module = NASBench201Space().model(every, Odd()).eval()
    assert model(torch.zeros(2, 2, 7, 5)).shape == (2, 2)
    assert model(torch.zeros(2, 2, 1, 1)).shape == (2, 2)
