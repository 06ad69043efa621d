"""The NAS-Bench-101 space: its cells are the benchmark's, as many as it has, and share weights."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, SearchSpace, Shapes, inherit
from nasengine.cost import parameters
from nasengine.evaluators.tasks.digits import Digits
from nasengine.search_spaces.nasbench101 import (
    NASBench101Space,
    matrix_of,
    picks_of,
    pruned,
    smallest,
    valid_matrices,
    widths,
)
from nasengine.testing import SpaceContract, TinyTask

INCEPTION = (
    (0, 1, 1, 1, 0, 1, 0),
    (0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 1, 0, 0),
    (0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 1),
    (0, 0, 0, 0, 0, 0, 0),
)
INCEPTION_OPERATIONS = ("conv1x1", "conv3x3", "conv3x3", "conv3x3", "maxpool3x3")


class TestNASBench101Space(SpaceContract):
    def make(self) -> SearchSpace:
        return NASBench101Space(channels=8)


class TestSmallNASBench101Space(SpaceContract):
    """Small enough to be enumerated: four vertices, at most four edges."""

    def make(self) -> SearchSpace:
        return NASBench101Space(vertices=4, edges=4, stacks=1, channels=5)


def architecture(space: NASBench101Space, matrix: Any, operations: tuple[str, ...]) -> Architecture:
    return Architecture(space.known_as, space.recorded_settings(), picks_of(matrix, operations))


def test_the_inception_like_cell_has_the_published_parameters() -> None:
    """2,694,282: what the benchmark's README shows for it."""
    space = NASBench101Space()
    cell = architecture(space, INCEPTION, INCEPTION_OPERATIONS)
    assert parameters(space.shape(cell, Shapes((3, 32, 32), 10))) == 2_694_282


def test_a_cell_without_vertices_is_a_projection() -> None:
    space = NASBench101Space(stacks=1, cells=1, channels=4)
    matrix = [[0] * 7 for _ in range(7)]
    matrix[0][6] = 1
    cell = architecture(space, tuple(map(tuple, matrix)), ("conv3x3",) * 5)
    stem, projection, classifier = 1 * 9 * 4 + 8, 4 * 4 + 8, 4 * 10 + 10
    assert parameters(space.shape(cell, Shapes((1, 8, 8), 10))) == stem + projection + classifier


def test_widths_are_shared_out_as_the_supplement_says() -> None:
    """Three vertices lead to the output: 10 channels are 4 + 3 + 3; one that leads to two others is as wide as they."""
    matrix = [[0] * 7 for _ in range(7)]
    for i, j in ((0, 1), (1, 2), (1, 3), (2, 6), (3, 6), (0, 4), (4, 6)):
        matrix[i][j] = 1
    assert widths(tuple(map(tuple, matrix)), 10)[1:5] == [4, 4, 3, 3]


def test_invalid_cells_are_not_drawn_and_are_refused() -> None:
    space = NASBench101Space()
    domain = space.domain(TinyTask())
    rng = np.random.default_rng(0)
    cell = domain.sample(rng)
    for _ in range(200):
        cell = domain.mutate(cell, rng)
        edges = sum(map(sum, pruned(matrix_of(cell, 7))))
        assert 1 <= edges <= 9
        assert domain.allows(domain.crossover(cell, domain.sample(rng), rng))
    full = tuple(tuple(int(i < j) for j in range(7)) for i in range(7))
    with pytest.raises(ArchitectureError, match="breaks a rule"):
        domain.validate(architecture(space, full, ("conv3x3",) * 5))
    wanted = domain.encode(architecture(space, full, ("conv3x3",) * 5))
    domain.validate(domain.decode(wanted))


def test_edges_that_count_nothing_change_nothing() -> None:
    space = NASBench101Space()
    dangling = [list(row) for row in INCEPTION]
    dangling[0][4] = 0
    dangling[5][6] = dangling[0][5] = 0
    alone = architecture(space, tuple(map(tuple, dangling)), INCEPTION_OPERATIONS)
    dangling[0][5] = 1  # leads to a vertex that leads nowhere
    assert space.canonical(architecture(space, tuple(map(tuple, dangling)), INCEPTION_OPERATIONS)) == space.canonical(
        alone
    )


def test_any_order_of_the_vertices_is_one_cell() -> None:
    space, rng = NASBench101Space(), np.random.default_rng(0)
    domain = space.domain(TinyTask())
    for cell in [domain.sample(rng) for _ in range(20)]:
        matrix, operations = pruned(matrix_of(cell, 7)), [str(cell.picks[f"vertex{v}"]) for v in range(1, 6)]
        for order in permutations(range(1, 6)):
            place = [0, *order, 6]
            if any(matrix[i][j] and place[i] >= place[j] for i, j in product(range(7), repeat=2)):
                continue
            moved = [[0] * 7 for _ in range(7)]
            for i, j in product(range(7), repeat=2):
                moved[place[i]][place[j]] = matrix[i][j]
            labels = [operations[order.index(v)] for v in range(1, 6)]
            other = architecture(space, tuple(map(tuple, moved)), tuple(labels))
            assert space.canonical(other).picks == space.canonical(cell).picks


def test_all_matrices_of_four_vertices_are_counted() -> None:
    names = [(i, j) for j in range(1, 4) for i in range(j)]
    counted = 0
    for bits in product((0, 1), repeat=6):
        matrix = [[0] * 4 for _ in range(4)]
        for (i, j), bit in zip(names, bits, strict=True):
            matrix[i][j] = bit
        counted += 1 <= sum(map(sum, pruned(tuple(map(tuple, matrix))))) <= 4
    assert valid_matrices(4, 4) == counted


@pytest.mark.slow
def test_the_space_has_the_published_number_of_distinct_cells() -> None:
    """423,624 (section 2.2). Graphs without labels first; then, by Burnside's lemma, their labellings with three
    operations that no symmetry of the graph maps to each other."""
    total = 0
    for inner in range(6):
        count = inner + 2
        names = [(i, j) for j in range(1, count) for i in range(j)]
        shapes = set()
        for code in range(2 ** len(names)):
            if code.bit_count() > 9:
                continue
            rows = [[0] * count for _ in range(count)]
            for place, (i, j) in enumerate(names):
                rows[i][j] = code >> place & 1
            if not all(any(rows[v]) and any(row[v] for row in rows) for v in range(1, count - 1)):
                continue
            if not any(rows[0]):
                continue
            shapes.add(smallest(tuple(map(tuple, rows)), ("conv3x3",) * inner)[0])
        for shape in shapes:
            fixed, symmetries = 0, 0
            for order in permutations(range(inner)):
                moved = [0, *(index + 1 for index in order), count - 1]
                if all(shape[i][j] == shape[moved[i]][moved[j]] for i, j in names if shape[i][j]):
                    symmetries += 1
                    fixed += 3 ** cycles(order)
            assert fixed % symmetries == 0
            total += fixed // symmetries
    assert total == 423_624


def cycles(order: tuple[int, ...]) -> int:
    seen: set[int] = set()
    count = 0
    for start in range(len(order)):
        if start not in seen:
            count += 1
            while start not in seen:
                seen.add(start)
                start = order[start]
    return count


def test_a_cell_inherits_slices_of_the_supernets_weights() -> None:
    torch.manual_seed(0)
    space, task = NASBench101Space(stacks=1, channels=8), TinyTask()
    supernet = space.supernet(task)
    model = space.model(architecture(space, INCEPTION, INCEPTION_OPERATIONS), task)
    inherit(model, supernet)
    narrow, wide = model.state_dict(), supernet.module.state_dict()
    name = "1.operations.2.conv3x3.0.weight"
    assert narrow[name].shape == (2, 2, 3, 3)
    assert torch.equal(narrow[name], wide[name][:2, :2])


def test_the_supernet_trains_on_digits() -> None:
    torch.manual_seed(0)
    task = Digits()
    task.to(torch.device("cpu"))
    supernet = NASBench101Space(channels=32).supernet(task)
    optimizer = torch.optim.Adam(supernet.parameters(), 0.01)
    losses = []
    for batch in islice(task.train_batches(32, torch.Generator().manual_seed(0)), 24):
        loss = task.loss(supernet, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("strategy", ["random", "evolution:population=2,sample=2", "darts:epochs=1"])
def test_random_search_evolution_and_darts_search_it(strategy: str, tmp_path: Path) -> None:
    space = NASBench101Space(stacks=1, channels=4)
    run = nasengine.search(space, strategy, TinyTask(), "train:epochs=1", trials=3, baseline=1, out=tmp_path / "run")
    assert run.finished


def test_options_that_do_not_fit_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="vertices = 8; expected 2 to 7"):
        NASBench101Space(vertices=8)
    with pytest.raises(ConfigError, match="channels = 0"):
        NASBench101Space(channels=0)
