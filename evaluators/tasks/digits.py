"""Handwritten digits, 8×8: 1,797 real ones that come with scikit-learn, so that a first run needs no download.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (its test part).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nasengine import ConfigError, Recipe

from ..data.images import Images, ImageSplits, stratified
from .classification import ImageClassification


class Digits(ImageClassification):
    """scikit-learn's 1,797 real 8×8 grey digits, in ten classes: 60 % training, 20 % validation, 20 % test.

    Options:
        split_seed: which stratified split; the same one for every run unless you change it.
        classes: how many of the digits, from 0 on: fewer make a simpler task, a proxy for the whole.
    """

    family = "CNN"
    recipe = Recipe(epochs=15, batch_size=64, search_epochs=8)

    def __init__(self, *, split_seed: int = 0, classes: int = 10) -> None:
        if not 2 <= classes <= 10:
            raise ConfigError(f"the task 'digits' has classes = {classes}; expected 2 to 10")
        self.split_seed, self.kept = split_seed, classes

    @property
    def classes(self) -> int:  # type: ignore[override]
        return self.kept

    @property
    def input_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return super().input_shape if "splits" in vars(self) else (1, 8, 8)  # known without reading

    def read(self) -> ImageSplits:
        images = _digits()
        rng = np.random.default_rng(self.split_seed)
        train, valid, test = (images.take(part) for part in stratified(images.labels, (0.6, 0.2, 0.2), rng))
        found = (
            f"scikit-learn's digits: {len(train):,} training, {len(valid):,} validation and {len(test):,} test images, "
            f"8×8 grey, 10 classes"
        )
        whole = ImageSplits(train, valid, test, tuple("0123456789"), found)
        return whole if self.kept == 10 else whole.first(self.kept)


def _digits() -> Images:
    """The table that scikit-learn ships, 64 pixels and the label a row. Read without importing scikit-learn, which
    takes longer than many a training; by its own function where the table is elsewhere."""
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package and package.submodule_search_locations else []
    for table in (Path(folder) / "datasets" / "data" / "digits.csv.gz" for folder in folders):
        if table.is_file():
            rows = np.loadtxt(table, delimiter=",", dtype=np.float32)
            return Images(rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1].astype(np.int64))
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Images(digits.images[:, None].astype(np.float32), digits.target.astype(np.int64))
