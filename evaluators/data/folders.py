"""Image folders: a folder a class, at once or in train, valid and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasengine import DataError, Split

from .dataset import Dataset, Stored, assemble
from .image_files import SUFFIXES, common_mode, common_shape, read_all, read_header

PARTS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",),
}  # fmt: skip
PART_NAMES = frozenset(name for names in PARTS.values() for name in names)
LEFT_BY_ARCHIVERS = "__MACOSX"


@dataclass(frozen=True, slots=True)
class Listing:
    """The image files of each class, in a fixed order. links_out: links that lead out of the data, left alone."""

    files: Mapping[str, Sequence[Path]]
    links_out: int

    def paths(self) -> list[Path]:
        return [file for files in self.files.values() for file in files]

    def labels(self) -> NDArray[np.str_]:
        return np.array([name for name, files in self.files.items() for _ in files], dtype=np.str_)


class ImageFolders:
    """An image a file, a folder a class."""

    expected = (
        "image folders (<class>/*.png, or train/<class>/*.png with valid/ and test/ beside it; or jpg, bmp, gif, webp, "
        "tif, ppm)"
    )

    def find(self, path: Path) -> Path | None:
        return path if holds_classes(path) or holds_classes(path / "train") else None

    def read(self, where: Path, size: int | None) -> Dataset:
        folders, notes = part_folders(where)
        listings = {part: list_images(folder, where.resolve()) for part, folder in folders.items()}
        check_training(where, listings["train"])
        if links_out := sum(listing.links_out for listing in listings.values()):
            notes.append(f"{links_out} link{'s' if links_out > 1 else ''} out of the folder not followed")
        headers = [read_header(file) for listing in listings.values() for file in listing.paths()]
        shape, resizing = common_shape(headers, size)
        mode = common_mode(headers)
        parts = {
            part: Stored(read_all(listing.paths(), mode, shape), listing.labels()) for part, listing in listings.items()
        }
        return assemble("Image folders", where, parts, size=size, notes=(*resizing, *notes))


def part_folders(where: Path) -> tuple[dict[Split, Path], list[str]]:
    """The folders of the parts, or the whole as the training part; and notes for people. Raises DataError."""
    if not holds_classes(where / "train"):
        return {"train": where}, []
    folders: dict[Split, Path] = {}
    notes = []
    for part, names in PARTS.items():
        present = [where / name for name in names if (where / name).is_dir()]
        if len(present) > 1:
            raise DataError(f"{where} has both {present[0].name}/ and {present[1].name}/; expected one of them")
        for folder in present:
            if holds_classes(folder):
                folders[part] = folder
            else:
                notes.append(f"{folder.name}/ left out: no images in class folders")
    return folders, notes


def check_training(where: Path, train: Listing) -> None:
    """Raises DataError where a class has no training images, or where the parts' folders stand in classes' places."""
    for name, files in train.files.items():
        if not files:
            links = " except links that lead out of the data, which are not followed" if train.links_out else ""
            raise DataError(f"{where}: the class folder {name!r} holds no images{links}; fill it, or take it away")
    if PART_NAMES.issuperset(train.files):
        raise DataError(
            f"{where}: the images in {' and '.join(train.files)} are in no class folders; expected train/<class>/*.png"
        )


def holds_classes(folder: Path) -> bool:
    """Whether a class folder in it holds an image, be it a link that will not be followed."""
    return folder.is_dir() and any(images(class_folder) for class_folder in class_folders(folder))


def list_images(folder: Path, root: Path) -> Listing:
    """The images of each class folder, as far as they really lie within the root."""
    files: dict[str, Sequence[Path]] = {}
    links_out = 0
    for class_folder in class_folders(folder):
        found = images(class_folder)
        folder_is_inside = class_folder.resolve().is_relative_to(root)
        files[class_folder.name] = [
            file
            for file in found
            if folder_is_inside and (not file.is_symlink() or file.resolve().is_relative_to(root))
        ]
        links_out += len(found) - len(files[class_folder.name])
    return Listing(files, links_out)


def class_folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]


def images(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def visible(folder: Path) -> list[Path]:
    """What is in a folder, by name: file systems list in no order, and a split must not depend on it."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", LEFT_BY_ARCHIVERS)))
