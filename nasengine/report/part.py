"""One connected picture of a drawing: laid out, broken into rows where it is long, put on axes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .layout import Layout, Place, lay_out
from .style import GREY, plain, printable

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes

Direction: TypeAlias = Literal["right", "down"]
Point: TypeAlias = tuple[float, float]

FONT = 9.0  # points
PAD = 0.07  # inches, on each side of a text
LONGEST = 64  # characters of a line of a label
WIDEST = 7.2  # inches; a longer row is broken where the edges that pass come from one node
SHORTEST = 0.4  # of that: a row that another follows is not shorter
UNBROKEN = 11.4  # inches; an even longer row is broken where several edges pass, up to so many:
SEVERAL = 4
ROW_GAP, LEAD, LANE, ROUND = 0.34, 0.17, 0.08, 0.06  # inches
ENDS = "#e8ecf1"
PAPER = "#ffffff"


@dataclass(frozen=True, slots=True)
class Row:
    """Layers from `first` to before `past`: where they are in the layout, and how far down the row begins."""

    first: int
    past: int
    start: float
    end: float
    low: float
    high: float
    top: float


@dataclass
class Part:
    """Laid out when made; `width` and `height` in inches."""

    graph: nx.DiGraph
    direction: Direction
    colours: Mapping[str, str]
    layout: Layout = field(init=False)
    rows: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        def size(text: Any) -> tuple[float, float]:
            width, height = (side + 2 * PAD for side in extent(shortened(text)))
            return (width, height) if self.direction == "right" else (height, width)

        nodes = self.graph.nodes
        self.layout = lay_out(
            self.graph,
            lambda node: size(nodes[node].get("label", node)),
            lambda u, v: size(self.graph.edges[u, v]["label"]),
        )
        self.exits = self._exits()
        self.rows = self._balanced()
        most = max((len(self.exits[row.first - 1]) for row in self.rows[1:]), default=0)
        self.turn = LEAD + LANE * most if most else 0.0  # room for the way around to the next row, at both ends
        along = max((row.end - row.start for row in self.rows), default=0.0) + 2 * self.turn
        across = self.rows[-1].top + self.rows[-1].high - self.rows[-1].low if self.rows else 0.0
        self.width, self.height = (along, across) if self.direction == "right" else (across, along)

    def _way(self, u: Hashable, v: Hashable) -> list[Place]:
        """The places of an edge, a layer each."""
        return [self.layout.nodes[u], *self.layout.through[u, v], self.layout.nodes[v]]

    def _exits(self) -> list[list[float]]:
        """For each layer, the heights at which lines leave it for the next; too many where one leads backwards."""
        exits: list[set[float]] = [set() for _ in range(1 + max((p.layer for p in self._places()), default=-1))]
        for edge in self.graph.edges:
            for here, there in pairwise(self._way(*edge)):
                exits[here.layer].add(here.across)
                for layer in range(there.layer, here.layer):  # an edge of a cycle
                    exits[layer].update(-1.0 - i for i in range(SEVERAL))
        return [sorted(heights) for heights in exits]

    def _places(self) -> Iterator[Place]:
        yield from self.layout.nodes.values()
        yield from (place for places in self.layout.through.values() for place in places)

    def _balanced(self) -> list[Row]:
        """As few rows as are short enough, and these as short as they can be."""
        rows = self._rows(WIDEST)
        for share in (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55):
            shorter = self._rows(WIDEST * share)
            if len(shorter) > len(rows):
                break
            rows = shorter
        return rows

    def _rows(self, widest: float) -> list[Row]:
        layers: list[list[Place]] = [[] for _ in self.exits]
        for place in self._places():
            layers[place.layer].append(place)
        spans = [(layer[0].start, layer[0].end) for layer in layers]
        rows: list[Row] = []
        first, top = 0, 0.0
        while first < len(layers):
            past = self._past(first, spans, widest)
            places = [place for layer in layers[first:past] for place in layer]
            low, high = min(place.low for place in places), max(place.high for place in places)
            rows.append(Row(first, past, spans[first][0], spans[past - 1][1], low, high, top))
            lanes = len(self.exits[past - 1])
            top += high - low + ROW_GAP + LANE * max(lanes - 1, 0)
            first = past
        return rows

    def _past(self, first: int, spans: Sequence[tuple[float, float]], widest: float) -> int:
        """Where the row that begins with a layer ends."""
        count = len(spans)

        def length(past: int) -> float:
            return spans[past - 1][1] - spans[first][0]

        if self.direction == "down" or length(count) <= widest:
            return count
        lanes = {
            past: len(self.exits[past - 1]) for past in range(first + 1, count) if length(past) > SHORTEST * widest
        }
        single = [past for past in lanes if lanes[past] == 1] + [count]
        if length(single[0]) > UNBROKEN:
            fitting = [past for past in lanes if lanes[past] <= SEVERAL and length(past) <= widest]
            return max(fitting, default=single[0])
        return max((past for past in single if length(past) <= widest), default=single[0])

    def put(self, axes: Axes, left: float, top: float) -> None:
        self.left, self.top = left, top
        for edge in self.graph.edges:
            self._edge(axes, *edge)
        for node, data in self.graph.nodes(data=True):
            colour = self.colours.get(str(data["group"])) if data.get("group") else None
            end = self.graph.in_degree(node) == 0 or self.graph.out_degree(node) == 0
            self._box(axes, self.layout.nodes[node], data.get("label", node), colour, ENDS if end else PAPER)
        for (u, v), place in self.layout.labels.items():
            label = self.graph.edges[u, v]["label"]
            self._box(axes, place, label, self.colours[str(label)], PAPER)

    def _row(self, place: Place) -> Row:
        return next(row for row in self.rows if row.first <= place.layer < row.past)

    def _point(self, place: Place, along: float) -> Point:
        """A point of the layout on the axes: `along` the layers, at the place's height."""
        row = self._row(place)
        x, y = self.turn + along - row.start, row.top + place.across - row.low
        return (self.left + x, self.top + y) if self.direction == "right" else (self.left + y, self.top + x)

    def _box(self, axes: Axes, place: Place, text: Any, colour: str | None, fill: str) -> None:
        from matplotlib.patches import FancyBboxPatch

        label = shortened(text)
        width, height = (side + PAD for side in extent(label))
        x, y = self._point(place, place.along)
        style = f"round,pad={PAD / 2},rounding_size={PAD}"
        edge, line = (colour, 1.4) if colour else (GREY, 0.9)
        face = tint(colour) if colour else fill
        corner = (x - width / 2, y - height / 2)
        axes.add_artist(
            FancyBboxPatch(
                corner, width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=line, zorder=3
            )
        )
        plain(axes, x, y, label, size=FONT, ha="center", va="center", zorder=4)

    def _edge(self, axes: Axes, u: Hashable, v: Hashable) -> None:
        """A line through the edge's places, smooth between the layers and straight within them, an arrow at its end."""
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path

        label = self.graph.edges[u, v].get("label")
        colour, width = (self.colours[str(label)], 1.5) if label else (GREY, 1.0)
        way = self._way(u, v)
        begin, end = way[0].along + self._half(u), way[-1].along - self._half(v)
        points, codes = [self._point(way[0], begin)], [Path.MOVETO]

        def straight(place: Place, along: float) -> None:
            """On within a layer, past boxes that are longer than this place's."""
            points.append(self._point(place, along))
            codes.append(Path.LINETO)

        for here, there in pairwise(way):
            if here is not way[0] or here.end - begin > ROUND:
                straight(here, here.end)
            stub = there is not way[-1] or end - there.start > ROUND
            entry = self._point(there, there.start if stub else end)
            if self._row(here) is not self._row(there) and here.layer + 1 == there.layer:
                corners = [points[-1], *self._around(here, entry[1]), entry]
                for (before, corner), (_, after) in pairwise(pairwise(corners)):
                    points += [towards(corner, before, ROUND), corner, towards(corner, after, ROUND)]
                    codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
                points.append(entry)
                codes.append(Path.LINETO)
            else:
                points += bend(points[-1], entry, self.direction)
                codes += [Path.CURVE4] * 3
        if stub:
            straight(way[-1], end)
        axes.add_artist(
            FancyArrowPatch(
                path=Path(points, codes), arrowstyle="-|>,head_length=3.6,head_width=2", color=colour, linewidth=width,
                shrinkA=0, shrinkB=0, zorder=2, capstyle="butt", joinstyle="round",
            )
        )  # fmt: skip

    def _half(self, node: Hashable) -> float:
        """Half a node's size along the layers."""
        width, height = extent(shortened(self.graph.nodes[node].get("label", node)))
        return (width if self.direction == "right" else height) / 2 + PAD

    def _around(self, place: Place, height: float) -> list[Point]:
        """The corners on the way from the last layer of a row to a height in the next; lines nest, and do not cross."""
        row, heights = self._row(place), self.exits[place.layer]
        below = len(heights) - 1 - heights.index(place.across)
        right = self._point(place, row.end)[0] + LEAD + LANE * below
        left = self.left + self.turn - LEAD - LANE * (len(heights) - 1 - below)
        between = self.top + row.top + row.high - row.low + ROW_GAP / 2 + LANE * below
        return [(right, self._point(place, row.end)[1]), (right, between), (left, between), (left, height)]


def bend(a: Point, b: Point, direction: Direction) -> list[Point]:
    """The three points of a cubic curve from a to b that leaves and arrives along the layers' direction."""
    if direction == "right":
        middle = (a[0] + b[0]) / 2
        return [(middle, a[1]), (middle, b[1]), b]
    middle = (a[1] + b[1]) / 2
    return [(a[0], middle), (b[0], middle), b]


def towards(a: Point, b: Point, distance: float) -> Point:
    """The point that far from a on the way to b."""
    length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 or 1.0
    share = min(distance / length, 0.5)
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))


def shortened(text: Any) -> str:
    """A label as it is drawn: four lines at most, none too long."""
    lines = [printable(line) for line in str(text).splitlines()[:4]] or [""]
    return "\n".join(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…" for line in lines)


@cache
def extent(text: str, size: float = FONT) -> tuple[float, float]:
    """Width and height of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    widths = [
        text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)[0]
        for line in text.splitlines()
    ]
    return max(widths, default=0.0) / 72, 1.25 * size / 72 * max(text.count("\n") + 1, 1)


def tint(colour: str) -> str:
    """A colour mixed with much white, to write on."""
    channels: Sequence[int] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - channel) * 0.16):02x}" for channel in channels)
