"""`nas watch`: a run as it goes on, from any terminal. It reads the record; the run does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .resume import RunFolder
from .run import Json

if TYPE_CHECKING:
    from rich.console import Console

    from .tally import Tally, Working


def watch(
    folder: RunFolder,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.05, help="How often to look.")] = 0.5,
    once: Annotated[bool, typer.Option("--once", help="Show how it stands now, and end.")] = False,
    json: Json = False,
) -> None:
    """Watch a run: how far it is, its best so far, what its workers do.

    Reads only; any number may watch. Ends when the run does. Ctrl-C ends the watching, not the run. Where stdout is no
    terminal, it shows how the run stands now, and ends.
    """
    from rich.console import Console

    from .tally import Tally

    tally = Tally(folder)
    console = Console(highlight=False)
    if json:
        import json as encoder

        typer.echo(encoder.dumps(as_json(tally), indent=2))
    elif once or not console.is_terminal:
        _once(tally, console)
    else:
        _live(tally, console, every)


def _once(tally: Tally, console: Console) -> None:
    from .frame import frame

    height = console.height - 1 if console.is_terminal else 40
    for line in frame(tally, console.width, height):
        console.print(line, no_wrap=True, overflow="ellipsis", soft_wrap=not console.is_terminal)


def _live(tally: Tally, console: Console, every: float) -> None:
    """Frames on a screen of their own, until the run is finished or Ctrl-C."""
    import signal
    from queue import Empty, SimpleQueue

    from rich.console import Group
    from rich.live import Live

    from .frame import frame
    from .text import result

    asked: SimpleQueue[int] = SimpleQueue()  # an Event's lock is not reentrant: set() from a handler may wait for ever
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: asked.put(number))
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Group(*frame(tally, console.width, console.height)), refresh=True)
                if tally.phase == "finished":
                    break
                try:
                    asked.get(timeout=every)
                    break
                except Empty:
                    tally.read()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if tally.phase == "finished":
        typer.echo(result(tally.run))
    elif tally.phase == "interrupted":
        typer.echo(f"nobody works on the run; go on with: nas resume {tally.run.folder}", err=True)
    else:
        typer.echo(f"the run goes on; watch it again with: nas watch {tally.run.folder}", err=True)


def as_json(tally: Tally) -> dict[str, Any]:
    """How a run stands, as JSON values; times are in seconds, `left` is null where nobody knows."""
    progress, config, best = tally.progress, tally.run.config, tally.found or tally.best
    return {
        "folder": str(tally.run.folder),
        "phase": tally.phase,
        "process": tally.owner,
        **{part: getattr(config, part).to_dict() for part in ("space", "strategy", "evaluator", "task")},
        "seed": config.seed,
        "done": progress.done,
        "of": progress.total,
        "unit": progress.unit,
        "elapsed": round(tally.elapsed, 1),
        "left": None if progress.left is None else round(progress.left, 1),
        "best": {
            "number": best.number,
            "metrics": dict(best.metrics),
            "architecture": best.architecture.id if best.architecture else None,
        }
        if best
        else None,
        "states": dict(tally.states),
        "first_failure": _failure(tally.first_failure),
        "last_failure": _failure(tally.last_failure),
        "waiting": len(tally.under_way) - len(tally.starts),
        "workers": [_worker(*tally.followed(row)) for row in tally.working()],
    }


def _failure(trial: Any) -> dict[str, Any] | None:
    return {"number": trial.number, "error": trial.error} if trial else None


def _worker(row: Working, name: str) -> dict[str, Any]:
    return {
        "worker": row.start.worker,
        "number": row.start.number,
        "attempt": row.start.attempt,
        "seconds": round(row.seconds, 1),
        "epoch": row.epoch,
        "epochs": None if row.guessed else row.epochs,
        "metric": name,
        "curve": list(row.curve),
    }
