"""The space of GraphNAS: its attentions and aggregators against their formulas, its size, and its supernet."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from nasengine import ConfigError, SearchSpace, SpaceError, Task
from nasengine.evaluators.tasks.graphs import GraphFamilies
from nasengine.evaluators.tasks.karate import Karate
from nasengine.registry import make
from nasengine.search_spaces.graphnas import GraphNASSpace
from nasengine.search_spaces.operations.graphnas import AGGREGATORS, ATTENTIONS, Layer, aggregators, attentions
from nasengine.search_spaces.operations.message_passing import Edges
from nasengine.testing import SpaceContract, TinyTask

SMALL: dict[str, Any] = {"heads": (1, 2, 3), "hidden": (4, 6)}
needs_layers = pytest.mark.skipif(not find_spec("torch_geometric"), reason="needs PyTorch Geometric")


@cache
def karate() -> Any:
    return Karate()


class TestGraphNASSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return GraphNASSpace(**SMALL)

    def task(self) -> Task:
        return karate()


class TestGraphNASSpaceOfGraphs(SpaceContract):
    def make(self) -> SearchSpace:
        return GraphNASSpace(layers=3, **SMALL)

    def task(self) -> Task:
        return GraphFamilies(graphs=5)


def club(heads: int = 2, hidden: int = 3) -> tuple[Tensor, Edges]:
    """Random features of the karate club, and its edges with those from each member to itself."""
    edges = karate().example().edge_index
    x = torch.randn(34, heads, hidden, generator=torch.Generator().manual_seed(0))
    return x, Edges(edges[0], edges[1], 34).looped


def score(name: str, layer: Any, node: Tensor, neighbour: Tensor) -> Tensor:
    """Table 1 of the paper for a node and its neighbour, (heads, hidden) each, before the softmax."""
    left, right = getattr(layer, "left", 0), getattr(layer, "right", 0)
    formulas: dict[str, Callable[[], Tensor]] = {
        "gat": lambda: leaky_relu((left * node).sum(1) + (right * neighbour).sum(1), 0.2),
        "gat_sym": lambda: (
            leaky_relu((left * node).sum(1) + (right * neighbour).sum(1), 0.2)
            + leaky_relu((left * neighbour).sum(1) + (right * node).sum(1), 0.2)
        ),
        "cos": lambda: ((left * node) * (right * neighbour)).sum(1),
        "linear": lambda: (left * neighbour).sum(1).tanh(),
        "generalized_linear": lambda: (layer.after * (left * node + right * neighbour).tanh()).sum(1),
    }
    return formulas[name]()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attentions_follow_their_formulas(name: str) -> None:
    x, edges = club()
    torch.manual_seed(0)
    layer: Any = attentions(2, 3)[name]()
    found = layer(x, edges)
    assert found.shape == (len(edges.source), 2)
    for node in (0, 9):
        (own,) = torch.nonzero(edges.target == node, as_tuple=True)
        neighbours = edges.source[own]
        if name == "const":
            expected = torch.ones(len(own), 2)
        elif name == "gcn":
            sizes = [math.sqrt(len(own) * int(edges.degree[other])) for other in neighbours]
            expected = (1 / torch.tensor(sizes)).view(-1, 1).expand(-1, 2)
        else:
            expected = torch.stack([score(name, layer, x[node], x[other]) for other in neighbours]).softmax(0)
        assert torch.allclose(found[own], expected, atol=1e-5)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_aggregators_put_a_nodes_messages_together(name: str) -> None:
    x, edges = club()
    torch.manual_seed(0)
    aggregator: Any = aggregators(3)[name]()
    found = aggregator(x[edges.source], edges)
    for node in (0, 9):
        messages = x[edges.source[edges.target == node]]
        expected = {
            "sum": lambda messages=messages: messages.sum(0),
            "mean": lambda messages=messages: messages.mean(0),
            "max": lambda messages=messages: messages.amax(0),
            "mlp": lambda messages=messages: aggregator.second(aggregator.first(messages.sum(0)).relu()),
        }[name]()
        assert torch.allclose(found[node], expected, atol=1e-5)


@needs_layers
def test_with_gats_attention_and_a_sum_a_layer_is_gats() -> None:
    from torch_geometric import nn as layers

    torch.manual_seed(0)
    x, edges = club(1, 5)
    own = Layer((1, 5), 2, 3, attentions(2, 3)["gat"](), aggregators(3)["sum"](), nn.Identity(), 0.6).eval()
    own.bias.data += 0.1
    theirs = layers.GATConv(5, 3, heads=2).eval()
    attention: Any = own.attention
    theirs.lin.weight, theirs.bias = nn.Parameter(own.map.view(6, 5)), nn.Parameter(own.bias.flatten())
    theirs.att_dst, theirs.att_src = nn.Parameter(attention.left[None]), nn.Parameter(attention.right[None])
    plain = karate().example().edge_index
    assert torch.allclose(own(x, edges).flatten(1), theirs(x.flatten(1), plain), atol=1e-5)


def test_the_last_layer_is_the_mean_of_its_heads() -> None:
    torch.manual_seed(0)
    x, edges = club(1, 5)
    parts = (attentions(2, 3)["gat"](), aggregators(3)["sum"]())
    heads, last = (Layer((1, 5), 2, 3, *parts, end, 0.6).eval() for end in (nn.Identity(), None))
    last.load_state_dict(heads.state_dict())
    assert torch.allclose(last(x, edges), heads(x, edges).mean(1), atol=1e-6)


def test_the_size_is_the_papers_for_each_layer() -> None:
    """7 attentions, 4 aggregators, 8 activations, 6 numbers of heads, 7 of channels; the last layer has its classes."""
    domain = GraphNASSpace().domain(karate())
    assert domain.size == 9408 * (7 * 4 * 6)


def test_the_drawing_and_the_text_show_each_layer() -> None:
    space = GraphNASSpace()
    picks: dict[str, Any] = {
        "layer0.attention": "gat", "layer0.aggregator": "sum", "layer0.activation": "elu", "layer0.heads": 8,
        "layer0.hidden": 16, "layer1.attention": "gcn", "layer1.aggregator": "mean", "layer1.heads": 1,
    }  # fmt: skip
    architecture = space.domain(karate()).complete(picks)
    drawn = space.graph(architecture)
    labels = [drawn.nodes[node]["label"] for node in nx.topological_sort(drawn)]
    assert labels == ["features", "gat\nsum\nelu\n8 × 16", "gcn\nmean\n1 × classes"]
    assert space.describe(architecture) == "layer 0: gat, sum, elu, 8 × 16\nlayer 1: gcn, mean, 1 × classes"


def test_a_task_without_graphs_is_refused() -> None:
    space: Any = make("space", "graphnas", {})
    with pytest.raises(SpaceError, match="the space 'graphnas' has networks for graphs"):
        space.check(TinyTask())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"layers": 0}, "layers = 0 and dropout = 0.6"),
        ({"dropout": 1.0}, "a rate from 0 to below 1"),
        ({"heads": (0,)}, "expected different numbers of at least 1"),
        ({"hidden": (4, 4)}, "expected different numbers of at least 1"),
        ({"attentions": ("gta",)}, "expected different ones of gat, gcn"),
        ({"aggregators": ()}, "expected different ones of sum, mean"),
        ({"activations": ("swish",)}, "expected different ones of sigmoid"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        GraphNASSpace(**wrong)
