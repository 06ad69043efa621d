"""`nas run`: a search from start to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .machine import (
    AllowPublic,
    CpusPerTrial,
    Dashboard,
    DashboardHost,
    Device,
    GpusPerTrial,
    MemoryPerTrial,
    Ray,
    Retries,
    TimePerTrial,
    Workers,
)

if TYPE_CHECKING:
    from ..config import Config
    from ..plan import Observer


@dataclass
class Current:
    """The run that this process works on, for ending it, and for saying how to resume it."""

    observer: Observer | None = None

    @property
    def folder(self) -> Path | None:
        """The run's folder, once it is there."""
        return getattr(self.observer, "folder", None)


current = Current()

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Log = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LOGGER",
        help="Log to `mlflow`, `wandb` or `tensorboard`, with options as `mlflow:experiment=mine`; may be given several times.",
    ),
]


def run(
    space: Annotated[str | None, typer.Option(help="What can be built: a name, with options as `cell:layers=4`.  [default: cell]")] = None,
    strategy: Annotated[str | None, typer.Option(help="How to look.  [default: darts]")] = None,
    guard: Annotated[str | None, typer.Option(metavar="warn|stop|off", help="What a strategy that learns inside a supernet does when it is about to collapse: the same as `darts:guard=stop`.  [default: warn]")] = None,
    restarts: Annotated[int | None, typer.Option(metavar="N", help="How often a one-shot strategy learns, each time from another seed; side by side with --workers. The best is kept.  [default: 1]")] = None,
    evaluator: Annotated[str | None, typer.Option(help="How a candidate is judged.  [default: train]")] = None,
    funnel: Annotated[str | None, typer.Option(metavar="EVALUATOR:N,…", help="Judge many cheaply, and the best of them better: `zero_cost:1000,train:5`; in place of --evaluator and --trials.")] = None,
    stopper: Annotated[list[str] | None, typer.Option(help="End trials early that promise little: `median`, `patience:epochs=3`; once for each.")] = None,
    proxy: Annotated[str | None, typer.Option(metavar="TASK", help="Search on another, cheaper task; what comes last in a funnel, and what was found, is judged on --task.")] = None,
    task: Annotated[str | None, typer.Option(help="The data: `digits`, or your own with `images:path=DIR`.  [default: digits]")] = None,
    trials: Annotated[int | None, typer.Option(help="How many candidates to judge at most.  [default: 20]")] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="Stop searching after `90s`, `10m`, `2h`; the final training still follows.")] = None,
    clock: Annotated[str | None, typer.Option(metavar="real|simulated", help="What the time limit counts: `simulated`, the seconds that an evaluator such as `tabular` says its trials would take.  [default: real]")] = None,
    objective: Annotated[list[str] | None, typer.Option(metavar="METRIC:max|min", help="What counts; may be given several times.  [default: the task's, accuracy:max]")] = None,
    fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="Judge for less while searching: `epochs=5,data=0.25,width=0.5,layers=3,resolution=16`; the final training is in full.")] = None,
    final_fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="The same for the final training.")] = None,
    final: Annotated[str | None, typer.Option(metavar="OPTION=VALUE,…", help="Options of the space for the final training: search small, train large, as `layers=20,channels=36`.")] = None,
    constraint: Annotated[list[str] | None, typer.Option(metavar="METRIC<=N", help="Only architectures with `parameters<=1e6`, `flops<=300M`, known before training; may be given several times.")] = None,
    latency_table: Annotated[str | None, typer.Option(metavar="FILE", help="Of `nas profile`: by it an architecture's latency is known before training, for `--constraint 'latency<=5'` (ms).")] = None,
    start_from: Annotated[list[str] | None, typer.Option(metavar="NAME|FILE", help="Judge these first: well-known networks (`nas list references`), or files of `nas export`; may be given several times.")] = None,
    baseline: Annotated[int | None, typer.Option(metavar="N", help="Random architectures trained by the same recipe, to compare with.  [default: 3]")] = None,
    max_failures: Annotated[float | None, typer.Option(metavar="FRACTION", help="Give up when more than this share of the trials fails.  [default: 0.5]")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same search.  [default: 0]")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a trial.  [default: its CPUs; with one worker all cores but one]")] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Where relative data paths start; else NASENGINE_DATA.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Read settings from a file; flags override it.")] = None,
    storage: Annotated[str | None, typer.Option(metavar="URL", help="Where workers leave checkpoints and models, if they do not share the run's folder: `s3://…`, or a folder.")] = None,
    device: Device = None,
    workers: Workers = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    memory_per_trial: MemoryPerTrial = None,
    time_per_trial: TimePerTrial = None,
    retries: Retries = None,
    dashboard: Dashboard = None,
    dashboard_host: DashboardHost = None,
    allow_public: AllowPublic = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: runs/DATE-SPACE-STRATEGY-N]")] = None,
    log: Log = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Search, train what was found, compare it with random architectures.

    The folder of the run holds its record, its settings and the trained model. Ctrl-C at any time: `nas resume` goes
    on where it stopped.
    """
    from ..config import Config
    from ..session import start

    given: dict[str, Any] = {
        "space": space, "strategy": strategy, "evaluator": evaluator, "task": task, "funnel": funnel,
        "stoppers": tuple(stopper) if stopper else None, "proxy": proxy, "trials": trials,
        "time_limit": time_limit, "clock": clock, "objectives": tuple(objective) if objective else None, "fidelity": fidelity,
        "final_fidelity": final_fidelity, "final": final, "constraints": tuple(constraint) if constraint else None,
        "latency_table": latency_table, "start_from": tuple(start_from) if start_from else None, "baseline": baseline, "max_failures": max_failures, "seed": seed,
        "threads": threads, "data": data, "storage": storage, "device": device, "workers": workers, "ray": ray,
        "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial, "memory_per_trial": memory_per_trial,
        "time_per_trial": time_per_trial, "retries": retries, "dashboard": dashboard,
        "dashboard_host": dashboard_host, "allow_public": allow_public,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    settings = Config.read(config, **given) if config else Config.of(given, "nas run")
    options = {name: value for name, value in (("guard", guard), ("restarts", restarts)) if value is not None}
    settings = with_strategy_options(settings, options) if options else settings
    finish(lambda observer: start(settings, out, observer=observer), json, quiet, log)


def with_strategy_options(settings: Config, options: Mapping[str, Any]) -> Config:
    """The settings with these options of the strategy. Raises ConfigError where it has none of that name."""
    from ..errors import ConfigError
    from ..options import options_of
    from ..registry import load
    from ..strategy import OneShotStrategy

    if not options:
        return settings
    name = settings.strategy.name
    cls = load("strategy", name)
    known = options_of(cls)
    for option in options:
        if option not in known:
            learns = "" if issubclass(cls, OneShotStrategy) else (
                ", which is for strategies that learn inside a supernet, such as darts"
            )  # fmt: skip
            raise ConfigError(f"the strategy {name!r} has no {option}{learns}; leave out --{option}")
    choice = settings.strategy.model_copy(update={"options": {**settings.strategy.options, **options}})
    return settings.model_copy(update={"strategy": choice})


def finish(search: Any, json: bool, quiet: bool, log: list[str] | None = None) -> None:
    """Runs a search with its progress shown, then prints what it found."""
    from .text import result

    current.observer = observer = watcher(quiet, log)
    try:
        finished = search(observer)
    finally:
        close = getattr(observer, "close", None)
        if close:
            close()
    current.observer = None
    if json:
        import json as encoder

        typer.echo(encoder.dumps(finished.summary(), indent=2))
    else:
        typer.echo(result(finished))


def watcher(quiet: bool, log: list[str] | None = None) -> Observer:
    """Bars in a terminal, lines elsewhere, or nothing; and the loggers that were asked for."""
    import sys

    from .progress import Lines
    from .progress import Quiet as Silent

    if sys.stderr.isatty() and not quiet:
        from .bars import Bars

        shown: Observer = Bars()
    else:
        shown = Silent() if quiet else Lines()
    if not log:
        return shown
    from ..observers import Several, logger

    return Several(shown, [logger(text) for text in log])
