"""Image classification: what the image tasks share. The data lives on the device as one tensor a split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import ConfigError, Input, Recipe, Split, Task

from ..data import augmentation
from ..data.images import ImageSplits, averaged

EVALUATION_BATCH = 128  # larger ones make the CPU's allocator return and fetch pages at every layer


class ImageClassification(Task):
    """Cross-entropy and accuracy on images that fit into memory, standardised by the training data's mean and
    standard deviation of each channel. No loader processes: a batch is one index into a tensor."""

    family = "CNN"
    scales = frozenset({"epochs", "data", "resolution"})
    _device = torch.device("cpu")

    @abstractmethod
    def read(self) -> ImageSplits:
        """The data. Called once, when it is first needed. Raises DataError."""

    @cached_property
    def splits(self) -> ImageSplits:
        return self.read()

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.splits.train.pixels.shape[1:]

    @property
    def classes(self) -> int:  # type: ignore[override]
        return len(self.splits.names)

    @property
    def found(self) -> str:  # type: ignore[override]
        return self.splits.found

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of the training pixels."""
        pixels = self.splits.train.pixels
        mean = pixels.mean((0, 2, 3), dtype=np.float64)
        deviation = pixels.std((0, 2, 3), dtype=np.float64)
        return mean.tolist(), np.where(deviation > 0, deviation, 1.0).tolist()

    def at(self, resolution: int) -> Self:
        height, width = self.input_shape[1:]
        if resolution > min(height, width):
            raise ConfigError(
                f"the fidelity's resolution is {resolution}; the images of the task {self.known_as!r} have "
                f"{height}×{width} pixels"
            )
        smaller = copy(self)
        for name in ("statistics", "_tensors", "_scale"):
            vars(smaller).pop(name, None)
        train, valid, test = (averaged(part, resolution) for part in self.splits.parts)
        vars(smaller)["splits"] = replace(self.splits, train=train, valid=valid, test=test)
        return smaller

    def to(self, device: torch.device) -> None:
        """Moved there when the first batch is asked for."""
        self._device = device
        self.__dict__.pop("_tensors", None)

    @cached_property
    def _tensors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Pixels and labels of each split, on the device."""
        parts = dict(zip(("train", "valid", "test"), self.splits.parts, strict=True))
        return {
            name: (torch.from_numpy(part.pixels).to(self._device), torch.from_numpy(part.labels).to(self._device))
            for name, part in parts.items()
        }

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """What standardises a batch, shape (1, C, 1, 1) each."""
        mean, deviation = (torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in self.statistics)
        return mean, deviation

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        labels = self._tensors["train"][1]
        count = len(labels)
        start, end = round(part[0] * count), max(round(part[1] * count), round(part[0] * count) + 1)
        order = start + torch.randperm(end - start, generator=generator)
        for indices in order.to(labels.device).split(batch_size):  # type: ignore[no-untyped-call]
            if len(indices) > 1 or len(order) == 1:  # batch normalisation needs two examples
                yield self._batch("train", indices)

    def valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order("valid")

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order("test")

    def augment(
        self, batch: tuple[Tensor, Tensor], recipe: Recipe, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented as the recipe says; labels become probabilities, (N, classes), where they are smoothed or mixed."""
        images, labels = batch
        names = augmentation.chosen(recipe.augment, images.shape[1])
        if names:
            mean, deviation = (value.to(images.device) for value in self._scale)
            images = augmentation.augmented(images, names, -mean / deviation, generator)
        if recipe.label_smoothing or "mixup" in names:
            labels = augmentation.smoothed(labels, self.classes, recipe.label_smoothing)
        if "mixup" in names:
            images, labels = augmentation.mixed(images, labels, generator)
        return images, labels

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    metric_names = ("accuracy", "loss")

    @torch.no_grad()
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """`accuracy` (a fraction) and `loss` (mean cross-entropy)."""
        model.eval()
        totals = torch.zeros(2, dtype=torch.float64)
        for images, labels in self._in_order(split):
            scores = model(images)
            hits = (scores.argmax(1) == labels).sum()
            totals += torch.stack([hits, functional.cross_entropy(scores, labels, reduction="sum")]).double().cpu()
        accuracy, loss = (totals / len(self._tensors[split][1])).tolist()
        return {"accuracy": accuracy, "loss": loss}

    def description(self) -> dict[str, Any]:
        from ..data.inputs import white_of

        mean, deviation = self.statistics
        names = list(self.splits.names)
        described = {"class_names": names, "mean": mean, "standard_deviation": deviation}
        return {**super().description(), **described, "white": white_of(self.splits.train.pixels)}

    @classmethod
    def read_inputs(cls, path: Path, about: Mapping[str, Any]) -> Iterator[Input]:
        """Image files, folders of them, or arrays in an .npz file, of any size, grey or in colour."""
        from ..data.inputs import read_inputs

        return read_inputs(path, about)

    def _in_order(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        labels = self._tensors[split][1]
        for indices in torch.arange(len(labels), device=labels.device).split(EVALUATION_BATCH):  # type: ignore[no-untyped-call]
            yield self._batch(split, indices)

    def _batch(self, split: str, indices: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = self._tensors[split]
        mean, deviation = (value.to(pixels.device) for value in self._scale)
        images = (pixels[indices].float() - mean) / deviation
        return images.contiguous(memory_format=torch.channels_last), labels[indices]
