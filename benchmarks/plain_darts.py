"""The DARTS supernet written plainly, to hold nasengine's against: one module an edge and operation, all computed.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: section 3.1. Nothing of nasengine is used;
modules are named as the cell space names them, so that weights can be copied over.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NODES, OPERATIONS = 4, 8
EDGES = [(node, source) for node in range(NODES) for source in range(2 + node)]


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorizedReduce(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))  # type: ignore[no-any-return]


def relu_conv_norm(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def depthwise(channels: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    ]


class MixedOperation(nn.Module):
    """The weighted sum of all eight operations (equation 2)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d
        self.none = Zero(stride)
        self.max_pool_3x3 = nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(channels, affine=False))
        average = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        self.avg_pool_3x3 = nn.Sequential(average, norm(channels, affine=False))
        self.skip_connect = nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=False)
        self.sep_conv_3x3 = nn.Sequential(*depthwise(channels, 3, stride, 1), *depthwise(channels, 3, 1, 1))
        self.sep_conv_5x5 = nn.Sequential(*depthwise(channels, 5, stride, 1), *depthwise(channels, 5, 1, 1))
        self.dil_conv_3x3 = nn.Sequential(*depthwise(channels, 3, stride, 2))
        self.dil_conv_5x5 = nn.Sequential(*depthwise(channels, 5, stride, 2))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        terms = [weight * operation(x) for weight, operation in zip(weights, self.children(), strict=True)]
        return sum(terms[1:], start=terms[0])  # type: ignore[no-any-return]


class Cell(nn.Module):
    def __init__(self, before: tuple[int, int], channels: int, reduces: bool, reduced_before: bool) -> None:
        super().__init__()
        self.first = (
            FactorizedReduce(before[0], channels, affine=True)
            if reduced_before
            else relu_conv_norm(before[0], channels)
        )
        self.second = relu_conv_norm(before[1], channels)
        self.nodes = nn.ModuleList(nn.ModuleDict() for _ in range(NODES))
        for node, source in EDGES:
            edge = MixedOperation(channels, stride=2 if reduces and source < 2 else 1)
            self.nodes[node][str(source)] = edge  # type: ignore[operator]

    def forward(self, before_last: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states = [self.first(before_last), self.second(last)]
        of_edge = dict(zip(EDGES, weights, strict=True))
        for number, node in enumerate(self.nodes):
            edges = node.items()  # type: ignore[operator]
            terms = [edge(states[int(source)], of_edge[number, int(source)]) for source, edge in edges]
            states.append(sum(terms[1:], start=terms[0]))
        return torch.cat(states[2:], dim=1)


class PlainDARTS(nn.Module):
    """(N, 3, 32, 32) → (N, 10).

    alpha: of normal and of reduction cells, shape (2, edges, operations).
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        width = 3 * channels
        self.alpha = nn.Parameter(torch.zeros(2, len(EDGES), OPERATIONS))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        self.reduces = [index in (layers // 3, 2 * layers // 3) for index in range(layers)]
        before, reduced_before = (width, width), False
        for reduces in self.reduces:
            channels *= 2 if reduces else 1
            self.cells.append(Cell(before, channels, reduces, reduced_before))
            before, reduced_before = (before[1], NODES * channels), reduces
        self.head = nn.ModuleDict({"linear": nn.Linear(before[1], 10)})

    def forward(self, images: Tensor) -> Tensor:
        weights = self.alpha.softmax(-1)
        before_last = last = self.stem(images)
        for cell, reduces in zip(self.cells, self.reduces, strict=True):
            before_last, last = last, cell(before_last, last, weights[int(reduces)])
        return self.head["linear"](last.mean((2, 3)))  # type: ignore[no-any-return]
