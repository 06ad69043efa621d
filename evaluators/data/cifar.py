"""CIFAR-10 and CIFAR-100 in their binary version: records of the label's bytes and 3,072 pixels (3 × 32 × 32).

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the layout is on the page of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasengine import DataError, Split

from .dataset import Dataset, Stored, assemble

IMAGE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class CifarBinary:
    """One of the two datasets. label_bytes: of a record, the last of which counts (CIFAR-100: coarse, then fine)."""

    stored_as: str
    folder: str
    train: str
    test: str
    names: str
    classes: int
    label_bytes: int

    @property
    def expected(self) -> str:
        return f"{self.stored_as} ({self.train}, {self.test}, {self.names}, also in {self.folder}/)"

    def find(self, path: Path) -> Path | None:
        for folder in (path, path / self.folder):
            if any(folder.glob(self.train)) or (folder / self.test).is_file():
                return folder
        return None

    def read(self, where: Path, size: int | None) -> Dataset:
        batches = sorted(where.glob(self.train))
        if not batches:
            raise DataError(f"{where} has {self.test} but no {self.train}; expected the training part beside it")
        parts: dict[Split, Stored] = {"train": self._read_part(batches)}
        if (where / self.test).is_file():
            parts["test"] = self._read_part([where / self.test])
        return assemble(self.stored_as, where, parts, size=size, names=self._names(where / self.names))

    def _read_part(self, files: list[Path]) -> Stored:
        batches = [self._read_file(file) for file in files]
        return Stored(
            np.concatenate([batch.pixels for batch in batches]), np.concatenate([batch.labels for batch in batches])
        )

    def _read_file(self, file: Path) -> Stored:
        record, length = self.label_bytes + PIXELS, file.stat().st_size
        if length == 0 or length % record:
            raise DataError(
                f"{file} has {length:,} bytes; expected a multiple of {record:,}, the size of an image and its label "
                f"in the {self.stored_as}; get it again"
            )
        records = np.fromfile(file, np.uint8).reshape(-1, record)
        labels = records[:, self.label_bytes - 1].copy()
        if labels.max() >= self.classes:
            raise DataError(
                f"{file} holds the label {labels.max()}; expected labels below {self.classes}, as in the "
                f"{self.stored_as}; get it again"
            )
        return Stored(records[:, self.label_bytes :].reshape(-1, *IMAGE), labels)

    def _names(self, file: Path) -> list[str]:
        if not file.is_file():
            return [str(label) for label in range(self.classes)]
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if len(names) != self.classes:
            raise DataError(f"{file} names {len(names)} classes; expected {self.classes}, one a line")
        return names


CIFAR10 = CifarBinary(
    stored_as="CIFAR-10 binary version",
    folder="cifar-10-batches-bin",
    train="data_batch_*.bin",
    test="test_batch.bin",
    names="batches.meta.txt",
    classes=10,
    label_bytes=1,
)
CIFAR100 = CifarBinary(
    stored_as="CIFAR-100 binary version",
    folder="cifar-100-binary",
    train="train.bin",
    test="test.bin",
    names="fine_label_names.txt",
    classes=100,
    label_bytes=2,
)


def python_version(path: Path) -> Path | None:
    """Where the version that is made of pickles lies, if it does."""
    for folder in (path, path / "cifar-10-batches-py", path / "cifar-100-python"):
        if any(all((folder / name).is_file() for name in files) for files in (["data_batch_1"], ["train", "meta"])):
            return folder
    return None
