"""Published cells as points of the cell spaces: their parameters against the authors' numbers and plain arithmetic."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import nasengine
from nasengine import Architecture, Domain, SearchSpace, Shapes
from nasengine.registry import make

CIFAR = (3, 32, 32)
NAMES = ["darts_v1", "darts_v2", "nasnet_a", "amoebanet_a"]


def space_of(architecture: Architecture) -> SearchSpace:
    space = make("space", architecture.space, dict(architecture.options))
    assert isinstance(space, SearchSpace)
    return space


@cache
def network(name: str) -> Any:
    architecture = nasengine.reference(name)
    return space_of(architecture).shape(architecture, Shapes(CIFAR, 10))


@cache
def domain_of(space: str, options: tuple[tuple[str, int], ...]) -> Domain:
    found = make("space", space, dict(options))
    assert isinstance(found, SearchSpace)
    return found.domain(Shapes((3, 8, 8), 5))


def parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in network(name).parameters())


def norm(channels: int) -> int:
    return 2 * channels


def operation(name: str, c: int, stride: int) -> int:
    """The parameters of an operation of either space on `c` channels, by the papers' and their code's description."""
    kernel = int(name[-1]) if name[-1].isdigit() else 1
    depthwise = c * kernel**2 + c * c + norm(c)
    if name.startswith("sep"):
        return 2 * depthwise
    if name.startswith("dil"):  # DARTS' is separable; NASNet's stands in none of these cells
        return depthwise
    if name == "conv_1x7_7x1":
        inner = c // 4
        return 2 * c * inner + 2 * 7 * inner**2 + 3 * norm(inner) + norm(c)
    if stride == 2 and name in ("skip_connect", "identity"):
        return c * c + norm(c)
    return 0


def expected(name: str, channels: int, joined: Mapping[str, int]) -> int:
    """The parameters of a network of 20 cells whose outputs join so many states of their own width."""
    picks = nasengine.reference(name).picks
    stem = 3 * channels
    total, before, c = 27 * stem + norm(stem), (stem, stem), channels
    for index in range(20):
        kind = "reduce" if index in (6, 13) else "normal"
        c *= 2 if kind == "reduce" else 1
        total += sum(width * c + norm(c) for width in before)
        for decision, pick in picks.items():
            if decision.startswith(kind) and ".from" in decision:
                from_input = int(decision.rpartition("from")[2]) < 2
                total += operation(str(pick), c, 2 if kind == "reduce" and from_input else 1)
        before = (before[1], joined[kind] * c)
    return total + before[1] * 10 + 10


def test_darts_v2_has_the_parameters_that_the_authors_code_prints() -> None:
    """`param size = 3.349342MB`, without the auxiliary head."""
    assert parameters("darts_v2") == 3_349_342


@pytest.mark.parametrize(
    ("name", "channels", "joined"),
    [
        ("darts_v1", 36, {"normal": 4, "reduce": 4}),
        ("darts_v2", 36, {"normal": 4, "reduce": 4}),
        ("nasnet_a", 32, {"normal": 6, "reduce": 4}),
        ("amoebanet_a", 36, {"normal": 4, "reduce": 5}),
    ],
)
def test_the_parameters_are_those_of_plain_arithmetic(name: str, channels: int, joined: Mapping[str, int]) -> None:
    assert parameters(name) == expected(name, channels, joined)


def test_the_parameters_are_those_that_the_page_on_search_spaces_gives() -> None:
    page = (Path(__file__).parents[1] / "docs" / "search-spaces.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"{parameters(name):,}" in next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))


@pytest.mark.parametrize(
    ("name", "channels", "published"), [("nasnet_a", 32, 3.3), ("amoebanet_a", 36, 3.2), ("amoebanet_a", 32, 2.6)]
)
def test_nasnet_a_and_amoebanet_a_have_the_published_sizes(name: str, channels: int, published: float) -> None:
    """In millions, at F channels (the papers' tables 1), with what the released code joins: an input of the cell, or
    blocks that others use, beside the blocks that no other uses. Six states in a normal cell of NASNet-A: 6 · 128 =
    768, which gives "6 @ 768" its name."""
    found = nasengine.reference(name)
    architecture = Architecture(found.space, {**found.options, "channels": channels}, found.picks)
    model = space_of(architecture).shape(architecture, Shapes(CIFAR, 10))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == published


@pytest.mark.parametrize(
    ("name", "channels", "joined"),
    [("nasnet_a", 32, {"normal": 5, "reduce": 3}), ("amoebanet_a", 36, {"normal": 3, "reduce": 3})],
)
def test_without_these_joins_they_are_those_of_the_papers_rule(
    name: str, channels: int, joined: Mapping[str, int]
) -> None:
    found = nasengine.reference(name)
    by_rule = Architecture(found.space, {**found.options, "normal_joins": [], "reduce_joins": []}, found.picks)
    model = space_of(by_rule).shape(by_rule, Shapes(CIFAR, 10))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected(name, channels, joined)


@pytest.mark.parametrize(
    ("name", "channels"), [("darts_v1", 36), ("darts_v2", 36), ("nasnet_a", 32), ("amoebanet_a", 36)]
)
def test_of_20_cells_the_7th_and_14th_halve_the_image_and_double_the_channels(name: str, channels: int) -> None:
    """As in the authors' networks; the cell after each of them also halves its older input."""
    model = network(name)
    cells, stem = model.cells, 3 * channels
    assert model.stem[0].out_channels == stem
    assert [cell.second[1].out_channels // channels for cell in cells] == [1] * 6 + [2] * 7 + [4] * 7
    assert [cell.second[1].in_channels for cell in cells][:1] == [stem]
    assert [index for index, cell in enumerate(cells) if hasattr(cell.first, "even")] == [7, 14]
    nodes = [cell.nodes if hasattr(cell, "nodes") else cell.blocks for cell in cells]
    two = (2, (2, 2), (1, 2), (2, 1))
    assert [i for i, node in enumerate(nodes) if any(getattr(m, "stride", 1) in two for m in node.modules())] == [6, 13]


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_is_an_architecture_of_its_space_and_computes(name: str) -> None:
    architecture = nasengine.reference(name)
    small = Architecture(architecture.space, {**architecture.options, "layers": 3, "channels": 4}, architecture.picks)
    domain_of(small.space, tuple(small.options.items())).validate(small)
    model = nasengine.build(small, (3, 8, 8), 5).eval()
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_darts_v2_is_described_as_in_the_paper() -> None:
    architecture = nasengine.reference("darts_v2")
    lines = space_of(architecture).describe(architecture).splitlines()
    assert lines[3].split("= ")[1] == "skip_connect(input −2) + dil_conv_3x3(node 0)"
    assert lines[4].split("= ")[1] == "max_pool_3x3(input −2) + max_pool_3x3(input −1)"
