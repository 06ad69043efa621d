"""Zero-cost proxies on graphs: against plain computations, node by node and graph by graph."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import nasengine
from nasengine import ConfigError, Context, Fidelity
from nasengine.evaluators.data.graphs import Graph
from nasengine.evaluators.proxies import PROXIES, Subject
from nasengine.evaluators.tasks.graphs import GraphFamilies
from nasengine.evaluators.tasks.karate import Karate
from nasengine.evaluators.zero_cost import ZeroCost
from nasengine.registry import make
from nasengine.search_spaces.gnn import GNNSpace
from nasengine.search_spaces.operations.convolutions import CONVOLUTIONS

CPU = torch.device("cpu")


def nodes() -> tuple[Any, Any, Any]:
    """GCN in float64 on the karate club, the task, and the batch of its training nodes."""
    task = Karate()
    task.to(CPU)
    torch.manual_seed(0)
    model = GNNSpace().model(nasengine.reference("gcn"), task).double().eval()
    graph, labels = next(task.train_batches(1, torch.Generator()))
    return model, task, (Graph(graph.x.double(), graph.edge_index), labels)


def families() -> tuple[Any, Any, Any]:
    """The same on graphs, six of them."""
    task = GraphFamilies(graphs=10)
    task.to(CPU)
    torch.manual_seed(0)
    model = GNNSpace().model(nasengine.reference("gcn"), task).double().eval()
    graphs, labels = next(task.train_batches(6, torch.Generator().manual_seed(0)))
    return model, task, (Graph(graphs.x.double(), graphs.edge_index, graphs.batch, graphs.count), labels)


def adjacency(graph: Any) -> Tensor:
    """D^-½ (A + 1) D^-½, dense. The layers' own are of float32."""
    count = len(graph.x)
    dense = torch.eye(count, dtype=torch.float64)
    dense[graph.edge_index[1], graph.edge_index[0]] = 1
    root = dense.sum(1).rsqrt()
    return root[:, None] * dense * root


def weights(model: Any) -> list[Tensor]:
    return [weight for weight in model.parameters() if weight.dim() > 1]


def by_hand(model: Any, graph: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """GCN as its paper writes it: what goes into the ReLU, and the scores."""
    first, second = (weight for weight in model.parameters() if weight.dim() > 1)
    first_bias, second_bias = (bias for bias in model.parameters() if bias.dim() == 1)
    spread = adjacency(graph)
    before = spread @ x @ first.T + first_bias
    return before, spread @ before.relu() @ second.T + second_bias


def test_the_network_is_the_one_that_is_computed_by_hand() -> None:
    model, _, (graph, _) = nodes()
    assert torch.allclose(by_hand(model, graph, graph.x)[1], model(graph))


@pytest.mark.parametrize("name", ["grad_norm", "snip", "plain"])
def test_sums_over_weights_are_of_the_loss_on_the_training_nodes(name: str) -> None:
    model, task, (graph, labels) = nodes()
    asked = torch.from_numpy(task.data.train)
    loss = functional.cross_entropy(by_hand(model, graph, graph.x)[1][asked], torch.from_numpy(task.data.labels)[asked])
    gradients = torch.autograd.grad(loss, weights(model))
    pairs = list(zip(weights(model), gradients, strict=True))
    expected = {
        "grad_norm": sum(float(g.norm()) for _, g in pairs),
        "snip": sum(float((w * g).abs().sum()) for w, g in pairs),
        "plain": sum(float((w * g).sum()) for w, g in pairs),
    }
    assert PROXIES[name](Subject(model, task, [(graph, labels)])) == pytest.approx(expected[name], rel=1e-6)


def test_synflow_is_of_the_whole_graph_with_features_of_ones() -> None:
    model, task, batch = nodes()
    positive = deepcopy(model)
    with torch.no_grad():
        for weight in positive.parameters():
            weight.abs_()
    total = by_hand(positive, batch[0], torch.ones_like(batch[0].x))[1].sum()
    gradients = torch.autograd.grad(total, weights(positive))
    flow = sum(float((w * g).sum()) for w, g in zip(weights(positive), gradients, strict=True))
    assert PROXIES["synflow"](Subject(model, task, [batch])) == pytest.approx(math.log(flow), rel=1e-6)


def test_naswot_holds_the_training_nodes_units_against_each_other() -> None:
    model, task, (graph, labels) = nodes()
    before, _ = by_hand(model, graph, graph.x)
    on = before[torch.from_numpy(np.sort(task.data.train))] > 0
    kernel = torch.tensor([[float((one == other).sum()) for other in on] for one in on], dtype=torch.float64)
    sign, expected = torch.linalg.slogdet(kernel)
    found = PROXIES["naswot"](Subject(model, task, [(graph, labels)]))
    assert found == pytest.approx(float(expected) if sign > 0 else -math.inf, rel=1e-9)


def logarithms(rows: Tensor) -> float:
    values = torch.linalg.eigvalsh(torch.corrcoef(rows)) + 1e-5
    return -float((values.log() + 1 / values).sum())


def test_the_jacobian_is_that_in_the_training_nodes_own_features() -> None:
    model, task, (graph, labels) = nodes()
    x = graph.x.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(by_hand(model, graph, x)[1].sum(), x)
    expected = logarithms(jacobian[torch.from_numpy(np.sort(task.data.train))])
    assert PROXIES["jacob_cov"](Subject(model, task, [(graph, labels)])) == pytest.approx(expected, rel=1e-6)


def each(graphs: Any) -> Iterator[Tensor]:
    """The numbers of each graph's nodes."""
    for index in range(graphs.num_graphs):
        yield (graphs.batch == index).nonzero().squeeze(1)


def test_graphs_are_held_against_each_other_in_the_nodes_that_both_have() -> None:
    model, task, (graphs, labels) = families()
    on = by_hand(model, graphs, graphs.x)[0] > 0
    codes = [on[rows] for rows in each(graphs)]
    kernel = torch.zeros(6, 6, dtype=torch.float64)
    for i, one in enumerate(codes):
        for j, other in enumerate(codes):
            both = min(len(one), len(other))
            kernel[i, j] = (one[:both] == other[:both]).sum()
    sign, expected = torch.linalg.slogdet(kernel)
    found = PROXIES["naswot"](Subject(model, task, [(graphs, labels)]))
    assert found == pytest.approx(float(expected) if sign > 0 else -math.inf, rel=1e-9)


def test_the_jacobian_of_graphs_is_filled_with_zeros() -> None:
    model, task, (graphs, labels) = families()
    x = graphs.x.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(model(Graph(x, graphs.edge_index, graphs.batch, 6)).sum(), x)
    most = max(map(len, each(graphs)))
    rows = torch.zeros(6, most * x.shape[1], dtype=torch.float64)
    for row, chosen in zip(rows, each(graphs), strict=True):
        row[: len(chosen) * x.shape[1]] = jacobian[chosen].flatten()
    assert PROXIES["jacob_cov"](Subject(model, task, [(graphs, labels)])) == pytest.approx(logarithms(rows), rel=1e-6)


def test_the_rows_of_images_nodes_and_graphs() -> None:
    digits: Any = make("task", "digits", {})
    assert digits.rows((torch.zeros(3, 1, 8, 8), None)).tolist() == [[0], [1], [2]]
    karate: Any = Karate()
    labels = torch.full((34,), -100)
    labels[[4, 20]] = 1
    assert karate.rows((None, labels)).tolist() == [[4], [20]]
    graphs = Graph(torch.zeros(6, 1), torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 1, 1, 1, 2, 2]), 3)
    rows = GraphFamilies(graphs=5).rows((graphs, torch.zeros(3)))
    assert rows.tolist() == [[0, -1, -1], [1, 2, 3], [4, 5, -1]]


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("task", [Karate(), GraphFamilies(graphs=5)], ids=["nodes", "graphs"])
def test_every_convolution_can_be_judged_by_every_proxy(convolution: str, task: Any) -> None:
    space = GNNSpace(layers=1, hidden=(8,), convolutions=(convolution,), activations=("elu",), outputs=("linear",))
    context = Context(space, task, CPU, 0)
    architecture = space.domain(task).complete({})
    found = ZeroCost(proxy="zico", batch_size=4)._scores(architecture, Fidelity(), context)
    assert math.isfinite(found["zico"])
    others = ZeroCost(proxy="+".join(name for name in PROXIES if name not in ("zico", "naswot", "jacob_cov")))
    assert all(map(math.isfinite, others._scores(architecture, Fidelity(), context).values()))


def test_zico_sees_as_many_parts_of_the_training_nodes_as_it_wants_batches() -> None:
    task = Karate()
    task.to(CPU)
    batches = ZeroCost(proxy="zico", batch_size=4)._drawn(task, 1.0)
    first, second = (set(task.rows(batch).flatten().tolist()) for batch in batches)
    assert (len(first), len(second)) == (4, 4)
    assert first | second == set(task.data.train.tolist())
    with pytest.raises(ConfigError, match=r"expects 2 batches of 5; the training data .* has 1: choose"):
        ZeroCost(proxy="zico", batch_size=5)._drawn(task, 1.0)


@pytest.mark.parametrize("task", ["karate", "graph_families:graphs=5"])
def test_a_search_by_a_proxy_on_graphs(task: str, tmp_path: Path) -> None:
    run = nasengine.search(
        "gnn:layers=1,hidden=[8]", "random", task, "zero_cost", trials=3, baseline=0, out=tmp_path / "run",
        final_fidelity=Fidelity(epochs=1),
    )  # fmt: skip
    assert run.finished
    assert "test_accuracy" in run.best.metrics


def test_what_makes_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a task that sorts tensors into classes"):
        nasengine.search("gan", "random", "generation:data=ring", "zero_cost", trials=1, out=tmp_path / "run")


def test_too_few_examples_for_its_batches_are_said_before_there_is_a_folder(tmp_path: Path) -> None:
    given: dict[str, Any] = {"evaluator": "zero_cost:proxy=zico", "trials": 1, "out": tmp_path / "run"}
    with pytest.raises(ConfigError, match=r"expects 2 batches of 64; the training data .* has 1: choose a smaller"):
        nasengine.search("gnn", "random", "graph_families:graphs=20", **given)
    assert not (tmp_path / "run").exists()
