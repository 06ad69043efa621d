"""Image files, read with Pillow into one array: all grey or all in colour, and all of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nasengine import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
DECODERS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # and none of those that start other programs
GREY_MODES = frozenset({"1", "L", "LA"})
ORIENTATION = 0x0112  # the EXIF tag; from 5 on the picture lies on its side
BYTES_IN_16_BITS = 257  # 255 · 257 = 65,535: what white is in 16 bits

Mode: TypeAlias = Literal["L", "F", "RGB"]
"""What all images are turned into: grey bytes, grey floats (where some are of 16 bits), or colour."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says about itself before it is decoded. mode: Pillow's."""

    height: int
    width: int
    mode: str


def read_header(file: Path) -> Header:
    """Raises DataError."""
    with opened(file) as image:
        if image.mode == "F":
            raise DataError(f"{file} has floating-point pixels; expected bytes or 16 bits: store floats as .npz")
        on_its_side = image.getexif().get(ORIENTATION, 1) >= 5
        width, height = reversed(image.size) if on_its_side else image.size
        return Header(height, width, image.mode)


def common_shape(headers: Sequence[Header], size: int | None) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The height and width that all images get, and a note where that changes any: size × size, or the medians."""
    shapes = {(header.height, header.width) for header in headers}
    if size is not None:
        shape, why = (size, size), "as asked"
    else:
        heights, widths = zip(*((header.height, header.width) for header in headers), strict=True)
        shape, why = (int(np.median(heights)), int(np.median(widths))), "the median height and width"
    if shapes == {shape}:
        return shape, ()
    several = f"{len(shapes)} different sizes" if len(shapes) > 1 else "×".join(map(str, *shapes))
    return shape, (f"resized from {several} to {shape[0]}×{shape[1]}, {why}",)


def common_mode(headers: Sequence[Header]) -> Mode:
    """Colour if any image has it, else grey."""
    modes = {header.mode for header in headers} - GREY_MODES
    if not modes:
        return "L"
    return "F" if all(is_deep(mode) for mode in modes) else "RGB"


def read_all(files: Sequence[Path], mode: Mode, shape: tuple[int, int]) -> NDArray[np.generic]:
    """All images as (N, C, H, W): bytes, or floats for the mode F. Raises DataError."""
    channels = 3 if mode == "RGB" else 1
    pixels = np.empty((len(files), channels, *shape), np.float32 if mode == "F" else np.uint8)
    for index, file in enumerate(files):
        pixels[index] = np.asarray(decode(file, mode, shape)).reshape(*shape, channels).transpose(2, 0, 1)
    return pixels


def decode(file: Path, mode: Mode, shape: tuple[int, int]) -> Image.Image:
    """One image in the mode and shape (height, width) asked for, upright. Raises DataError."""
    height, width = shape
    with opened(file) as image:
        enough = 2 * max(height, width)
        image.draft(None, (enough, enough))  # of a large JPEG, decodes a fraction that resizing cannot tell from all
        upright = in_mode(ImageOps.exif_transpose(image), mode)
        return upright.resize((width, height), Image.Resampling.BILINEAR)


def in_mode(image: Image.Image, mode: Mode) -> Image.Image:
    """Unlike Pillow's own conversions, these keep the proportion between bytes and 16 bits."""
    if not is_deep(image.mode):
        if mode != "F":
            return image.convert(mode)
        return Image.fromarray(np.asarray(image.convert("L"), np.float32) * BYTES_IN_16_BITS)
    values = np.asarray(image).astype(np.float32)
    if mode == "F":
        return Image.fromarray(values)
    return Image.fromarray((values / BYTES_IN_16_BITS).round().clip(0, 255).astype(np.uint8)).convert(mode)


def is_deep(mode: str) -> bool:
    """Whether Pillow's mode is grey with more than 8 bits: I, I;16, I;16B."""
    return mode.startswith("I")


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """The image file, its failures to be read turned into DataErrors that name it."""
    try:
        with Image.open(file, formats=DECODERS) as image:
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they stumble over
        raise DataError(f"{file} cannot be read as an image ({error}); repair it, or take it away") from error
