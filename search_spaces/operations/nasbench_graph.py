"""The nine operations of NAS-Bench-Graph (Qin et al. 2022, section 3), as the authors' program has them, with the
initial weights of PyTorch Geometric's layers, of which it is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from .convolutions import Dropout
from .graph import OnNodes
from .message_passing import Attention, Convolution, Edges

OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
"""In the benchmark's order."""
HEADS = 4
"""Of `gat`."""


class Operation(nn.Module):
    """A layer: (N, channels_in), Edges → (N, sum of widths).

    widths: the channels of the layer, and how many zeros stand behind them.
    """

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer, self.widths = layer, (channels, 0)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        found: Tensor = self.layer(x, edges)
        return nn.functional.pad(found, (0, self.widths[1])) if self.widths[1] else found


class Skip(nn.Module):
    """Hands on what it reads: of the raw features (N, features) also as the last of (N, sum of widths)."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = 0, 0

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        if not all(self.widths):  # in a network of its own
            return x
        x = x if x.layout == torch.strided else x.to_dense()
        return nn.functional.pad(x, (sum(self.widths) - x.shape[1], 0))


class Normalised(nn.Module):
    """What comes before a layer that reads another: batch normalisation, ReLU and dropout. Where features may stand
    behind the layer's channels, as in a supernet, they stay as they are, and so do zeros, where no layer was."""

    def __init__(self, channels: int, features: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.features, self.dropout = nn.BatchNorm1d(channels), features, Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if not self.features:
            return self._of_layer(x)
        of_layer, features = x[:, : -self.features], x[:, -self.features :]
        return torch.cat([self._of_layer(of_layer), features], dim=1) if of_layer.any() else x

    def _of_layer(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(x).relu())  # type: ignore[no-any-return]


def operations(channels_in: int, channels_out: int) -> dict[str, Callable[[], nn.Module]]:
    """All nine, in the benchmark's order."""
    plain = partial(Convolution, channels_in, channels_out)
    layers: dict[str, Callable[[], nn.Module]] = {
        "gat": partial(Attention, channels_in, channels_out, HEADS, nn.Identity()),
        "gcn": partial(plain, norm="symmetric", looped=True, root=False),
        "gin": lambda: _as_torch(plain(norm="ones", looped=True, root=False)),
        "cheb": partial(plain, norm="symmetric"),
        "sage": lambda: _as_torch(plain(norm="mean")),
        "arma": partial(plain, norm="symmetric", activation=nn.functional.relu),
        "graph": lambda: _as_torch(plain(norm="ones")),
        "fc": lambda: OnNodes(nn.Linear(channels_in, channels_out)),
    }
    made: dict[str, Callable[[], nn.Module]] = {
        name: lambda layer=layer: Operation(layer(), channels_out)  # type: ignore[misc]
        for name, layer in layers.items()
    }
    return {**made, "skip": Skip}


def _as_torch(layer: Convolution) -> Convolution:
    """With the initial weights of torch's linear layers, which these three have there."""
    for part in (layer.neighbours, layer.root):
        if part is not None:
            part.reset_parameters()
    bound = layer.neighbours.in_features**-0.5
    torch.nn.init.uniform_(layer.bias, -bound, bound)
    return layer
