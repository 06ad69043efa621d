"""GAN dissection: which unit of a generator draws what, and what becomes of the images when it is switched off or on.

Bau, Zhu, Strobelt, Zhou, Tenenbaum, Freeman and Torralba 2018, "GAN Dissection: Visualizing and Understanding
Generative Adversarial Networks", arXiv:1811.10597. Section 3.1: a unit's map, brought to the size of the image and cut
at a threshold, is held against the segments of the image. Section 3.2: the unit is switched off, or set to what it is
where the segment is; how much the segment's share of the image changes is the unit's average causal effect.

The samples are in two halves. Whatever is chosen (thresholds, a unit's segment, the levels to insert, sets of units) is
chosen on the first; whatever is reported is measured on the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import ConfigError, near_miss
from .maps import Tap, resized, shown
from .thresholds import best_thresholds

Segmenter: TypeAlias = Callable[[Tensor], Mapping[str, Tensor]]
"""Images (N, C, H, W) to their segments: by name, where each is, (N, H, W) of yes and no. The same names every time."""
Half: TypeAlias = Literal["first", "second"]

REPORTED = 0.05
"""The agreement above which a unit is said to stand for a segment (section 3.1)."""
PIXELS = 2**16
"""That a threshold is chosen by, at most, evenly drawn from the first half of the samples."""
BATCH, VALUES = 64, 2**25
"""Samples that are worked on at a time, and numbers in all their maps, at most."""
UNITS = 32
"""Whose thresholds are chosen at a time, so that the memory for it is bounded."""
DRAWS, CONFIDENCE = 1000, 0.95
DRAWN = 2**22
"""Samples of the bootstrap that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Match:
    """A unit and the segment that it agrees with best on the first half.

    threshold: above which the unit is on. quality: mutual information over joint entropy there, 0 to 1, on the first
    half. iou: intersection over union of where the unit is on and where the segment is, on the second half. share: the
    segment's, of all pixels there, which is the iou of a unit that is always on.
    """

    unit: int
    segment: str
    threshold: float
    quality: float
    iou: float
    share: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What units do to a segment.

    inserted, ablated: the segment's mean share of the pixels with the units set to their levels, and to 0. ace: their
    difference, the average causal effect. low, high: its 95 % bootstrap interval over samples.
    """

    units: tuple[int, ...]
    segment: str
    inserted: float
    ablated: float
    ace: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the first half says. names: of the S segments. shares: of the pixels, (S,). Each of the others is (U, S),
    for the U units: `thresholds` (t in the paper), `quality` and `iou` there, and `levels` (k): the unit's mean where
    the segment is."""

    names: tuple[str, ...]
    shares: Tensor
    thresholds: Tensor
    quality: Tensor
    iou: Tensor
    levels: Tensor


class Dissection:
    """A layer of a generator, taken apart.

    generator: called with a batch of the inputs, gives images (N, C, H, W); it is put into evaluation mode.
    inputs: latents (N, Z), or several tensors of N rows where the generator takes more than that. segmenter: says what
    is where in images. layer: the path of a module within the generator that gives a map (N, U, h, w), once a pass.
    batch: how many samples are worked on at a time; by default 64, or fewer where maps are large. seed: of what is
    drawn. step: called after each batch.

    Raises ConfigError where one of these is not so; of the segmenter when it is first asked.
    """

    def __init__(
        self, generator: nn.Module, inputs: Tensor | Sequence[Tensor], segmenter: Segmenter, layer: str, *,
        batch: int | None = None, seed: int = 0, step: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
        self.middle = len(inputs[0]) // 2
        if not self.middle:
            raise ConfigError(f"a generator is to be dissected with samples = {len(inputs[0])}; expected 2 or more")
        self.tap = Tap(generator, inputs, layer)
        self.segmenter, self.seed, self.step = segmenter, seed, step
        self.batch = batch or max(1, min(BATCH, VALUES // (self.tap.units * math.prod(self.tap.image))))
        self.names: tuple[str, ...] = ()

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments' names."""
        return self.chosen.names

    @cached_property
    def chosen(self) -> Chosen:
        """Thresholds, agreement and levels by the first half."""
        generator = torch.Generator().manual_seed(self.seed)
        values, inside = [], []
        sums, counts, pixels = torch.zeros(()), torch.zeros(()), 0
        for rows in self._batches("first"):
            maps, images = self.tap(rows)
            maps, found = resized(maps, images).transpose(0, 1).flatten(1), self._segments(images)
            segments = torch.stack(list(found.values())).flatten(1)
            sums = sums + (maps @ segments.to(maps).T).double().cpu()
            counts, pixels = counts + segments.sum(1).cpu(), pixels + segments.shape[1]
            drawn = _drawn(maps.shape[1], -(-PIXELS * len(images) // self.middle), generator).to(maps.device)
            values.append(maps[:, drawn].cpu())
            inside.append(segments[:, drawn].cpu())
            self.step()
        of_units, of_segments = torch.cat(values, 1), torch.cat(inside, 1)
        parts = [
            best_thresholds(of_units[first : first + UNITS], of_segments) for first in range(0, self.tap.units, UNITS)
        ]
        thresholds, quality, iou = (torch.cat(column) for column in zip(*parts, strict=True))
        return Chosen(self.names, counts / pixels, thresholds, quality, iou, (sums / counts.clamp(min=1)).float())

    @cached_property
    def iou(self) -> Tensor:
        """(U, S): where each unit is on and where each segment is, intersection over union on the second half."""
        return self._measured[0]

    @cached_property
    def peaks(self) -> Tensor:
        """(N, U): the largest value of each unit's map in each sample of the second half."""
        return self._measured[1]

    @cached_property
    def shares(self) -> Tensor:
        """(S,): each segment's share of the pixels of the second half."""
        return self._measured[2]

    @cached_property
    def _measured(self) -> tuple[Tensor, Tensor, Tensor]:
        thresholds = self.chosen.thresholds[:, :, None, None]
        together = torch.zeros(self.tap.units, len(self.segments), dtype=torch.float64)
        either, shares, peaks = together.clone(), torch.zeros(len(self.segments), dtype=torch.float64), []
        for rows in self._batches("second"):
            maps, images = self.tap(rows)
            maps = resized(maps, images)
            for column, segment in enumerate(self._segments(images).values()):
                on, there = maps > thresholds[:, column].to(maps.device), segment[:, None]
                together[:, column] += (on & there).sum((0, 2, 3)).cpu()
                either[:, column] += (on | there).sum((0, 2, 3)).cpu()
                shares[column] += segment.double().mean((1, 2)).sum().cpu() / (self.tap.samples - self.middle)
            peaks.append(maps.amax((2, 3)).cpu())
            self.step()
        return (together / either.clamp(min=1)).float(), torch.cat(peaks), shares.float()

    def matches(self, at_least: float = REPORTED) -> list[Match]:
        """The units whose intersection over union with their segment is more than `at_least`, and more than that of a
        unit that is always on, which is the most that one independent of the segment can reach. Those first that are
        most above it; by the same measure a unit has its segment. (The paper goes by the intersection over union alone.
        Its segments are small; large ones would always win.)"""
        best = (self.chosen.iou - self.chosen.shares).argmax(1).tolist()
        found = [
            Match(
                unit, self.segments[at], float(self.chosen.thresholds[unit, at]), float(self.chosen.quality[unit, at]),
                float(self.iou[unit, at]), float(self.shares[at]),
            )
            for unit, at in enumerate(best)
        ]  # fmt: skip
        kept = (one for one in found if one.iou > max(at_least, one.share))
        return sorted(kept, key=lambda one: (one.share - one.iou, one.unit))

    def effect(
        self, units: Collection[int], segment: str, places: Tensor | None = None, half: Half = "second"
    ) -> Effect:
        """The average causal effect of units on a segment: E[s_c(x_i)] − E[s_c(x_a)] (section 3.2).

        x_a: the images with the units' maps 0, x_i: set to their mean where the segment is. places (P in the paper):
        (h, w) of yes and no, where that is done, and where the segment is looked for; by default everywhere.
        """
        units, column = self.tap.checked(units), self._column(segment)
        levels = self.chosen.levels[list(units), column]
        on: list[Tensor] = []
        off: list[Tensor] = []
        for rows in self._batches(half):
            for shares, values in ((on, levels), (off, None)):
                _, images = self.tap(rows, units, values, places)
                shares.append(_share(self._segments(images)[segment], places))
            self.step()
        inserted, ablated = torch.cat(on), torch.cat(off)
        low, high = interval(inserted - ablated, torch.Generator().manual_seed(self.seed))
        means = float(inserted.mean()), float(ablated.mean())
        return Effect(units, segment, *means, float((inserted - ablated).mean()), low, high)

    def ranked(self, segment: str, units: Collection[int] | None = None) -> list[Effect]:
        """The effect of each unit alone, of all or of those given: the largest first."""
        effects = [self.effect([unit], segment) for unit in (range(self.tap.units) if units is None else units)]
        return sorted(effects, key=lambda effect: (-effect.ace, effect.units))

    def together(self, segment: str, units: Collection[int], most: int = 4) -> Effect:
        """Up to so many of the units given that together move the segment most, and by how much.

        One after the other, always the one that adds most, while one adds anything; on the first half. (The paper
        descends along a segmenter's gradient to the set; a segmenter of yes and no has none.)
        """
        left, best = list(dict.fromkeys(units)), None
        while left and (best is None or len(best.units) < most):
            taken = best.units if best else ()
            tried = [self.effect([*taken, unit], segment, half="first") for unit in left]
            next_one = max(tried, key=lambda effect: effect.ace)
            if best is not None and next_one.ace <= best.ace:
                break
            best = next_one
            left.remove(best.units[-1])
        if best is None:
            raise ConfigError("a set of units was asked for, and no unit was given to choose from; give some")
        return self.effect(best.units, segment)

    def most_active(self, unit: int, count: int) -> list[int]:
        """The samples of the second half in which the unit's map is largest somewhere, the largest first."""
        (unit,) = self.tap.checked([unit])
        return (self.middle + self.peaks[:, unit].argsort(descending=True)[:count]).tolist()

    def enlarged(self, samples: list[int]) -> Tensor:
        """The layer's maps of some samples, brought to the size of the images: (N, U, H, W)."""
        return resized(*self.tap(samples))

    def _column(self, segment: str) -> int:
        if segment not in self.segments:
            hint = near_miss(segment, self.segments)
            raise ConfigError(f"no segment is named {segment!r}.{hint} There are: {', '.join(self.segments)}")
        return self.segments.index(segment)

    def batches(self, half: Half) -> int:
        """How many batches a half has: how often `step` is called for it."""
        return len(list(self._batches(half)))

    def _batches(self, half: Half) -> Iterator[slice]:
        first, last = (0, self.middle) if half == "first" else (self.middle, self.tap.samples)
        for start in range(first, last, self.batch):
            yield slice(start, min(start + self.batch, last))

    def _segments(self, images: Tensor) -> Mapping[str, Tensor]:
        found = self.segmenter(images)
        if not isinstance(found, Mapping) or not found or tuple(found) != (self.names or tuple(found)):
            raise ConfigError("the segmenter gave no segments, or others than before; expected names and where each is")
        self.names = tuple(found)
        expected = (len(images), *images.shape[2:])
        for name, segment in found.items():
            if not isinstance(segment, Tensor) or segment.shape != expected or segment.dtype != torch.bool:
                kind = f" of {segment.dtype}" if isinstance(segment, Tensor) else ""
                raise ConfigError(
                    f"the segmenter gave {shown(segment)}{kind} for {name!r}; expected yes and no, as a tensor of "
                    f"{expected} of torch.bool"
                )
        return found


def interval(differences: Tensor, generator: torch.Generator, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean (Efron 1979): its ends. differences: (N,)."""
    count, means = len(differences), []
    most = max(1, DRAWN // count)
    for start in range(0, draws, most):
        drawn = torch.randint(count, (min(most, draws - start), count), generator=generator)
        means.append(differences[drawn].mean(1))
    ends = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=differences.dtype)
    low, high = torch.cat(means).quantile(ends).tolist()
    return low, high


def _share(segment: Tensor, places: Tensor | None) -> Tensor:
    """(N,): the segment's share of each image, or of the pixels at those places of a map. segment: (N, H, W)."""
    if places is None:
        return segment.double().mean((1, 2)).cpu()
    rows, columns = segment.shape[1:]
    at = functional.interpolate(places[None, None].float(), size=(rows, columns))[0, 0].to(segment.device)
    return ((segment * at).sum((1, 2)).double() / at.sum().clamp(min=1)).cpu()


def _drawn(total: int, most: int, generator: torch.Generator) -> Tensor:
    """Indices of at most so many of a total, evenly drawn."""
    return torch.arange(total) if total <= most else torch.randperm(total, generator=generator)[:most]
