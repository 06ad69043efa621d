"""Graph convolutions of PyTorch Geometric: (N, channels_in) features and (2, E) edges to (N, channels_out)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from nasengine import SpaceError


class OnNodes(nn.Module):
    """A layer that looks at each node alone: the edges are passed over."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
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
