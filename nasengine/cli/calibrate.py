"""`nas calibrate`: what cheap judgements are worth on a space and a task, before a search relies on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .machine import Device, Workers
from .run import Json, Quiet, current, watcher

if TYPE_CHECKING:
    from ..run import Run


def calibrate(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The folder of a run with a funnel, to calibrate by what it judged already.")] = None,
    judge: Annotated[list[str] | None, typer.Option(metavar="EVALUATOR", help="A cheap judgement: `zero_cost:proxy=synflow+naswot`, `weight_sharing`, `train:epochs=2`; once for each.")] = None,
    against: Annotated[str, typer.Option(metavar="EVALUATOR", help="The judgement that they are to foretell.")] = "train",
    space: Annotated[str, typer.Option(help="What can be built.")] = "cell",
    task: Annotated[str, typer.Option(help="The data.")] = "digits",
    proxy: Annotated[str | None, typer.Option(metavar="TASK", help="Another task, which the cheap judgements are made on.")] = None,
    fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="How thoroughly candidates are judged, by all.")] = None,
    architectures: Annotated[int, typer.Option(metavar="N", help="How many random architectures are judged in all ways.")] = 30,
    seed: Annotated[int, typer.Option(help="The same seed draws the same architectures.")] = 0,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Where relative data paths start; else NASENGINE_DATA.")] = None,
    device: Device = None,
    workers: Workers = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of it: `.png`, `.svg` or `.pdf`.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: runs/DATE-SPACE-random-N]")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Say what cheap judgements are worth: how well they rank architectures as a dear one does.

    Random architectures are judged in every way; shown are Spearman's and Kendall's rank correlation with 95 %
    bootstrap intervals, beside those of the mere numbers of parameters and FLOPs, which a judgement must beat to be
    worth anything. It is a run like any other: it can be interrupted and resumed, and ends with the best of the sample
    trained. With a RUN, what its funnel judged is taken; of that, each stage has seen only what the one before thought
    best.
    """
    import json as encoder

    from ..calibration import FEWEST, as_json, table
    from ..errors import ConfigError
    from ..report.compared import text
    from ..report.drawing import format_of, save
    from ..run import Run as Folder

    if plot is not None:
        format_of(plot)
    if run is not None and judge:
        raise ConfigError("a run says itself how its candidates were judged; leave out the run, or --judge")
    if run is None and not judge:
        raise ConfigError("nothing is to be calibrated; name a judgement, such as --judge zero_cost, or a run's folder")
    if run is None and architectures < FEWEST:
        raise ConfigError(f"architectures is {architectures}; expected at least {FEWEST}: fewer say nothing of a rank")
    if run is not None:
        found = Folder(run)
    else:
        given: dict[str, Any] = {
            "space": space, "task": task, "proxy": proxy, "fidelity": fidelity, "seed": seed, "data": data,
            "device": device, "workers": workers,
        }  # fmt: skip
        judges = [*(judge or ()), against]
        settings = {name: value for name, value in given.items() if value is not None}
        settings["funnel"] = [f"{name}:{architectures}" for name in judges]
        found = _judged(settings, out, quiet)
    agreements = found.calibration()
    if run is None and agreements:  # all were judged in the last way
        agreements = [one for one in agreements if one.dear == agreements[-1].dear]
    if plot is not None:
        save(found.plot_calibration(), plot)
    if json:
        typer.echo(encoder.dumps(as_json(agreements), indent=2))
        return
    if not agreements:
        raise ConfigError(
            f"{found.folder}: fewer than {FEWEST} architectures were judged in more than one way, which says nothing"
        )
    typer.echo(text(table(agreements)))
    typer.echo(f"\nThe judgements are in {found.folder}")


def _judged(settings: dict[str, Any], out: Path | None, quiet: bool) -> Run:
    from ..config import Config
    from ..session import start

    config = Config.of({**settings, "strategy": "random", "baseline": 0}, "nas calibrate")
    current.observer = observer = watcher(quiet)
    try:
        found = start(config, out, observer=observer)
    finally:
        close = getattr(observer, "close", None)
        if close:
            close()
    current.observer = None
    return found
