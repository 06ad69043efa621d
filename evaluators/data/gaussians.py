"""Points in the plane from a mixture of Gaussians, on which it can be counted how many modes a generator has found.

Srivastava, Valkov, Russell, Gutmann, Sutton 2017, "VEEGAN", NeurIPS, section 5.1: a ring of eight and a grid of
twenty-five. Lin, Khetan, Fanti, Oh 2018, "PacGAN", NeurIPS, section 4.1: how wide they are. Here both are scaled to lie
between −1 and 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .images import Images, ImageSplits

DEVIATION = {"ring": 0.01, "grid": 0.0125}
"""Of each Gaussian, in both directions, unless another is asked for."""


def centres(kind: str) -> NDArray[np.float64]:
    """Of the Gaussians, (modes, 2): eight on the unit circle, or five by five half a unit apart."""
    if kind == "ring":
        angles = np.arange(8) * (2 * math.pi / 8)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    line = np.linspace(-1.0, 1.0, 5)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def gaussians(kind: str, deviation: float, train: int, valid: int, test: int, rng: np.random.Generator) -> ImageSplits:
    """Points, (N, 2), and the numbers of the Gaussians that they are from, each as often as the others."""
    middle = centres(kind)

    def drawn(count: int) -> Images:
        modes = rng.permutation(np.arange(count) % len(middle))
        points = middle[modes] + deviation * rng.standard_normal((count, 2))
        return Images(points.astype(np.float32), modes.astype(np.int64))

    found = (
        f"points of {len(middle)} Gaussians on a {kind}, standard deviation {deviation:g}: {train:,} for training, "
        f"{valid:,} for validation and {test:,} for the test"
    )
    names = tuple(str(index) for index in range(len(middle)))
    return ImageSplits(drawn(train), drawn(valid), drawn(test), names, found)
