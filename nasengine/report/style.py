"""How every figure looks: sizes, colours, axes. Nothing here touches matplotlib's global state.

The colours are those of Okabe and Ito, "Color universal design" (2008), which people with any common kind of colour
blindness tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..wording import is_fraction, unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#8c6d1f", "#5d5d8c")
INK, GREY, FAINT = "#1f2933", "#8a94a0", "#b6bfca"

WIDTH, HEIGHT = 4.4, 2.9  # inches: 9 points stay readable where a phone shows the whole width
SIZE = 9.0  # points
LONGEST = 34  # characters of a name beside a bar


def figure(
    width: float = WIDTH, height: float = HEIGHT, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure on white, in inches, that belongs to no window and no backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout, facecolor="white")


def plain(axes: Axes, x: float, y: float, text: str, **style: Any) -> Text:
    """Text as it stands: names of users' own are no formulas, whatever dollar signs they hold."""
    return axes.text(x, y, text, **{"color": INK, "size": SIZE, "parse_math": False, **style})


def dressed(axes: Axes, across: str, up: str = "") -> None:
    """Labels, a faint grid, no box. The upward axis' label stands on top of it, where it is read without turning."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SIZE, labelcolor=INK, color=FAINT)
    axes.grid(color="#e8ecf1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(printable(across), size=SIZE, color=INK, parse_math=False)
    if up:
        axes.set_title(printable(up), size=SIZE, color=INK, loc="left", parse_math=False)


def bars(axes: Axes, names: list[str], values: list[float], colours: list[str]) -> None:
    """Horizontal bars, the first on top."""
    drawn = axes.barh(range(len(names)), values, color=colours, height=0.64)
    axes.bar_label(drawn, fmt="{:.3g}", padding=3, size=SIZE, color=INK)
    rows(axes, names)
    axes.margins(x=0.12)
    axes.invert_yaxis()


def rows(axes: Axes, names: list[str]) -> None:
    """Names for the places 0, 1, … of the upward axis, which has no scale of its own."""
    axes.set_yticks(range(len(names)), [shortened(name) for name in names], parse_math=False)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def legend(axes: Axes) -> None:
    """Below the axes, so that it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        drawn = axes.figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 2 if max(map(len, labels)) > 14 else 3),
            frameon=False, fontsize=SIZE, labelcolor=INK, handlelength=1.6, columnspacing=1.4,
        )  # fmt: skip
        for text in drawn.get_texts():
            text.set_parse_math(False)


def whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def within_all(axes: Axes, metric: str) -> None:
    """No more than 100 % on the upward axis."""
    if is_fraction(metric) and axes.get_ylim()[1] > 101 and axes.dataLim.ymax <= 100:
        axes.set_ylim(top=101)


def thousands(axes: Axes) -> None:
    """Few ticks across, large numbers with their commas."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    if axes.get_xlim()[1] >= 1000:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def powers(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic upward axis for values over 0, wide enough for two ticks: plain numbers, 1, 2 and 5 of a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values), max(values)
    apart = max(1.2, (6 * low / high) ** 0.5)
    low, high = low / apart, high * apart
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def with_unit(metric: str) -> str:
    """`test accuracy (%)`, `parameters`, `latency (ms)`."""
    name, its = metric.replace("_", " "), "%" if is_fraction(metric) else unit(metric)
    return f"{name} ({its})" if its else name


def shortened(name: str) -> str:
    """A name that leaves room for the figure: its two ends, where it is too long."""
    name = printable(" ".join(name.split()))
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def printable(text: str) -> str:
    """Without what no font has: control characters, half characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
