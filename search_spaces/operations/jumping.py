"""Jumping knowledge: what the last layer reads of all layers before it.

Xu, Li, Tian, Sonobe, Kawarabayashi, Jegelka 2018, "Representation Learning on Graphs with Jumping Knowledge Networks",
ICML, section 4. Each takes the outputs of the layers, (N, hidden) each, and how much each counts: 1, or in a supernet
the weight of all depths that reach it. Those that are not there at all are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import join, mask_channels

from .message_passing import MEMORY, linear

Share = Tensor | float


class Last(nn.Module):
    """The last layer's output."""

    def forward(self, states: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        deeper = [*shares[1:], 0.0]
        lasts = [share - after for share, after in zip(shares, deeper, strict=True)]
        there = [pair for pair in zip(states, lasts, strict=True) if isinstance(pair[1], Tensor) or pair[1]]
        return sum_of([counted(h, last) for h, last in there])


class Largest(nn.Module):
    """Channel by channel the largest of all."""

    def forward(self, states: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        known = [
            torch.where(share > 0, share * h, -torch.inf) if isinstance(share, Tensor) else counted(h, share)
            for h, share in zip(states, shares, strict=True)
        ]
        return torch.stack(known).amax(0)


class Concatenated(nn.Module):
    """All of them, through a linear map, so that what follows is as wide as ever."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers, self.map = layers, linear(join([hidden] * layers), hidden)
        self.mask = mask_channels(hidden)

    def forward(self, states: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        known = [counted(h, share) for h, share in zip(states, shares, strict=True)]
        absent = [torch.zeros_like(states[0])] * (self.layers - len(states))
        return self.mask(self.map(torch.cat([*known, *absent], dim=1)))  # type: ignore[no-any-return]


class Weighted(nn.Module):
    """Their mean, weighted for each node by what an LSTM says of the layers, in both directions, MEMORY / 2 channels
    each."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.forwards, self.backwards = (nn.LSTMCell(hidden, MEMORY // 2) for _ in range(2))
        self.score = linear(MEMORY, 1)

    def forward(self, states: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        known = [counted(h, share) for h, share in zip(states, shares, strict=True)]
        there = _read(self.forwards, known)
        back = _read(self.backwards, known[::-1])[::-1]
        scores = torch.stack([self.score(torch.cat(both, dim=1)) for both in zip(there, back, strict=True)])
        counts = torch.stack([torch.as_tensor(share, device=scores.device) for share in shares])
        weights = functional.softmax(scores + counts.clamp(min=1e-30).log().view(-1, 1, 1), dim=0)
        return (weights * torch.stack(list(states))).sum(0)


def _read(cell: nn.LSTMCell, sequence: Sequence[Tensor]) -> list[Tensor]:
    """What the cell gives after each."""
    state, outputs = None, []
    for value in sequence:
        state = cell(value, state)
        outputs.append(state[0])
    return outputs


def counted(h: Tensor, share: Share) -> Tensor:
    """As much of it as counts."""
    return h if isinstance(share, float) and share == 1.0 else share * h


def sum_of(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def jumps(hidden: int, layers: int) -> dict[str, Callable[[], nn.Module]]:
    """All of them, by name."""
    return {
        "last": Last,
        "concat": partial(Concatenated, hidden, layers),
        "max": Largest,
        "lstm": partial(Weighted, hidden),
    }


JUMPS = tuple(jumps(1, 1))
