"""`nas show`: a run (its result, trials and curves), one trial, an architecture (what it is and costs), or a plugin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .explain import plugin
from .run import Json

if TYPE_CHECKING:
    from ..run import Run
    from ..task import Task

ROWS = 20


def show(
    what: Annotated[str, typer.Argument(metavar="RUN|KIND|NETWORK", help="A run's folder; space, strategy, evaluator, task or stopper; a well-known network or an architecture's file.", show_default=False)],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The plugin's name, behind its kind; a space's with options, `cell:nodes=3`, where its size with these is wanted.", show_default=False)] = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="One trial of the run, with its curve and error.")] = None,
    task: Annotated[str, typer.Option(help="Of a network or a space: for which data its cost, or its size, is counted.")] = "digits",
    shape: Annotated[str | None, typer.Option(metavar="C,H,W", help="Of a network or a space: the shape of an example, instead of a task.")] = None,
    classes: Annotated[int, typer.Option(help="With --shape: how many classes.")] = 1000,
    every: Annotated[bool, typer.Option("--all", help=f"Every trial, not the best {ROWS} only.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Show a run, finished or not, a network, or explain a plugin.

    `nas show RUN`, `nas show strategy darts`, `nas show resnet18 --shape 3,224,224`.
    """
    kind, _, rest = what.partition(":")
    if kind in ("space", "strategy", "evaluator", "task", "stopper") and (name or rest):
        shown = plugin(kind, name or rest, lambda: _task(task, shape, classes))
    elif trial is not None:
        shown = _trial(_run(what), trial)
    elif not Path(what).is_dir() and (Path(what).is_file() or _is_reference(what)):
        shown = _network(what, _task(task, shape, classes))
    else:
        shown = _overview(_run(what), every)
    if json:
        import json as encoder

        typer.echo(encoder.dumps(shown["json"], indent=2))
    else:
        typer.echo(shown["text"])


def _run(folder: str) -> Run:
    from ..run import Run

    return Run(Path(folder))


def _is_reference(name: str) -> bool:
    from ..reference import references

    return name in references()


def _task(name: str, shape: str | None, classes: int) -> Task:
    """A task by its name, or one of a shape alone. Raises ConfigError."""
    from ..errors import ConfigError
    from ..reference import Shapes
    from ..registry import make, split

    if shape is None:
        return make("task", *split(name))  # type: ignore[return-value]
    if not re.fullmatch(r"[1-9]\d*([,x×][1-9]\d*)*", shape) or classes < 1:
        raise ConfigError(f"--shape is {shape!r}, --classes {classes}; expected numbers such as 3,224,224, and 1000")
    return Shapes(tuple(int(side) for side in re.split("[,x×]", shape)), classes)


def _network(what: str, task: Task) -> dict[str, Any]:
    """What an architecture is, and what it costs on the task's data."""
    from ..cost import flops, parameters
    from ..errors import ConfigError, NasError, one_line
    from ..parts import named_architecture
    from ..registry import make
    from .text import metric

    architecture = named_architecture(what)
    space: Any = make("space", architecture.space, dict(architecture.options))
    try:
        space.check(task)
        space.domain(task).validate(architecture)
        model = space.shape(architecture, task)
        costs = {"parameters": parameters(model), "flops": flops(model, task)}
    except NasError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be built and counted for examples of {tuple(task.input_shape)} ({one_line(error)}); where it "
            f"is for others, name a task that has such: --task (see: nas list tasks)"
        ) from error
    size = "×".join(map(str, task.input_shape))
    lines = [
        f"{Path(what).stem}, of the space {architecture.space} ({architecture.short})",
        f"for examples of {size} and {task.classes:,} classes",
        "",
        f"  {'parameters':<22}{metric('parameters', costs['parameters'])}",
        f"  {'FLOPs, forward':<22}{metric('flops', costs['flops'])}",
        "",
        *space.describe(architecture).splitlines(),
    ]
    return {"text": "\n".join(lines), "json": {"architecture": architecture.to_dict(), **costs}}


def _overview(run: Run, every: bool) -> dict[str, Any]:
    from ..plan import rank
    from .text import curve, duration, metric, parts_of, result

    rows = run.rows()
    summary = {**run.summary(), "trials": rows}
    config = run.config
    parts = " · ".join(parts_of(config))
    state = (
        "finished"
        if run.finished
        else f"unfinished, {len(run.in_flight)} under way; watch: nas watch {run.folder}"
        if run.owner
        else f"{'failed: ' + run.failure if run.failure else 'unfinished, nobody works on it'}; go on: nas resume {run.folder}"
    )
    states = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(summary["states"].items()))
    lines = [f"{parts} · seed {config.seed}", f"{state} · {states or 'no trials yet'} · {duration(run.seconds)}"]
    ranked = rank(run.all_trials, run.by_stage)
    if run.finished:
        lines.append(result(run))
    elif ranked:
        lines.append(f"best so far: trial {ranked[0].number}")
    if rows:
        order = [t.number for t in ranked] + [row["number"] for row in rows]
        numbers = sorted(dict.fromkeys(order) if every else list(dict.fromkeys(order))[:ROWS])
        objectives = [o.metric for some in (*run.stages, run.final_objectives) for o in some]
        besides = [f"test_{run.final_objectives[0].metric}", "parameters", "epochs"]
        names = [n for n in dict.fromkeys([*objectives, *besides]) if any(n in row for row in rows)]
        staged = ["stage"] if len(run.stages) > 1 else []
        table = [["trial", "purpose", *staged, "kind", "state", *names, "seconds", "architecture"]]
        for row in (row for row in rows if row["number"] in numbers):
            cells = [metric(n, row[n]) if n in row else "" for n in names]
            state = row["state"] if row["same_as"] is None else f"same as {row['same_as']}"
            stage = [str(row["stage"] + 1) if row["purpose"] in ("search", "preparation") else "" for _ in staged]
            begin = [str(row["number"]), row["purpose"], *stage, row["kind"], state]
            table.append([*begin, *cells, f"{row['seconds']:.1f}", row["id"] or ""])
        lines += ["", *columns(table)]
        if len(numbers) < len(rows):
            lines.append(f"… and {len(rows) - len(numbers)} more: --all")
        for number, points in _curves(run, numbers).items():
            name = _judged_by(run, number)
            values = [point[name] for point in points if name in point]
            if len(values) > 1:
                ends = f"{metric(name, values[0])} → {metric(name, values[-1])}"
                lines.append(f"trial {number:<4} {name} by epoch {curve(values)} {ends}")
        errors = [(row["number"], row["error"]) for row in rows if row["error"]]
        lines += [f"trial {number}: {error}" for number, error in errors[:ROWS]]
        lines += [f"trial {trial.number}: {note}" for trial in run.all_trials for note in trial.notes][:ROWS]
    return {"text": "\n".join(lines), "json": summary}


def _curves(run: Run, numbers: list[int]) -> dict[int, list[dict[str, float]]]:
    """The curves of what runs now and of the best trial."""
    wanted = [n for n in run.in_flight if n not in numbers][:3]
    ranked = [run.best.number] if run.all_trials and run.summary()["best"] else []
    return {number: run.curve(number) for number in dict.fromkeys([*ranked, *wanted])}


def _judged_by(run: Run, number: int) -> str:
    """The metric that the curve of a request is looked at for."""
    request = run.requests[number]
    if request.purpose in ("final", "baseline"):
        return run.final_objectives[0].metric
    return run.by_stage[getattr(request, "stage", 0)].metric


def _trial(run: Run, number: int) -> dict[str, Any]:
    from ..errors import ConfigError
    from .text import metric

    rows = {row["number"]: row for row in run.rows()}
    if number not in rows:
        highest = max(rows, default=None)
        have = f"it has 0 to {highest}" if highest is not None else "it has none yet"
        raise ConfigError(f"the run {run.folder} has no trial {number} that ended; {have}")
    row, points = rows[number], run.curve(number)
    trial = next(t for t in run.all_trials if t.number == number)
    lines = [f"trial {number}: {row['kind']}, {row['purpose']}, {row['state']}, {row['seconds']:.1f} s"]
    lines += [f"  {name:<22}{metric(name, value)}" for name, value in trial.metrics.items()]
    if row["error"]:
        lines.append(f"error: {row['error']}")
    lines += [f"note: {note}" for note in trial.notes]
    if trial.architecture is not None:
        lines += ["", *run.describe(trial.architecture).splitlines()]
    if points:
        names = list(points[-1])
        table = [["epoch", *names]]
        table += [
            [str(epoch), *(metric(n, point[n]) if n in point else "" for n in names)]
            for epoch, point in enumerate(points, 1)
        ]
        lines += ["", *columns(table)]
    if trial.details:
        lines += ["", trial.details.rstrip()]
    return {"text": "\n".join(lines), "json": {**row, "curve": points, "details": trial.details}}


def columns(table: list[list[str]]) -> list[str]:
    """Rows of equal columns, two spaces apart."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
