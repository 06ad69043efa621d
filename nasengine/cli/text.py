"""Numbers, lines and curves as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from ..run import Run
from ..wording import duration, figures, gain, is_fraction, judged_on, metric

__all__ = ["curve", "duration", "figures", "gain", "is_fraction", "judged_on", "metric", "result"]

BARS = "▁▂▃▄▅▆▇█"


def curve(values: Sequence[float]) -> str:
    """A curve as a line of bars, lowest to highest value."""
    low, high = min(values), max(values)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - low) / step)] for value in values)


def result(run: Run) -> str:
    """The end of a run, for a terminal."""
    best = run.best
    architecture = best.architecture
    lines = ["", f"Architecture found ({architecture.short if architecture else '?'}):"]
    if architecture is not None:
        lines += [f"  {line}" for line in run.describe(architecture).splitlines()]
    lines.append("")
    lines += [f"  {label:<22}{value}" for label, value in figures(run, best)]
    comparison = run.comparison()
    if comparison is not None:
        lines += ["", f"  {gain(comparison)}{judged_on(comparison)}"]
    if len(run.objectives) > 1:
        lines += ["", "Not beaten in every objective by another (the Pareto front of the search):"]
        for trial in run.front():
            values = ", ".join(f"{o.metric} {metric(o.metric, trial.metrics[o.metric])}" for o in run.objectives)
            lines.append(f"  trial {trial.number}: {values}")
    lines += ["", f"The run took {duration(run.seconds)} and is in {run.folder}"]
    commands = {
        f"nas show {run.folder}": "what was tried",
    }
    if run.has_model:
        commands[f"nas export {run.folder} -o model.py"] = "the model, as one file that needs only torch"
    width = max(map(len, commands)) + 3
    lines += ["Next:", *(f"  {command:<{width}}{what}" for command, what in commands.items())]
    return "\n".join(lines)
