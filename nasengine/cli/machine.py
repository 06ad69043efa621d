"""The flags that say where a run works and what that may cost: those of `nas run` and `nas resume` alike."""

from __future__ import annotations

from typing import Annotated

import typer

GROUP = "Where it works"


Device = Annotated[
    str | None,
    typer.Option(metavar="auto|cpu|cuda[:N]", rich_help_panel=GROUP, help="Where to train.  [default: auto]"),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", rich_help_panel=GROUP, help="Trials at a time; more than 1 on Ray.  [default: 1]"),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|auto|local",
        rich_help_panel=GROUP,
        help="Work on that Ray cluster, on the one that is found, or on one of our own.",
    ),
]
CpusPerTrial = Annotated[
    float | None,
    typer.Option(
        metavar="X", rich_help_panel=GROUP, help="CPUs for each worker.  [default: an equal share; 1 on a cluster]"
    ),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        rich_help_panel=GROUP,
        help="GPUs for each worker, 0.25 for a quarter of one.  [default: an equal share]",
    ),
]
MemoryPerTrial = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=GROUP,
        help="Memory that a trial may take, such as `800m` or `4g`; one that wants more is out of memory.",
    ),
]
TimePerTrial = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        rich_help_panel=GROUP,
        help="Time that a trial may take, such as `90s` or `10m`; one that wants more is timed out.",
    ),
]
Retries = Annotated[
    int | None,
    typer.Option(
        metavar="N", rich_help_panel=GROUP, help="How often a trial runs again whose worker died.  [default: 2]"
    ),
]
Dashboard = Annotated[
    bool | None,
    typer.Option(
        "--dashboard",
        rich_help_panel=GROUP,
        help="Start Ray's dashboard, for this machine only, and say how to log in.",
    ),
]
DashboardHost = Annotated[
    str | None,
    typer.Option(metavar="HOST", rich_help_panel=GROUP, help="Where the dashboard listens.  [default: 127.0.0.1]"),
]
AllowPublic = Annotated[
    bool | None,
    typer.Option(
        "--allow-public",
        rich_help_panel=GROUP,
        help="Let it listen elsewhere: whoever reaches it can then run code as you.",
    ),
]
