"""The figure of a profile: what a latency table foretells over what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..profiling import TABLE
from .style import BLUE, FAINT, dressed, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..profiling import Profile


def foretold_over_measured(profile: Profile) -> Figure:
    """A dot for each architecture, foretold by a table that was made from others; on the line it would be right."""
    error = profile.table.error[TABLE]
    made = figure(3.6, 3.6)
    axes = made.subplots()
    rank = "" if error["spearman"] is None else f", rank correlation {error['spearman']:.2f}"
    dressed(axes, f"{profile.table.metric}, measured (ms)", f"foretold (ms): off by {100 * error['mape']:.1f} %{rank}")
    ends = (min(profile.measured), max(profile.measured))
    axes.plot(ends, ends, "-", color=FAINT, linewidth=1.4, zorder=1)
    axes.plot(profile.measured, profile.foretold[TABLE], "o", color=BLUE, markersize=4, alpha=0.7)
    axes.set_aspect("equal", adjustable="datalim")
    return made
