"""Generation: two players learn until one makes what the other cannot tell from the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasengine import (
    ConfigError,
    Context,
    Fidelity,
    Recipe,
    Split,
    Task,
    TrainingDiverged,
)

from ..data import formats
from ..data.gaussians import DEVIATION, centres, gaussians
from ..data.images import Images, ImageSplits
from ..data.segments import strokes
from .adversarial import Players
from .digits import Digits
from .features import FeatureNetwork, feature_network
from .sample_quality import compared, covered, fourier, inception, near_centres
from .turns import check, trained

BATCH = 250
SHEET = (6, 10)
"""Rows and columns of images on a sheet of samples."""


class Generation(Task):
    """Learn to make examples such as the data: adversarial training, judged by the Fréchet distance to held-out data.

    Images lie between −1 and 1, and are compared by the features of a small classifier of the training data, which is
    trained once and kept; points by random Fourier features. A batch is the real examples and as many latents; where it
    is conditional, the latents end with one-hot labels.

    Options:
        data: digits (8×8), or points of Gaussians on a ring (eight) or a grid (twenty-five).
        deviation: the standard deviation of each Gaussian, where there are some; the ring's radius is 1, and the grid's
            points are half a unit apart. By default 0.01 and 0.0125, as is usual: the narrower, the harder.
        path: in place of it your own images, in any format that the task `images` reads.
        conditional: whether the generator is told which class to make, and the discriminator which it is.
        latents: how many standard normal numbers the generator makes an example of.
        samples: how many examples are compared, of each kind; all there are where there are fewer.
        steps: an epoch is as many passes through the data as make at least so many steps.
        size: of your own images, to resize them to; without it, images of various sizes get the median ones.
        split_seed: which random split, or which points.
    """

    family = "GAN"
    recipe = Recipe(
        epochs=30, batch_size=64, learning_rate=2e-4, weight_decay=0.0, gradient_clip=0.0, schedule="constant",
        optimizer="adam", momentum=0.5, ema=0.99, search_epochs=40, patience=10,
    )  # fmt: skip
    objectives = ("frechet:min",)
    classes = 1
    _device = torch.device("cpu")

    def __init__(
        self,
        *,
        data: Literal["digits", "ring", "grid"] = "digits",
        deviation: float | None = None,
        path: str | None = None,
        conditional: bool = False,
        latents: int = 32,
        samples: int = 1000,
        steps: int = 100,
        size: int | None = None,
        split_seed: int = 0,
    ) -> None:
        if data not in ("digits", *DEVIATION):
            raise ConfigError(f"the task 'generation' has data = {data!r}; expected digits, ring or grid, or a path")
        for name, value, least in (("latents", latents, 1), ("samples", samples, 10), ("steps", steps, 1)):
            if value < least:
                raise ConfigError(f"the task 'generation' has {name} = {value}; expected {least} or more")
        if deviation is not None and not (0 < deviation < math.inf and data in DEVIATION and path is None):
            raise ConfigError(
                f"the task 'generation' has deviation = {deviation}; expected a positive number, and only with "
                f"data=ring or data=grid"
            )
        self.data, self.path, self.conditional, self.latents = data, path, conditional, latents
        self.samples, self.steps, self.size, self.split_seed = samples, steps, size, split_seed
        self.deviation = deviation if deviation is not None else DEVIATION.get(data, 0.0)
        if self.points:
            self.recipe = replace(self.recipe, learning_rate=1e-3, batch_size=128)

    @property
    def points(self) -> bool:
        return self.path is None and self.data != "digits"

    @cached_property
    def splits(self) -> ImageSplits:
        if self.path is not None:
            return formats.splits(self.path, self.size, self.split_seed)
        if self.points:
            rng = np.random.default_rng(self.split_seed)
            return gaussians(self.data, self.deviation, 2_000, 1_000, 1_000, rng)
        return Digits(split_seed=self.split_seed).read()

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Of an example; a model is called with latents."""
        return self.splits.train.pixels.shape[1:]

    @property
    def labels(self) -> int:
        """How many the players are told apart; 0 where it is not conditional."""
        return len(self.splits.names) if self.conditional else 0

    @property
    def found(self) -> str:  # type: ignore[override]
        if self.points:
            return self.splits.found
        accuracy = self.accuracy
        return f"{self.splits.found}; the features are a classifier's that gets {accuracy:.1%} of the validation images"

    @cached_property
    def range(self) -> tuple[float, float]:
        """Of the training pixels."""
        pixels = self.splits.train.pixels
        low, high = float(pixels.min()), float(pixels.max())
        return (low, high) if high > low else (low, low + 1)

    def to(self, device: torch.device) -> None:
        self._device = device
        for name in ("_tensors", "_classifier", "_real"):
            self.__dict__.pop(name, None)

    def scaled(self, part: Images) -> Tensor:
        """Pixels between −1 and 1, (N, C, H, W); points as they are, (N, 2)."""
        values = torch.from_numpy(part.pixels).float()
        low, high = self.range
        return values if self.points else (values - low) * (2 / (high - low)) - 1

    @cached_property
    def _tensors(self) -> dict[str, tuple[Tensor, Tensor]]:
        parts = dict(zip(("train", "valid", "test"), self.splits.parts, strict=True))
        return {
            name: (self.scaled(part).to(self._device), torch.from_numpy(part.labels).to(self._device))
            for name, part in parts.items()
        }

    @cached_property
    def _classifier(self) -> FeatureNetwork:
        train = self.splits.train
        return feature_network(self.scaled(train), torch.from_numpy(train.labels), len(self.splits.names)).to(
            self._device
        )

    @cached_property
    def accuracy(self) -> float:
        """Of the classifier whose features are compared, on the validation images."""
        images, labels = self._tensors["valid"]
        return float(
            torch.cat([self._classifier(some).argmax(1) == of for some, of in _parts(images, labels)]).float().mean()
        )

    @cached_property
    def _real(self) -> dict[str, Tensor]:
        """The features of what generators are held against."""
        return {
            split: self.seen(self._tensors[split][0][: self.count(split)])[0] for split in ("train", "valid", "test")
        }

    def count(self, split: str) -> int:
        """How many examples of a split are compared."""
        return min(self.samples, len(self._tensors[split][0]))

    @torch.no_grad()
    def seen(self, examples: Tensor) -> tuple[Tensor, Tensor]:
        """The examples' features and class probabilities; points have no probabilities, (N, 0)."""
        if self.points:
            return fourier(examples), examples[:, :0]
        found = [self._classifier.features(some) for some in examples.split(BATCH)]  # type: ignore[no-untyped-call]
        features = torch.cat(found)
        return features, self._classifier.scores(features).softmax(1)

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """What a generator is called with to make examples of these classes: (N, latents), and one-hot labels behind
        them where it is conditional."""
        latents = torch.randn(len(labels), self.latents, generator=generator).to(labels.device)
        if not self.conditional:
            return latents
        return torch.cat([latents, nn.functional.one_hot(labels, self.labels).to(latents.dtype)], dim=1)

    def inputs(self, count: int, generator: torch.Generator) -> Tensor:
        """The same, of as many examples; where it is conditional, of all classes in turn."""
        return self.draw(torch.arange(count) % max(self.labels, 1), generator)

    def segments(self, images: Tensor) -> Mapping[str, Tensor]:
        """The parts of digits: ink, its halves, straight runs of it, what it encloses (see `strokes`)."""
        return strokes((images + 1) / 2) if self.path is None and not self.points else super().segments(images)

    def told(self, latents: Tensor) -> Tensor | None:
        """The one-hot labels among latents."""
        return latents[:, self.latents :] if self.conditional else None

    def example(self) -> Tensor:
        return self.draw(torch.arange(2) % max(self.labels, 1), torch.Generator().manual_seed(0))

    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        examples, labels = self._tensors["train"]
        start, end = round(part[0] * len(labels)), max(round(part[1] * len(labels)), round(part[0] * len(labels)) + 1)
        order = start + torch.randperm(end - start, generator=generator)
        for indices in order.to(self._device).split(batch_size):  # type: ignore[no-untyped-call]
            if len(indices) > 1 or len(order) == 1:  # batch normalisation needs two examples
                yield examples[indices], self.draw(labels[indices], generator)

    def valid_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order("valid")

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._in_order("test")

    def _in_order(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for examples, labels in _parts(*self._tensors[split]):
            yield examples, self.draw(labels, generator)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """What both players lose together; along its gradient each follows its own loss (see `joint_loss`)."""
        real, latents = batch
        return Players(model).joint_loss(real, latents, self.told(latents))

    @torch.no_grad()
    def made(self, model: nn.Module, labels: Tensor, seed: int = 0) -> Tensor:
        """What the model makes, in evaluation mode, of the same latents each time."""
        model.eval()
        latents = self.draw(labels, torch.Generator().manual_seed(seed))
        return torch.cat([model(some) for some in latents.split(BATCH)])  # type: ignore[no-untyped-call]

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        own = "near" if self.points else "inception"
        return ("frechet", "kernel", "precision", "recall", "modes", own, "generator_loss", "discriminator_loss")

    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """`frechet`, `kernel`, `precision`, `recall` and `modes`; of images `inception`, of points the share `near` a
        Gaussian. Raises TrainingDiverged where the model makes something that is not finite."""
        count = self.count(split)
        made = self.made(model, self._tensors[split][1][:count])
        return self.judged(made, split)

    def judged(self, made: Tensor, split: Split) -> dict[str, float]:
        """The same of examples that are there; as many as are compared."""
        if not torch.isfinite(made).all():
            raise TrainingDiverged("the generator makes something that is not finite")
        features, probabilities = self.seen(made)
        found = compared(self._real[split], features)
        if self.points:
            middle = torch.from_numpy(centres(self.data)).to(made)
            return {**found, **near_centres(made, middle, self.deviation)}
        counts = torch.bincount(probabilities.argmax(1), minlength=len(self.splits.names))
        return {**found, "inception": inception(probabilities), "modes": float(covered(counts, len(made)))}

    def check_recipe(self, recipe: Recipe, shape: object) -> None:
        check(recipe)

    def fit(
        self, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Recipe | None = None
    ) -> Iterator[Mapping[str, float]]:
        """Both players in turns, each with its own Adam. Yields `train_loss` (the sum of theirs), both losses and the
        validation metrics."""
        for losses in trained(self, model, fidelity, context, recipe or self.recipe):
            yield {**losses, **self.metrics(model, "valid")}

    def description(self) -> dict[str, Any]:
        """A model's input are latents; where it is conditional, one-hot labels behind them."""
        about: dict[str, Any] = {
            "input_shape": [self.latents + self.labels], "output_shape": list(self.input_shape),
            "latents": self.latents, "classes": self.classes,
        }  # fmt: skip
        if not self.points:
            about["range"] = list(self.range)
        return {**about, **({"class_names": list(self.splits.names)} if self.conditional else {})}

    def pictures(self, model: nn.Module) -> Mapping[str, NDArray[np.uint8]]:
        """`samples`: a sheet of what the model makes, of a class a column where it is conditional; of points, where
        they fall, the real ones grey."""
        if self.points:
            from ..data.sheets import scatter

            made = self.made(model, self._tensors["test"][1])
            return {"samples": scatter(self.splits.test.pixels, made.cpu().numpy())}
        from ..data.sheets import sheet

        rows, columns = SHEET
        labels = (torch.arange(rows * columns) % columns % len(self.splits.names)).to(self._device)
        return {"samples": sheet(self.made(model, labels).cpu().numpy(), columns)}


def _parts(examples: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(examples.split(BATCH), labels.split(BATCH), strict=True)  # type: ignore[no-untyped-call]
