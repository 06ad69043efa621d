"""`nas resume`: goes on with an interrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from ..machine import MachineSettings
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
from .run import Json, Log, Quiet, finish

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]


def resume(
    folder: RunFolder,
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
    log: Log = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with an interrupted run, to the end that it would have had, on this machine or elsewhere.

    Nothing finished is run again; what was under way goes on from its last checkpoint.
    """
    from ..session import resume as go_on

    given = {
        "device": device, "workers": workers, "ray": ray, "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial, "memory_per_trial": memory_per_trial, "time_per_trial": time_per_trial,
        "retries": retries, "dashboard": dashboard, "dashboard_host": dashboard_host, "allow_public": allow_public,
    }  # fmt: skip
    machine = cast(MachineSettings, {name: value for name, value in given.items() if value is not None})
    finish(lambda observer: go_on(folder, observer=observer, **machine), json, quiet, log)
