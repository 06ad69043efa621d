"""`nas draw` and its pictures: what is drawn, where it is written, and that nothing lies on anything else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Affine2D

import nasengine
from nasengine import Architecture, Run
from nasengine.report import drawing, layout
from nasengine.search_spaces.cell import CellSpace

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
CELL = "cell:nodes=2"
THEIRS = '{"space": "theirs", "options": {}, "picks": {"first": "conv", "n": 3}}'
BROKEN = """
import nasengine

class Broken(nasengine.SearchSpace):
    def build(self, choose, task):
        return choose.one("a", {"x": nasengine_is_not_torch, "y": None})

class Undrawn(nasengine.SearchSpace):
    def build(self, choose, task):
        from torch import nn
        return choose.one("a", {"x": nn.Identity, "y": nn.Identity})

    def graph(self, architecture):
        return architecture.picks["b"]
"""

Box = tuple[float, float, float, float]
Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nas(nas: Nas) -> Nas:
    """Runs `nas draw`: its exit code, stdout and stderr."""
    return partial(nas, "draw")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "mine"
    nasengine.search(CELL, "random", evaluator=CHEAP, trials=4, baseline=0, durable=False, seed=3, out=folder)
    return folder


def darts() -> nx.DiGraph:
    """The cells that DARTS found on CIFAR-10 (second order): Liu et al. 2019, figures 4 and 5."""
    sep, skip, pool = "sep_conv_3x3", "skip_connect", "max_pool_3x3"
    cells = {
        "normal": [{0: sep, 1: sep}, {0: sep, 1: sep}, {0: skip, 1: sep}, {0: skip, 2: "dil_conv_3x3"}],
        "reduce": [{0: pool, 1: pool}, {1: pool, 2: skip}, {0: pool, 2: skip}, {1: pool, 2: skip}],
    }
    picks: dict[str, str | tuple[str, ...]] = {}
    for kind, nodes in cells.items():
        for node, edges in enumerate(nodes):
            picks[f"{kind}.node{node}.inputs"] = tuple(map(str, edges))
            picks |= {f"{kind}.node{node}.from{source}": operation for source, operation in edges.items()}
    return CellSpace().graph(Architecture("cell", {"nodes": 4}, picks))


def resnet(blocks: int) -> nx.DiGraph:
    """Two convolutions and an addition a block, around which a line leads."""
    graph = nx.DiGraph()
    graph.add_node(0, label="input")
    for block in range(blocks):
        before, first = 3 * block, 3 * block + 1
        graph.add_nodes_from([first, first + 1], label="conv 3×3, 64", group="conv")
        graph.add_node(first + 2, label="add")
        nx.add_path(graph, [before, first, first + 1, first + 2])
        graph.add_edge(before, first + 2)
    return graph


def dense(layers: int, back: int, labelled: bool) -> nx.DiGraph:
    """Every layer gets the outputs of several before it: no place where a single line passes."""
    graph = nx.DiGraph()
    graph.add_nodes_from((i, {"label": f"layer {i}"}) for i in range(layers))
    for i, j in itertools.combinations(range(layers), 2):
        if j - i <= back:
            graph.add_edge(i, j, **({"label": "conv_3x3"} if labelled else {}))
    return graph


def motifs() -> nx.DiGraph:
    """Five parts of four nodes, all pairs linked by an operation."""
    graph = nx.DiGraph()
    for part in range(5):
        graph.add_nodes_from(((part, i), {"label": str(i), "part": f"motif {part}"}) for i in range(4))
        for i, j in itertools.combinations(range(4), 2):
            graph.add_edge((part, i), (part, j), label=("conv_1x1", "identity", "pool")[(i * part + j) % 3])
    return graph


def bench() -> nx.DiGraph:
    """Seven nodes and nine edges, the largest cell of NAS-Bench-101 (Ying et al. 2019, section 2.1)."""
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (0, 4), (3, 5), (4, 5), (5, 6), (1, 6)])
    operations = ["input", "conv3x3", "conv1x1", "maxpool3x3", "conv3x3", "a rather longer one", "output"]
    nx.set_node_attributes(graph, dict(enumerate(operations)), "label")
    return graph


GRAPHS: dict[str, Callable[[], nx.DiGraph]] = {
    "cells": darts, "motifs": motifs, "resnet": lambda: resnet(19), "bench": bench,
    "dense": lambda: dense(13, 3, False), "labelled": lambda: dense(9, 2, True),
}  # fmt: skip


def boxes(figure: Any) -> list[Box]:
    """The boxes of nodes and labels, in inches: left, top, right, bottom."""
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    extents = [patch.get_path().get_extents() for patch in patches]
    return [(extent.x0, extent.y0, extent.x1, extent.y1) for extent in extents]


def lines(figure: Any) -> list[list[tuple[float, float]]]:
    """The edges' lines as points, a hundredth of an inch apart at most."""
    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyArrowPatch):
            shape: Any = patch._path_original  # type: ignore[attr-defined]
            scaled: Any = Affine2D()
            (corners,) = shape.to_polygons(scaled.scale(100), closed_only=False)
            points: list[tuple[float, float]] = []
            for a, b in itertools.pairwise(corners):
                count = int(np.abs(b - a).max()) + 1
                points += [tuple((a + (b - a) * i / count) / 100) for i in range(count)]
            found.append(points)
    return found


def titles(figure: Any) -> dict[str, tuple[float, float]]:
    return {t.get_text(): t.get_position() for t in figure.axes[0].texts if t.get_fontweight() == "bold"}


# the picture


def test_the_two_cells_of_darts_stand_side_by_side() -> None:
    figure = drawing.draw_graph(darts())
    left, right = titles(figure)["Normal cell"], titles(figure)["Reduction cell"]
    assert left[1] == right[1]
    assert right[0] > left[0] + 5
    assert figure.get_size_inches()[0] <= drawing.PAGE
    assert figure.get_size_inches()[1] < 4


@pytest.mark.parametrize("page", [0.0, 11.0])
def test_parts_that_are_wider_than_the_page_together_stand_below_each_other(page: float) -> None:
    figure = drawing.draw_graph(darts(), page=page)
    above, below = titles(figure)["Normal cell"], titles(figure)["Reduction cell"]
    assert above[0] == below[0]
    assert below[1] > above[1] + 2


def test_many_parts_stand_in_columns() -> None:
    found = titles(drawing.draw_graph(motifs()))
    assert len(found) == 5
    assert len({round(x, 6) for x, _ in found.values()}) == 2
    assert len({round(y, 6) for _, y in found.values()}) == 3


@pytest.mark.parametrize("direction", ["right", "down"])
@pytest.mark.parametrize("name", GRAPHS)
def test_boxes_lie_apart_and_lines_pass_only_behind_those_that_they_join(name: str, direction: Any) -> None:
    graph = GRAPHS[name]()
    figure = drawing.draw_graph(graph, direction)
    found, width, height = boxes(figure), *figure.get_size_inches()
    assert len(found) == len(graph) + sum("label" in data for _, _, data in graph.edges(data=True))
    for a, b in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for points in lines(figure):
        assert all(0 < x < width and 0 < y < height for x, y in points)
        touched = {
            b for b in found for x, y in points if b[0] + 0.01 < x < b[2] - 0.01 and b[1] + 0.01 < y < b[3] - 0.01
        }
        assert len(touched) <= 1, "only the label of the edge itself stands on its line"
        assert any(abs(points[0][0] - b[2]) < 0.02 or abs(points[0][1] - b[3]) < 0.02 for b in found)


@pytest.mark.parametrize("graph", [resnet(19), resnet(40), nx.path_graph(60, nx.DiGraph), dense(40, 3, False)])
def test_long_networks_are_broken_into_rows_of_a_page(graph: nx.DiGraph) -> None:
    width, height = drawing.draw_graph(graph).get_size_inches()
    assert width < drawing.PAGE
    assert height > 2


def test_rows_are_as_even_as_they_can_be() -> None:
    found = boxes(drawing.draw_graph(nx.relabel_nodes(nx.path_graph(17, nx.DiGraph), lambda i: f"layer {i:02}")))
    counts = [len(list(row)) for _, row in itertools.groupby(found, key=lambda box: round(box[1], 3))]
    assert counts == [6, 6, 5]


def test_a_line_has_no_needless_steps() -> None:
    graph = nx.path_graph(6, nx.DiGraph)
    graph.add_edge(0, 5)
    graph.add_edge(2, 4, label="skip")
    placed = layout.lay_out(graph, lambda node: (0.5, 0.3), lambda u, v: (0.8, 0.3))
    assert len({place.across for place in placed.through[0, 5]}) == 1
    assert len({placed.nodes[node].across for node in (0, 1, 2)}) <= 2


def test_an_operation_has_one_colour_in_all_parts() -> None:
    figure = drawing.draw_graph(motifs())
    coloured = [p.get_edgecolor() for p in figure.axes[0].patches if isinstance(p, FancyBboxPatch)]
    named = [t.get_text() for t in figure.axes[0].texts if t.get_fontweight() != "bold"]
    pairs = {(text, colour) for text, colour in zip(named, coloured, strict=True) if not text.isdigit()}
    assert len(pairs) == len({text for text, _ in pairs}) == 3


# the command


def test_a_run_is_drawn_as_what_it_found_or_a_trial(nas: Nas, finished: Path) -> None:
    run = Run(finished)
    other = next(t.number for t in run.all_trials if t.architecture != run.best.architecture)
    assert nas(finished) == (0, "mine.svg\n", "")
    assert nas(finished, "--trial", other)[1] == f"mine-trial-{other}.svg\n"
    assert Path("mine.svg").read_bytes() != Path(f"mine-trial-{other}.svg").read_bytes()
    drawing.save(run.draw(), Path("from python.svg"))
    assert Path("from python.svg").read_bytes() == Path("mine.svg").read_bytes()


def test_an_exported_architecture_is_drawn_as_its_run_is(nas: Nas, finished: Path) -> None:
    Run(finished).export("best.json")
    nas(finished)
    assert nas("best.json") == (0, "best.svg\n", "")
    assert Path("best.svg").read_bytes() == Path("mine.svg").read_bytes()


def test_a_space_is_drawn_as_one_of_its_architectures_which_is_said(nas: Nas) -> None:
    code, out, err = nas("cell:nodes=2")
    assert (code, out) == (0, "cell.svg\n")
    assert err.startswith("a random architecture of the space 'cell' for the task 'digits': seed 0, id ")
    first = Path("cell.svg").read_bytes()
    nas("space:cell:nodes=2", "-o", "same.svg")
    nas("cell:nodes=2", "--seed", 1, "-o", "other.svg")
    assert Path("same.svg").read_bytes() == first
    assert Path("other.svg").read_bytes() != first


def test_a_well_known_network_is_drawn_by_its_name(nas: Nas) -> None:
    for name in list(nasengine.references())[:1]:
        assert nas(name) == (0, f"{name}.svg\n", "")
        assert Path(f"{name}.svg").read_text().count("<path") > 10


def test_the_ending_says_the_format(nas: Nas) -> None:
    from PIL import Image

    for name in ("a.svg", "a.PDF", "a.png"):
        assert nas(CELL, "-o", name)[1] == f"{name}\n"
    assert Path("a.svg").read_text().startswith("<?xml")
    assert "<!-- Normal cell -->" in Path("a.svg").read_text()
    pdf = Path("a.PDF").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in pdf, "publishers refuse such fonts"
    width, height = Image.open("a.png").size
    assert width > 1500
    assert width > height


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_a_picture_has_the_same_bytes_each_time(ending: str, tmp_path: Path) -> None:
    paths = [drawing.save(drawing.draw_graph(bench()), tmp_path / f"{name}.{ending}") for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_layers_go_down_the_page_if_asked(nas: Nas) -> None:
    from PIL import Image

    Path("row.json").write_text(THEIRS)
    for direction in ("right", "down"):
        nas("row.json", "-o", f"{direction}.png", "--direction", direction)
    assert Image.open("right.png").size[0] > 2 * Image.open("right.png").size[1]
    assert Image.open("down.png").size[0] < Image.open("down.png").size[1]


def test_an_architecture_whose_space_is_not_here_is_drawn_from_its_picks(nas: Nas) -> None:
    Path("theirs.json").write_text(THEIRS)
    code, out, err = nas("theirs.json")
    assert (code, out) == (0, "theirs.svg\n")
    assert err.startswith("nas: the picks are drawn in a row, for the space cannot be made again: no space named")
    assert "<!-- first: conv -->" in Path("theirs.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cel"], "there is no 'cel' to draw. Did you mean 'cell'? It may be a run's folder, an architecture's .json"),
        (["runs/none"], "there is no 'runs/none' to draw. It may be"),
        (["space:cel"], "no space named 'cel'. Did you mean 'cell'? See: nas list spaces"),
        (["cell:node=3"], "the space 'cell' has no option 'node'. Did you mean 'nodes'?"),
        (["cell", "--task", "digit"], "no task named 'digit'. Did you mean 'digits'?"),
        (["cell", "--trial", "3"], "--trial 3 is a trial of a run, and there is no run's folder cell"),
        (["cell", "-o", "x.jpg"], "no picture is written as 'x.jpg'. Did you mean 'png'? It may end with: .svg, .png"),
        (["cell", "-o", "cell"], "no picture is written as 'cell'. It may end with"),
        (["cell", "-o", "none/x.svg"], "the folder none is not there; make it, or choose another path than none/x.svg"),
        (["cell", "-o", "folder.svg"], "folder.svg cannot be written: Is a directory; choose another path"),
        (["folder.svg"], "folder.svg is no run's folder: it should hold ledger.sqlite"),
        (["damaged.json"], "damaged.json: not an architecture's JSON"),
        (["lacking.json"], "lacking.json holds no architecture of the space 'cell' for the task 'digits': the archi"),
        (["RUN", "--trial", "99"], "has no architecture to draw from a trial 99; see: nas show"),
        (["./broken.py:Broken"], "cannot be built for the task 'digits' (NameError: name 'nasengine_is_not_torch'"),
        (["./broken.py:Undrawn"], "fails to draw"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], says: str, nas: Nas, finished: Path) -> None:
    Path("folder.svg").mkdir()
    Path("damaged.json").write_text('{"space": "cell", "opt')
    Path("lacking.json").write_text('{"space": "cell", "options": {}, "picks": {}}')
    Path("broken.py").write_text(BROKEN)
    code, out, err = nas(*(finished if a == "RUN" else a for a in arguments))
    sentences = [line for line in err.splitlines() if not line.startswith("a random architecture")]
    assert (code, out) == (2, "")
    assert len(sentences) == 1
    assert says in sentences[0]
