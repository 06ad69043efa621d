"""What is where in simple images: segments that are exact by construction, for `nas dissect`; and images of shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .images import Images

SHAPES: Mapping[str, tuple[float, float, float]] = {
    "circle": (1.0, 0.2, 0.2),
    "square": (0.2, 1.0, 0.2),
    "cross": (0.2, 0.2, 1.0),
}
"""The shapes, each with a colour of its own (red, green, blue); what is around them is black."""


def strokes(images: Tensor) -> dict[str, Tensor]:
    """The parts of grey images of writing (N, 1, H, W), 0 for paper to 1 for ink: by name, (N, H, W) of yes and no.

    ink, background: above a half or not. upper, lower, left, right: the ink in that half of the image. horizontal,
    vertical: ink in a straight run of at least half the image's width, or height. hole: background that ink encloses,
    from which no way over pixels that share an edge leads out of the image.
    """
    ink = images[:, 0] > 0.5
    _, height, width = ink.shape
    rows, columns = torch.arange(height, device=ink.device)[:, None], torch.arange(width, device=ink.device)
    return {
        "ink": ink,
        "background": ~ink,
        "upper": ink & (2 * rows < height),
        "lower": ink & (2 * rows >= height),
        "left": ink & (2 * columns < width),
        "right": ink & (2 * columns >= width),
        "horizontal": _runs(ink, max(2, width // 2)),
        "vertical": _runs(ink.mT, max(2, height // 2)).mT,
        "hole": ~ink & ~_outside(ink),
    }


def coloured(images: Tensor, colours: Mapping[str, tuple[float, ...]] = SHAPES) -> dict[str, Tensor]:
    """The segments of images (N, C, H, W), from 0 to 1, by colour: each pixel belongs to the nearest of the colours and
    black, `background`. By name, (N, H, W) of yes and no."""
    palette = images.new_tensor([(0.0,) * images.shape[1], *colours.values()])
    nearest = (images[:, None] - palette[None, :, :, None, None]).square().sum(2).argmin(1)
    return {name: nearest == index for index, name in enumerate(("background", *colours))}


def shapes(count: int, size: int, rng: np.random.Generator) -> Images:
    """Images of one circle, square or cross each (the label) on black, in its colour, at a random place and size.

    From 0 to 1, (count, 3, size, size); size is at least 8. `coloured` says exactly where the shape is.
    """
    labels = rng.integers(len(SHAPES), size=count)
    radii = rng.uniform(size / 8, size / 4, size=(count, 1, 1))
    middles = rng.uniform(radii, size - 1 - radii, size=(2, count, 1, 1))
    at = np.arange(size)
    down, across = np.abs(at[:, None] - middles[0]), np.abs(at - middles[1])
    far, near = np.maximum(down, across), np.minimum(down, across)
    drawn = [down**2 + across**2 <= radii**2, far <= radii, (far <= radii) & (near <= radii / 3 + 0.5)]
    inside = np.select([labels[:, None, None] == label for label in range(len(SHAPES))], drawn)
    colours = np.array(list(SHAPES.values()), dtype=np.float32)[labels]
    return Images(inside[:, None] * colours[:, :, None, None], labels.astype(np.int64))


def _runs(ink: Tensor, length: int) -> Tensor:
    """The ink (N, H, W) that lies in a run of at least so many pixels along its row."""
    runs = ink.unfold(2, length, 1).all(3)
    return functional.pad(runs, (length - 1, length - 1)).unfold(2, length, 1).any(3)


def _outside(ink: Tensor) -> Tensor:
    """The background from which a way leads out of the image."""
    paper = functional.pad(~ink, (1, 1, 1, 1), value=True)
    reached = torch.zeros_like(paper)
    reached[:, 0], reached[:, -1], reached[:, :, 0], reached[:, :, -1] = True, True, True, True
    while True:
        wider = reached.clone()
        wider[:, 1:] |= reached[:, :-1]
        wider[:, :-1] |= reached[:, 1:]
        wider[:, :, 1:] |= reached[:, :, :-1]
        wider[:, :, :-1] |= reached[:, :, 1:]
        wider &= paper
        if torch.equal(wider, reached):
            return reached[:, 1:-1, 1:-1]
        reached = wider
