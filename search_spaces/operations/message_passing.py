"""Graph convolutions in plain torch: (N, channels_in) features and Edges to (N, channels_out).

They need no other package, have no shapes that depend on values, can be written down as a program (nothing in them
makes a Python number of what is only known when they are called), and find their weights in a supernet where their
widths are chosen: so heads share out the channels in turn (channel c belongs to head c mod heads). Where a sum over
neighbours and a linear map can change places, the map comes first, for it is the narrower. The tests hold them against
the layers of PyTorch Geometric. An edge from a node to itself counts as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import mask_channels

MEMORY = 32
"""Channels of what an LSTM remembers, whatever the widths around it."""
SEQUENCE = 10
"""Of how many neighbours, at most, an LSTM is told."""


class Edges:
    """What layers need to know of a graph's edges, each worked out once in a forward pass.

    source, target: (E,), each edge's ends. nodes: how many the graph has, N.
    """

    def __init__(self, source: Tensor, target: Tensor, nodes: int) -> None:
        self.source, self.target, self.nodes = source, target, nodes

    def sums(self, values: Tensor) -> Tensor:
        """(E, …) → (N, …): for each node the sum over the edges that lead to it."""
        # a sum, for what stands for a shape that is not known yet cannot be unpacked
        nothing = values.new_zeros((self.nodes,) + values.shape[1:])  # noqa: RUF005
        return nothing.index_add(0, self.target, values)

    def largest(self, values: Tensor) -> Tensor:
        """(E, C) → (N, C): the largest over the edges that lead to a node, 0 where none does."""
        index = self.target.view(-1, 1).expand_as(values)
        lowest = values.new_full((self.nodes, values.shape[1]), -torch.inf)
        found = lowest.scatter_reduce(0, index, values, "amax")
        return found.masked_fill(found == -torch.inf, 0.0)

    def spread(self, x: Tensor, weight: Tensor) -> Tensor:
        """(N, C), (E,) → (N, C): for each node the weighted sum of its neighbours' rows."""
        return self.sums(x[self.source] * weight.unsqueeze(1))

    def softmax(self, scores: Tensor) -> Tensor:
        """(E, heads): over the edges that lead to one node."""
        exponentials = (scores - self.largest(scores.detach())[self.target]).exp()
        return exponentials / (self.sums(exponentials)[self.target] + 1e-16)

    @cached_property
    def degree(self) -> Tensor:
        """(N,): how many edges lead to each node."""
        return self.sums(torch.ones_like(self.target, dtype=torch.get_default_dtype()))

    @cached_property
    def ones(self) -> Tensor:
        """(E,): A."""
        return torch.ones_like(self.degree)[self.target]

    @cached_property
    def mean(self) -> Tensor:
        """(E,): D⁻¹ A."""
        return (1 / self.degree.clamp(min=1))[self.target]

    @cached_property
    def symmetric(self) -> Tensor:
        """(E,): D^-½ A D^-½."""
        root = self.degree.clamp(min=1).rsqrt()
        return root[self.source] * root[self.target]

    @cached_property
    def looped(self) -> Edges:
        """The same with an edge from each node to itself."""
        own = self.source.new_ones(self.nodes).cumsum(0) - 1
        return Edges(torch.cat([self.source, own]), torch.cat([self.target, own]), self.nodes)

    @cached_property
    def first(self) -> tuple[Tensor, Tensor]:
        """(N, SEQUENCE) the first neighbours of each node, and whether there are so many."""
        return self._table(self.target.double())

    @cached_property
    def some(self) -> tuple[Tensor, Tensor]:
        """The same of random ones, in a random order."""
        return self._table(self.target + torch.rand_like(self.target, dtype=torch.double))

    def _table(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        order = keys.argsort(stable=True)
        source, target = self.source[order], self.target[order]
        begin = (self.degree.cumsum(0) - self.degree).long()
        place = torch.ones_like(source).cumsum(0) - 1 - begin[target]
        found = source.new_full((self.nodes, SEQUENCE + 1), -1)
        found = found.index_put((target, place.clamp(max=SEQUENCE)), source)[:, :SEQUENCE]
        return found.clamp(min=0), found >= 0


class Convolution(nn.Module):
    """Neighbours' mapped features, summed with weights; often with a map of the node's own, and an activation.

    norm: which of Edges' weights. hops: how many times they are applied. root: whether the node's own features are
    mapped beside.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        norm: str,
        looped: bool = False,
        hops: int = 1,
        root: bool = True,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.norm, self.looped, self.hops, self.activation = norm, looped, hops, activation
        self.neighbours = linear(channels_in, channels_out, bias=False)
        self.root = linear(channels_in, channels_out, bias=False) if root else None
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        edges = edges.looped if self.looped else edges
        found = self.neighbours(x)
        for _ in range(self.hops):
            found = edges.spread(found, getattr(edges, self.norm))
        found = found + self.bias
        if self.root is not None:
            found = found + self.root(x)
        return found if self.activation is None else self.activation(found)


class Isomorphism(nn.Module):
    """GIN's: a perceptron of the sum of a node's features and its neighbours' (Xu, Hu, Leskovec, Jegelka 2019,
    ICLR, equation 4.1, ε = 0)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = linear(channels_in, channels_out)
        self.inside, self.second = mask_channels(channels_out), linear(channels_out, channels_out)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        mapped = functional.linear(x, self.first.weight)
        summed = mapped + edges.spread(mapped, edges.ones) + self.first.bias
        return self.second(self.inside(summed).relu())  # type: ignore[no-any-return]


class Attention(nn.Module):
    """GAT's: neighbours weighted by what they and the node are, with several heads that share out the channels
    (Veličković et al. 2018, ICLR, equations 1 to 5). A node is its own neighbour, too. dropout: of the weights."""

    def __init__(self, channels_in: int, channels_out: int, heads: int, dropout: nn.Module) -> None:
        super().__init__()
        each = channels_out // heads
        self.heads, self.dropout = heads, dropout
        self.map, self.inside = linear(channels_in, channels_out, bias=False), mask_channels(channels_out)
        self.source = nn.Parameter(nn.init.xavier_uniform_(torch.empty(each, heads)))
        self.target = nn.Parameter(nn.init.xavier_uniform_(torch.empty(each, heads)))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        edges = edges.looped
        mapped = self.inside(self.map(x)).unflatten(1, (-1, self.heads))
        of_source, of_target = (mapped * self.source).sum(1), (mapped * self.target).sum(1)
        scores = functional.leaky_relu(of_source[edges.source] + of_target[edges.target], 0.2)
        shares = self.dropout(edges.softmax(scores))
        return edges.sums(mapped[edges.source] * shares.unsqueeze(1)).flatten(1) + self.bias


class Pooling(nn.Module):
    """GraphSAGE's pooling: the largest of what a layer says of each neighbour (Hamilton, Ying, Leskovec 2017, NeurIPS,
    equation 3)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pool, self.inside = linear(channels_in, channels_out), mask_channels(channels_out)
        self.neighbours = linear(channels_out, channels_out, bias=False)
        self.root = linear(channels_in, channels_out)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        said = self.inside(self.pool(x)).relu()
        return self.neighbours(edges.largest(said[edges.source])) + self.root(x)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """GraphSAGE's LSTM, told of some neighbours in a random order (the same, section 3.3). It reads and remembers
    MEMORY channels."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.read, self.cell = linear(channels_in, MEMORY), nn.LSTMCell(MEMORY, MEMORY)
        self.neighbours = linear(MEMORY, channels_out, bias=False)
        self.root = linear(channels_in, channels_out)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        read = self.read(x)
        hidden, cell = torch.zeros_like(read), torch.zeros_like(read)
        neighbours, there = edges.some if self.training else edges.first
        for column in range(SEQUENCE):
            more = there[:, column].unsqueeze(1)
            h, c = self.cell(read[neighbours[:, column]], (hidden, cell))
            hidden, cell = torch.where(more, h, hidden), torch.where(more, c, cell)
        return self.neighbours(hidden) + self.root(x)  # type: ignore[no-any-return]


def linear(channels_in: int, channels_out: int, bias: bool = True) -> nn.Linear:
    """With the papers' initial weights (Glorot, Bengio 2010, AISTATS) and a bias of zero."""
    layer = nn.Linear(channels_in, channels_out, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
