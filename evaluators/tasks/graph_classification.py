"""Graph classification: what the tasks on many graphs share. A batch is several graphs as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nasengine import Recipe, Split

from ..data.graphs import Graph, GraphSet, joined
from .graph_task import Batch, GraphTask
from .scores import METRICS, classification_metrics

EVALUATION_BATCH = 256


class GraphClassification(GraphTask[GraphSet]):
    """Cross-entropy, accuracy and macro F1 on graphs with a label each. A batch is several of them as one."""

    recipe = Recipe(
        epochs=100, batch_size=32, optimizer="adam", learning_rate=0.01, weight_decay=0.0, schedule="cosine",
        gradient_clip=5.0, patience=25, search_epochs=25,
    )  # fmt: skip

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.data.graphs[0].x.shape[1:])

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

    metric_names = METRICS

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

    def examples(self) -> tuple[Graph, ...]:
        """One graph, and three as one."""
        return self.example(), joined([self.data.graphs[index] for index in self.data.train[:3].tolist()])

    def rows(self, batch: Batch) -> Tensor:
        """Each graph is an example: its nodes, in their order."""
        graphs, labels = batch
        sizes = torch.bincount(graphs.batch, minlength=len(labels))  # type: ignore[arg-type]
        places = torch.arange(int(sizes.max()), device=sizes.device).expand(len(sizes), -1)
        first = (sizes.cumsum(0) - sizes).unsqueeze(1)
        return torch.where(places < sizes.unsqueeze(1), first + places, -1)

    def description(self) -> dict[str, Any]:
        given = (
            f"x (N, {self.input_shape[0]}), edge_index (2, E) and batch (N,) of graphs of N nodes together, whose E "
            f"edges lead from, to, and each of whose nodes is of the graph of that number, from 0"
        )
        return {**super().description(), "input": given}
