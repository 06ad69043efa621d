"""A chart of few rows for a terminal, in braille: eight points a character."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

BRAILLE = 0x2800
BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""By column and row of a character, the bit of its code."""
DOTS_A_COLUMN = 2
OUTLIERS = 0.2
"""The share of the dots, on the bad side, that may lie outside: one bad value must not flatten the rest."""


def thinned(values: Sequence[float | None], count: int) -> list[tuple[float, float]]:
    """At most about `count` of the values, evenly spread, each with its place from 0 to 1."""
    step = max(len(values) // count, 1)
    picked = [(index, values[index]) for index in range(0, len(values), step)]
    return [((index + 0.5) / len(values), value) for index, value in picked if value is not None]


def limits(line: Sequence[float], dots: Sequence[float], rising: bool) -> tuple[float, float]:
    """The lowest and highest value to show."""
    ordered = sorted(dots)
    cut = int(len(ordered) * OUTLIERS)
    kept = ordered[cut:] if rising else ordered[: len(ordered) - cut]
    ends = [line[-1], *kept] if kept else list(line)
    return min(ends), max(ends)


def chart(
    line: Sequence[float], dots: Sequence[float | None], columns: int, rows: int, rising: bool = True
) -> tuple[list[Text], float, float]:
    """A line from left to right and, if there are any, dots; and the values of the lowest and the highest point.

    With dots, the line is the best so far: it goes up (`rising`) or down in steps, one for each dot.
    """
    width, height = 2 * columns, 4 * rows
    scattered = thinned(dots, DOTS_A_COLUMN * columns)
    low, high = limits(line, [value for _, value in scattered], rising)
    size = high - low

    def level(value: float) -> int:
        return round((value - low) / size * (height - 1)) if size > 0 else 0

    cells: dict[tuple[int, int], int] = {}
    for place, value in scattered:
        if 0 <= level(value) < height:
            _set(cells, int(place * width), level(value))
    drawn: set[tuple[int, int]] = set()
    before: int | None = None
    for x in range(width):
        value = line[x * len(line) // width] if dots else _between(line, x / (width - 1))
        y = min(max(level(value), 0), height - 1)
        low_end, high_end = sorted((y, y if before is None else before))
        drawn |= {_set(cells, x, point) for point in range(low_end, high_end + 1)}
        before = y
    return [_row(cells, drawn, row, columns) for row in reversed(range(rows))], low, high


def _row(cells: dict[tuple[int, int], int], drawn: set[tuple[int, int]], row: int, columns: int) -> Text:
    """A row of characters; those that the line goes through stand out."""
    text = Text()
    for on_line, group in groupby(range(columns), lambda column: (column, row) in drawn):
        codes = (cells.get((column, row)) for column in group)
        text.append("".join(chr(BRAILLE + code) if code else " " for code in codes), "cyan" if on_line else "dim")
    return text


def _between(line: Sequence[float], place: float) -> float:
    """The line's value at a place from 0 to 1."""
    index, rest = divmod(place * (len(line) - 1), 1)
    return line[int(index)] * (1 - rest) + line[min(int(index) + 1, len(line) - 1)] * rest


def _set(cells: dict[tuple[int, int], int], x: int, y: int) -> tuple[int, int]:
    """Sets a point, counted from the lower left; its cell."""
    cell = x // 2, y // 4
    cells[cell] = cells.get(cell, 0) | BITS[x % 2][3 - y % 4]
    return cell
