"""Numbers and judgements in words, the same in a terminal, in a figure and on a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Comparison, Run
    from .trial import Trial

FRACTIONS = ("accuracy", "f1")
UNITS = {"latency": "ms", "memory": "bytes", "energy": "J", "seconds": "s"}


def is_fraction(metric: str) -> bool:
    """Whether a metric is a share of one, or the spread of such, shown in percent."""
    return metric.removeprefix("test_").removesuffix("_spread") in FRACTIONS


def unit(metric: str) -> str:
    """What a metric is measured in: `ms` for `latency` and `latency_32`; nothing for a bare number."""
    return UNITS.get(re.sub(r"_\d+$", "", metric), "")


def metric(name: str, value: float) -> str:
    """A metric's value with its unit: `98.61 %`, `24,954`, `0.0366`, `3.142 ms`."""
    if is_fraction(name):
        return f"{100 * value:.2f} %"
    number = f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    return f"{number} {unit(name)}".rstrip()


def worded(name: str, value: float) -> str:
    """A cost with its name: `21 parameters`, `a latency of 3.142 ms`."""
    return f"a {name} of {metric(name, value)}" if unit(name) else f"{value:,.0f} {name}"


def duration(seconds: float) -> str:
    """`8.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def gain(comparison: Comparison) -> str:
    """How the architecture found compares with random ones, honest also when it is worse."""
    n = len(comparison.baseline)
    scale, digits, unit = (100, 1, " points") if is_fraction(comparison.metric) else (1, 4, "")
    spread = f", ± {scale * comparison.spread:.{digits}f}" if n > 1 else ""
    line = f"search gain {scale * comparison.gain:+z.{digits}f}{unit} over random (n = {n}{spread})"
    if n > 1 and abs(comparison.gain) <= comparison.spread:
        return f"{line}: within the spread of random architectures"
    return line if comparison.gain > 0 else f"{line}: random architectures did as well or better"


def judged_on(comparison: Comparison) -> str:
    """What a comparison was made on, to stand behind its gain."""
    return " on the test data" if comparison.metric.startswith("test_") else ", as the search judges"


def figures(run: Run, trial: Trial) -> list[tuple[str, str]]:
    """What a trial measured, labelled: the objectives on validation and test data, and the size."""
    shown = []
    objectives = run.objectives_of(trial)
    for objective in objectives:
        name = objective.metric
        if name in trial.metrics:
            label = f"validation {name}" if f"test_{name}" in trial.metrics else name
            spread = trial.metrics.get(f"{name}_spread")
            over = "" if spread is None else f" ± {metric(f'{name}_spread', spread).removesuffix(' %')}"
            shown.append((label, metric(name, trial.metrics[name]) + over))
        if f"test_{name}" in trial.metrics:
            shown.append((f"test {name}", metric(name, trial.metrics[f"test_{name}"])))
    if "parameters" in trial.metrics and all(o.metric != "parameters" for o in objectives):
        shown.append(("parameters", metric("parameters", trial.metrics["parameters"])))
    return shown
