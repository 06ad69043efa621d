"""Images and labels in memory, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nasengine import ConfigError


@dataclass(frozen=True, slots=True)
class Images:
    """pixels: (N, C, H, W), of any number type. labels: (N,), integers from 0."""

    pixels: NDArray[np.generic]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Images:
        return Images(self.pixels[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class ImageSplits:
    """A dataset in its three parts. names: of the classes, by label. found: what it is, in a sentence."""

    train: Images
    valid: Images
    test: Images
    names: tuple[str, ...]
    found: str

    def first(self, classes: int) -> ImageSplits:
        """Only the images of the first so many classes. Raises ConfigError where there are not so many."""
        if not 2 <= classes <= len(self.names):
            raise ConfigError(f"{classes} classes were asked for; expected 2 to the {len(self.names)} that there are")
        train, valid, test = (part.take(np.flatnonzero(part.labels < classes)) for part in self.parts)
        counts = f"{len(train):,} training, {len(valid):,} validation and {len(test):,} test images"
        found = f"{self.found}; of these the first {classes} classes: {counts}"
        return ImageSplits(train, valid, test, self.names[:classes], found)

    @property
    def parts(self) -> tuple[Images, Images, Images]:
        return self.train, self.valid, self.test


def stratified(
    labels: NDArray[np.int64], fractions: tuple[float, ...], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Random disjoint parts of the given sizes (they add up to 1), every class shared out in that proportion.

    Returns one array of indices a part, each ordered so that the classes are spread evenly over any stretch of it.
    """
    parts: list[list[tuple[float, int]]] = [[] for _ in fractions]
    bounds = np.cumsum(fractions)[:-1]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for part, chunk in zip(parts, np.split(members, np.round(bounds * len(members)).astype(int)), strict=True):
            part += [((place + 0.5) / len(chunk), int(index)) for place, index in enumerate(chunk)]
    return [np.array([index for _, index in sorted(part)], dtype=np.int64) for part in parts]


def spread(images: Images, rng: np.random.Generator) -> Images:
    """The same images in an order in which any stretch holds all classes in proportion."""
    return images.take(stratified(images.labels, (1.0,), rng)[0])


def averaged(images: Images, resolution: int) -> Images:
    """The images at a lower resolution, each pixel the mean of those it stands for; of the same number type."""
    pixels = images.pixels
    parts = [
        functional.interpolate(torch.from_numpy(part).float(), (resolution, resolution), mode="area").numpy()
        for part in np.array_split(pixels, -(-len(pixels) // 1000))
    ]
    smaller = np.concatenate([np.rint(part) if pixels.dtype.kind in "iu" else part for part in parts])
    return Images(smaller.astype(pixels.dtype), images.labels)
