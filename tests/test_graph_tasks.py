"""Tasks on graphs: what they read, how nodes and graphs are split, and what a model is shown of them."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

from nasengine import ConfigError, Context, DataError, Fidelity, Task
from nasengine.choosers import shapes_only
from nasengine.evaluators.data import planetoid
from nasengine.evaluators.data.graphs import Graph, joined
from nasengine.evaluators.data.neighbours import Neighbourhoods
from nasengine.evaluators.tasks.graph import UsersGraph
from nasengine.evaluators.tasks.graphs import GraphFamilies, Graphs
from nasengine.evaluators.tasks.karate import Karate
from nasengine.evaluators.tasks.planetoid import Planetoid
from nasengine.evaluators.tasks.scores import classification_metrics
from nasengine.testing import TaskContract

CORA = Path(__file__).parents[1].parent / "shared" / "data" / "planetoid"
needs_layers = pytest.mark.skipif(not find_spec("torch_geometric"), reason="needs PyTorch Geometric")
needs_cora = pytest.mark.skipif(
    not (CORA / "Cora" / "raw").is_dir() or not find_spec("torch_geometric"),
    reason=f"needs Cora in {CORA}, and PyTorch Geometric",
)


class OnNodes(nn.Module):
    """A linear layer that passes the edges over."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, graph: Any) -> Tensor:
        return self.linear(graph.x)


class OnGraphs(OnNodes):
    def forward(self, graph: Any) -> Tensor:
        scores = self.linear(graph.x)
        return torch.zeros(graph.num_graphs, scores.shape[1]).index_add(0, graph.batch, scores)


class NodeContract(TaskContract):
    """Batches are a graph and a label for each node; those of others than the batch's nodes are -100."""

    def model(self, task: Task) -> nn.Module:
        torch.manual_seed(0)
        return OnNodes(task.input_shape[0], task.classes)

    def inputs(self, given: Any) -> Tensor:
        return given.x

    def examples(self, batch: Any) -> list[str]:
        graph, labels = batch
        return [str(row.tolist()) for row in graph.x[labels >= 0]]


class TestKarate(NodeContract):
    def make(self) -> Task:
        return Karate()


class TestKarateWithNeighbourSampling(NodeContract):
    def make(self) -> Task:
        return Karate(inductive=True, neighbors=(3, 2))


class TestUsersGraph(NodeContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mine.npz"
        np.savez(self.path, **mine())

    def make(self) -> Task:
        return UsersGraph(path=str(self.path))


@cache
def cora() -> Any:
    return Planetoid(path=str(CORA))


@needs_cora
class TestPlanetoid(NodeContract):
    def make(self) -> Task:
        task: Any = Planetoid(path=str(CORA))
        task.data = cora().data  # read once for all
        return task

    def examples(self, batch: Any) -> list[str]:
        return [
            str(node) for node in torch.nonzero(batch[1] >= 0).flatten().tolist()
        ]  # some papers have the same words


class GraphContract(TaskContract):
    def model(self, task: Task) -> nn.Module:
        torch.manual_seed(0)
        return OnGraphs(task.input_shape[0], task.classes)

    def inputs(self, given: Any) -> Tensor:
        return given.x

    def examples(self, batch: Any) -> list[str]:
        graphs, labels = batch
        begins = torch.searchsorted(graphs.batch, torch.arange(len(labels)))
        return [
            str((graphs.edge_index[:, graphs.batch[graphs.edge_index[0]] == index] - begins[index]).tolist())
            for index in range(len(labels))
        ]


class TestGraphFamilies(GraphContract):
    def make(self) -> Task:
        return GraphFamilies(graphs=10)


@needs_layers
class TestGraphs(GraphContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        write_tu(tmp_path / "TINY" / "raw", "TINY")
        self.path = tmp_path

    def make(self) -> Task:
        return Graphs(path=str(self.path), name="TINY")


def mine(nodes: int = 40, **others: Any) -> dict[str, Any]:
    """A random graph of two classes."""
    rng = np.random.default_rng(0)
    edges = np.array(nx.gnm_random_graph(nodes, 3 * nodes, seed=0).edges).T
    arrays = {"edges": edges, "y": np.arange(nodes) % 2, "x": rng.standard_normal((nodes, 3))}
    return {name: array for name, array in {**arrays, **others}.items() if array is not None}


def write_tu(folder: Path, name: str, kinds: bool = False) -> list[int]:
    """Twenty graphs, rings and stars of five to fourteen nodes, in the format of TU Dortmund. Their sizes."""
    folder.mkdir(parents=True)
    rows: list[str] = []
    indicator: list[int] = []
    labels, sizes = [], []
    for number in range(20):
        size = 5 + number // 2
        made = nx.cycle_graph(size) if number % 2 else nx.star_graph(size - 1)
        first = len(indicator) + 1
        rows += [f"{first + a}, {first + b}" for edge in made.edges for a, b in (edge, edge[::-1])]
        indicator += [number + 1] * size
        labels.append(1 if number % 2 else -1)
        sizes.append(size)
    for part, values in (("A", rows), ("graph_indicator", indicator), ("graph_labels", labels)):
        (folder / f"{name}_{part}.txt").write_text("".join(f"{value}\n" for value in values))
    if kinds:
        (folder / f"{name}_node_labels.txt").write_text("".join(f"{place % 3}\n" for place in range(len(indicator))))
    return sizes


def read(path: Path, **options: Any) -> Any:
    return UsersGraph(path=str(path), **options).read()


def test_macro_f1_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 5):
        scores = torch.randn(30, classes, generator=generator)
        labels = torch.randint(0, max(2, classes - 1), (30,), generator=generator)  # of five classes one is not met
        found = classification_metrics(scores, labels, classes)
        foretold = scores.argmax(1)
        assert found["macro_f1"] == pytest.approx(f1_score(labels, foretold, average="macro"), abs=1e-6)
        assert found["accuracy"] == pytest.approx(float((foretold == labels).float().mean()))
        assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(scores, labels)))


@pytest.mark.usefixtures("warm_python")
def test_the_karate_club_is_zacharys_and_needs_no_other_package() -> None:
    code = """
import sys
sys.modules["torch_geometric"] = None
import nasengine
from nasengine.registry import make
task = make("task", "karate", {})
graph = task.example()
print(task.classes, task.input_shape, graph.x.shape[0], graph.edge_index.shape[1], "torch_geometric" in sys.modules)
space = make("space", "gnn", {"layers": 1})
print(tuple(space.model(nasengine.reference("gat"), task)(graph).shape))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 (34,) 34 156 True", "(34, 2)"]
    club = nx.karate_club_graph()
    data = Karate().data
    assert {(int(a), int(b)) for a, b in data.edges.T} == {pair for a, b in club.edges for pair in ((a, b), (b, a))}
    sides = [data.names[label] for label in data.labels]
    assert sides == [side for _, side in club.nodes(data="club")]
    assert [len(part) for part in (data.train, data.valid, data.test)] == [8, 12, 14]


def test_a_halved_training_part_holds_all_classes() -> None:
    task = Karate()
    for part in ((0.0, 0.5), (0.5, 1.0)):
        ((_, labels),) = task.train_batches(64, torch.Generator(), part=part)
        assert torch.bincount(labels[labels >= 0]).tolist() == [2, 2]


def test_a_search_sees_the_labels_of_its_own_nodes_only() -> None:
    data, task = Karate().data, Karate()
    ((_, labels),) = task.train_batches(64, torch.Generator())
    assert set(torch.nonzero(labels >= 0).flatten().tolist()) == set(data.train.tolist())
    ((_, labels),) = task.valid_batches()
    assert set(torch.nonzero(labels >= 0).flatten().tolist()) == set(data.valid.tolist())


def test_while_it_learns_inductively_nothing_of_test_nodes_is_there() -> None:
    task = Karate(inductive=True)
    data = task.data
    shown = {
        "train": next(task.train_batches(64, torch.Generator()))[0],
        "valid": next(task.valid_batches())[0],
        "test": next(task.test_batches())[0],
    }
    hidden = {"train": {*data.valid, *data.test}, "valid": {*data.test}, "test": set()}
    for split, graph in shown.items():
        people = graph.x.argmax(1)  # each feature is one of them
        assert set(people.tolist()) == set(range(34)) - hidden[split]
        friends = {(int(people[a]), int(people[b])) for a, b in graph.edge_index.T}
        kept = {(int(a), int(b)) for a, b in data.edges.T if not {a, b} & hidden[split]}
        assert friends == kept


@pytest.mark.parametrize("inductive", [False, True])
def test_drawn_neighbourhoods_are_of_the_graph_and_no_larger_than_asked(inductive: bool) -> None:
    task = Karate(inductive=inductive, neighbors=(3, 2))
    generator = torch.Generator().manual_seed(0)
    batches = list(task.train_batches(3, generator))
    assert [int((labels >= 0).sum()) for _, labels in batches] == [3, 3, 2]
    edges = {(int(a), int(b)) for a, b in task.seen("train").edges.T}
    rows = torch.from_numpy(task.seen("train").x)
    for graph, labels in batches:
        place = [int((rows == row).all(1).nonzero()) for row in graph.x]
        drawn = [(place[a], place[b]) for a, b in graph.edge_index.T.tolist()]
        assert set(drawn) <= edges
        assert len(set(drawn)) == len(drawn)
        told = torch.bincount(graph.edge_index[1], minlength=len(graph.x))
        seeds = int((labels >= 0).sum())
        friends = [sum(b == node for _, b in edges) for node in place[:seeds]]
        assert told[:seeds].tolist() == [min(3, count) for count in friends]
        assert told.max() <= 3
        assert (labels[:seeds] >= 0).all()


def test_as_many_neighbours_as_there_are_are_all() -> None:
    data = Karate().data
    neighbourhoods = Neighbourhoods(torch.from_numpy(data.edges), 34)
    nodes, edges = neighbourhoods.around(torch.tensor([0, 33]), (99,), torch.Generator())
    drawn = {(int(nodes[a]), int(nodes[b])) for a, b in edges.T}
    assert drawn == {(int(a), int(b)) for a, b in data.edges.T if b in (0, 33)}


def test_each_neighbour_is_drawn_equally_often() -> None:
    data, generator = Karate().data, torch.Generator().manual_seed(0)
    neighbourhoods = Neighbourhoods(torch.from_numpy(data.edges), 34)
    counts = np.zeros(34)
    for _ in range(2000):
        nodes, _ = neighbourhoods.around(torch.tensor([0]), (4,), generator)
        counts[nodes[1:]] += 1
    friends = data.edges[0, data.edges[1] == 0]
    assert set(np.flatnonzero(counts)) == set(friends)
    assert counts[friends] == pytest.approx(2000 * 4 / len(friends), rel=0.15)  # 16 friends: 500 ± 19


@needs_cora
def test_cora_is_the_canonical_graph_with_its_public_split_and_nothing_is_written() -> None:
    before = sorted(CORA.rglob("*"))
    task = cora()
    data = task.read()
    assert sorted(CORA.rglob("*")) == before
    assert data.x.shape == (2708, 1433)
    assert data.edges.shape == (2, 2 * 5278)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [140, 500, 1000]
    assert np.bincount(data.labels[data.train]).tolist() == [20] * 7
    assert data.x.sum(1) == pytest.approx(1)
    assert np.bincount(data.labels[data.train[:70]]).tolist() == [10] * 7
    assert task.found == (
        "Cora: 2,708 papers, 5,278 citations, 1,433 features, 7 subjects; 140 papers for training, 500 for validation, "
        "1,000 for test"
    )


@needs_layers
def test_a_missing_planetoid_file_is_named_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(planetoid, "urlopen", None)
    with pytest.raises(DataError) as refused:
        _ = Planetoid(path=str(tmp_path), name="PubMed").data
    said = str(refused.value)
    assert f"{tmp_path}/PubMed/raw lacks ind.pubmed.x, ind.pubmed.tx" in said
    assert "with download=true they are fetched" in said


@needs_cora
def test_files_are_downloaded_where_they_are_asked_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(planetoid, "SOURCE", (CORA / "Cora" / "raw").as_uri())
    data = Planetoid(path=str(tmp_path), download=True).data
    assert data.x.shape == (2708, 1433)
    assert len(list((tmp_path / "Cora" / "raw").iterdir())) == 8
    with pytest.raises(DataError, match=r"ind.pubmed.x cannot be fetched to"):
        _ = Planetoid(path=str(tmp_path), name="PubMed", download=True).data


class Dangerous:
    def __reduce__(self) -> Any:
        return (print, ("loaded",))


@needs_layers
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_planetoid_file_that_would_run_code_is_not_loaded(
    protocol: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Cora" / "raw"
    folder.mkdir(parents=True)
    for part in (*planetoid.PICKLED, "test.index"):
        (folder / f"ind.cora.{part}").write_bytes(pickle.dumps(Dangerous(), protocol))
    with pytest.raises(DataError, match=r"it is a pickle that reaches for .+, and is not loaded"):
        _ = Planetoid(path=str(tmp_path)).data
    assert capsys.readouterr().out == ""


def test_a_graph_of_ones_own_is_read_from_each_format(tmp_path: Path) -> None:
    arrays = mine()
    np.savez(tmp_path / "mine.npz", **arrays)
    graph = nx.Graph()
    for node, (label, row) in enumerate(zip(arrays["y"], arrays["x"], strict=True)):
        graph.add_node(f"n{node}", label=f"class{label}", **{f"f{i}": float(value) for i, value in enumerate(row)})
    graph.add_edges_from((f"n{a}", f"n{b}") for a, b in arrays["edges"].T)
    nx.write_graphml(graph, tmp_path / "mine.graphml")
    folder = tmp_path / "tables"
    folder.mkdir()
    lines = [f"n{i},class{label},{','.join(map(repr, row.tolist()))}" for i, (label, row) in enumerate(zip(arrays["y"], arrays["x"], strict=True))]  # fmt: skip  # noqa: E501
    (folder / "nodes.csv").write_text("id,label,f0,f1,f2\n" + "\n".join(lines) + "\n")
    (folder / "edges.csv").write_text("source,target\n" + "".join(f"n{a},n{b}\n" for a, b in arrays["edges"].T))
    for path in (tmp_path / "mine.npz", tmp_path / "mine.graphml", folder, folder / "nodes.csv"):
        data = read(path)
        assert data.x == pytest.approx(arrays["x"], abs=1e-6)
        assert data.labels.tolist() == arrays["y"].tolist()
        assert {tuple(sorted(edge)) for edge in data.edges.T.tolist()} == {*map(tuple, map(sorted, arrays["edges"].T.tolist()))}  # fmt: skip  # noqa: E501
        assert data.edges.shape[1] == 2 * arrays["edges"].shape[1]
        assert [len(part) for part in (data.train, data.valid, data.test)] == [24, 8, 8]
        assert [np.bincount(data.labels[part]).tolist() for part in (data.valid, data.test)] == [[4, 4], [4, 4]]
    assert read(tmp_path / "mine.npz", directed=True).edges.shape[1] == arrays["edges"].shape[1]


def test_a_graphs_own_parts_are_kept_and_unknown_labels_are_in_none(tmp_path: Path) -> None:
    labels = np.arange(40) % 2
    labels[30:] = -1
    masks: dict[str, Any] = {
        f"{name}_mask": np.isin(np.arange(40) // 8, places) for name, places in (("train", [0, 4]), ("val", [1]))
    }
    np.savez(tmp_path / "mine.npz", **mine(y=labels, x=None, test_mask=np.arange(40) >= 24, **masks))
    data = read(tmp_path / "mine.npz")
    assert sorted(data.train.tolist()) == [*range(8)]
    assert data.valid.tolist() == [*range(8, 16)]
    assert data.test.tolist() == [*range(24, 30)]
    assert (data.x == np.eye(40)).all()


def test_a_part_that_is_missing_is_drawn_from_the_training_nodes(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **mine(test_mask=np.arange(40) >= 30))
    data = read(tmp_path / "mine.npz", valid=0.4)
    assert data.test.tolist() == [*range(30, 40)]
    assert len(data.train) == 18
    assert len(data.valid) == 12
    assert np.bincount(data.labels[data.valid]).tolist() == [6, 6]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (mine(edges=None), "has no array edge_index or edges"),
        (mine(y=None), "has no array y or labels"),
        (mine(y=np.zeros(40, int)), "has nodes of 1 classes; expected 2 or more"),
        (mine(y=np.ones(40)), "the labels of .* are float64"),
        (mine(edges=np.array([[0], [40]])), "leads to a node that is not there"),
        (mine(edges=np.zeros((3, 4), int)), "expected numbers of nodes"),
        (mine(x=np.zeros((3, 2))), r"expected numbers, \(40, features\)"),
        (mine(x=np.full((40, 2), np.nan)), "are not all finite numbers"),
        (mine(train_mask=np.ones(40, bool), test_mask=np.ones(40, bool)), "share nodes"),
        (mine(train_mask=np.ones(40)), "train_mask of .* is float64"),
        (mine(train_mask=np.arange(40) % 2 == 0), "has no node of '1'; expected some of each class for training"),
        (mine(y=np.array([{}] * 40)), "are pickles that can run code and are never loaded"),
    ],
)
def test_what_is_wrong_with_a_graph_is_said(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=says):
        read(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        ("id,label\na,1\na,2\n", "source,target\n", "has an id twice"),
        ("id,kind\na,1\n", "source,target\n", "has no column label"),
        ("id,label\na,1\nb,2\n", "source,target\na,c\n", "leads to a node that is not there"),
        ("id,label,size\na,1,big\nb,2,small\n", "source,target\na,b\n", "features that are no numbers"),
        ("id,label,split\na,1,train\nb,2,dev\n", "source,target\na,b\n", "the split 'dev'"),
        ("id,label\na,1\n", None, "edges.csv cannot be read"),
    ],
)
def test_what_is_wrong_with_tables_is_said(nodes: str, edges: str | None, says: str, tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(nodes)
    if edges is not None:
        (tmp_path / "edges.csv").write_text(edges)
    with pytest.raises(DataError, match=says):
        read(tmp_path)


def test_a_graph_that_is_not_there_or_of_no_known_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there; expected a file \.npz"):
        read(tmp_path / "none.npz")
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(DataError, match="is of no known format"):
        read(tmp_path / "mine.txt")
    (tmp_path / "mine.graphml").write_text("<graphml><")
    with pytest.raises(DataError, match="is no GraphML, or damaged"):
        read(tmp_path / "mine.graphml")


@needs_layers
@pytest.mark.parametrize(("kinds", "features"), [(False, 51), (True, 3)])
def test_graphs_of_tu_dortmund_are_read(kinds: bool, features: int, tmp_path: Path) -> None:
    """Without kinds of nodes the features are degrees."""
    sizes = write_tu(tmp_path, "TINY", kinds) if not tmp_path.exists() else write_tu(tmp_path / "TINY", "TINY", kinds)
    data = Graphs(path=str(tmp_path), name="TINY").data
    assert [len(graph.x) for graph in data.graphs] == sizes
    assert data.labels.tolist() == [0, 1] * 10
    assert data.graphs[0].x.shape[1] == features
    for number, graph in enumerate(data.graphs):
        joins = torch.bincount(graph.edge_index[0], minlength=sizes[number])
        assert joins.tolist() == (
            [2] * sizes[number] if number % 2 else [sizes[number] - 1, *[1] * (sizes[number] - 1)]
        )
    assert [len(part) for part in (data.train, data.valid, data.test)] == [12, 4, 4]


def test_a_missing_set_of_graphs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks MUTAG_A.txt, MUTAG_graph_indicator.txt, MUTAG_graph_labels.txt"):
        _ = Graphs(path=str(tmp_path)).data


def test_the_families_differ_in_how_they_are_joined_and_not_in_size() -> None:
    data = GraphFamilies(graphs=30).data
    degrees = [[len(g.edge_index[0]) / len(g.x) for g in data.graphs[start : start + 30]] for start in (0, 30, 60, 90)]
    assert [np.mean(family) for family in degrees] == pytest.approx([4, 3.55, 4, 4], abs=0.1)
    largest = [max(int(g.x.argmax(1).max()) for g in data.graphs[start : start + 30]) for start in (0, 30, 60, 90)]
    assert largest[3] == 4
    assert largest[1] > largest[2] > 4


def test_several_graphs_are_one_without_edges_between_them() -> None:
    data = GraphFamilies(graphs=5).data
    both = joined([data.graphs[0], data.graphs[9]])
    nodes = len(data.graphs[0].x)
    assert torch.equal(both.x[nodes:], data.graphs[9].x)
    assert torch.equal(both.edge_index[:, -data.graphs[9].edge_index.shape[1] :] - nodes, data.graphs[9].edge_index)
    assert both.batch is not None
    assert torch.equal(both.batch[both.edge_index[0]], both.batch[both.edge_index[1]])
    assert both.num_graphs == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Karate(neighbors=(0,)), "expected for each step outwards a number of at least 1"),
        (lambda: UsersGraph(path="x", valid=0.5, test=0.5), "expected fractions above 0, and less than 1 together"),
        (lambda: UsersGraph(path="x", split_seed=-1), "split_seed = -1"),
        (lambda: Graphs(path="x", test=0.0), "expected fractions above 0"),
        (lambda: Graphs(path="x", split_seed=-1), "split_seed = -1"),
        (lambda: GraphFamilies(graphs=2), "expected 5 or more of each family"),
        (lambda: GraphFamilies(seed=-1), "seed = -1"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wrong()


@pytest.mark.parametrize(
    "make",
    [Karate, partial(GraphFamilies, graphs=5), pytest.param(partial(Planetoid, path=str(CORA)), marks=needs_cora)],
)
def test_data_that_is_first_asked_for_while_shapes_are_recorded_is_real(make: Callable[[], Any]) -> None:
    task = make()
    with shapes_only():
        assert task.classes > 1
    assert task.example().x.device.type == "cpu"


def test_a_graph_says_how_large_it_is() -> None:
    graph = Graph(torch.zeros(4, 2), torch.zeros(2, 3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    assert graph.nbytes == 4 * 2 * 4 + 2 * 3 * 8 + 4 * 8


def test_each_epoch_is_a_step_on_the_whole_graph() -> None:
    task = Karate()
    task.to(torch.device("cpu"))
    context: Any = Context(None, task, torch.device("cpu"), seed=0)  # type: ignore[arg-type]
    curve = list(task.fit(OnNodes(34, 2), Fidelity(epochs=3), context))
    assert len(curve) == 3
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]
