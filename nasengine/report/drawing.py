"""The architecture drawn, from the graph that its space gives.

`SearchSpace.graph` says what a graph may carry: labels of nodes and edges, `part`, `group`. Each label of edges and
each group of nodes has a colour; texts have one size in every drawing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import NasError, RunError
from ..space import picks_in_a_row
from .layout import Layout, Place, lay_out
from .style import GREY, PALETTE, figure, plain, printable

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..architecture import Architecture
    from ..run import Run

Direction: TypeAlias = Literal["right", "down"]

FONT = 9.0  # points
PAD = 0.08  # inches, on each side of a text
WIDEST = 7.2  # inches; a longer row is broken where only one edge passes
ROW_GAP, PART_GAP, MARGIN, TITLE = 0.34, 0.28, 0.12, 0.3
LONGEST = 26  # characters of a label
TURN = 0.24
ENDS = "#e8ecf1"
PAPER = "#ffffff"


def draw(run: Run, architecture: Architecture, direction: Direction = "right") -> Figure:
    """The architecture as a figure, layers to the right or down the page.

    Where the run's space cannot be made again, its picks in a row. Raises NasError where the space refuses to draw.
    """
    return draw_graph(graph_of(run, architecture), direction)


def draw_trial(run: Run, number: int | None) -> Figure:
    """The architecture of a trial, by its number, or of the one found. Raises RunError where there is none."""
    trials = [trial for trial in run.all_trials if trial.number == number] if number is not None else [run.best]
    if not trials or trials[0].architecture is None:
        raise RunError(
            f"the run {run.folder} has no architecture to draw from a trial {number}; see: nas show {run.folder}"
        )
    return draw(run, trials[0].architecture)


def graph_of(run: Run, architecture: Architecture) -> nx.DiGraph:
    """The graph that the space gives; that of any space's picks where the run's own cannot be made again."""
    try:
        space = run.space
    except NasError:
        return picks_in_a_row(architecture)
    return space.graph(architecture)


def draw_graph(graph: nx.DiGraph, direction: Direction = "right") -> Figure:
    """A labelled graph as a figure whose size in inches fits it: one text size in every drawing."""
    parts = _parts(graph)
    groups = [d["group"] for _, d in graph.nodes(data=True) if d.get("group")]
    groups += [d["label"] for _, _, d in graph.edges(data=True) if d.get("label")]
    colours = _colours(groups)
    drawings = [_Part(part, direction, colours) for part in parts.values()]
    titles = [name if len(parts) > 1 else "" for name in parts]
    width = max((drawing.width for drawing in drawings), default=0.0) + 2 * MARGIN
    width = max(width, *(_extent(title, FONT + 1)[0] + 2 * MARGIN for title in titles)) if titles else width
    height = sum(d.height for d in drawings) + sum(TITLE for t in titles if t)
    height += PART_GAP * max(len(drawings) - 1, 0) + 2 * MARGIN
    made = figure(width, max(height, 2 * MARGIN), layout=None)
    axes = made.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    top = MARGIN
    for title, drawing in zip(titles, drawings, strict=True):
        if title:
            plain(axes, MARGIN, top, title, size=FONT + 1, weight="bold", va="top")
            top += TITLE
        drawing.put(axes, (width - drawing.width) / 2 if direction == "down" else MARGIN, top)
        top += drawing.height + PART_GAP
    return made


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


def _label(text: Any) -> str:
    lines = [printable(line) for line in str(text).splitlines()[:4]] or [""]
    return "\n".join(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in lines)


def _extent(text: str, size: float = FONT) -> tuple[float, float]:
    """Width and height of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    widths = [
        text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)[0]
        for line in text.splitlines()
    ]
    return max(widths, default=0.0) / 72, 1.25 * size / 72 * max(text.count("\n") + 1, 1)


@dataclass
class _Part:
    """One connected picture: laid out when made, put on axes at a place."""

    graph: nx.DiGraph
    direction: Direction
    colours: dict[str, str]
    layout: Layout = field(init=False)
    rows: list[tuple[int, int, float, float]] = field(init=False)  # first layer, past the last, start, end

    def __post_init__(self) -> None:
        def size(text: Any) -> tuple[float, float]:
            width, height = (extent + 2 * PAD for extent in _extent(_label(text)))
            return (width, height) if self.direction == "right" else (height, width)

        nodes = self.graph.nodes
        self.layout = lay_out(
            self.graph,
            lambda node: size(nodes[node].get("label", node)),
            lambda u, v: size(self.graph.edges[u, v]["label"]),
        )
        self.rows = self._broken()
        long = max((end - start for _, _, start, end in self.rows), default=0.0)
        across = len(self.rows) * self.layout.breadth + (len(self.rows) - 1) * ROW_GAP
        self.turn = TURN if len(self.rows) > 1 else 0.0  # room for the way around to the next row, at both ends
        long += 2 * self.turn
        self.width, self.height = (long, across) if self.direction == "right" else (across, long)

    def _broken(self) -> list[tuple[int, int, float, float]]:
        """The layers in rows that are short enough, broken only where a single edge passes."""
        places = [*self.layout.nodes.values(), *self.layout.labels.values()]
        places += [place for points in self.layout.through.values() for place in points]
        extents = {place.layer: (place.start, place.end) for place in places}
        count = len(extents)
        passing = [0] * count
        for u, v in self.graph.edges:
            for layer in range(self.layout.nodes[u].layer, max(self.layout.nodes[v].layer, 0)):
                passing[layer] += 1  # edges from this layer to the next
        rows: list[tuple[int, int, float, float]] = []
        first = 0
        while first < count:
            start, last = extents[first][0], count
            if self.direction == "right" and extents[count - 1][1] - start > WIDEST:
                fitting = [
                    i
                    for i in range(first + 1, count)
                    if passing[i - 1] == 1 and extents[i - 1][1] - start <= WIDEST and self._turns(i)
                ]
                last = max(fitting, default=count)
            rows.append((first, last, start, extents[last - 1][1]))
            first = last
        return rows

    def _turns(self, layer: int) -> bool:
        """Whether one node stands alone on both sides of a break: nothing else could be led around."""
        nodes = self.layout.nodes.values()
        return all(sum(place.layer == i for place in nodes) == 1 for i in (layer - 1, layer))

    def put(self, axes: Axes, left: float, top: float) -> None:
        self.left, self.top = left + self.turn, top
        for u, v in self.graph.edges:
            self._edge(axes, u, v)
        for node, data in self.graph.nodes(data=True):
            colour = self.colours.get(str(data["group"])) if data.get("group") else None
            end = self.graph.in_degree(node) == 0 or self.graph.out_degree(node) == 0
            self._box(axes, self.layout.nodes[node], data.get("label", node), colour, ENDS if end else PAPER)
        for (u, v), place in self.layout.labels.items():
            label = self.graph.edges[u, v]["label"]
            self._box(axes, place, label, self.colours[str(label)], PAPER)

    def _row(self, place: Place) -> int:
        return next(i for i, (first, past, _, _) in enumerate(self.rows) if first <= place.layer < past)

    def _point(self, place: Place, along: float) -> tuple[float, float]:
        """A point of the layout on the axes: `along` the layers, at the place's height."""
        row = self._row(place)
        x, y = along - self.rows[row][2], place.across + row * (self.layout.breadth + ROW_GAP)
        return (self.left + x, self.top + y) if self.direction == "right" else (self.left + y, self.top + x)

    def _box(self, axes: Axes, place: Place, text: Any, colour: str | None, fill: str) -> None:
        from matplotlib.patches import FancyBboxPatch

        label = _label(text)
        width, height = (extent + PAD for extent in _extent(label))
        x, y = self._point(place, place.along)
        style = f"round,pad={PAD / 2},rounding_size={PAD}"
        edge, line = (colour, 1.4) if colour else (GREY, 0.9)
        face = tint(colour) if colour else fill
        corner = (x - width / 2, y - height / 2)
        axes.add_patch(
            FancyBboxPatch(
                corner, width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=line, zorder=3
            )
        )
        plain(axes, x, y, label, size=FONT, ha="center", va="center", zorder=4)

    def _edge(self, axes: Axes, u: Hashable, v: Hashable) -> None:
        """A line through the edge's places, smooth between the layers and straight within them, an arrow at its end."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        layout, label = self.layout, self.graph.edges[u, v].get("label")
        start, end = layout.nodes[u], layout.nodes[v]
        colour, width = (self.colours[str(label)], 1.5) if label else (GREY, 1.0)
        codes: list[Any] = [Path.MOVETO]
        points = [self._point(start, start.along + self._half(u))]
        if self._row(start) != self._row(end):
            points, codes = self._around(start, end, points[0], end.along - self._half(v))
        else:
            stops = [(p, p.start) for p in layout.through[u, v]]
            for place, along in [*stops, (end, end.along - self._half(v))]:
                points += [*bend(points[-1], self._point(place, along), self.direction)]
                codes += [Path.CURVE4] * 3
                if place is not end:
                    points.append(self._point(place, place.end))
                    codes.append(Path.LINETO)
        axes.add_patch(
            FancyArrowPatch(
                path=Path(points, codes), arrowstyle="-|>,head_length=3.6,head_width=2", color=colour, linewidth=width,
                shrinkA=0, shrinkB=0, zorder=2, capstyle="butt", joinstyle="round",
            )
        )  # fmt: skip

    def _half(self, node: Hashable) -> float:
        """Half a node's size along the layers."""
        width, height = (extent + 2 * PAD for extent in _extent(_label(self.graph.nodes[node].get("label", node))))
        return (width if self.direction == "right" else height) / 2

    def _around(
        self, start: Place, end: Place, first: tuple[float, float], along: float
    ) -> tuple[list[tuple[float, float]], list[Any]]:
        """From the end of a row around to the beginning of the next, with round corners."""
        from matplotlib.path import Path

        last = self._point(end, along)
        between = self.top + (self._row(end)) * (self.layout.breadth + ROW_GAP) - ROW_GAP / 2
        right, left = first[0] + TURN * 0.7, last[0] - TURN * 0.7
        corners = [first, (right, first[1]), (right, between), (left, between), (left, last[1]), last]
        radius = 0.06
        points, codes = [corners[0]], [Path.MOVETO]
        for (before, corner), (_, after) in pairwise(pairwise(corners)):
            points += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
            codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
        return [*points, corners[-1]], [*codes, Path.LINETO]


def bend(a: tuple[float, float], b: tuple[float, float], direction: Direction) -> list[tuple[float, float]]:
    """The three points of a cubic curve from a to b that leaves and arrives along the layers' direction."""
    if direction == "right":
        middle = (a[0] + b[0]) / 2
        return [(middle, a[1]), (middle, b[1]), b]
    middle = (a[1] + b[1]) / 2
    return [(a[0], middle), (b[0], middle), b]


def _towards(a: tuple[float, float], b: tuple[float, float], distance: float) -> tuple[float, float]:
    """The point that far from a on the way to b."""
    length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 or 1.0
    share = min(distance / length, 0.5)
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))


def tint(colour: str) -> str:
    """A colour mixed with much white, to write on."""
    channels: Sequence[int] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - channel) * 0.16):02x}" for channel in channels)
