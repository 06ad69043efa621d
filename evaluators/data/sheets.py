"""What a generator makes, as one picture: images side by side, or points in the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 48
"""An image of fewer pixels is shown at a whole multiple of its size, at about this."""
GAP = 4


def sheet(images: NDArray[np.floating], columns: int) -> NDArray[np.uint8]:
    """Images between −1 and 1, (N, C, H, W), row by row on white: (height, width, 3), or (height, width) of grey ones.
    Of more than three channels the first three, of two the first."""
    count, channels, height, width = images.shape
    images = images[:, : 3 if channels >= 3 else 1]
    times = max(1, round(SIDE / max(height, width)))
    pixels = np.clip((images + 1) * 127.5, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = pixels.repeat(times, 1).repeat(times, 2)
    tall, wide = pixels.shape[1] + GAP, pixels.shape[2] + GAP
    rows = -(-count // columns)
    whole = np.full((rows * tall + GAP, columns * wide + GAP, pixels.shape[3]), 255, np.uint8)
    for index, image in enumerate(pixels):
        top, left = GAP + index // columns * tall, GAP + index % columns * wide
        whole[top : top + tall - GAP, left : left + wide - GAP] = image
    return whole if whole.shape[2] == 3 else whole[..., 0]


def scatter(real: NDArray[np.generic], made: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Points, (N, 2) each: real ones grey, made ones blue, on a square of the real ones' extent and a quarter more."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    limit = 1.25 * float(np.abs(real.astype(float)).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    for points, colour, label in ((real, "#b8c0c8", "real"), (made, "#0072b2", "made")):
        axes.scatter(points[:, 0], points[:, 1], s=5, c=colour, label=label, linewidths=0)
    axes.legend(loc="upper right", framealpha=0.9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
