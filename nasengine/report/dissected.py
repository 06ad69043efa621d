"""What a dissection shows: its table, the same as CSV, and a sheet of pictures for a unit."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..dissection import Dissection, Effect, Match
from .style import GREY, INK, ORANGE, SIZE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 8
"""Samples on a sheet."""
WIDTH, TITLE, SIDE, MARGIN = 7.0, 0.4, 0.9, 0.06  # inches


@dataclass(frozen=True, slots=True)
class Found:
    """A unit of a layer that stands for a segment, and what it does to it."""

    dissection: Dissection
    match: Match
    effect: Effect

    @property
    def layer(self) -> str:
        return self.dissection.tap.path


def rows(found: Sequence[Found]) -> list[list[str]]:
    """The table for a terminal, its head first."""
    table = [["layer", "unit", "segment", "IoU", "its share", "effect", "95 % interval"]]
    for one in found:
        match, effect = one.match, one.effect
        between = f"{effect.low:+.3f} to {effect.high:+.3f}"
        agreement = [f"{match.iou:.3f}", f"{match.share:.3f}"]
        table.append([one.layer, str(match.unit), match.segment, *agreement, f"{effect.ace:+.3f}", between])
    return table


def together(sets: Sequence[tuple[str, Effect]]) -> list[list[str]]:
    """The table of sets of units, each with its layer."""
    table = [["layer", "units", "segment", "effect", "95 % interval"]]
    for layer, effect in sets:
        between = f"{effect.low:+.3f} to {effect.high:+.3f}"
        table.append([layer, ", ".join(map(str, effect.units)), effect.segment, f"{effect.ace:+.3f}", between])
    return table


def as_csv(dissections: Sequence[Dissection], found: Sequence[Found]) -> str:
    """A row for each unit and segment; the effect where it was measured."""
    effects = {(one.layer, one.match.unit, one.match.segment): one.effect for one in found}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "unit", "segment", "iou", "threshold", "quality", "level", "ace", "low", "high"])
    for dissection in dissections:
        chosen, layer = dissection.chosen, dissection.tap.path
        for unit in range(dissection.tap.units):
            for column, segment in enumerate(dissection.segments):
                tables = (dissection.iou, chosen.thresholds, chosen.quality, chosen.levels)
                effect = effects.get((layer, unit, segment))
                values = [float(table[unit, column]) for table in tables]
                values += [effect.ace, effect.low, effect.high] if effect else []
                writer.writerow(
                    [layer, unit, segment, *(f"{value:.6g}" for value in values), *[""] * (7 - len(values))]
                )
    return text.getvalue()


def sheet(found: Found) -> Figure:
    """The images in which a unit is most active, with an outline around where it is on; the same without the unit; and
    with the unit at its level everywhere. One scale of brightness for all."""
    match, effect, tap = found.match, found.effect, found.dissection.tap
    column = found.dissection.segments.index(match.segment)
    level = found.dissection.chosen.levels[[match.unit], column]
    samples = found.dissection.most_active(match.unit, ACROSS)
    images = tap(samples)[1]
    on = found.dissection.enlarged(samples)[:, match.unit] > match.threshold
    without, inserted = tap(samples, [match.unit])[1], tap(samples, [match.unit], level)[1]
    side = (WIDTH - SIDE - MARGIN) / ACROSS
    tall = side * images.shape[2] / images.shape[3]
    height = TITLE + 3 * tall + MARGIN
    made = figure(WIDTH, height, layout=None)
    low, high = float(images.min()), float(images.max())
    names = ("where it is on", "without it", "everywhere")
    for row, (name, shown) in enumerate(zip(names, (images, without, inserted), strict=True)):
        bottom = MARGIN + (2 - row) * tall
        made.text(MARGIN / WIDTH, (bottom + 0.47 * tall) / height, name, size=SIZE - 1, color=GREY, va="center")
        for place, image in enumerate(shown.cpu()):
            left = SIDE + place * side
            axes = made.add_axes((left / WIDTH, bottom / height, 0.94 * side / WIDTH, 0.94 * tall / height))
            axes.set_axis_off()
            _show(axes, (image - low) / max(high - low, 1e-12))
            if row == 0:
                _outline(axes, on[place].cpu())
    title = (
        f"layer {tap.path}, unit {match.unit}: {match.segment} (IoU {match.iou:.2f}); effect {effect.ace:+.3f} "
        f"({effect.low:+.3f} to {effect.high:+.3f})"
    )
    top = 1 - 0.5 * TITLE / height
    made.text(MARGIN / WIDTH, top, title, size=SIZE, color=INK, va="center", parse_math=False)
    return made


def _show(axes: Axes, image: Tensor) -> None:
    """An image (C, H, W) of numbers from 0 to 1: in colour where it has three channels, else their mean in grey."""
    picture = image.clamp(0, 1)
    if len(picture) == 3:
        axes.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    else:
        axes.imshow(picture.mean(0).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _outline(axes: Axes, on: Tensor) -> None:
    """Lines along the edges between pixels (H, W) that are on and those that are not."""
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(edges(on), colors=ORANGE, linewidths=1.3, clip_on=False))


def edges(on: Tensor) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The edges between pixels that are on, and pixels that are not or the outside: two points (x, y) each. A pixel's
    middle is at whole numbers."""
    wide = torch.nn.functional.pad(on, (1, 1, 1, 1))
    found = []
    for y, x in (wide[:, 1:] != wide[:, :-1]).nonzero().tolist():
        found.append(((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)))
    for y, x in (wide[1:] != wide[:-1]).nonzero().tolist():
        found.append(((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)))
    return found
