"""Handwritten digits, 8×8: 1,797 real ones that come with scikit-learn, so that a first run needs no download.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (its test part).
"""

from __future__ import annotations

import numpy as np

from nasengine import Recipe

from ..data.images import Images, ImageSplits, stratified
from .classification import ImageClassification


class Digits(ImageClassification):
    """scikit-learn's 1,797 real 8×8 grey digits, in ten classes: 60 % training, 20 % validation, 20 % test.

    Options:
        split_seed: which stratified split; the same one for every run unless you change it.
    """

    input_shape = (1, 8, 8)  # known without reading
    classes = 10
    recipe = Recipe(epochs=15, batch_size=64, search_epochs=8)

    def __init__(self, *, split_seed: int = 0) -> None:
        self.split_seed = split_seed

    def read(self) -> ImageSplits:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = Images(digits.images[:, None].astype(np.float32), digits.target.astype(np.int64))
        rng = np.random.default_rng(self.split_seed)
        train, valid, test = (images.take(part) for part in stratified(images.labels, (0.6, 0.2, 0.2), rng))
        found = (
            f"scikit-learn's digits: {len(train):,} training, {len(valid):,} validation and {len(test):,} test images, "
            f"8×8 grey, 10 classes"
        )
        return ImageSplits(train, valid, test, tuple("0123456789"), found)
