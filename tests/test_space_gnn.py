"""The space of graph networks: its layers against those of PyTorch Geometric, its points, and its supernet."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import ConfigError, Domain, SearchSpace, Shapes, SpaceError, Task
from nasengine.cost import flops, memory
from nasengine.evaluators.tasks.graphs import GraphFamilies
from nasengine.evaluators.tasks.karate import Karate
from nasengine.registry import make
from nasengine.search_spaces.gnn import GNNSpace
from nasengine.search_spaces.operations.convolutions import CONVOLUTIONS, Dropout, convolutions
from nasengine.search_spaces.operations.message_passing import Attention, Edges
from nasengine.testing import SpaceContract, TinyTask

needs_layers = pytest.mark.skipif(not find_spec("torch_geometric"), reason="needs PyTorch Geometric")


@cache
def karate() -> Any:
    return Karate()


@cache
def families() -> Any:
    return GraphFamilies(graphs=5)


class TestGNNSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return GNNSpace(layers=2, hidden=(8, 16))

    def task(self) -> Task:
        return karate()


class TestGNNSpaceOfGraphs(SpaceContract):
    """For a class of each graph: nodes are averaged."""

    def make(self) -> SearchSpace:
        return GNNSpace(layers=3, hidden=(8, 24), convolutions=("gin", "sage_lstm", "gat2"))

    def task(self) -> Task:
        return families()


def club() -> tuple[Tensor, Tensor, Edges]:
    """The karate club with five random features, its edges, and as layers take them."""
    x = torch.randn(34, 5, generator=torch.Generator().manual_seed(0))
    edges = karate().example().edge_index
    return x, edges, Edges(edges[0], edges[1], 34)


def unsettled(layer: nn.Module) -> nn.Module:
    """With biases that are not zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return layer.eval()


def by_name(name: str) -> nn.Module:
    return unsettled(convolutions(5, 8, nn.Identity)[name]())


def sage(own: Any, layers: Any) -> nn.Module:
    theirs = layers.SAGEConv(5, 8)
    theirs.lin_l.weight, theirs.lin_l.bias, theirs.lin_r.weight = own.neighbours.weight, own.bias, own.root.weight
    return theirs


def pooled(own: Any, layers: Any) -> nn.Module:
    """Theirs reads as many channels as it has, so ours goes before."""

    class Theirs(nn.Module):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            conv = layers.SAGEConv(8, 8, aggr="max", root_weight=False)
            conv.lin_l.weight, conv.lin_l.bias = own.neighbours.weight, own.root.bias
            return conv(own.pool(x).relu(), edges) + nn.functional.linear(x, own.root.weight)

    return Theirs()


def gcn(own: Any, layers: Any) -> nn.Module:
    theirs = layers.GCNConv(5, 8)
    theirs.lin.weight, theirs.bias = own.neighbours.weight, own.bias
    return theirs


def sgc(own: Any, layers: Any) -> nn.Module:
    """Two hops; theirs are taken before the map."""
    theirs = layers.SGConv(5, 8, K=2)
    theirs.lin.weight, theirs.lin.bias = own.neighbours.weight, own.bias
    return theirs


def cheb(own: Any, layers: Any) -> nn.Module:
    """The minus of theirs is in our weights."""
    theirs = layers.ChebConv(5, 8, K=2)
    theirs.lins[0].weight, theirs.bias = own.root.weight, own.bias
    theirs.lins[1].weight = nn.Parameter(-own.neighbours.weight)
    return theirs


def arma(own: Any, layers: Any) -> nn.Module:
    theirs = layers.ARMAConv(5, 8)
    theirs.init_weight = nn.Parameter(own.neighbours.weight.T[None])
    theirs.root_weight = nn.Parameter(own.root.weight.T[None, None])
    theirs.bias = nn.Parameter(own.bias[None, None, None])
    return theirs


def graph(own: Any, layers: Any) -> nn.Module:
    theirs = layers.GraphConv(5, 8)
    theirs.lin_rel.weight, theirs.lin_rel.bias = own.neighbours.weight, own.bias
    theirs.lin_root.weight = own.root.weight
    return theirs


def gin(own: Any, layers: Any) -> nn.Module:
    return layers.GINConv(nn.Sequential(own.first, nn.ReLU(), own.second))


def gat(own: Any, layers: Any) -> nn.Module:
    """Theirs has one head's channels after the other, ours one channel of each head after the other."""
    heads = own.heads
    theirs = layers.GATConv(5, 8 // heads, heads=heads)
    order = torch.arange(8).view(8 // heads, heads).T.flatten()
    theirs.lin.weight = nn.Parameter(own.map.weight[order])
    theirs.att_src, theirs.att_dst = nn.Parameter(own.source.T[None]), nn.Parameter(own.target.T[None])
    theirs.bias = nn.Parameter(own.bias[order])
    back = order.argsort()

    class Theirs(nn.Module):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return theirs(x, edges)[:, back]

    return Theirs()


THEIRS: dict[str, Any] = {
    "gcn": gcn, "sgc": sgc, "cheb": cheb, "arma": arma, "graph": graph, "gin": gin, "sage_mean": sage,
    "sage_max": pooled, "gat1": gat, "gat2": gat, "gat4": gat, "gat8": gat,
}  # fmt: skip


@needs_layers
@pytest.mark.parametrize("name", THEIRS)
def test_layers_compute_what_those_of_pytorch_geometric_do(name: str) -> None:
    from torch_geometric import nn as layers

    x, edge_index, edges = club()
    own = by_name(name)
    theirs = THEIRS[name](own, layers).eval()
    assert torch.allclose(own(x, edges), theirs(x, edge_index), atol=1e-5)


def test_the_lstm_reads_the_first_neighbours_one_after_the_other() -> None:
    x, edge_index, edges = club()
    own: Any = by_name("sage_lstm")
    lstm = nn.LSTM(32, 32)
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(lstm, f"{part}_l0", getattr(own.cell, part))
    for node in (0, 11, 33):  # 16, 1 and 17 neighbours, of whom it is told of ten
        neighbours = edge_index[0, edge_index[1] == node][:10]
        said, _ = lstm(own.read(x[neighbours]))
        assert torch.allclose(own(x, edges)[node], own.neighbours(said[-1]) + own.root(x[node]), atol=1e-6)


def test_while_it_learns_the_lstm_is_told_of_random_neighbours() -> None:
    _, edge_index, edges = club()
    torch.manual_seed(0)
    told, there = edges.some
    friends = edge_index[0, edge_index[1] == 33].tolist()
    assert there.sum(1).tolist() == edges.degree.clamp(max=10).tolist()
    assert len(set(told[33].tolist())) == 10
    assert set(told[33].tolist()) <= set(friends)
    assert told[33].tolist() != edges.first[0][33].tolist()


def test_a_node_without_neighbours_is_no_accident() -> None:
    edges = Edges(torch.tensor([0, 1]), torch.tensor([1, 0]), 3)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    for name in CONVOLUTIONS:
        assert torch.isfinite(by_name(name)(x, edges)).all(), name


def test_attention_is_shared_out_among_neighbours() -> None:
    _, _, edges = club()
    scores = torch.randn(len(edges.source), 2, generator=torch.Generator().manual_seed(0)) * 50
    shares = edges.softmax(scores)
    for node in (0, 5, 33):
        own = edges.target == node
        assert torch.allclose(shares[own], scores[own].softmax(0), atol=1e-6)
        assert shares[own].sum(0).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
def test_dropout_of_hidden_channels_keeps_as_many_as_it_should_and_their_mean(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 999, requires_grad=True)
    found = Dropout(rate)(x)
    kept = float((found > 0).float().mean())
    assert kept == pytest.approx(1 - rate, abs=4 * (rate * (1 - rate) / x.numel()) ** 0.5)
    assert torch.equal(found.unique(), torch.tensor([0.0, 1 / (1 - rate)]))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(gradient, found)
    for line in (found > 0).float().mean(0), (found > 0).float().mean(1):
        assert float(line.std()) < 0.04  # neither rows nor columns are dropped together


def test_dropout_gives_a_sparse_tensor_where_a_linear_layer_follows() -> None:
    x = torch.zeros(20, 50)
    x[torch.arange(20), torch.arange(20) * 2] = 1.0
    layer = nn.Linear(50, 3)
    torch.manual_seed(0)
    dense = layer(Dropout(0.5)(x))
    torch.manual_seed(0)
    given = Dropout(0.5, sparse=True)(x)
    assert given.layout == torch.sparse_csr
    sparse = layer(given)
    assert torch.allclose(sparse, dense, atol=1e-6)
    one, other = (torch.autograd.grad(found.square().sum(), layer.weight)[0] for found in (dense, sparse))
    assert torch.allclose(one, other, atol=1e-5)
    assert Dropout(0.5, sparse=True)(x + 1).layout == torch.strided  # few of these are zero


def test_dropout_of_features_leaves_zeros_alone_and_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    x = (torch.rand(200, 50) < 0.1).float()
    found = Dropout(0.6)(x)
    assert set(found.unique().tolist()) == {0.0, 2.5}
    assert (found[x == 0] == 0).all()
    assert float((found[x > 0] > 0).float().mean()) == pytest.approx(0.4, abs=0.05)  # of 1,000: ± 0.015
    assert not torch.equal(found, Dropout(0.6)(x))
    x[0] = 1.0  # written into: where it is not zero is another place
    assert (Dropout(0.6)(x)[0] > 0).any()
    assert Dropout(0.6).eval()(x) is x


def test_references_have_their_published_sizes() -> None:
    """Kipf 2017: 1433·16 + 16 + 16·7 + 7. Veličković 2018: 8 heads of 8 channels with two vectors each."""
    space, cora = GNNSpace(), Shapes((1433,), 7)
    sizes = {
        name: sum(weight.numel() for weight in space.shape(architecture, cora).parameters())
        for name, architecture in GNNSpace.references().items()
    }
    gat = 1433 * 64 + 2 * 64 + 64 + 64 * 7 + 2 * 7 + 7
    assert sizes == {"gcn": 23_063, "gat": gat, "graphsage": 2 * 1433 * 64 + 64 + 2 * 64 * 7 + 7}
    known: Any = make("space", "gnn", {})
    for architecture in GNNSpace.references().values():
        known.domain(karate()).validate(architecture)


@needs_layers
@pytest.mark.parametrize("name", ["gcn", "gat"])
def test_references_compute_what_the_papers_networks_do(name: str) -> None:
    from torch_geometric import nn as layers

    x, edge_index, _ = club()
    own: Any = unsettled(GNNSpace().model(nasengine.reference(name), Shapes((5,), 3)))
    first = getattr(own.network.layers, "0").convolution.option(0 if name == "gcn" else 12)
    last = next(own.network.output.children())
    if name == "gcn":
        expected = gcn(last, layers)(gcn(first, layers)(x, edge_index).relu(), edge_index)
    else:
        assert first.heads == 8
        one = layers.GATConv(64, 3)
        one.lin.weight, one.bias = last.map.weight, last.bias
        one.att_src, one.att_dst = nn.Parameter(last.source.T[None]), nn.Parameter(last.target.T[None])
        order = torch.arange(64).view(8, 8).T.flatten()
        eight = layers.GATConv(5, 8, heads=8)
        eight.lin.weight, eight.bias = nn.Parameter(first.map.weight[order]), nn.Parameter(first.bias[order])
        eight.att_src, eight.att_dst = nn.Parameter(first.source.T[None]), nn.Parameter(first.target.T[None])
        expected = one(nn.functional.elu(eight(x, edge_index))[:, order.argsort()], edge_index)
    assert torch.allclose(own(type(karate().example())(x, edge_index)), expected, atol=1e-5)


def domain(**options: Any) -> Domain:
    return GNNSpace(**options).domain(karate())


def test_the_size_is_what_its_decisions_give() -> None:
    """A layer has 15 convolutions, 6 activations, and from the second on perhaps a shortcut."""
    depths = sum(90 * 180**deeper for deeper in range(4))
    assert domain().size == depths * 3 * 4 * 4 * 4
    assert domain(layers=1, convolutions=("gcn",), activations=("relu",), dropouts=(0.5,), outputs=("gcn",)).size == 12


def test_after_one_layer_the_last_is_the_largest_and_the_weighted_mean_of_all() -> None:
    space, task = GNNSpace(layers=2), karate()
    base = {**nasengine.reference("gcn").picks}
    forms = {
        how: space.canonical(space.domain(task).complete({**base, "jumping": how}))
        for how in ("last", "max", "lstm", "concat")
    }
    assert forms["last"] == forms["max"] == forms["lstm"] != forms["concat"]
    torch.manual_seed(0)
    reference = space.model(forms["last"], task)
    state = reference.state_dict()
    for how in ("max", "lstm"):
        model = space.model(space.domain(task).complete({**base, "jumping": how}), task)
        model.load_state_dict(state, strict=False)
        with torch.no_grad():
            assert torch.allclose(model.eval()(task.example()), reference.eval()(task.example()), atol=1e-6)


def test_several_graphs_get_the_mean_of_their_nodes_each() -> None:
    task = families()
    task.to(torch.device("cpu"))
    graphs, labels = next(task.valid_batches())
    model = GNNSpace().model(nasengine.reference("gat"), task).eval()
    with torch.no_grad():
        together = model(graphs)
        alone = [model(task.data.graphs[index]).mean(0) for index in task.data.valid]
    assert together.shape == (len(labels), 4)
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_costs_are_counted_on_shapes_and_are_those_of_the_real_model() -> None:
    space, task = GNNSpace(layers=2), karate()
    rng = np.random.default_rng(0)
    found = space.domain(task)
    for architecture in [nasengine.reference("gcn"), *(found.sample(rng) for _ in range(5))]:
        shape, model = space.shape(architecture, task), space.model(architecture, task)
        assert flops(shape, task) == flops(model, task)
        assert memory(shape, task) == memory(model, task)
    model = space.model(nasengine.reference("gcn"), task)
    assert flops(model, task) == 2 * 34 * (34 * 16 + 16 * 2)  # the two maps; sums over neighbours are not counted


def test_the_drawing_shows_each_layer_and_what_the_last_one_reads() -> None:
    space = GNNSpace()
    picks = {
        **nasengine.reference("gat").picks, "depth": 2, "layer1.convolution": "gin", "layer1.activation": "none",
        "layer1.skip": "residual", "jumping": "max",
    }  # fmt: skip
    architecture = space.domain(karate()).complete(picks)
    drawn = space.graph(architecture)
    assert [drawn.nodes[node]["label"] for node in nx.topological_sort(drawn)] == [
        "features", "gat8\n64 elu", "gin\n64 + input", "max", "gat\nclasses",
    ]  # fmt: skip
    assert list(drawn.predecessors(3)) == [1, 2]
    assert space.describe(architecture).splitlines() == [
        "layer 0: gat8, 64 elu",
        "layer 1: gin, 64 + input",
        "output: gat of max of all layers",
        "dropout: 60%",
    ]


def test_a_task_without_graphs_is_refused() -> None:
    space: Any = make("space", "gnn", {})
    with pytest.raises(SpaceError, match="the space 'gnn' has networks for graphs"):
        space.check(TinyTask())


@pytest.mark.parametrize("space", ["cell", "mobile"])
def test_a_space_of_images_for_a_graph_is_refused_by_what_they_are_for(space: str, tmp_path: Path) -> None:
    said = f"the space '{space}' is of the family CNN, and the task 'karate' of the family GNN; choose two of one"
    with pytest.raises(SpaceError, match=said):
        nasengine.search(space, "random", "karate", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layers": 0}, "layers = 0; expected 1 or more"),
        ({"hidden": (12,)}, "expected different multiples of 8"),
        ({"hidden": ()}, "expected different multiples of 8"),
        ({"convolutions": ("gcn", "gnc")}, "expected different ones of gcn, sgc"),
        ({"activations": ()}, "expected different ones of relu"),
        ({"jumping": ("last", "last")}, "expected different ones of last, concat"),
        ({"outputs": ("gin",)}, "expected different ones of linear"),
        ({"dropouts": (1.0,)}, "expected rates from 0 to below 1"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GNNSpace(**wrong)


def test_attention_weights_are_dropped_too() -> None:
    x, _, edges = club()
    torch.manual_seed(0)
    layer = Attention(5, 8, 2, Dropout(0.5))
    run = partial(layer, x, edges)
    assert not torch.equal(run(), run())
    layer.eval()
    assert torch.equal(run(), run())
