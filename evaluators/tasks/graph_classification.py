"""Graph classification: what the tasks on many graphs share. A batch is several graphs as one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import Recipe, Split, Task

from ..data.graphs import Graph, GraphSet, joined
from .scores import classification_metrics

EVALUATION_BATCH = 256
Batch = tuple[Graph, Tensor]
"""Graphs as one, and a label for each."""


class GraphClassification(Task):
    """Cross-entropy, accuracy and macro F1 on graphs that fit into memory."""

    family = "GNN"
    recipe = Recipe(
        epochs=100, batch_size=32, optimizer="adam", learning_rate=0.01, weight_decay=0.0, schedule="cosine",
        gradient_clip=5.0, patience=25, search_epochs=25,
    )  # fmt: skip
    exports = ("safetensors",)
    _device = torch.device("cpu")

    @abstractmethod
    def read(self) -> GraphSet:
        """The data. Called once, when it is first needed. Raises DataError."""

    @cached_property
    def data(self) -> GraphSet:
        with torch.device("cpu"):  # shapes may be asked for where others are made without memory
            return self.read()

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.data.graphs[0].x.shape[1:])

    @property
    def classes(self) -> int:  # type: ignore[override]
        return len(self.data.names)

    @property
    def found(self) -> str:  # type: ignore[override]
        return self.data.found

    def to(self, device: torch.device) -> None:
        """Moved there when the first batch is asked for."""
        self._device = device
        for name in ("_placed", "_whole"):
            self.__dict__.pop(name, None)

    @cached_property
    def _placed(self) -> list[Graph]:
        return [graph.to(self._device) for graph in self.data.graphs]

    @cached_property
    def _whole(self) -> dict[Split, list[Batch]]:
        """The batches of a split in order, which are always the same."""
        return {}

    def _batch(self, chosen: Tensor) -> Batch:
        labels = torch.from_numpy(self.data.labels)[chosen].to(self._device)
        return joined([self._placed[index] for index in chosen.tolist()]), labels

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[Batch]:
        count = len(self.data.train)
        start = round(part[0] * count)
        end = max(round(part[1] * count), start + 1)
        chosen = torch.from_numpy(self.data.train[start:end])
        order = torch.randperm(len(chosen), generator=generator)
        for graphs in chosen[order].split(batch_size):  # type: ignore[no-untyped-call]
            yield self._batch(graphs)

    def valid_batches(self) -> Iterator[Batch]:
        return self._in_order("valid")

    def test_batches(self) -> Iterator[Batch]:
        return self._in_order("test")

    def _in_order(self, split: Split) -> Iterator[Batch]:
        if split not in self._whole:
            chosen = torch.from_numpy(getattr(self.data, split))
            self._whole[split] = [self._batch(part) for part in chosen.split(EVALUATION_BATCH)]  # type: ignore[no-untyped-call]
        return iter(self._whole[split])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        graphs, labels = batch
        return functional.cross_entropy(model(graphs), labels)

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """`accuracy` and `macro_f1` (fractions), and `loss` (mean cross-entropy)."""
        model.eval()
        found = [(model(graphs), labels) for graphs, labels in self._in_order(split)]
        scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return classification_metrics(scores, labels, self.classes)

    def example(self) -> Graph:
        """One graph, as a batch."""
        return joined([self.data.graphs[int(self.data.train[0])]])

    def description(self) -> dict[str, Any]:
        return {
            **super().description(),
            "class_names": list(self.data.names),
            "input": "x, edge_index, batch and num_graphs of graphs",
        }
