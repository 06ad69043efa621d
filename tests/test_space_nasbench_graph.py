"""The space of NAS-Bench-Graph against the benchmark's own table: its count, its parameters, its canonical forms."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, SearchSpace
from nasengine.cost import Costs, flops
from nasengine.evaluators.data.tables import Table, read_table
from nasengine.evaluators.tasks.graphs import GraphFamilies
from nasengine.evaluators.tasks.karate import Karate
from nasengine.registry import make
from nasengine.search_spaces.nasbench_graph import (
    LINKS,
    NASBenchGraphSpace,
    canonical_cell,
    from_nasbench_graph,
)
from nasengine.search_spaces.operations.graph import OnNodes
from nasengine.search_spaces.operations.message_passing import Edges
from nasengine.search_spaces.operations.nasbench_graph import OPERATIONS, operations
from nasengine.testing import SpaceContract, TinyTask

TABLE = Path(__file__).parents[1].parent / "shared" / "data" / "nas" / "nas_bench_graph_cora_citeseer.npz"
needs_table = pytest.mark.skipif(not TABLE.is_file(), reason=f"needs the benchmark's table, {TABLE}")
needs_layers = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("torch_geometric"), reason="needs PyTorch Geometric"
)


class Nodes(TinyTask):
    """Twelve nodes of a ring with five features, of two classes."""

    input_shape: Any = (5,)
    classes = 2

    def __init__(self) -> None:
        around = torch.arange(12)
        edges = torch.stack([torch.cat([around, (around + 1) % 12]), torch.cat([(around + 1) % 12, around])])
        features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
        self.graph = SimpleNamespace(x=features, edge_index=edges)
        self.labels = (features[:, 0] > 0).long()

    def to(self, device: torch.device) -> None:
        pass

    def train_batches(self, batch_size: int, generator: torch.Generator, part: Any = (0.0, 1.0)) -> Iterator[Any]:
        yield self.graph

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch), self.labels)

    def example(self) -> Any:
        return self.graph


class Cora(TinyTask):
    """The shapes of Cora, without its graph."""

    input_shape: Any = (1433,)
    classes = 7


class TestNASBenchGraphSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return NASBenchGraphSpace(hidden=4)

    def task(self) -> Any:
        return Nodes()


def table() -> Table:
    return read_table(TABLE)


def all_cells() -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    for links in LINKS:
        for kinds in product(OPERATIONS, repeat=4):
            yield tuple(map(int, links)), kinds


def test_the_space_has_nine_ways_to_join_four_of_nine_operations() -> None:
    assert NASBenchGraphSpace().domain(Cora()).size == 9 * 9**4


@needs_table
def test_the_canonical_networks_are_the_benchmarks_26206_and_the_one_of_skips_only() -> None:
    forms = {canonical_cell(*cell) for cell in all_cells()}
    notations = {f"{''.join(map(str, links))}|{','.join(operations)}" for links, operations in forms}
    assert notations - set(table().rows) == {"0123|skip,skip,skip,skip"}
    assert set(table().rows) - notations == set()
    assert len(notations) == 26_207


@needs_table
def test_networks_have_the_benchmarks_number_of_parameters_but_for_what_it_does_not_use() -> None:
    space, known = NASBenchGraphSpace(), table()
    chosen = Random(0).sample(sorted(known.rows), 40)
    for name in [*chosen, "0123|skip,skip,gcn,gat", "0011|gcn,gin,fc,skip", "0112|skip,gat,graph,sage"]:
        parameters = sum(weights.numel() for weights in space.shape(from_nasbench_graph(name), Cora()).parameters())
        expected = known.columns["parameters"][known.rows[name][0]]
        assert parameters + 512 * unused(name) + 256**2 * name.count("arma") == pytest.approx(expected, abs=1)


def unused(name: str) -> int:
    """How many nodes read the raw features, at once or through skips: their normalisation is made there, not used."""
    links, _, operations = name.partition("|")
    raw = [True]
    for source, operation in zip(links, operations.split(","), strict=True):
        raw.append(raw[int(source)] and operation == "skip")
    return sum(raw[int(source)] for source in links)


@needs_layers
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "skip"])
def test_layers_compute_what_those_of_pytorch_geometric_do(name: str) -> None:
    from torch_geometric import nn as layers

    x = torch.randn(34, 5, generator=torch.Generator().manual_seed(0))
    edge_index = Karate().example().edge_index
    own = operations(5, 8)[name]()
    with torch.no_grad():
        for weight in own.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        found = own.layer(x, Edges(edge_index[0], edge_index[1], 34))
    layer = own.layer
    order = torch.arange(8)
    if name == "gat":  # theirs has one head's channels after the other
        order = order.view(2, 4).T.flatten()
        theirs = layers.GATConv(5, 2, heads=4)
        theirs.lin.weight, theirs.bias = nn.Parameter(layer.map.weight[order]), nn.Parameter(layer.bias[order])
        theirs.att_src, theirs.att_dst = nn.Parameter(layer.source.T[None]), nn.Parameter(layer.target.T[None])
    elif name == "gcn":
        theirs = layers.GCNConv(5, 8)
        theirs.lin.weight, theirs.bias = layer.neighbours.weight, layer.bias
    elif name == "gin":
        theirs = layers.GINConv(nn.Linear(5, 8))
        theirs.nn.weight, theirs.nn.bias = layer.neighbours.weight, layer.bias
    elif name == "cheb":
        theirs = layers.ChebConv(5, 8, K=2)
        theirs.lins[0].weight, theirs.bias = layer.root.weight, layer.bias
        theirs.lins[1].weight = nn.Parameter(-layer.neighbours.weight)
    elif name == "sage":
        theirs = layers.SAGEConv(5, 8)
        theirs.lin_l.weight, theirs.lin_l.bias, theirs.lin_r.weight = (
            layer.neighbours.weight,
            layer.bias,
            layer.root.weight,
        )
    elif name == "arma":
        theirs = layers.ARMAConv(5, 8)
        theirs.init_weight = nn.Parameter(layer.neighbours.weight.T[None])
        theirs.root_weight, theirs.bias = (
            nn.Parameter(layer.root.weight.T[None, None]),
            nn.Parameter(layer.bias.view(1, 1, 8)),
        )
    elif name == "graph":
        theirs = layers.GraphConv(5, 8)
        theirs.lin_rel.weight, theirs.lin_rel.bias = layer.neighbours.weight, layer.bias
        theirs.lin_root.weight = layer.root.weight
    else:
        theirs = OnNodes(layer.layer)
    with torch.no_grad():
        assert torch.allclose(found[:, order], theirs(x, edge_index), atol=1e-5)


def test_a_skip_at_the_input_hands_on_the_raw_features() -> None:
    task = Nodes()
    model = NASBenchGraphSpace(hidden=4).model(from_nasbench_graph("0123|skip,skip,gcn,gin", hidden=4), task).eval()
    gcn, gin = (next(model.network.children()).nodes[node].children().__next__() for node in (2, 3))
    assert gcn.layer.neighbours.weight.shape == (4, 5)
    assert gin.layer.neighbours.weight.shape == (4, 4)
    edges = Edges(task.graph.edge_index[0], task.graph.edge_index[1], 12)
    joined = next(model.network.children())
    assert [isinstance(norm, nn.Identity) for norm in joined.norms] == [True, True, True, False]
    with torch.no_grad():
        by_hand = joined.head(gin(joined.norms[3](gcn(task.graph.x, edges)), edges))
        assert torch.equal(model(task.graph), by_hand)


def test_a_skip_behind_a_layer_hands_on_what_it_normalised() -> None:
    """As in the authors' program, written out: nodes that no other reads are rectified, joined, and mapped twice."""
    task = Nodes()
    model = NASBenchGraphSpace(hidden=4).model(from_nasbench_graph("0112|gcn,gin,skip,fc", hidden=4), task).eval()
    joined = next(model.network.children())
    gcn, gin, _, fc = (next(node.children()) for node in joined.nodes)
    with torch.no_grad():
        for norm in joined.norms[1:]:
            norm.norm.running_mean.normal_()
        edges = Edges(task.graph.edge_index[0], task.graph.edge_index[1], 12)
        normalised = [lambda x, norm=norm.norm: norm(x).relu() for norm in joined.norms[1:]]
        first = gcn.layer(task.graph.x, edges)
        last = fc.layer(normalised[2](gin.layer(normalised[0](first), edges)), edges)
        both = torch.cat([normalised[1](first), last], 1).relu()
        by_hand = nn.functional.linear(
            nn.functional.linear(both, joined.head[1].weight, joined.head[1].bias),
            joined.head[2].weight,
            joined.head[2].bias,
        )
        assert torch.allclose(model(task.graph), by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0123|gat,skip,skip,gcn", "0123|skip,skip,gat,gcn"),
        ("0013|gat,gcn,gin,skip", "0112|skip,gat,gcn,gin"),
        ("0001|gcn,skip,gat,gin", "0112|skip,gcn,gat,gin"),
        ("0000|gcn,skip,skip,gat", "0011|skip,skip,gat,gcn"),
    ],
)
def test_networks_with_one_canonical_form_have_the_same_layers(text: str, same: str) -> None:
    """Shape by shape, normalisations apart, which skips have, too; the order of what is concatenated may be another."""
    space, task = NASBenchGraphSpace(hidden=4), Nodes()
    models = [space.model(from_nasbench_graph(name, hidden=4), task) for name in (text, same)]
    one, other = ([w.shape for n, w in model.named_parameters() if ".norm" not in n] for model in models)
    assert sorted(one) == sorted(other)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0000|fc,gat,gcn,gat", "0000|gat,gat,gcn,fc"),  # leaves in any order
        ("0123|gat,skip,skip,gcn", "0123|skip,skip,gat,gcn"),  # skips that others read
        ("0011|gat,gcn,skip,gin", "0011|gat,gcn,gin,skip"),  # one that hands on what another reads counts
        ("0013|gat,gcn,gin,skip", "0112|skip,gat,gcn,gin"),  # nobody else reads what it reads
        ("0001|gcn,skip,gat,gin", "0112|skip,gcn,gat,gin"),  # at the input
        ("0012|gin,gat,cheb,gcn", "0012|gat,gin,gcn,cheb"),  # two chains
    ],
)
def test_the_same_network_has_one_canonical_form(text: str, same: str) -> None:
    space = NASBenchGraphSpace()
    assert space.notation(space.canonical(from_nasbench_graph(text))) == same
    assert space.notation(space.canonical(from_nasbench_graph(same))) == same


def test_equal_networks_by_renumbering_compute_the_same() -> None:
    """Where nothing is struck out, the weights of one are those of the other in another order."""
    space, task = NASBenchGraphSpace(hidden=4), Nodes()
    one = space.model(from_nasbench_graph("0012|gin,gat,fc,gcn", hidden=4), task).eval()
    other = space.model(from_nasbench_graph("0012|gat,gin,gcn,fc", hidden=4), task).eval()
    state = one.network.state_dict()
    moved = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if part := {"nodes", "norms"}.intersection(parts):
            at = parts.index(part.pop()) + 1
            parts[at] = str({0: 1, 1: 0, 2: 3, 3: 2}[int(parts[at])])
        moved[".".join(parts)] = tensor
    head = next(name for name, tensor in moved.items() if tensor.shape == (4, 8))
    moved[head] = moved[head][:, [4, 5, 6, 7, 0, 1, 2, 3]]
    other.network.load_state_dict(moved)
    with torch.no_grad():
        assert torch.allclose(one(task.graph), other(task.graph), atol=1e-6)


def test_flops_and_memory_are_counted() -> None:
    """On shapes alone; random numbers are as they were before."""
    space, task = NASBenchGraphSpace(hidden=4), Karate()
    architecture, costs = from_nasbench_graph("0123|gcn,gat,cheb,fc", hidden=4), Costs(space, task)
    before = torch.get_rng_state()
    assert costs.of(architecture, "flops") == flops(space.model(architecture, task), task)
    assert costs.of(architecture, "memory") > 4 * costs.of(architecture, "parameters")
    torch.set_rng_state(before)
    assert Costs(space, task).of(architecture, "flops") > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_several_graphs_are_classified_each() -> None:
    task = GraphFamilies(graphs=5)
    task.to(torch.device("cpu"))
    graphs, labels = next(task.valid_batches())
    model = NASBenchGraphSpace(hidden=4).model(from_nasbench_graph("0012|gin,gat,fc,gcn", hidden=4), task)
    assert model(graphs).shape == (len(labels), 4)


def test_the_notation_reads_back() -> None:
    space: Any = make("space", "nasbench_graph", {})
    rng = np.random.default_rng(0)
    domain = space.domain(Cora())
    for architecture in (domain.sample(rng) for _ in range(20)):
        assert from_nasbench_graph(space.notation(architecture)) == architecture
        assert space.notation(architecture) in space.describe(architecture)


@pytest.mark.parametrize("text", ["", "0012", "0012|gcn,gat", "0021|gcn,gat,gin,fc", "0012|gcn,gat,gin,mlp"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ArchitectureError, match="is no network of NAS-Bench-Graph"):
        from_nasbench_graph(text)
    with pytest.raises(ArchitectureError, match="not of NAS-Bench-Graph"):
        NASBenchGraphSpace().notation(Architecture("nasbench_graph", {}, {"links": "0012"}))


@pytest.mark.parametrize("hidden", [0, 6])
def test_channels_that_the_heads_cannot_share_are_refused(hidden: int) -> None:
    with pytest.raises(ConfigError, match="expected a multiple of 4"):
        NASBenchGraphSpace(hidden=hidden)


def test_a_task_without_graphs_is_refused_before_the_run(tmp_path: Path) -> None:
    said = (
        "the space 'nasbench_graph' has networks for graphs, and an example of the task 'digits' is none: it has no x "
        "and edge_index; choose a task of graphs, or an evaluator that looks results up, such as tabular"
    )
    with pytest.raises(ConfigError) as refused:
        nasengine.search("nasbench_graph", "random", "digits", out=tmp_path / "run")
    assert str(refused.value) == said
    assert not (tmp_path / "run").exists()
    NASBenchGraphSpace().check(Nodes())


def test_neither_the_networks_nor_a_search_in_a_table_need_pytorch_geometric() -> None:
    code = """
import sys
sys.modules["torch_geometric"] = None
from nasengine.search_spaces.nasbench_graph import NASBenchGraphSpace, from_nasbench_graph
from nasengine.testing import TinyTask
space = NASBenchGraphSpace()
assert space.domain(TinyTask()).size == 59_049
assert space.model(from_nasbench_graph("0012|gcn,gat,skip,fc"), TinyTask())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_rate_of_dropout_that_cannot_be_is_refused(dropout: float) -> None:
    with pytest.raises(ConfigError, match="expected a rate from 0 to below 1"):
        NASBenchGraphSpace(dropout=dropout)
