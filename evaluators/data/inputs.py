"""Images for a trained model to judge: files, folders and arrays, brought to the shape and scale that it learnt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nasengine import ConfigError, DataError, Input

from .folders import class_folders, holds_classes, images
from .image_files import SUFFIXES, decode
from .npz import KEYS, as_images, as_labels, load

IN_16_BITS = 65_535.0
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32).reshape(3, 1, 1)
"""What red, green and blue count in grey (ITU-R BT.601, as Pillow's)."""


def white_of(pixels: NDArray[np.generic]) -> float | None:
    """The value that stands for white in an image file: by the type of the pixels, else by what they reach.

    None where they have no such value, being standardised, say.
    """
    if pixels.dtype == np.uint8:
        return 255.0
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > IN_16_BITS:
        return None
    return next(white for white in (1.0, 16.0, 255.0, IN_16_BITS) if high <= white)


def read_inputs(path: Path, about: Mapping[str, Any]) -> Iterator[Input]:
    """Every image of an image file, a folder of such (a folder a class, if it has such), or an .npz file.

    Of an .npz, `images`, `x`, or what is stored as a test part, with or without labels; bytes are scaled as image files
    are, other numbers are taken to be on the scale of the training data. Raises DataError.
    """
    channels, *shape = about["input_shape"]
    mean, deviation = (torch.tensor(about[name]).view(-1, 1, 1) for name in ("mean", "standard_deviation"))

    def prepared(name: str, pixels: NDArray[np.float32], label: str | None = None) -> Input:
        return Input(name, (torch.from_numpy(pixels) - mean) / deviation, label)

    if path.suffix.lower() == ".npz":
        for name, array, label in _stored(path):
            pixels = array.astype(np.float32)
            if array.dtype == np.uint8:
                pixels *= _white(path, about) / 255
            yield prepared(name, _fitted(pixels, channels, shape), _named(label, about))
        return
    for file, label in _files(path):
        yield prepared(str(file), _decoded(file, channels, shape) * np.float32(_white(file, about)), label)


def _files(path: Path) -> Iterator[tuple[Path, str | None]]:
    """The image files, with the name of the class folder that they are in."""
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is neither an image file ({', '.join(sorted(SUFFIXES))}) nor an .npz file")
        yield path, None
    elif not path.is_dir():
        raise DataError(f"there is no file or folder {path}")
    elif holds_classes(path):
        yield from ((file, folder.name) for folder in class_folders(path) for file in images(folder))
    elif found := images(path):
        yield from ((file, None) for file in found)
    else:
        raise DataError(f"{path} holds no images; expected image files, or a folder a class with such")


def _decoded(file: Path, channels: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """(channels, H, W), from 0 (black) to 1 (white)."""
    if channels == 1:
        return np.asarray(decode(file, "F", (shape[0], shape[1])), np.float32)[None] / np.float32(IN_16_BITS)
    return np.asarray(decode(file, "RGB", (shape[0], shape[1])), np.float32).transpose(2, 0, 1) / np.float32(255)


def _named(label: str | None, about: Mapping[str, Any]) -> str | None:
    """The class of a stored label: a number that names no class is its place, as in MNIST and CIFAR."""
    names = [str(name) for name in about.get("class_names") or ()]
    if label is None or label in names or not label.isdecimal() or int(label) >= len(names):
        return label
    return names[int(label)]


def _stored(file: Path) -> Iterator[tuple[str, NDArray[np.generic], str | None]]:
    """Name, pixels (C, H, W) and label of each image in an .npz file."""
    arrays = load(file)
    pairs = [(images, labels) for part in ("test", "train") for images, labels in KEYS[part]]
    stored = next(((i, labels if labels in arrays else None) for i, labels in pairs if i in arrays), None)
    if stored is None:
        raise DataError(f"{file} holds {', '.join(arrays) or 'nothing'}; expected images, x, or x_test")
    pixels = as_images(f"{file}: {stored[0]}", arrays[stored[0]])
    labels: list[str | None] = [None] * len(pixels)
    if stored[1] is not None:
        values = as_labels(f"{file}: {stored[1]}", arrays[stored[1]]).tolist()
        if len(values) != len(pixels):
            raise DataError(
                f"{file} has {len(pixels):,} images and {len(values):,} labels; expected one label an image"
            )
        labels = [str(value) for value in values]
    for index, label in enumerate(labels):
        yield f"{file}[{index}]", pixels[index], label


def _fitted(pixels: NDArray[np.float32], channels: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """(C, H, W) with so many channels, grey from colour or the other way round, resized to the shape."""
    if len(pixels) != channels:
        pixels = (pixels * LUMINANCE).sum(0, keepdims=True) if channels == 1 else pixels.repeat(channels, 0)
    height, width = shape
    if pixels.shape[1:] == (height, width):
        return np.ascontiguousarray(pixels)
    resized = [Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR) for channel in pixels]
    return np.stack([np.asarray(channel, np.float32) for channel in resized])


def _white(file: Path, about: Mapping[str, Any]) -> float:
    white = about.get("white")
    if white is None:
        raise ConfigError(
            f"{file} has pixels from black to white, and the model learnt from numbers of another kind; give it an "
            f".npz file of numbers on the scale of the training data"
        )
    return float(white)
