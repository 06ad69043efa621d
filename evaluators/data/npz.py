"""NumPy's .npz: arrays of images and labels by name, as Keras, MedMNIST and most people store them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasengine import DataError, Split

from .dataset import Dataset, Stored, assemble

KEYS: Mapping[Split, tuple[tuple[str, str], ...]] = {
    "train": (("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("train_images", "train_labels")),
    "valid": (
        ("x_valid", "y_valid"), ("x_val", "y_val"), ("valid_images", "valid_labels"), ("val_images", "val_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}  # fmt: skip
CHANNELS = (1, 3)
UNREAD: NDArray[np.generic] = np.empty(0)
Arrays = Mapping[str, NDArray[np.generic]]


class NpzFile:
    """One file with an array of images and one of labels for each part."""

    expected = (
        "one .npz file (images and labels, x and y, x_train and y_train, or train_images and train_labels; val and "
        "test likewise)"
    )

    def find(self, path: Path) -> Path | None:
        if path.is_file():
            return path if path.suffix.lower() == ".npz" else None
        files = sorted(file for file in path.glob("*.npz") if not file.name.startswith("."))
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:5])
            raise DataError(f"{path} holds {len(files)} .npz files ({names}); name the one to read, as path={files[0]}")
        return files[0] if files else None

    def read(self, where: Path, size: int | None) -> Dataset:
        arrays = load(where)
        parts: dict[Split, Stored] = {}
        for part in KEYS:
            if keys := keys_of(where, part, arrays):
                images, labels = keys
                parts[part] = Stored(
                    as_images(f"{where}: {images}", arrays[images]), as_labels(f"{where}: {labels}", arrays[labels])
                )
        if "train" not in parts:
            raise DataError(f"{where} holds {', '.join(arrays) or 'nothing'}; expected {self.expected}")
        return assemble(f"NumPy arrays of {where.name}", where, parts, size=size)


def load(file: Path, wanted: Collection[str] | None = None) -> dict[str, NDArray[np.generic]]:
    """The arrays by lower-case name, those under a name that counts read. Raises DataError."""
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no .npz file, or only part of one; write it again with np.savez")
    wanted = wanted or {key for pairs in KEYS.values() for pair in pairs for key in pair}
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key.lower(): np.asarray(stored[key]) if key.lower() in wanted else UNREAD for key in stored.files}
    except (ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{file} holds Python objects, which are pickles that can run code and are never loaded; save plain "
                f"arrays: numbers, or text of a fixed length such as np.array(labels, dtype=str)"
            ) from error
        raise DataError(f"{file} is damaged ({error}); write it again with np.savez") from error


def keys_of(file: Path, part: Split, arrays: Arrays) -> tuple[str, str] | None:
    """The names under which a part's images and labels are stored; None where there are none. Raises DataError."""
    complete = [keys for keys in KEYS[part] if all(key in arrays for key in keys)]
    if len(complete) > 1:
        raise DataError(f"{file} holds both {complete[0][0]} and {complete[1][0]}; expected one of them")
    if complete:
        return complete[0]
    for keys in KEYS[part]:
        if any(key in arrays for key in keys):
            raise DataError(f"{file} holds {', '.join(arrays)}; expected {' and '.join(keys)} together")
    return None


def as_images(what: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, C, H, W), bytes as bytes and other numbers as float32.

    Where both readings of four dimensions are possible, the channels are last. Raises DataError.
    """
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} is an array of {array.dtype}; expected numbers")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in CHANNELS:
        raise DataError(
            f"{what} has the shape {array.shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels"
        )
    stored_in_bytes = array.dtype.kind == "b" or array.dtype == np.uint8
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused with a sentence
        return np.ascontiguousarray(array, dtype=np.uint8 if stored_in_bytes else np.float32)


def as_labels(what: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """(N,) or (N, 1) → (N,), whole numbers or text. Raises DataError."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{what} has the shape {array.shape}; expected one label an image, (N,) or (N, 1): of one-hot labels take "
            f"labels.argmax(1)"
        )
    if array.dtype.kind == "S":
        return np.char.decode(array.astype(np.bytes_), "utf-8", "replace")
    if array.dtype.kind == "f" and np.isfinite(array).all() and np.array_equal(array, np.trunc(array)):
        return array.astype(np.int64)
    if array.dtype.kind not in "buiU":
        raise DataError(f"{what} is an array of {array.dtype}; expected whole numbers or text")
    return array
