"""What a comparison of strategies shows: a table with a test of significance, and the regret over the trials."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..comparing import Result
from ..errors import RunError
from ..trial import Objective
from ..wording import is_fraction
from .style import INK, PALETTE, SIZE, dressed, figure, legend, printable, with_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BASELINE = "random"
SIGNIFICANT = 0.05
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Row:
    """A strategy over all seeds.

    found: the final judgements. at: by budget in trials, the mean of the best that the search had seen by then.
    p: of the test against random, corrected; None for random itself, and where there is nothing to test.
    clock: the mean seconds of a search, simulated ones where there are any.
    """

    strategy: str
    found: tuple[float, ...]
    failed: int
    at: dict[int, float]
    clock: float
    simulated: bool
    p: float | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.found) if self.found else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over seeds; 0 of a single one."""
        return statistics.stdev(self.found) if len(self.found) > 1 else 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.found) if self.found else math.nan


def rows_of(results: Sequence[Result], budgets: Sequence[int] = ()) -> list[Row]:
    """A row a strategy, in the order of the results. budgets: numbers of trials; by default three of them."""
    budgets = budgets or default_budgets(results)
    by_strategy: dict[str, list[Result]] = {}
    for result in results:
        by_strategy.setdefault(result.strategy, []).append(result)
    found = {name: [r.found for r in own if r.found is not None] for name, own in by_strategy.items()}
    tested = {
        name: rank_sum(values, found.get(BASELINE, []))
        for name, values in found.items()
        if name != BASELINE and min(len(values), len(found.get(BASELINE, []))) > 1
    }
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [
        Row(
            name, tuple(found[name]), sum(result.found is None for result in own),
            {budget: best_at(own, budget) for budget in budgets},
            statistics.fmean(result.simulated or result.seconds for result in own),
            any(result.simulated for result in own), corrected.get(name),
        )
        for name, own in by_strategy.items()
    ]  # fmt: skip


def default_budgets(results: Sequence[Result]) -> list[int]:
    """A quarter, a half, and all of the trials of the longest search."""
    longest = max((len(result.best) for result in results), default=0)
    return sorted({max(1, round(longest * share)) for share in (0.25, 0.5, 1.0)}) if longest else []


def best_at(results: Sequence[Result], budget: int) -> float:
    """The mean over searches of the best seen after so many trials, or at the end of a shorter one."""
    values = [result.best[min(budget, len(result.best)) - 1] for result in results if result.best]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else math.nan


def rank_sum(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The two-sided p of Wilcoxon's rank-sum test (Wilcoxon 1945; Mann and Whitney 1947), ties corrected."""
    from scipy.stats import mannwhitneyu

    if len({*ours, *theirs}) == 1:
        return 1.0
    return float(mannwhitneyu(ours, theirs, alternative="two-sided").pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction for several tests (Holm 1979): the k-th smallest of m is multiplied by m − k + 1."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = largest
    return corrected


def verdict(row: Row, baseline: Row, objective: Objective) -> str:
    """Whether the strategy beats random sampling, in a word or two."""
    if row.p is None or row.p >= SIGNIFICANT:
        return "" if row is baseline else "not told apart"
    up = row.mean > baseline.mean
    return "better" if up == (objective.direction == "max") else "worse"


def cells(results: Sequence[Result], objective: Objective, budgets: Sequence[int] = ()) -> list[list[str]]:
    """The table as texts, headings first."""
    rows = rows_of(results, budgets)
    metric = next((result.metric for result in results if result.metric), objective.metric)
    baseline = next((row for row in rows if row.strategy == BASELINE), rows[0])
    points = [*rows[0].at] if rows else []
    unit = "simulated s" if any(row.simulated for row in rows) else "seconds"
    head = ["strategy", "seeds", with_unit(metric), "median", *(f"seen at {budget}" for budget in points), unit]
    table = [[*head, "p (Holm)", "than random"]]
    for row in rows:
        figures = [number(metric, value) for value in (row.mean, row.median)]
        figures[0] += f" ± {number(metric, row.spread)}"
        told = [number(objective.metric, row.at[budget]) for budget in points]
        seeds = f"{len(row.found)}" + (f" ({row.failed} failed)" if row.failed else "")
        p = "" if row.p is None else f"{row.p:.1g}" if row.p < 0.095 else f"{row.p:.2f}"
        clock = f"{row.clock:,.0f}" if row.clock >= 10 else f"{row.clock:.2g}"
        table.append([row.strategy, seeds, *figures, *told, clock, p, verdict(row, baseline, objective)])
    return table


def number(metric: str, value: float) -> str:
    """A value as the table shows it; its unit stands in the heading."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.2f}" if is_fraction(metric) else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def text(table: Sequence[Sequence[str]]) -> str:
    """The table for a terminal: names to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    aligned = [
        "  ".join(cell.ljust(w) if index in (0, len(row) - 1) else cell.rjust(w)
                  for index, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]  # fmt: skip
    return "\n".join(line.rstrip() for line in aligned)


def markdown(table: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([lines[0], "| --- |" + " ---: |" * (len(table[0]) - 2) + " --- |", *lines[1:]])


def frame(results: Sequence[Result]) -> pd.DataFrame:
    """One row a search: strategy, seed, what was found, what the search saw, seconds, and why it failed."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "strategy": result.strategy, "seed": result.seed, result.metric or "found": result.found,
                "best_seen": result.best[-1] if result.best else None, "trials": len(result.best),
                "simulated_seconds": result.simulated, "seconds": round(result.seconds, 3), "error": result.error,
            }
            for result in results
        ]
    )  # fmt: skip


def curves_frame(results: Sequence[Result]) -> pd.DataFrame:
    """One row a trial that brought something new: strategy, seed, trial, clock, and the best seen until then."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for result in results:
        for trial, (best, clock) in enumerate(zip(result.best, result.clock, strict=True), 1):
            if trial in (1, len(result.best)) or best != result.best[trial - 2]:
                row = {"strategy": result.strategy, "seed": result.seed, "trial": trial, "clock": round(clock, 3)}
                rows.append({**row, "best_seen": best})
    return pd.DataFrame(rows)


def regret(results: Sequence[Result], objective: Objective, optimum: float | None = None) -> Figure:
    """How far the best that a search has seen is from the optimum, after each trial: the mean over seeds, and the 95 %
    confidence interval of that mean (1.96 standard errors). optimum: by default the best that any of the searches saw.

    Raises RunError where no search judged candidates one by one.
    """
    import numpy as np

    sign = 1.0 if objective.direction == "max" else -1.0
    curves: dict[str, list[list[float]]] = {}
    for result in results:
        if any(value is not None for value in result.best):
            own = [math.nan if value is None else value for value in result.best]
            curves.setdefault(result.strategy, []).append(own)
    if not curves:
        raise RunError("there is no regret to draw: none of the strategies judges candidates one by one")
    ends = [sign * own[-1] for several in curves.values() for own in several]
    top = max(ends) if optimum is None else sign * optimum
    made = figure(width=6.4, height=4.2)
    axes = made.subplots()
    scale = 100 if is_fraction(objective.metric) else 1
    name = with_unit(objective.metric).replace("%", "points")
    dressed(
        axes, "trials", printable(f"regret: {name} behind {'the optimum' if optimum is not None else 'the best seen'}")
    )
    for index, (strategy, several) in enumerate(curves.items()):
        length = max(map(len, several))
        grid = np.array([[*own, *[own[-1]] * (length - len(own))] for own in several])
        behind = scale * (top - sign * grid)
        some = ~np.isnan(behind).all(axis=0)
        mean, at = np.nanmean(behind[:, some], axis=0), np.arange(1, length + 1)[some]
        colour = INK if strategy == BASELINE else PALETTE[index % len(PALETTE)]
        style: Any = "-" if strategy == BASELINE else LINES[index // len(PALETTE) % len(LINES)]
        axes.plot(at, np.where(mean > 0, mean, np.nan), style, color=colour, linewidth=1.8, label=strategy)
        if len(several) > 1:
            error = 1.96 * np.nanstd(behind[:, some], axis=0, ddof=1) / math.sqrt(len(several))
            low = np.maximum(mean - error, np.nanmin(mean[mean > 0], initial=1e-9) / 3)
            axes.fill_between(at, low, mean + error, color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log", subs=[2, 3, 5])
    for level in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        level("{x:g}")
    axes.tick_params(labelsize=SIZE, which="both")
    legend(axes)
    return made
