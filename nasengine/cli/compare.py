"""`nas compare`: several strategies on the same space, over many seeds, against random sampling."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .run import Json, Quiet

if TYPE_CHECKING:
    from ..comparing import Result


def compare(
    strategies: Annotated[str, typer.Option(metavar="NAME,NAME,…", help="What to compare, with options as `evolution:population=10,sample=3`; `random` is always among them.")],
    space: Annotated[str, typer.Option(help="What can be built.")] = "cell",
    evaluator: Annotated[str, typer.Option(help="How a candidate is judged; `tabular:table=FILE` looks it up.")] = "train",
    task: Annotated[str, typer.Option(help="The data.")] = "digits",
    trials: Annotated[int, typer.Option(help="How many candidates each search judges at most.")] = 100,
    seeds: Annotated[int, typer.Option(help="How many searches each strategy makes, with seeds 0, 1, …")] = 10,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="End each search after `90s`, `10m`, `2h`.")] = None,
    clock: Annotated[str | None, typer.Option(metavar="real|simulated", help="What the time limit counts.  [default: real]")] = None,
    objective: Annotated[list[str] | None, typer.Option(metavar="METRIC:max|min", help="What counts.  [default: the task's]")] = None,
    fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="Judge for less while searching: `epochs=5,data=0.25`.")] = None,
    final_fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="The same for the final judgement.")] = None,
    constraint: Annotated[list[str] | None, typer.Option(metavar="METRIC<=N", help="Only architectures with `parameters<=1e6`, `flops<=300M`.")] = None,
    latency_table: Annotated[str | None, typer.Option(metavar="FILE", help="Of `nas profile`, for a constraint `latency<=5` (ms).")] = None,
    budgets: Annotated[str | None, typer.Option(metavar="N,N,…", help="After how many trials the best so far is shown.  [default: a quarter, a half, all]")] = None,
    optimum: Annotated[float | None, typer.Option(metavar="VALUE", help="The best value there is, for the regret, as `0.9437`.  [default: the best that any search saw]")] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Where relative data paths start; else NASENGINE_DATA.")] = None,
    device: Annotated[str | None, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:1`.  [default: auto]")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes, each with one search at a time.  [default: one a core]")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go. The same command goes on there, also with more seeds or strategies.")] = Path("comparison"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Compare strategies: does any of them beat random sampling, and by how much?

    Every strategy searches once for each seed; what it found is judged as at the end of `nas run`. Shown are mean ±
    standard deviation over the seeds, the median, the best that the searches had seen after some numbers of trials, and
    Wilcoxon's rank-sum test against `random`, with Holm's correction for testing several. The folder gets the table, a
    row for each search and each improvement as CSV, and a picture of the regret.
    """
    from ..comparing import compare as compared
    from ..device import cores
    from ..errors import ConfigError
    from ..latency import read_table
    from ..report.compared import text

    try:
        points = sorted({int(budget) for budget in budgets.split(",")}) if budgets else []
    except ValueError:
        points = [0]
    if points and points[0] < 1:
        raise ConfigError(f"the budgets are {budgets!r}; expected numbers of trials, as 50,100,200")
    given: dict[str, Any] = {
        "trials": trials, "time_limit": time_limit, "clock": clock, "objectives": tuple(objective or ()) or None,
        "fidelity": fidelity, "final_fidelity": final_fidelity, "constraints": tuple(constraint or ()) or None,
        "latency_table": read_table(latency_table), "data": data, "device": device,
    }  # fmt: skip
    settings = {name: value for name, value in given.items() if value is not None}
    with Shown(quiet) as shown:
        found = compared(
            strategies, space, task, evaluator, seeds=seeds, out=out, workers=workers or cores(), began=shown.began,
            ended=shown.ended, **settings,
        )  # fmt: skip
    written = found.write(points, optimum)
    if json:
        typer.echo(found.frame().to_json(orient="records", indent=2))
        return
    typer.echo(text(found.table(points)))
    failed = next((result for result in found.results if result.error), None)
    if failed:
        typer.echo(f"\nThe first search that failed: {failed.strategy} with seed {failed.seed}: {failed.error}")
    typer.echo(f"\nIn {out}: {', '.join(path.name for path in written)}")


class Shown:
    """A bar over all searches on a terminal; elsewhere a line now and then."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.total, self.done = quiet, 0, 0
        self.progress: Any = None

    def __enter__(self) -> Shown:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("[bold]searches"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self.progress.start()
        return self

    def __exit__(self, *ended: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def began(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self.progress is not None:
            self.task = self.progress.add_task("searches", total=total, completed=done, note="")
        elif done and not self.quiet:
            print(f"{done} of {total} searches are done already", file=sys.stderr)

    def ended(self, result: Result) -> None:
        self.done += 1
        note = f"{result.strategy} with seed {result.seed}" + (f" failed: {result.error}" if result.error else "")
        if self.progress is not None:
            self.progress.update(self.task, completed=self.done, note=note if result.error else "")
        elif not self.quiet and (result.error or self.done % max(1, self.total // 20) == 0):
            print(f"{self.done} of {self.total} searches: {note}", file=sys.stderr, flush=True)
