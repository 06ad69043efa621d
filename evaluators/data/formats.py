"""Which format a user's image data is in, and the data."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from nasengine import DataError

from .cifar import CIFAR10, CIFAR100, python_version
from .dataset import Dataset
from .folders import ImageFolders
from .idx import IdxFiles
from .images import ImageSplits
from .npz import NpzFile


class Format(Protocol):
    """One way of storing images with labels."""

    @property
    def expected(self) -> str:
        """The files that make it up, for the sentence that says what was expected."""

    def find(self, path: Path) -> Path | None:
        """Where in the user's folder, or as the user's file, data of this format lies. Decodes nothing."""

    def read(self, where: Path, size: int | None) -> Dataset:
        """The data, resized to size × size if a size is given. Raises DataError."""


FORMATS: tuple[Format, ...] = (ImageFolders(), NpzFile(), IdxFiles(), CIFAR10, CIFAR100)


def read(path: Path, size: int | None = None) -> Dataset:
    """The data in a folder or file, in whichever format it is. Raises DataError."""
    try:
        where, found = detect(path)
        return found.read(where, size)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); check the disk and who may read it") from error
    except MemoryError as error:
        raise DataError(f"the images of {path} do not fit into memory; give a smaller size, such as size=32") from error


def splits(path: str, size: int | None, seed: int, valid: float = 0.2, test: float = 0.2) -> ImageSplits:
    """The data in a user's folder or file in three parts. valid, test: the fractions of its training part that are
    drawn for the parts that it does not come with. Raises DataError."""
    return read(Path(path).expanduser(), size).split(valid, test, np.random.default_rng(seed))


def detect(path: Path) -> tuple[Path, Format]:
    """Where the data lies and its format. Raises DataError where there is none, or more than one."""
    found = [(where, each) for each in FORMATS if (where := each.find(path))]
    if not found:
        raise DataError(nothing_found(path))
    if len(found) > 1:
        choices = " and ".join(f"{each.expected.partition(' (')[0]} in {where}" for where, each in found)
        raise DataError(f"{path} holds more than one dataset: {choices}; name one of them, or move the other away")
    return found[0]


def nothing_found(path: Path) -> str:
    """Why no format was recognised, and what would have been."""
    if pickles := python_version(path):
        return (
            f"{pickles} holds the Python version of CIFAR, whose files are pickles, which can run code and are never "
            f"loaded; expected the binary version of the same data: {CIFAR10.expected} or {CIFAR100.expected}"
        )
    if not path.exists():
        problem = f"there is no folder or file {path}"
    elif path.is_file():
        problem = f"{path} is no .npz file"
    else:
        names = sorted(entry.name for entry in path.iterdir())
        holding = ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])]) or "nothing"
        problem = f"no images with labels recognised in {path} (it holds {holding})"
    return f"{problem}; expected one of: {'; '.join(each.expected for each in FORMATS)}"
