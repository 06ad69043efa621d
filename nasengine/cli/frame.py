"""What `nas watch` shows: one frame, drawn to fit the terminal. The smaller it is, the fewer rows of each part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ..settings import PluginChoice
from ..trial import Learn, Trial
from .chart import chart
from .tally import Tally
from .text import brief, curve, metric, phase_of

if TYPE_CHECKING:
    from .tally import Progress, Working

STYLES = {"done": "", "pruned": "dim", "failed": "red", "out_of_memory": "red", "timed_out": "red"}


def frame(tally: Tally, width: int, height: int) -> list[Text]:
    """The lines of a frame, at most `height` of them, none wider than `width`."""
    rows = [tally.followed(row) for row in tally.working()[: max(height // 3, 1)]]
    lines, counts = _head(tally, width), _counts(tally)
    spare = height - len(lines) - (len(counts) + 1 if counts else 0)
    workers = _workers(tally, rows, width, max((spare - 1) * 2 // 5, 2))
    spare -= len(workers) + 1 if workers else 0
    least = min(len(tally.recent), 3)  # of the last trials; more where the curve leaves room
    drawn = _curve(tally, rows, width, min(spare - (least + 2 if least else 0) - 1, 13, height // 3))
    spare -= len(drawn) + 1 if drawn else 0
    recent = _recent(tally, min(len(tally.recent), spare - 2))
    for part in (drawn, workers, counts, recent):
        lines += [Text(), *part] if part else []
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _head(tally: Tally, width: int) -> list[Text]:
    config = tally.run.config
    parts = " · ".join(_named(part) for part in (config.space, config.strategy, config.evaluator, config.task))
    title = Text(f"{parts} · seed {config.seed}", style="bold")
    if tally.phase == "interrupted":
        failure = tally.run.failure
        what = f"failed: {failure}" if failure else "interrupted: nobody works on it"
        phase = Text(f"{what}; go on: nas resume {tally.run.folder}", style="red" if failure else "yellow")
    else:
        phase = Text(phase_of(tally.phase, tally.run.config), style="green" if tally.phase == "finished" else "cyan")
        if tally.phase != "finished":
            phase.append(f" · {tally.run.folder}", style="dim")
    return [title, phase, _bar(tally.progress, tally.elapsed, width), _best(tally)]


def _named(part: PluginChoice) -> str:
    """A plugin with the options that were set: `train:epochs=3`; of a file, its last part."""
    name = part.name.rpartition("/")[2]
    return name + (":" + ",".join(f"{k}={v}" for k, v in part.options.items()) if part.options else "")


def _bar(progress: Progress, elapsed: float, width: int) -> Text:
    """`━━━━━╺────  17 of 40 trials · 1 min 02 s · about 1 min 20 s left`."""
    of = f" of {progress.total:,}" if progress.total is not None else ""
    left = f"about {brief(progress.left)}" if progress.left is not None else "–"
    words = f"  {progress.done:,}{of} {progress.unit}  elapsed {brief(elapsed)}  left {left}"
    room = min(width - len(words), 60)
    if room < 8:
        return Text(words.strip())
    share = min(progress.done / progress.total, 1.0) if progress.total else 0.0
    full = int(share * room)
    bar = Text("━" * full, style="green" if share == 1 else "cyan")
    bar.append("━" * (room - full), style="bright_black")
    return bar.append(words, style="default")


def _best(tally: Tally) -> Text:
    trial = tally.found or tally.best
    name = tally.objective.metric
    if trial is None and tally.learnt is not None and tally.learnt.derived is not None:
        return Text(f"learnt: {tally.learnt.derived.short}, not judged yet", style="dim")
    if trial is None:
        return Text("best: nothing has been judged yet", style="dim")
    architecture = trial.architecture
    shown = [n for n in (name, f"test_{name}", "parameters") if n in trial.metrics]
    line = Text("found: " if tally.found else "best: ").append(f"{name} {metric(name, trial.metrics[name])}", "bold")
    line.append("".join(f" · {n.replace('_', ' ')} {metric(n, trial.metrics[n])}" for n in shown[1:] if n != name))
    return line.append(f" · trial {trial.number} · {architecture.short if architecture else '?'}", style="dim")


def _curve(tally: Tally, rows: Sequence[tuple[Working, str]], width: int, height: int) -> list[Text]:
    """What the search's trials came to and the best so far; before there are any, the curve of what learns."""
    name, line, dots = tally.objective.metric, tally.bests, tally.values
    title = f"{name.replace('_', ' ')} of {len(dots):,} trials, and the best so far"
    if len(line) < 2:
        learning = next(((row, of) for row, of in rows if len(row.curve) > 1), None)
        if learning is None:
            return []
        name, line, dots = learning[1], list(learning[0].curve), []
        title = f"{learning[0].what}: {name.replace('_', ' ')} by epoch"
    if height < 2:
        return []
    longest = max(len(metric(name, value)) for value in (line[0], line[-1]))
    rising = tally.objective.direction == "max" or not dots
    drawn, low, high = chart(line, dots, max(width - longest - 2, 1), height - 1, rising)
    labels = {0: metric(name, high), len(drawn) - 1: metric(name, low)}
    left = max(map(len, labels.values()))
    axis = [Text(f"{labels.get(row, ''):>{left}} ", style="dim") for row in range(len(drawn))]
    return [Text(title, style="dim"), *(label.append_text(text) for label, text in zip(axis, drawn, strict=True))]


def _workers(tally: Tally, rows: Sequence[tuple[Working, str]], width: int, room: int) -> list[Text]:
    """Who works on what, in at most `room` lines."""
    waiting = len(tally.under_way) - len(tally.starts)
    if tally.phase == "interrupted" and waiting:
        return [
            Text(
                f"{waiting} under way when it was interrupted; resumed, they go on from their checkpoints",
                style="yellow",
            )
        ]
    if not rows:
        return [Text(f"{waiting} waiting for a worker", style="dim")] if waiting else []
    more = len(tally.starts) - min(len(rows), room - 1)
    if more > 0:
        more = len(tally.starts) - min(len(rows), room - 2)
    shown = rows[: max(room - 1 - (more > 0), 1)]
    attempts = any(row.start.attempt > 1 for row, _ in shown)
    table = [["worker", "works on", *(["attempt"] if attempts else []), "for", "epoch", "last"]]
    for row, name in shown:
        attempt = [str(row.start.attempt) if row.start.attempt > 1 else ""] if attempts else []
        of = f"/{'~' if row.guessed else ''}{row.epochs}" if row.epochs else ""
        last = f"{name.replace('_', ' ')} {metric(name, row.curve[-1])}" if row.curve else ""
        epoch = f"{row.epoch}{of}" if row.epoch else ""
        table.append([row.start.worker, row.what, *attempt, brief(row.seconds), epoch, last])
    lines = _columns(table)
    lines[0].stylize("dim")
    edge = max(map(len, lines)) + 2
    space = width - edge
    for line, (row, _) in zip(lines[1:], shown, strict=True):
        if len(row.curve) > 1 and space >= 8:
            line.append(" " * (edge - len(line)))
            line.append(_spark(row.curve, min(space, 40)), style="cyan")
    rest = len(tally.starts) - len(shown)
    notes = [f"and {rest} more at work"] if rest > 0 else []
    notes += [f"{waiting} waiting for a worker"] if waiting > 0 and room > len(lines) + len(notes) else []
    return [*lines, *([Text(", ".join(notes), style="dim")] if notes else [])]


def _spark(values: Sequence[float], width: int) -> str:
    if len(values) > width:
        values = [values[(column + 1) * len(values) // width - 1] for column in range(width)]
    return curve(values)


def _counts(tally: Tally) -> list[Text]:
    """`17 done · 2 failed`, and why the last one failed."""
    if not tally.states:
        return []
    line = Text()
    for name in (*STYLES, *(state for state in tally.states if state not in STYLES)):
        if tally.states[name]:
            line.append(" · " if line else "")
            line.append(f"{tally.states[name]:,} {name.replace('_', ' ')}", style=STYLES.get(name, ""))
    if tally.last_failure is None:
        return [line]
    return [line, Text(f"last failure, trial {tally.last_failure.number}: {tally.last_failure.error}", style="red")]


def _recent(tally: Tally, count: int) -> list[Text]:
    """The last trials that came back, the latest first."""
    if count < 1:
        return []
    trials = list(tally.recent)[-count:][::-1]
    names = [objective.metric for objective in tally.run.objectives]
    names += [n for n in (f"test_{names[0]}", "parameters") if n not in names and any(n in t.metrics for t in trials)]
    table = [["trial", "state", *(name.replace("_", " ") for name in names), "took", "architecture"]]
    for trial in trials:
        cells = [metric(name, trial.metrics[name]) if name in trial.metrics else "" for name in names]
        identity = trial.architecture.short if trial.architecture else ""
        took = brief(trial.seconds) if trial.same_as is None else ""
        table.append([str(trial.number), _state(trial), *cells, took, identity])
    lines = _columns(table)
    lines[0].stylize("dim")
    for line, trial in zip(lines[1:], trials, strict=True):
        line.stylize("bold" if trial is tally.best else STYLES.get(trial.state, ""))
    return lines


def _state(trial: Trial) -> str:
    if trial.same_as is not None:
        return f"same as {trial.same_as}"
    what = {"final": "found, ", "baseline": "random, "}.get(trial.purpose, "")
    what = "learning, " if isinstance(trial.request, Learn) else what
    return what + trial.state.replace("_", " ")


def _columns(table: Sequence[Sequence[str]]) -> list[Text]:
    """Rows of equal columns, two spaces apart."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        Text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()) for row in table
    ]
