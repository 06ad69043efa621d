"""What networks for graphs are made of: where they begin and end, and layers of PyTorch Geometric, which take features
(N, channels_in) and edges (2, E) to (N, channels_out)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nasengine import SpaceError, Task


class GraphNetwork(nn.Module):
    """Takes a graph with features `x` (N, features) and edges `edge_index` (2, E), as PyTorch Geometric's `Data`, and
    gives (N, classes). Where it also has `batch` (N,), which says of each node to which of several graphs it belongs,
    these get the mean of their nodes, (graphs, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, graph: Any) -> Tensor:
        scores: Tensor = self.network(graph.x, graph.edge_index)
        batch = getattr(graph, "batch", None)
        if batch is None:
            return scores
        count = graph.num_graphs
        sizes = torch.zeros(count, device=batch.device).index_add(0, batch, torch.ones_like(batch, dtype=torch.float))
        sums = scores.new_zeros(count, scores.shape[1]).index_add(0, batch, scores)
        return sums / sizes.clamp(min=1).unsqueeze(1)


def check_graphs(space: str, task: Task) -> None:
    """Raises SpaceError where the task's examples are no graphs."""
    example = task.example()
    if not (hasattr(example, "x") and hasattr(example, "edge_index")):
        raise SpaceError(
            f"the space {space!r} has networks for graphs, and an example of the task {task.known_as!r} is "
            f"none, with x and edge_index; choose a task of graphs"
        )


class OnNodes(nn.Module):
    """A layer that looks at each node alone: the edges are passed over."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edges: object) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def convolutions() -> Any:
    """PyTorch Geometric's layers. Raises SpaceError where it is not installed."""
    try:
        from torch_geometric import nn as layers
    except ImportError:
        raise SpaceError(
            "graph layers come from PyTorch Geometric, which is missing; install it with: pip install 'nasengine[gnn]'"
        ) from None
    return layers


def nasbench_graph_operations(channels_in: int, channels_out: int) -> dict[str, Callable[[], nn.Module]]:
    """The nine operations of NAS-Bench-Graph, in its order, with the sizes that its parameter counts imply.

    Where channels_in and channels_out differ, `skip` is a linear map.
    """
    layers = convolutions()
    sizes = (channels_in, channels_out)
    skip = nn.Identity if channels_in == channels_out else partial(nn.Linear, *sizes, bias=False)
    return {
        "gat": partial(layers.GATConv, channels_in, channels_out // 2, heads=2),
        "gcn": partial(layers.GCNConv, *sizes),
        "gin": lambda: layers.GINConv(nn.Linear(*sizes)),
        "cheb": partial(layers.ChebConv, *sizes, K=2),
        "sage": partial(layers.SAGEConv, *sizes),
        "arma": partial(layers.ARMAConv, *sizes),
        "graph": partial(layers.GraphConv, *sizes),
        "fc": lambda: OnNodes(nn.Linear(*sizes)),
        "skip": lambda: OnNodes(skip()),
    }
