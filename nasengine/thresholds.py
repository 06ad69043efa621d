"""Where to cut a unit's map so that what is left says most of a segment, and how well the two then agree.

Bau et al. 2018, "GAN Dissection", arXiv:1811.10597, section 3.1: the threshold is where the information quality
ratio is largest, the mutual information of the two over their joint entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-12


def information_quality(both: Tensor, first: Tensor, second: Tensor, total: int) -> Tensor:
    """I(a; b) / H(a, b) of two variables of yes and no: 1 where each tells the other, 0 where neither says anything,
    or where both are always the same.

    both, first, second: how often both are yes, the first is, the second is, of `total` times. Of one shape.
    """
    yes = [count.double() / total for count in (both, first - both, second - both)]
    joint = _entropy(*yes, 1 - yes[0] - yes[1] - yes[2])
    alone = [_entropy(count.double() / total, 1 - count.double() / total) for count in (first, second)]
    mutual = (alone[0] + alone[1] - joint).clamp(min=0)
    return torch.where(joint > ROUNDING, mutual / joint.clamp(min=ROUNDING), 0.0)


def _entropy(*shares: Tensor) -> Tensor:
    return -sum((torch.xlogy(share.clamp(min=0), share.clamp(min=0)) for share in shares), torch.zeros(()))


def best_thresholds(values: Tensor, segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each unit's best threshold for each segment, of all that there are: (U, S).

    values: (U, P), of U units at P pixels. segments: (S, P) of yes and no. Returns the thresholds, above which a unit
    is on, and there the information quality ratio, and the intersection over union. A unit of one value is never on.
    """
    units, pixels = values.shape
    ordered, order = values.sort(1, descending=True)
    counts = torch.arange(1, pixels)  # how many pixels are above a cut
    cuts = ordered[:, :-1] > ordered[:, 1:]
    thresholds, quality, iou = (torch.zeros(units, len(segments)) for _ in range(3))
    for column, segment in enumerate(segments):
        size = segment.sum()
        both = segment[order].cumsum(1)[:, :-1]
        found = information_quality(both, counts.expand_as(both), size.expand_as(both), pixels)
        best = torch.where(cuts, found, -1.0).max(1)
        at = best.indices[:, None]
        thresholds[:, column] = torch.where(cuts.any(1), ordered.gather(1, at + 1)[:, 0], ordered[:, 0])
        quality[:, column] = best.values.clamp(min=0)
        shared = both.gather(1, at)[:, 0] * cuts.any(1)
        iou[:, column] = shared / (counts[at[:, 0]] + size - shared)
    return thresholds, quality, iou
