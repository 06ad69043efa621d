"""Numbers, lines and curves as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from ..config import Config
from ..errors import NasError
from ..pictures import pictures
from ..run import Run
from ..trial import State
from ..wording import duration, figures, gain, is_fraction, judged_on, metric

__all__ = ["curve", "duration", "figures", "gain", "is_fraction", "judged_on", "metric", "result"]

STATES: tuple[State, ...] = get_args(State)
BARS = "▁▂▃▄▅▆▇█"


def brief(seconds: float) -> str:
    """A duration that is read at a glance: `8 s`, `3 min 05 s`, `2 h 10 min`."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(max(seconds, 60))


def curve(values: Sequence[float]) -> str:
    """A curve as a line of bars, lowest to highest value."""
    low, high = min(values), max(values)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - low) / step)] for value in values)


def parts_of(config: Config) -> list[str]:
    """Space, strategy (for a training alone, what is trained), evaluator and task, by name."""
    given = config.start_from[0] if config.start_from else ""
    middle = config.strategy.name if config.trials else given if isinstance(given, str) else "an architecture"
    return [config.space.name, middle, config.evaluator.name, config.task.name]


def phase_of(phase: str, config: Config) -> str:
    """What the run is doing, for people."""
    if phase.startswith("stage "):
        number = int(phase.split()[1])
        stage = config.funnel[number - 1]
        return f"stage {number} of the funnel: the best {stage.candidates:,}, judged by {stage.evaluator.name}"
    if phase != "final":
        return {"search": "searching", "preparation": "what candidates are judged by is learnt"}.get(phase, phase)
    if config.trials == 0:
        return "training"
    return "training what was found" + (", and random architectures by the same recipe" if config.baseline else "")


def result(run: Run) -> str:
    """The end of a run, for a terminal."""
    best = run.best
    architecture = best.architecture
    how = "found" if run.config.trials else "trained"
    lines = ["", f"Architecture {how} ({architecture.short if architecture else '?'}):"]
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
    lines += [f"  {'picture':<22}{path}" for path in pictures(run.folder)]
    lines += funnelled(run)
    lines += ["", *ended(run), f"The run took {duration(run.seconds)} and is in {run.folder}"]
    commands = {
        f"nas show {run.folder}": "what was tried",
    }
    if run.has_model:
        ending = exported(run)
        what = "the model, as one file that needs only torch" if ending == "py" else "the model"
        commands[f"nas export {run.folder} -o model.{ending}"] = what
    width = max(map(len, commands)) + 3
    lines += ["Next:", *(f"  {command:<{width}}{what}" for command, what in commands.items())]
    return "\n".join(lines)


def exported(run: Run) -> str:
    """The format to recommend for the model found."""
    try:
        return run.task.exports[0]
    except NasError:  # its plugin is not here
        return "py"


def funnelled(run: Run) -> list[str]:
    """What each stage of the funnel judged and took, and what it is worth."""
    if len(run.stages) < 2:
        return []
    from ..calibration import FEWEST
    from ..calibration import table as worth
    from ..report.compared import text
    from ..report.facts import stages

    lines = ["", "The funnel:", *_indented(text(stages(run)))]
    agreements = run.calibration()
    if not agreements:
        return [
            *lines,
            f"  Fewer than {FEWEST} were judged at two stages: too few to say what the cheap ones are worth.",
        ]
    lines += ["", "What the stages are worth: rank correlation with later ones, among those that these judged too"]
    return [*lines, *_indented(text(worth(agreements)))]


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def ended(run: Run) -> list[str]:
    """How the search's trials ended, and why the first failed, where that says more than the result does."""
    trials = [trial for trial in run.all_trials if trial.purpose == "search"]
    failed = [trial for trial in trials if trial.state not in ("done", "pruned")]
    if len(trials) < 2 and not failed:
        return []
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{states[state]:,} {state.replace('_', ' ')}" for state in STATES if states[state])
    line = f"{len(trials):,} trial{'s' if len(trials) > 1 else ''}: {counts}"
    if failed:
        line += f"; the first to fail was trial {failed[0].number}: {failed[0].error}"
    simulated = [f"looked up, not trained: that would have taken {duration(run.simulated)}"] if run.simulated else []
    return [line, *simulated]
