"""What the tasks on graphs share, whether of nodes or of whole graphs."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import Task

from ..data.graphs import Graph, GraphSet, LabelledGraph

Data = TypeVar("Data", LabelledGraph, GraphSet)
Batch = tuple[Graph, Tensor]
"""A graph, or several as one, and labels."""


class GraphTask(Task, Generic[Data]):
    """Cross-entropy on graphs that fit into memory."""

    family = "GNN"
    _device = torch.device("cpu")

    @abstractmethod
    def read(self) -> Data:
        """The data. Called once, when it is first needed. Raises DataError."""

    @cached_property
    def data(self) -> Data:
        with torch.device("cpu"):  # shapes may be asked for where others are made without memory
            return self.read()

    @property
    def classes(self) -> int:  # type: ignore[override]
        return len(self.data.names)

    @property
    def found(self) -> str:  # type: ignore[override]
        return self.data.found

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        graph, labels = batch
        return functional.cross_entropy(model(graph), labels)

    def description(self) -> dict[str, Any]:
        return {**super().description(), "class_names": list(self.data.names)}
