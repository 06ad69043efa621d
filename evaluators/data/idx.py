"""IDX files, as MNIST, Fashion-MNIST and their kin come in, gzipped or not.

The format stands at the foot of LeCun, Cortes and Burges's page "The MNIST database of handwritten digits": two zero
bytes, the type of the numbers, how many dimensions; each dimension as a big-endian 32-bit integer; the numbers.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from nasengine import DataError, Split

from .dataset import Dataset, Stored, assemble

STEMS: Mapping[Split, str] = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "images-idx3", "labels-idx1"
UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"
PIECE = 1 << 22


class IdxFiles:
    """Images and labels in a file each, for training and, as a rule, for test."""

    expected = (
        "IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, and t10k-… for a test part, gzipped or not, also "
        "in raw/ or MNIST/)"
    )

    def find(self, path: Path) -> Path | None:
        for folder in (path, path / "raw", path / "MNIST", path / "MNIST" / "raw"):
            if any(locate(folder, stem, what) for stem in STEMS.values() for what in (IMAGES, LABELS)):
                return folder
        return None

    def read(self, where: Path, size: int | None) -> Dataset:
        parts = {part: stored for part, stem in STEMS.items() if (stored := read_part(where, stem))}
        if "train" not in parts:
            raise DataError(
                f"{where} has t10k files only; expected the training files beside them: train-{IMAGES}-ubyte and "
                f"train-{LABELS}-ubyte"
            )
        return assemble("MNIST-style IDX files", where, parts, size=size)


def read_part(folder: Path, stem: str) -> Stored | None:
    """The images and labels of a part; None where neither file is there. Raises DataError."""
    files = {what: locate(folder, stem, what) for what in (IMAGES, LABELS)}
    if not any(files.values()):
        return None
    for what, file in files.items():
        if file is None:
            raise DataError(f"{folder} lacks {stem}-{what}-ubyte (or the same with .gz); images and labels go together")
    images, labels = cast(Path, files[IMAGES]), cast(Path, files[LABELS])
    return Stored(read_idx(images, dimensions=3)[:, None], read_idx(labels, dimensions=1))


def locate(folder: Path, stem: str, what: str) -> Path | None:
    """The file of a part, in the names that it goes by: train-images-idx3-ubyte, train-images.idx3-ubyte, with .gz."""
    name = f"{stem}-{what}-ubyte"
    for candidate in (name, name.replace("-idx", ".idx")):
        for file in (folder / candidate, folder / f"{candidate}.gz"):
            if file.is_file():
                return file
    return None


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes. Raises DataError."""
    try:
        with open(file, "rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC  # some downloads are unpacked on the way and keep their name
            raw.seek(0)
            return parse(file, cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if zipped else raw, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file} is no whole gzip file ({error}); get it again") from error


def parse(file: Path, stream: IO[bytes], dimensions: int) -> NDArray[np.uint8]:
    """The array in a stream, every claim of its header checked before anything is made of it. Raises DataError."""
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if (start := stream.read(4)) != magic:
        raise DataError(
            f"{file} begins with {start.hex(' ')}; expected {magic.hex(' ')}: an IDX file of unsigned bytes with "
            f"{dimensions} dimension{'s' if dimensions > 1 else ''}"
        )
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{file} ends within its header; get it again")
    shape = struct.unpack(f">{dimensions}I", header)
    expected = math.prod(shape)
    body = read_at_most(stream, expected + 1)
    if len(body) != expected:
        held = "more" if len(body) > expected else f"{len(body):,}"
        raise DataError(f"{file} says that it holds {expected:,} numbers {shape}, but holds {held}; get it again")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_at_most(stream: IO[bytes], count: int) -> bytearray:
    """Up to `count` bytes, piece by piece: a header that promises more than there is costs no memory."""
    body = bytearray()
    while len(body) < count and (piece := stream.read(min(PIECE, count - len(body)))):
        body += piece
    return body
