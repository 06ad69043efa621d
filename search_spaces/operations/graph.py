"""Where networks for graphs begin and end, and what in them looks at each node alone."""

from __future__ import annotations

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
        sizes = scores.new_zeros(count).index_add(0, batch, torch.ones_like(scores[:, 0]))
        sums = scores.new_zeros(count, scores.shape[1]).index_add(0, batch, scores)
        return sums / sizes.clamp(min=1).unsqueeze(1)


def check_graphs(space: str, task: Task) -> None:
    """Raises SpaceError where the task's examples are no graphs."""
    example = task.example()
    if not (hasattr(example, "x") and hasattr(example, "edge_index")):
        raise SpaceError(
            f"the space {space!r} has networks for graphs, and an example of the task {task.known_as!r} is none: it "
            f"has no x and edge_index; choose a task of graphs"
        )


class OnNodes(nn.Module):
    """A layer that looks at each node alone: the edges are passed over."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edges: object) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]
