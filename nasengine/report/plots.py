"""Figures of a run. Each function returns a matplotlib Figure, or raises RunError with a sentence of why it cannot."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import RunError
from ..plan import rank, standing_of
from ..trial import Evaluate, Learn, Objective, Trial
from ..wording import is_fraction
from .importance import Importance
from .importance import importance as weigh
from .style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    HEIGHT,
    INK,
    ORANGE,
    PALETTE,
    PURPLE,
    SIZE,
    SKY,
    VERMILION,
    WIDTH,
    bars,
    dressed,
    figure,
    legend,
    powers,
    rows,
    thousands,
    whole_numbers,
    with_unit,
    within_all,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..run import Run

Point: TypeAlias = tuple[float, float]

POINTS = 300  # of one figure at most, so that a page about a long run stays small
BARS = 12
PARAMETER_FREE, EIGENVALUE = "parameter_free", "eigenvalue"  # what a guard reports
STATES = {"done": GREEN, "pruned": SKY, "failed": VERMILION, "out_of_memory": ORANGE, "timed_out": PURPLE}


def best_so_far(run: Run, over: Literal["trials", "seconds"] = "trials") -> Figure:
    """Every trial of the search as a dot, the best so far as a line; over trials, or the run's seconds.

    As everywhere, a trial of more epochs is better than any of fewer: there the line may go back.
    """
    objective = run.objectives[0]
    scored: list[tuple[float, float, Any]] = []
    for position, trial in enumerate(searched(run), 1):
        standing = standing_of(trial, run.by_stage)
        if standing is not None:
            when = float(position) if over == "trials" else run.told_at[trial.number]
            scored.append((when, _shown(objective, trial), standing))
    if not scored:
        raise RunError(f"the run {run.folder} has no trial of its search to draw: none was judged")
    scored.sort(key=lambda point: point[0])
    best, top = [], scored[0]
    for point in scored:
        top = point if point[2] > top[2] else top
        best.append(top[1])
    kept = thinned(len(scored), {i for i in range(1, len(best)) if best[i] != best[i - 1]})
    xs = [scored[i][0] for i in kept]
    made = figure()
    axes = made.subplots()
    dressed(axes, "trials of the search" if over == "trials" else "seconds", with_unit(objective.metric))
    axes.plot(xs, [scored[i][1] for i in kept], "o", color=FAINT, markersize=4, label="each trial")
    axes.step(xs, [best[i] for i in kept], where="post", color=BLUE, linewidth=2, label="best so far")
    axes.plot(xs[-1:], best[-1:], "o", color=BLUE, markersize=6)
    within_all(axes, objective.metric)
    whole_numbers(axes)
    legend(axes)
    return made


def curves(run: Run, most: int = 5) -> Figure:
    """Learning curves: of the learning in a supernet where the strategy does that, else of the best trials."""
    learnt = [trial for trial in run.all_trials if isinstance(trial.request, Learn) and trial.curve]
    if learnt:
        return _learning(run, learnt[:most])
    metric = run.objectives[0].metric
    final = [trial for trial in run.all_trials if trial.purpose == "final"]
    chosen = [t for t in [*final, *rank(run.all_trials, run.by_stage)] if len(_points(t, metric)) > 1][:most]
    if not chosen:
        raise RunError(f"the run {run.folder} has no learning curve: no trial reported its {metric} by epoch")
    made = figure()
    axes = made.subplots()
    dressed(axes, "epochs", with_unit(metric))
    for index, (trial, colour) in enumerate(zip(chosen, PALETTE, strict=False)):
        name = "found, final training" if trial.purpose == "final" else f"trial {trial.number}"
        line = "o-" if len(trial.curve) <= 5 else "-"
        axes.plot(
            *zip(*_points(trial, metric), strict=True), line, color=colour, markersize=4,
            linewidth=1.4 if index else 2.4, label=name, zorder=3 if index else 4,
        )  # fmt: skip
    within_all(axes, metric)
    whole_numbers(axes)
    legend(axes)
    return made


def _learning(run: Run, trials: list[Trial]) -> Figure:
    """The objective by epoch where the learning reports it, else its losses; below them what its guard measured."""
    names = list(dict.fromkeys(name for trial in trials for point in trial.curve for name in point))
    wanted = [o.metric for o in run.objectives if o.metric in names] or [n for n in names if "loss" in n] or names
    wanted = wanted[:1] if not wanted[0].endswith("loss") else wanted[:3]
    guarded = any(name in names for name in (PARAMETER_FREE, EIGENVALUE))
    made = figure(WIDTH, HEIGHT + (1.5 if guarded else 0))
    ratios = [3, 2] if guarded else [1]
    axes, *below = made.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    epochs = "epochs of learning in the supernet"
    dressed(axes, "" if guarded else epochs, with_unit(wanted[0]) if len(wanted) == 1 else "loss")
    for which, trial in enumerate(trials):
        for place, name in enumerate(wanted):
            if points := _points(trial, name):
                shown = name.replace("_", " ") + (f", trial {trial.number}" if len(trials) > 1 else "")
                line = ("o" if len(points) <= 5 else "") + ("-", "--", ":")[place]
                colour = PALETTE[which if len(trials) > 1 else place]
                axes.plot(*zip(*points, strict=True), line, color=colour, linewidth=1.8, markersize=4, label=shown)
    for panel in below:
        _guarded(panel, trials, epochs)
    whole_numbers(axes)
    legend(axes)
    return made


def _guarded(axes: Axes, trials: list[Trial], across: str) -> None:
    """The share of operations without parameters on the left, the size of the Hessian's eigenvalue on the right; of
    several trials in the colours that their losses have."""
    shares = [_points(trial, PARAMETER_FREE) for trial in trials]
    sizes = [[(x, abs(y)) for x, y in _points(trial, EIGENVALUE) if y] for trial in trials]  # 0 has no logarithm
    one = len(trials) == 1
    dressed(axes, across, "operations without parameters" if any(shares) else "eigenvalue, dashed")
    right = axes.twinx() if any(shares) and any(sizes) else axes
    if right is not axes:
        dressed(right, "", "")
        right.grid(visible=False)
        right.set_title("eigenvalue, dashed", size=SIZE, color=INK, loc="right")
    if any(shares):
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1])
    if any(sizes):
        powers(right, [y for points in sizes for _, y in points])
    for panel, curves_of, line, first in ((axes, shares, "-", GREEN), (right, sizes, "--", PURPLE)):
        for points, colour in zip(curves_of, PALETTE, strict=False):
            if points:
                style = ("o" if len(points) <= 5 else "") + line
                colour = first if one else colour
                panel.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.8, markersize=4)


def front(run: Run) -> Figure:
    """The Pareto front of the search, the first objective over each other one; beaten trials are faint.

    The ends of the front and its knee, the farthest from the line between the ends, are named.
    """
    if len(run.objectives) < 2:
        raise RunError(f"the run {run.folder} has one objective, {run.objectives[0]}; a front needs two")
    first, *others = run.objectives
    best = run.front()
    if not best:
        raise RunError(f"the run {run.folder} has no front: no trial has a value for every objective")
    numbers = {trial.number for trial in best}
    beaten = [
        t for t in searched(run) if t.number not in numbers and all(o.score(t) is not None for o in run.objectives)
    ]
    beaten = [beaten[i] for i in thinned(len(beaten))]
    made = figure(WIDTH, HEIGHT * len(others) + 0.2)
    for axes, other in zip(made.subplots(len(others), 1, squeeze=False)[:, 0], others, strict=True):
        dressed(axes, with_unit(other.metric), with_unit(first.metric))
        faint = [(_shown(other, t), _shown(first, t)) for t in beaten]
        marked = sorted((_shown(other, t), _shown(first, t), t.number) for t in best)
        xs, ys = [x for x, _, _ in marked], [y for _, y, _ in marked]
        if faint:
            axes.plot(*zip(*faint, strict=True), "o", color=FAINT, markersize=4.5, label="beaten by another")
        axes.plot(xs, ys, "D-" if len(others) == 1 else "D", color=BLUE, linewidth=1, markersize=6, label="the front")
        every = [x for x, _ in faint] + xs
        axes.margins(0.13, 0.16)
        if min(every) > 0 and max(every) / min(every) > 30:
            axes.set_xscale("log")
        else:
            thousands(axes)
        for index in sorted({0, _knee(marked), len(marked) - 1}):
            below = index == 0 and ys[0] < ys[-1]  # out of the way of the next one's name
            axes.annotate(
                f"trial {marked[index][2]}", (xs[index], ys[index]), xytext=(0, -14 if below else 7),
                textcoords="offset points", ha="center", size=SIZE - 0.5, color=INK, zorder=5,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )  # fmt: skip
    legend(axes)
    return made


def importance(run: Run, weighed: Importance | None = None) -> Figure:
    """How much of the first objective's variance each decision explains: bars, the largest first."""
    weighed = weighed or weigh(run)
    if not weighed.shares:
        raise RunError(weighed.note)
    shown = list(weighed.shares.items())[:BARS]
    made = figure(WIDTH, 0.8 + 0.26 * len(shown))
    axes = made.subplots()
    dressed(axes, "variance explained (%)")
    bars(axes, [name for name, _ in shown], [100 * share for _, share in shown], [BLUE] * len(shown))
    return made


def against_random(run: Run) -> Figure:
    """The architecture found above each random one and their mean, all trained by one recipe."""
    comparison = run.comparison()
    if comparison is None:
        raise RunError(f"the run {run.folder} has no random architectures to compare with")
    scale = 100 if is_fraction(comparison.metric) else 1
    others = [scale * value for value in comparison.baseline]
    mean = sum(others) / len(others)
    made = figure(WIDTH, 1.5)
    axes = made.subplots()
    dressed(axes, with_unit(comparison.metric))
    axes.plot([mean, mean], [-0.3, 0.3], color=GREY, linewidth=1.6)
    axes.plot(others, [0.0] * len(others), "o", color=GREY, markersize=7, alpha=0.7)
    axes.plot([scale * comparison.found], [1.0], "D", color=VERMILION, markersize=8)
    rows(axes, [f"random ({len(others)})", "found"])
    axes.set_ylim(-0.6, 1.6)
    axes.margins(x=0.1)
    return made


def states(run: Run) -> Figure:
    """How many trials ended in which state."""
    if not run.all_trials:
        raise RunError(f"the run {run.folder} has no trial that ended")
    counts = {state: sum(trial.state == state for trial in run.all_trials) for state in STATES}
    counts = {state: count for state, count in counts.items() if count}
    made = figure(WIDTH, 0.8 + 0.3 * len(counts))
    axes = made.subplots()
    dressed(axes, "trials")
    names = [state.replace("_", " ") for state in counts]
    bars(axes, names, [float(count) for count in counts.values()], [STATES[state] for state in counts])
    whole_numbers(axes)
    return made


def searched(run: Run) -> list[Trial]:
    """The search's own evaluations, in order."""
    return [t for t in run.all_trials if t.purpose == "search" and isinstance(t.request, Evaluate) and t.stage == 0]


def thinned(count: int, keep: Collection[int] = (), most: int = POINTS) -> list[int]:
    """About `most` of `count` indices, evenly spread, both ends among them; and those to keep."""
    step = -(-count // most) or 1
    return sorted({*range(0, count, step), *keep, *([count - 1] if count else [])})


def _shown(objective: Objective, trial: Trial) -> float:
    """An objective's value as the axes give it: in percent where it is a fraction."""
    return trial.metrics[objective.metric] * (100 if is_fraction(objective.metric) else 1)


def _points(trial: Trial, metric: str) -> list[Point]:
    """A trial's metric by epoch, counted from 1."""
    scale = 100 if is_fraction(metric) else 1
    points = [(float(epoch), scale * point[metric]) for epoch, point in enumerate(trial.curve, 1) if metric in point]
    return [points[i] for i in thinned(len(points))]


def _knee(points: list[tuple[float, float, Any]]) -> int:
    """The index of the point farthest from the line between the first and the last, both axes scaled to 1."""
    (x0, y0, _), (x1, y1, _) = points[0], points[-1]
    width, height = x1 - x0 or 1.0, y1 - y0 or 1.0
    apart = [abs((x - x0) / width - (y - y0) / height) for x, y, _ in points]
    return apart.index(max(apart))
