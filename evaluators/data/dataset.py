"""Dataset: what the reader of a format found, before it is split into training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasengine import DataError, Split

from .images import Images, ImageSplits, stratified

IN_WORDS: Mapping[Split, str] = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class Stored:
    """One part of the data as it was stored. pixels: (N, C, H, W). labels: (N,), whole numbers or text."""

    pixels: NDArray[np.generic]
    labels: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images and labels, with validation and test parts of their own or without.

    stored_as: the format, in words. names: of the classes, by label. notes: what people must know about the reading.
    """

    stored_as: str
    names: tuple[str, ...]
    train: Images
    valid: Images | None = None
    test: Images | None = None
    notes: tuple[str, ...] = ()

    def split(self, valid: float, test: float, rng: np.random.Generator) -> ImageSplits:
        """All three parts. One that the data does not come with is drawn from its training part: that fraction of
        every class, at random. Raises DataError where a class has too few images for that."""
        wanted: dict[Split, float] = {}
        if self.valid is None:
            wanted["valid"] = valid
        if self.test is None:
            wanted["test"] = test
        self._check_sizes(["train", *wanted])
        kept, *drawn = draw(self.train.labels, list(wanted.values()), rng)
        held_out = dict(zip(wanted, (self.train.take(np.sort(indices)) for indices in drawn), strict=True))
        # in this order any stretch of the training part holds all classes in proportion
        train = self.train.take(kept[stratified(self.train.labels[kept], (1.0,), rng)[0]])
        parts = train, self.valid or held_out["valid"], self.test or held_out["test"]
        return ImageSplits(*parts, self.names, self._found(*parts))

    def _check_sizes(self, parts: Sequence[Split]) -> None:
        for name, count in zip(self.names, np.bincount(self.train.labels, minlength=len(self.names)), strict=True):
            if count < len(parts):
                *words, last = (IN_WORDS[part] for part in parts)
                raise DataError(
                    f"the class {name!r} has {count} image{'s' if count > 1 else ''}, which {', '.join(words)} and "
                    f"{last} have to share; expected at least {len(parts)}: add images to it, or take the class away"
                )

    def _found(self, train: Images, valid: Images, test: Images) -> str:
        _, channels, height, width = train.pixels.shape
        found = (
            f"{self.stored_as}: {len(train):,} training, {len(valid):,} validation and {len(test):,} test images, "
            f"{height}×{width} {'grey' if channels == 1 else 'colour'}, {len(self.names)} classes"
        )
        return found + (f" ({'; '.join(self.notes)})" if self.notes else "")


def assemble(
    stored_as: str,
    where: Path,
    parts: Mapping[Split, Stored],
    *,
    size: int | None,
    names: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """A dataset from its stored parts, checked, the classes numbered from 0 and the images resized to size × size.

    names: what the stored labels stand for, where they are indices into a list. Raises DataError.
    """
    for part, stored in parts.items():
        check_part(where, part, stored)
    labels, values = numbered(where, {part: stored.labels for part, stored in parts.items()})
    pixels = {part: stored.pixels for part, stored in parts.items()}
    if size is not None and any(stored.shape[2:] != (size, size) for stored in pixels.values()):
        height, width = pixels["train"].shape[2:]
        notes = (f"resized from {height}×{width} to {size}×{size}, as asked", *notes)
        pixels = {part: resized(stored, size) for part, stored in pixels.items()}
    check_agreement(where, pixels)
    images = {part: Images(pixels[part], labels[part]) for part in parts}
    shown = tuple(str(value) if names is None else names[int(value)] for value in values)
    return Dataset(stored_as, shown, images["train"], images.get("valid"), images.get("test"), notes)


def check_part(where: Path, part: Split, stored: Stored) -> None:
    """Raises DataError where a part is empty, lacks labels, or holds numbers that nothing can be learnt from."""
    pixels, labels = stored.pixels, stored.labels
    if not pixels.size:
        raise DataError(f"{where}: the {IN_WORDS[part]} part holds no images; add some, or leave the part out")
    if len(pixels) != len(labels):
        raise DataError(
            f"{where}: the {IN_WORDS[part]} part has {len(pixels):,} images and {len(labels):,} labels; "
            f"expected one label an image"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{where}: the {IN_WORDS[part]} images hold NaN or infinite pixels; expected finite numbers")


def check_agreement(where: Path, pixels: Mapping[Split, NDArray[np.generic]]) -> None:
    """Raises DataError where a part's images differ from the training images in shape or type of number."""
    train = pixels["train"]
    for part, others in pixels.items():
        if others.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{where}: the training images are {train.shape[1:]} (channels, height, width) and the "
                f"{IN_WORDS[part]} images {others.shape[1:]}; expected the same; give a size to resize to, as size=32"
            )
        if others.dtype != train.dtype:  # 0…255 beside 0…1, as a rule
            raise DataError(
                f"{where}: the training pixels are stored as {train.dtype} and the {IN_WORDS[part]} pixels as "
                f"{others.dtype}; store both as the same type and on the same scale"
            )


def numbered(
    where: Path, labels: Mapping[Split, NDArray[np.generic]]
) -> tuple[dict[Split, NDArray[np.int64]], list[str | int]]:
    """The labels as 0…K−1, and the K values that they stood for, in order. Raises DataError."""
    if len({part_labels.dtype.kind in "US" for part_labels in labels.values()}) > 1:
        raise DataError(f"{where}: some parts' labels are text and others' are numbers; expected the same in all")
    distinct = {part: np.unique(part_labels, return_inverse=True) for part, part_labels in labels.items()}
    values: list[str | int] = distinct["train"][0].tolist()
    if len(values) < 2:
        raise DataError(
            f"{where}: the training images are all of the class {values[0]!r}; expected two classes or more"
        )
    place = {value: index for index, value in enumerate(values)}
    codes: dict[Split, NDArray[np.int64]] = {}
    for part, (present, inverse) in distinct.items():
        unknown = [value for value in present.tolist() if value not in place]
        if unknown:
            raise DataError(
                f"{where}: the class {unknown[0]!r} is in the {IN_WORDS[part]} part but not in the training part; "
                f"add training images of it, or take it away"
            )
        codes[part] = np.array([place[value] for value in present.tolist()], dtype=np.int64)[inverse]
    return codes, values


def resized(pixels: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """(N, C, H, W) → (N, C, size, size), bilinear, by the library that resizes image files, so that the same data
    reads the same from every format."""
    if pixels.shape[2:] == (size, size):
        return pixels
    result = np.empty((*pixels.shape[:2], size, size), pixels.dtype)
    for place in np.ndindex(*pixels.shape[:2]):
        result[place] = np.asarray(Image.fromarray(pixels[place]).resize((size, size), Image.Resampling.BILINEAR))
    return result


def draw(labels: NDArray[np.int64], fractions: Sequence[float], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """What is kept, then a random part for each fraction: disjoint indices, every class in every part.

    Unlike `stratified`, it leaves no part without a small class: of 3 images, one goes to each of three parts.
    """
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(shares(len(members), fractions), dtype=np.int64)
        *drawn, kept = np.split(members, ends)
        for part, chunk in zip(parts, [kept, *drawn], strict=True):
            part.append(chunk)
    return [np.concatenate(part) for part in parts]


def shares(count: int, fractions: Sequence[float]) -> list[int]:
    """How many of a class's images each fraction is: at least one, and never the last one that another part needs."""
    taken: list[int] = []
    for position, fraction in enumerate(fractions):
        waiting = len(fractions) - position  # the fractions still to come, and what is kept
        taken.append(min(max(1, round(fraction * count)), count - sum(taken) - waiting))
    return taken
