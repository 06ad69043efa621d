"""The architecture drawn, from the graph that its space gives.

`SearchSpace.graph` says what a graph may carry: labels of nodes and edges, `part`, `group`. Each label of edges and
each group of nodes has a colour, the same in all parts; texts have one size in every drawing.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ExportError, NasError, RunError, near_miss
from ..space import picks_in_a_row
from ..storage import write_atomically
from .part import FONT, WIDEST, Direction, Part, extent
from .style import PALETTE, figure, plain

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

    from ..architecture import Architecture
    from ..run import Run

__all__ = [
    "PAGE",
    "WIDEST",
    "Direction",
    "draw",
    "draw_graph",
    "draw_trial",
    "format_of",
    "graph_of",
    "save",
    "trial_of",
]

PAGE = 12.6  # inches; on a page of 7 inches, 9 points are then 5
BESIDE, BELOW, MARGIN, TITLE = 0.4, 0.26, 0.1, 0.28  # inches
FORMATS = ("svg", "png", "pdf")
DOTS = 300  # an inch of a PNG


def draw(run: Run, architecture: Architecture, direction: Direction = "right", page: float = PAGE) -> Figure:
    """The architecture as a figure, layers to the right or down the page.

    Where the run's space cannot be made again, its picks in a row. Raises NasError where the space refuses to draw.
    """
    return draw_graph(graph_of(run, architecture), direction, page)


def draw_trial(run: Run, number: int | None) -> Figure:
    """The architecture of a trial, by its number, or of the one found. Raises RunError where there is none."""
    return draw(run, trial_of(run, number))


def trial_of(run: Run, number: int | None) -> Architecture:
    """A trial's architecture, or the one found. Raises RunError where there is none."""
    trials = [trial for trial in run.all_trials if trial.number == number] if number is not None else [run.best]
    if not trials or trials[0].architecture is None:
        which = "from its best trial" if number is None else f"from a trial {number}"
        raise RunError(f"the run {run.folder} has no architecture to draw {which}; see: nas show {run.folder}")
    return trials[0].architecture


def graph_of(run: Run, architecture: Architecture) -> nx.DiGraph:
    """The graph that the space gives; that of any space's picks where the run's own cannot be made again."""
    try:
        space = run.space
    except NasError:
        return picks_in_a_row(architecture)
    return space.graph(architecture)


def draw_graph(graph: nx.DiGraph, direction: Direction = "right", page: float = PAGE) -> Figure:
    """A labelled graph as a figure whose size in inches fits it: one text size in every drawing.

    Its parts stand side by side as far as `page`, in inches, is wide, and below each other beyond that.
    """
    graphs = _parts(graph)
    groups = [d["group"] for _, d in graph.nodes(data=True) if d.get("group")]
    groups += [d["label"] for _, _, d in graph.edges(data=True) if d.get("label")]
    colours = _colours(groups)
    titles = list(graphs) if len(graphs) > 1 else [""]
    parts = [Part(one, direction, colours) for one in graphs.values()]
    widths = [max(part.width, extent(title, FONT + 1)[0]) for part, title in zip(parts, titles, strict=True)]
    heights = [part.height + (TITLE if title else 0.0) for part, title in zip(parts, titles, strict=True)]
    places, width, height = _flow(widths, heights, page - 2 * MARGIN)
    made = figure(width + 2 * MARGIN, height + 2 * MARGIN, layout=None)
    axes = made.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width + 2 * MARGIN)
    axes.set_ylim(height + 2 * MARGIN, 0)
    axes.axis("off")
    for part, title, (left, top), room in zip(parts, titles, places, widths, strict=True):
        if title:
            plain(axes, MARGIN + left, MARGIN + top, title, size=FONT + 1, weight="bold", va="top")
        indent = (room - part.width) / 2 if direction == "down" else 0.0
        part.put(axes, MARGIN + left + indent, MARGIN + top + (TITLE if title else 0.0))
    return made


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as SVG, PNG or PDF, as the path's ending says, and returns the path. A file there is replaced.

    Raises ExportError where the ending is another one, or the file cannot be written.
    """
    import matplotlib

    ending = format_of(path)
    content = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[ending]
    # the same bytes each time; and in a PDF fonts that publishers take, which do not take Type 3
    settings: dict[Any, Any] = {"svg.hashsalt": "nasengine", "pdf.fonttype": 42}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(content, format=ending, dpi=DOTS, metadata=undated)
    try:
        write_atomically(path, content.getvalue())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ExportError(f"{path} cannot be written: {why}; choose another path") from None
    return path


def format_of(path: Path) -> str:
    """What a picture at this path would be. Raises ExportError where it cannot be one."""
    ending = path.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        hint = near_miss(ending, FORMATS)
        raise ExportError(f"no picture is written as {path.name!r}.{hint} It may end with: .{', .'.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ExportError(f"the folder {path.parent} is not there; make it, or choose another path than {path}")
    return ending


def _flow(
    widths: Sequence[float], heights: Sequence[float], page: float
) -> tuple[list[tuple[float, float]], float, float]:
    """The left and top of each, in rows that are as long as the page allows; the width and height of them all.

    In columns, where every row but the last has as many and the columns fit.
    """
    rows: list[list[int]] = []
    for i, width in enumerate(widths):
        if rows and sum(widths[j] + BESIDE for j in rows[-1]) + width <= page:
            rows[-1].append(i)
        else:
            rows.append([i])
    columns = [max(widths[row[j]] for row in rows if j < len(row)) for j in range(max(map(len, rows), default=0))]
    even = all(len(row) == len(columns) for row in rows[:-1]) and sum(columns) + BESIDE * (len(columns) - 1) <= page
    places: list[tuple[float, float]] = []
    right = top = 0.0
    for row in rows:
        left = 0.0
        for j, i in enumerate(row):
            places.append((left, top))
            right = max(right, left + widths[i])
            left += (columns[j] if even else widths[i]) + BESIDE
        top += max(heights[i] for i in row) + BELOW
    return places, right, top - BELOW


def _parts(graph: nx.DiGraph) -> dict[str, nx.DiGraph]:
    """The graph's parts by name; one of no name where an edge leads from part to part, or nodes have none."""
    part_of: dict[Hashable, Any] = {node: data.get("part") for node, data in graph.nodes(data=True)}
    if None in part_of.values() or any(part_of[u] != part_of[v] for u, v in graph.edges):
        return {"": graph}
    names = dict.fromkeys(part_of.values())
    return {str(name): graph.subgraph([n for n in graph if part_of[n] == name]) for name in names} or {"": graph}


def _colours(groups: Iterable[Any]) -> dict[str, str]:
    """A colour each, in the order of their names, so that all drawings of the same operations agree if they can."""
    names = sorted({str(group) for group in groups})
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
