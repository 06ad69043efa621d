"""Cheap judgements against dear ones, as a picture: what each stage of a funnel is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..calibration import Agreement
from ..errors import RunError
from .style import BLUE, GREY, dressed, figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 3
MOST = 12


def picture(agreements: Sequence[Agreement], of: str) -> Figure:
    """A panel for each judgement against the last one, an architecture a dot, by rank: the better they agree, the
    nearer to the diagonal."""
    from scipy.stats import rankdata

    if not agreements:
        raise RunError(f"{of}: too few architectures were judged in more than one way to compare the ways")
    last = agreements[-1].dear
    shown = [one for one in agreements if one.dear == last][:MOST]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    made = figure(3.1 * across, 3.0 * down)
    made.set_layout_engine("constrained", h_pad=0.12)
    for place, one in enumerate(shown, 1):
        axes = made.add_subplot(down, across, place)
        cheap, dear = (rankdata(values) for values in zip(*one.pairs, strict=True))
        dressed(axes, f"rank by {shortened(one.cheap)}", f"rank by {shortened(one.dear)}")
        axes.plot([1, len(cheap)], [1, len(cheap)], color=GREY, linewidth=1, zorder=1)
        axes.plot(cheap, dear, "o", color=GREY if one.counted else BLUE, markersize=4, alpha=0.7, zorder=2)
        rho = one.spearman
        said = f"Spearman {rho.value:+.2f}\n({rho.low:+.2f} to {rho.high:+.2f})"
        paper = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
        axes.text(0.98, 0.03, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, bbox=paper, zorder=3)
    return made
