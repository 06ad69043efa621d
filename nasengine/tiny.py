"""A task and a space so small that a whole search takes a second: for tests, by way of `nasengine.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .space import Chooser, SearchSpace
from .task import Recipe, Split, Task
from .widths import mask_channels

CPU = torch.device("cpu")


class TinyTask(Task):
    """Two classes of noisy 1×4×4 images: bright in the upper or in the lower half. 48 + 24 + 24 of them."""

    input_shape = (1, 4, 4)
    classes = 2
    recipe = Recipe(epochs=2, batch_size=16, search_epochs=2)

    metric_names = ("accuracy",)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(96) % 2
        images = 0.5 * torch.randn(96, 1, 4, 4, generator=generator)
        images[labels == 0, :, :2] += 1
        images[labels == 1, :, 2:] += 1
        self._parts = {
            "train": (images[:48], labels[:48]),
            "valid": (images[48:72], labels[48:72]),
            "test": (images[72:], labels[72:]),
        }

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._parts["train"]
        start, end = round(part[0] * len(labels)), round(part[1] * len(labels))
        order = start + torch.randperm(end - start, generator=generator)
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            yield images[chosen], labels[chosen]

    def valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._parts["valid"]

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._parts["test"]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        model.eval()
        images, labels = self._parts[split]
        return {"accuracy": float((model(images).argmax(1) == labels).float().mean())}


class TinySpace(SearchSpace):
    """A space with every verb of `choose`, conditional and shared decisions: 324 architectures."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        width = choose.value("width", (2, 4))

        def branch(name: str) -> nn.Module:
            convolution = partial(nn.Conv2d, width, width, 3, padding=1)
            options: dict[str, Callable[[], nn.Module]] = {
                "conv": convolution,
                "pool": partial(nn.AvgPool2d, 3, 1, 1),
                "none": _Zero,
            }
            return nn.Sequential(choose.one(name, options), mask_channels(width))

        edges = {source: partial(branch, f"edge.{source}") for source in ("a", "b", "c")}
        return _TinyNetwork(
            nn.Sequential(nn.Conv2d(task.input_shape[0], width, 3, padding=1), mask_channels(width)),
            choose.some("edges", edges, k=2),
            choose.depth("depth", [lambda: branch("repeated")] * 2, at_least=1),
            nn.Linear(width, task.classes),
        )


class _Zero(nn.Module):
    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


class _TinyNetwork(nn.Module):
    def __init__(self, stem: nn.Module, edges: Any, chain: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem, self.edges, self.chain, self.head = stem, edges, chain, head

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + sum(edge(x) for _, edge in self.edges.items())
        return self.head(self.chain(x).amax((2, 3)))  # type: ignore[no-any-return]
