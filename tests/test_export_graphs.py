"""Export of models that are called with graphs: the files compute the same on graphs of another size."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import Architecture, ExportError
from nasengine.errors import ConfigError
from nasengine.evaluators.data.graphs import Graph
from nasengine.evaluators.tasks.graphs import GraphFamilies
from nasengine.evaluators.tasks.karate import Karate
from nasengine.export import export
from nasengine.inputs import free_sizes, tensors_of
from nasengine.search_spaces.gnn import GNNSpace
from nasengine.search_spaces.graphnas import GraphNASSpace
from nasengine.search_spaces.nasbench_graph import NASBenchGraphSpace
from nasengine.standalone import standalone_source
from nasengine.testing import TinyTask

SPACES: dict[str, Any] = {
    "gnn": GNNSpace(layers=2, hidden=(8,)),
    "graphnas": GraphNASSpace(heads=(1, 2), hidden=(4,)),
    "nasbench_graph": NASBenchGraphSpace(hidden=4),
}


def alone(code: str, *arguments: Path) -> Any:
    """Runs code in a process that cannot import nasengine; gives the JSON that it prints."""
    beginning = 'import json, sys\nsys.modules["nasengine"] = None\n'
    command = [sys.executable, "-I", "-c", beginning + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def off(expected: Tensor, given: Tensor) -> float:
    """The largest difference, in units of the largest value."""
    assert expected.shape == given.shape
    return float((expected - given).abs().max() / expected.abs().max())


def loaded(source: str) -> nn.Module:
    namespace: dict[str, Any] = {"__name__": "loaded"}
    exec(source, namespace)  # noqa: S102
    network: nn.Module = namespace["load"]()
    return network


def a_graph(nodes: int, edges: int, features: int, batch: bool = False) -> Graph:
    generator = torch.Generator().manual_seed(nodes)
    x = torch.randn(nodes, features, generator=generator)
    ends = torch.randint(0, nodes, (2, edges), generator=generator)
    return Graph(x, ends, torch.arange(nodes) // 4 if batch else None)


def unsettled(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return model.eval()


def architectures(space: str) -> Iterator[Architecture]:
    """Every layer at least once, and everything that joins them."""
    domain, rng = SPACES[space].domain(Karate()), np.random.default_rng(0)
    layers = ("layer0.convolution", "layer0.attention", "layer0.aggregator", "links", "node1", "jumping", "output")
    for decision in domain.decisions.values():
        if decision.name not in layers:
            continue
        for pick in decision.picks():
            yield domain.complete({**domain.sample(rng).picks, decision.name: pick})


@pytest.mark.parametrize("space", SPACES)
def test_a_model_of_nodes_as_a_program_computes_the_same_on_a_graph_of_another_size(space: str) -> None:
    task = Karate()
    first, *others = task.examples()
    graph = a_graph(21, 55, 34)
    for architecture in architectures(space):
        model = unsettled(SPACES[space].model(architecture, task))
        network = loaded(standalone_source(model, first, {}, others))
        with torch.no_grad():
            assert off(model(graph), network(graph.x, graph.edge_index)) <= 1e-5, architecture.picks


@pytest.mark.parametrize("space", SPACES)
def test_a_model_of_several_graphs_as_a_program_computes_the_same_on_more_of_them(space: str) -> None:
    task = GraphFamilies(graphs=5)
    first, *others = task.examples()
    graphs = a_graph(38, 90, task.input_shape[0], batch=True)
    rng = np.random.default_rng(1)
    for _ in range(3):
        model = unsettled(SPACES[space].model(SPACES[space].domain(task).sample(rng), task))
        network = loaded(standalone_source(model, first, {}, others))
        with torch.no_grad():
            expected = model(graphs)
            assert expected.shape == (10, 4)
            assert off(expected, network(graphs.x, graphs.edge_index, graphs.batch)) <= 1e-5


def test_the_program_runs_where_nasengine_is_not_and_says_what_it_takes(tmp_path: Path) -> None:
    run = nasengine.train("gat", "karate", "train:epochs=2", out=tmp_path / "run")
    path = export(run, tmp_path / "found.py")
    graph = a_graph(9, 30, 34)
    torch.save((graph.x, graph.edge_index), tmp_path / "graph.pt")
    code = """
import importlib.util, torch
spec = importlib.util.spec_from_file_location("found", sys.argv[1])
found = importlib.util.module_from_spec(spec)
spec.loader.exec_module(found)
with torch.no_grad():
    print(json.dumps(found.load()(*torch.load(sys.argv[2])).tolist()))
"""
    with torch.no_grad():
        assert off(run.best_model()(graph), torch.tensor(alone(code, path, tmp_path / "graph.pt"))) <= 1e-5
    source = path.read_text()
    for told in (
        'INPUT_SHAPES = {"x": (34, 34), "edge_index": (2, 156)}',
        '"""x (N, 34), edge_index (2, M) -> (N, 2)"""',
        "outputs = network(x, edge_index)",
        "def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:",
        "input: x (N, 34) and edge_index (2, E) of a graph of N nodes, whose E edges lead from, to",
    ):
        assert told in source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("gcn", "karate"),
        ("gat", "karate"),
        ("graphsage", "graph_families:graphs=5"),
        ("gat", "graph_families:graphs=5"),
    ],
)
def test_the_onnx_model_computes_the_same_on_graphs_of_other_sizes(
    architecture: str, task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    run = nasengine.train(architecture, task, "train:epochs=2", out=tmp_path / "run")
    path = export(run, tmp_path / "found.onnx")
    assert capfd.readouterr() == ("", "")
    many = "families" in task
    model, features = run.best_model(), run.task.input_shape[0]
    for nodes, edges in ((7, 20), (33, 11)):
        graph = a_graph(nodes, edges, features, batch=many)
        given: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors_of(graph).items()}
        assert list(given) == ["x", "edge_index", *["batch"] * many]
        np.savez(tmp_path / "graph.npz", **given)
        code = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(output,) = session.run(["output"], dict(numpy.load(sys.argv[2])))
print(json.dumps([output.tolist(), session.get_modelmeta().custom_metadata_map]))
"""
        outputs, about = alone(code, path, tmp_path / "graph.npz")
        with torch.no_grad():
            assert off(model(graph), torch.tensor(outputs)) <= 1e-5
        assert Architecture.from_json(about["architecture"]) == run.best.architecture
        assert json.loads(about["task"])["input"].startswith(f"x (N, {features})")


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_models_of_every_space_can_be_written_as_onnx(space: str, tmp_path: Path) -> None:
    """Whoever writes them compares them with the model, on graphs of two sizes."""
    pytest.importorskip("onnxruntime")
    architecture = SPACES[space].domain(Karate()).sample(np.random.default_rng(3))
    run = nasengine.train(architecture, "karate", "train:epochs=1", out=tmp_path / "run")
    assert export(run, tmp_path / "found.onnx").stat().st_size > 1000


def test_what_differs_between_examples_is_what_may_be_of_any_size() -> None:
    assert free_sizes(Karate().examples()) == {"x": [0], "edge_index": [1]}
    assert free_sizes(GraphFamilies(graphs=5).examples()) == {"x": [0], "edge_index": [1], "batch": [0]}
    assert free_sizes(TinyTask().examples()) == {"input": [0]}


@dataclass
class Pair:
    """Two tensors, and what is none."""

    left: Tensor
    right: Tensor
    times: float = 2.0


class OfPairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, 2)

    def forward(self, pair: Pair) -> Tensor:
        return self.map(pair.left * pair.times + pair.right)


def test_any_dataclass_of_tensors_will_do() -> None:
    model, given = OfPairs().eval(), Pair(torch.randn(2, 3), torch.randn(2, 3))
    source = standalone_source(model, given, {}, [Pair(torch.randn(5, 3), torch.randn(5, 3))])
    assert '"""left (N, 3), right (N, 3) -> (N, 2)"""' in source
    with torch.no_grad():
        assert off(model(given), loaded(source)(given.left, given.right)) <= 1e-6
    with pytest.raises(ExportError, match="gives other outputs than the model"):
        standalone_source(model, Pair(given.left, given.right, times=3.0), {}, [])
    with pytest.raises(ConfigError, match="is called with a list here; expected a tensor, or a dataclass"):
        tensors_of([given])
