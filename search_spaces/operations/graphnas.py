"""The layer of GraphNAS: each neighbour's mapped features, weighted by one of several attentions, and put together by
one of several aggregators.

Gao, Yang, Zhang, Zhou, Hu 2020, "Graph Neural Architecture Search", IJCAI (GraphNAS), section 3.1 and table 1.
Features are (N, heads, hidden), so that a supernet's narrower layers have the leading entries of each dimension.
`edges` have one from each node to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import mask_channels

from .convolutions import Dropout
from .message_passing import Edges, linear

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "linear": nn.Identity,
    "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
}


def weights(*sizes: int, rows: int) -> nn.Parameter:
    """Of these sizes, with Glorot's initial weights for a matrix of so many rows."""
    flat = torch.empty(rows, int(torch.Size(sizes).numel()) // max(rows, 1))
    return nn.Parameter(nn.init.xavier_uniform_(flat).view(sizes))


class Constant(nn.Module):
    """1 for each neighbour."""

    def __init__(self, heads: int, hidden: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        return x.new_ones(edges.source.shape[0], x.shape[1])


class Degrees(Constant):
    """1 / √(dᵢ dⱼ), as in GCN."""

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        return edges.symmetric.unsqueeze(1).expand(-1, x.shape[1])


class Scored(nn.Module):
    """A softmax over the neighbours of what a node and a neighbour score together; heads apart."""

    def __init__(self, heads: int, hidden: int) -> None:
        super().__init__()
        self.left, self.right = (weights(heads, hidden, rows=heads) for _ in range(2))

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        return edges.softmax(self.scores(x, edges))

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        """(E, heads)."""
        raise NotImplementedError

    def sums(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, heads) each: W_l h and W_r h."""
        return (x * self.left).sum(2), (x * self.right).sum(2)


class Attention(Scored):
    """leaky_relu(W_l hᵢ + W_r hⱼ), as in GAT."""

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        left, right = self.sums(x)
        return functional.leaky_relu(left[edges.target] + right[edges.source], 0.2)


class Symmetric(Scored):
    """The same in both directions, added."""

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        left, right = self.sums(x)
        there = functional.leaky_relu(left[edges.target] + right[edges.source], 0.2)
        return there + functional.leaky_relu(left[edges.source] + right[edges.target], 0.2)


class Product(Scored):
    """⟨W_l hᵢ, W_r hⱼ⟩."""

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        return ((x * self.left)[edges.target] * (x * self.right)[edges.source]).sum(2)


class OfNeighbour(Scored):
    """tanh(W_l hⱼ)."""

    def __init__(self, heads: int, hidden: int) -> None:
        nn.Module.__init__(self)
        self.left = weights(heads, hidden, rows=heads)

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        return (x * self.left).sum(2)[edges.source].tanh()


class Generalized(Scored):
    """W_a tanh(W_l hᵢ + W_r hⱼ)."""

    def __init__(self, heads: int, hidden: int) -> None:
        super().__init__(heads, hidden)
        self.after = weights(heads, hidden, rows=heads)

    def scores(self, x: Tensor, edges: Edges) -> Tensor:
        both = (x * self.left)[edges.target] + (x * self.right)[edges.source]
        return (both.tanh() * self.after).sum(2)


class Sum(nn.Module):
    """(E, heads, hidden) → (N, heads, hidden)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()

    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        return edges.sums(messages)


class Mean(Sum):
    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        return edges.sums(messages) / edges.degree.clamp(min=1).view(-1, 1, 1)


class Largest(Sum):
    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        return edges.largest(messages.flatten(1)).view(-1, messages.shape[1], messages.shape[2])


class Perceptron(Sum):
    """Of the sum, one for all heads, as in GIN."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden)
        self.first, self.inside, self.second = linear(hidden, hidden), mask_channels(hidden, 2), linear(hidden, hidden)

    def forward(self, messages: Tensor, edges: Edges) -> Tensor:
        return self.second(self.inside(self.first(edges.sums(messages)).relu()))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """(N, heads_in, hidden_in), Edges → (N, heads, hidden), or without `activation` (N, hidden), the mean of the heads.

    sizes_in: heads_in and hidden_in.
    """

    def __init__(
        self,
        sizes_in: tuple[int, int],
        heads: int,
        hidden: int,
        attention: nn.Module,
        aggregator: nn.Module,
        activation: nn.Module | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.map = weights(heads, hidden, *sizes_in, rows=heads * hidden)
        self.bias = nn.Parameter(torch.zeros(heads, hidden))
        self.attention, self.aggregator, self.activation = attention, aggregator, activation
        self.dropout = Dropout(dropout)
        self.heads, self.hidden = mask_channels(heads, 1), mask_channels(hidden, 2)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        heads, hidden = self.bias.shape
        mapped = functional.linear(self.dropout(x).flatten(1), self.map.view(heads * hidden, -1))
        mapped = self.masked(mapped.view(-1, heads, hidden))
        shares = self.dropout(self.attention(mapped, edges))
        found = self.aggregator(mapped[edges.source] * shares.unsqueeze(2), edges) + self.bias
        if self.activation is not None:
            return self.masked(self.activation(found))
        count = self.heads(found.new_ones(1, heads, 1)).sum()  # of the heads that a supernet has picked
        return self.masked(found).sum(1) / count  # type: ignore[no-any-return]

    def masked(self, x: Tensor) -> Tensor:
        return self.heads(self.hidden(x))  # type: ignore[no-any-return]


def attentions(heads: int, hidden: int) -> dict[str, Callable[[], nn.Module]]:
    """All of them, by GraphNAS's names."""
    kinds = {
        "gat": Attention, "gcn": Degrees, "cos": Product, "const": Constant, "gat_sym": Symmetric,
        "linear": OfNeighbour, "generalized_linear": Generalized,
    }  # fmt: skip
    return {name: partial(kind, heads, hidden) for name, kind in kinds.items()}


def aggregators(hidden: int) -> dict[str, Callable[[], nn.Module]]:
    kinds = {"sum": Sum, "mean": Mean, "max": Largest, "mlp": Perceptron}
    return {name: partial(kind, hidden) for name, kind in kinds.items()}


ATTENTIONS = tuple(attentions(1, 1))
AGGREGATORS = tuple(aggregators(1))
