"""Image folders: a folder a class, at once or in train, valid and test."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nasengine import DataError, Split

from .dataset import Dataset, Stored, assemble

PARTS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)
}  # fmt: skip
PART_NAMES = frozenset(name for names in PARTS.values() for name in names)
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
DECODERS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # and none of those that run other programs
GREY_MODES = frozenset({"1", "L", "LA"})
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 lie on their side
Mode: TypeAlias = Literal["L", "F", "RGB"]
"""What all images are turned into: grey bytes, grey floats (where some have 16 bits), or colours."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says about itself before it is decoded."""

    height: int
    width: int
    mode: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Image files by class, in a fixed order. links_out: how many links led out of the folder and were left alone."""

    files: Mapping[str, Sequence[Path]]
    links_out: int

    def paths(self) -> list[Path]:
        return [file for files in self.files.values() for file in files]

    def labels(self) -> NDArray[np.str_]:
        return np.array([name for name, files in self.files.items() for _ in files], dtype=np.str_)


class ImageFolders:
    expected = (
        "image folders (<class>/*.png, or train/<class>/*.png, with valid/ and test/ if there are such parts; also "
        "jpg, bmp, gif, webp, tif)"
    )

    def find(self, path: Path) -> Path | None:
        return path if path.is_dir() and (holds_classes(path, path) or holds_classes(path, path / "train")) else None

    def read(self, where: Path, size: int | None) -> Dataset:
        folders, notes = part_folders(where)
        listings = {part: listing(where, folder) for part, folder in folders.items()}
        check_classes(where, listings["train"])
        files = {part: found.paths() for part, found in listings.items()}
        headers = [header(file) for paths in files.values() for file in paths]
        shape, resizing = common_shape(headers, size)
        mode = common_mode({found.mode for found in headers})
        if links_out := sum(found.links_out for found in listings.values()):
            notes.append(f"{links_out} links out of the folder not followed")
        pixels = {part: read_all(paths, mode, shape) for part, paths in files.items()}
        parts = {part: Stored(pixels[part], listings[part].labels()) for part in listings}
        return assemble("image folders", where, parts, size=size, notes=(*resizing, *notes))


def part_folders(where: Path) -> tuple[dict[Split, Path], list[str]]:
    """The folders of the parts, or the whole as the training part; and notes. Raises DataError."""
    if not holds_classes(where, where / "train"):
        return {"train": where}, []
    folders: dict[Split, Path] = {}
    notes = []
    for part, names in PARTS.items():
        present = [where / name for name in names if (where / name).is_dir()]
        if len(present) > 1:
            raise DataError(f"{where} has both {present[0].name}/ and {present[1].name}/; expected one of them")
        for folder in present:
            if holds_classes(where, folder):
                folders[part] = folder
            else:
                notes.append(f"{folder.name}/ left out, as it has no images in class folders")
    return folders, notes


def check_classes(where: Path, train: Listing) -> None:
    """Raises DataError where a class has no training images, or where the parts' folders were taken for classes."""
    for name, files in train.files.items():
        if not files:
            links = " but links that lead out of it, which are not followed" if train.links_out else ""
            raise DataError(f"{where}: the class folder {name!r} holds no images{links}; fill it, or take it away")
    if PART_NAMES.issuperset(train.files):
        raise DataError(f"{where}: the images in {', '.join(train.files)} have no classes; expected train/<class>/*.png")


def holds_classes(root: Path, folder: Path) -> bool:
    """Whether any class folder in it holds an image, be it a link that will not be followed."""
    if not folder.is_dir():
        return False
    found = listing(root, folder)
    return found.links_out > 0 or any(found.files.values())


def listing(root: Path, folder: Path) -> Listing:
    """The image files of each class folder in a folder. What a link leads to must lie within the root."""
    real_root = root.resolve()
    files: dict[str, Sequence[Path]] = {}
    links_out = 0
    for name, class_folder in sorted(visible(folder)):
        if not class_folder.is_dir():
            continue
        images = [
            file for _, file in sorted(visible(class_folder)) if file.suffix.lower() in SUFFIXES and file.is_file()
        ]
        inside = [] if leads_out(class_folder, real_root) else [file for file in images if not leads_out(file, real_root)]
        links_out += len(images) - len(inside)
        files[name] = inside
    return Listing(files, links_out)
