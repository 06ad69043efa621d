"""Node classification: what the tasks on one graph share. The graph lives on the device as one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasengine import ConfigError, Recipe, Split

from ..data.graphs import Graph, LabelledGraph
from ..data.neighbours import Neighbourhoods
from .graph_task import Batch, GraphTask
from .scores import METRICS, classification_metrics

NOT_ASKED = -100
"""The label of nodes that a batch does not ask for; what cross-entropy passes over."""


class NodeClassification(GraphTask[LabelledGraph]):
    """Cross-entropy, accuracy and macro F1 on the nodes of one graph. A batch is a graph and a label for each of its
    nodes, NOT_ASKED for all but the batch's own.

    Transductive: the model always sees the whole graph, and the labels of the nodes asked for. An epoch is one step,
    whatever the batch size. Inductive: it learns from the graph without the nodes to validate and to test on, and is
    validated on that without the test nodes.

    Where `neighbors` says how many at most, for each step outwards, batches are of so many nodes as the recipe says and
    of neighbours drawn around them; the model is judged on the whole graph all the same.
    """

    recipe = Recipe(
        epochs=200, optimizer="adam", learning_rate=0.01, weight_decay=5e-4, schedule="constant", gradient_clip=0.0,
        patience=100, search_epochs=100,
    )  # fmt: skip
    inductive: bool = False
    neighbors: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.data.x.shape[1:]

    def seen(self, split: Split) -> LabelledGraph:
        """The graph as the model knows it when it learns, is validated, or tested."""
        if not self.inductive or split == "test":
            return self.data
        hidden = self.data.test if split == "valid" else np.concatenate([self.data.valid, self.data.test])
        return self.data.without(hidden)

    def to(self, device: torch.device) -> None:
        """Moved there when it is first asked for."""
        self._device = device
        self.__dict__.pop("_placed", None)

    @cached_property
    def _placed(self) -> dict[Any, Any]:
        """What is on the device already: graphs by split, batches of whole graphs by split and nodes."""
        return {}

    @cached_property
    def _learnt_from(self) -> tuple[LabelledGraph, Neighbourhoods]:
        seen = self.seen("train")
        return seen, Neighbourhoods(torch.from_numpy(seen.edges), len(seen.x))

    def _graph(self, split: Split) -> Graph:
        key = split if self.inductive else "train"
        if key not in self._placed:
            self._placed[key] = self.seen(split).graph.to(self._device)
        graph: Graph = self._placed[key]
        return graph

    def _whole(self, split: Split, start: int, end: int) -> Batch:
        """The whole graph, and the labels of a stretch of the split's nodes."""
        key = (split, start, end)
        if key not in self._placed:
            seen = self.seen(split)
            nodes = getattr(seen, split)[start:end]
            labels = np.full(len(seen.x), NOT_ASKED)
            labels[nodes] = seen.labels[nodes]
            self._placed[key] = torch.from_numpy(labels).to(self._device)
        return self._graph(split), self._placed[key]

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[Batch]:
        count = len(self.data.train)
        start = round(part[0] * count)
        end = max(round(part[1] * count), start + 1)
        if not self.neighbors:
            yield self._whole("train", start, end)
            return
        seen, neighbourhoods = self._learnt_from
        nodes = torch.from_numpy(seen.train[start:end])
        order = torch.randperm(len(nodes), generator=generator)
        for seeds in nodes[order].split(batch_size):  # type: ignore[no-untyped-call]
            around, edges = neighbourhoods.around(seeds, self.neighbors, generator)
            labels = torch.full((len(around),), NOT_ASKED)
            labels[: len(seeds)] = torch.from_numpy(seen.labels)[seeds]
            x = self._graph("train").x[around.to(self._device)]
            yield Graph(x, edges.to(self._device)), labels.to(self._device)

    def valid_batches(self) -> Iterator[Batch]:
        yield self._whole("valid", 0, len(self.data.valid))

    def test_batches(self) -> Iterator[Batch]:
        yield self._whole("test", 0, len(self.data.test))

    metric_names = METRICS

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """`accuracy` and `macro_f1` (fractions), and `loss` (mean cross-entropy)."""
        graph, labels = self._whole(split, 0, len(getattr(self.data, split)))
        asked = labels != NOT_ASKED
        return classification_metrics(model.eval()(graph)[asked], labels[asked], self.classes)

    def example(self) -> Graph:
        """The whole graph: the networks of graphs are not for batches of so many examples."""
        return self.seen("train").graph

    def examples(self) -> tuple[Graph, ...]:
        """The whole graph, and what is left of it without some of the nodes and some of the edges."""
        whole = self.example()
        part = self.seen("train").without(self.seen("train").train[::2]).graph
        return whole, Graph(part.x, part.edge_index[:, 1:])

    def rows(self, batch: Batch) -> Tensor:
        """Each node that the batch asks for is an example."""
        return (batch[1] != NOT_ASKED).nonzero()

    def description(self) -> dict[str, Any]:
        given = f"x (N, {self.input_shape[0]}) and edge_index (2, E) of a graph of N nodes, whose E edges lead from, to"
        return {**super().description(), "input": given}

    def sampling(self, inductive: bool, neighbors: tuple[int, ...]) -> None:
        """Sets these two options. Raises ConfigError."""
        if any(count < 1 for count in neighbors):
            raise ConfigError(
                f"the task has neighbors = {list(neighbors)}; expected for each step outwards a number of at least 1"
            )
        self.inductive, self.neighbors = inductive, neighbors
