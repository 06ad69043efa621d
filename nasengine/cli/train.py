"""`nas train`: one given architecture, trained and judged on the test data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .machine import CpusPerTrial, Device, GpusPerTrial, MemoryPerTrial, Ray, TimePerTrial
from .run import Json, Log, Quiet, finish


def train(
    architecture: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A well-known network (`nas list references`), or a file with an architecture's JSON.", show_default=False)],
    task: Annotated[str | None, typer.Option(help="The data: `digits`, or your own with `images:path=DIR`.  [default: digits]")] = None,
    evaluator: Annotated[str | None, typer.Option(help="How it is trained, as `train:epochs=10,learning_rate=0.01`.  [default: train]")] = None,
    options: Annotated[str | None, typer.Option(metavar="OPTION=VALUE,…", help="Options of its space, where others are wanted than it comes with: `layers=20,channels=36`.")] = None,
    fidelity: Annotated[str | None, typer.Option(metavar="FIELD=VALUE,…", help="Train for less: `epochs=5,data=0.25`.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the initial weights and the order of the data.  [default: 0]")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [default: all cores but one]")] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Where relative data paths start; else NASENGINE_DATA.")] = None,
    device: Device = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    memory_per_trial: MemoryPerTrial = None,
    time_per_trial: TimePerTrial = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: runs/DATE-SPACE-train-N]")] = None,
    log: Log = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train one architecture that is given: `nas train resnet18 --task images:path=DIR`.

    The folder of the run holds its record, its settings and the trained model, for `nas show`, `nas export` and
    `nas report`. Ctrl-C at any time: `nas resume` goes on where it stopped.
    """
    from ..config import Config
    from ..session import start

    given: dict[str, Any] = {
        "task": task, "evaluator": evaluator, "final": options, "final_fidelity": fidelity, "seed": seed,
        "threads": threads, "data": data, "device": device, "ray": ray, "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial, "memory_per_trial": memory_per_trial, "time_per_trial": time_per_trial,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"strategy": "random", "start_from": (architecture,), "trials": 0, "baseline": 0}
    settings = Config.of(given, "nas train")
    finish(lambda observer: start(settings, out, observer=observer), json, quiet, log)
