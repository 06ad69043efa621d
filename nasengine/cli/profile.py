"""`nas profile`: what the architectures of a space take on this device, as a table that foretells it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .machine import Device
from .run import Json, Quiet

if TYPE_CHECKING:
    from ..profiling import Profile

LINES = 10
"""Of progress, where there is no terminal."""
OPERATIONS = 15


def profile(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="What can be built: a name, with options as `cell:layers=4`.", show_default=False)],
    task: Annotated[str, typer.Option(help="The data whose shapes the networks are for.")] = "digits",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the table goes, as JSON.")] = Path("latency.json"),
    architectures: Annotated[int, typer.Option(metavar="N", help="How many random architectures are measured.")] = 100,
    batch: Annotated[int, typer.Option(metavar="N", help="How many examples at a time: 1 for the metric `latency`, 32 for `latency_32`.")] = 1,
    rounds: Annotated[int, typer.Option(metavar="N", help="How often each is measured, in turn with the others; the median counts.")] = 5,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads.  [default: all cores but one]")] = None,
    device: Device = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other architectures.")] = 0,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Where relative data paths start; else NASENGINE_DATA.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw what was foretold over what was measured: a .svg, .png or .pdf.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure random architectures of a space on this device, and make a latency table of what they take.

    By the table a search knows an architecture's latency at once: `nas run --latency-table latency.json --constraint
    'latency<=5'`. How well it foretells architectures that it was not made from is measured, and held against FLOPs and
    parameters.
    """
    from ..errors import ConfigError
    from ..profiling import profile as measured
    from ..report.drawing import format_of, save
    from ..report.profiled import foretold_over_measured

    if plot is not None:
        format_of(plot)
    if not out.parent.is_dir() or out.is_dir():
        raise ConfigError(f"{out} cannot be written: it is a folder, or in none that is there; choose another")
    with Progress(quiet) as progress:
        found = measured(
            space, task, architectures=architectures, batch=batch, threads=threads, device=device or "auto", seed=seed,
            rounds=rounds, data=data, step=progress.step,
        )  # fmt: skip
    written = [found.write(out)]
    if plot is not None:
        written.append(save(foretold_over_measured(found), plot))
    if json:
        import json as encoder

        typer.echo(encoder.dumps(_json(found), indent=2))
    else:
        typer.echo("\n".join(_lines(found, space, written)))


def _json(found: Profile) -> dict[str, Any]:
    measured = [
        {"architecture": architecture.to_dict()["picks"], "measured": latency, "foretold": foretold}
        for architecture, latency, foretold in zip(
            found.architectures, found.measured, found.foretold["latency table"], strict=True
        )
    ]
    return {**found.table.to_dict(), "measured": measured}


def _lines(found: Profile, space: str, written: list[Path]) -> list[str]:
    from .show import columns

    table = found.table
    size = "×".join(map(str, table.input_shape))
    threads = f", {table.threads} thread{'s' if table.threads > 1 else ''}" if table.device.startswith("cpu") else ""
    low, high = min(found.measured), max(found.measured)
    dear = found.operations()
    shown = [row for row in dear if row[1] > 0][:OPERATIONS]
    rows = [["option", "ms in all places", "places"]]
    rows += [[name, f"{total:.3f}", str(places)] for name, total, places in shown]
    told = [["foretold by", "mean error", "rank correlation"]]
    for name in found.foretold:
        error = table.error[name]
        spearman = "none" if error["spearman"] is None else f"{error['spearman']:.2f}"
        told.append([name.replace("flops", "FLOPs"), f"{100 * error['mape']:.1f} %", spearman])
    return [
        f"{len(found.measured)} architectures of {space} for examples of {size}, {table.batch} at a time,",
        f"on {table.device}{threads}: {low:.3g} to {high:.3g} ms",
        "",
        f"A network takes {table.base:.3f} ms, and what its options add beyond the cheapest in their places:",
        *(f"  {line}" for line in columns(rows)),
        *([f"  … and {len(dear) - len(shown)} that add less, or nothing"] if len(dear) > len(shown) else []),
        "",
        "How well the latency of an architecture is foretold that was left out:",
        *(f"  {line}" for line in columns(told)),
        "",
        f"Written: {', '.join(map(str, written))}",
        f"Next: nas run --space {space} --latency-table {written[0]} --constraint '{table.metric}<={(low + high) / 2:.2g}'",
    ]


class Progress:
    """A bar over all that is to be done, on a terminal; elsewhere a line now and then."""

    def __init__(self, quiet: bool, what: str = "measurements") -> None:
        self.quiet, self.what = quiet, what
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn(f"[bold]{self.what}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeRemainingColumn(),
                console=Console(stderr=True),
            )  # fmt: skip
            self.bar.start()
        return self

    def __exit__(self, *ended: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, done: int, total: int) -> None:
        if self.bar is not None:
            if not done:
                self.task = self.bar.add_task(self.what, total=total)
            self.bar.update(self.task, completed=done, total=total)
        elif not self.quiet and done and (done % -(-total // LINES) == 0 or done == total):
            print(f"{done} of {total} {self.what}", file=sys.stderr, flush=True)
