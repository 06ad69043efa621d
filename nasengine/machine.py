"""Where a run works and what that may cost: the settings that may be others when it is resumed."""

from __future__ import annotations

from typing import TypedDict


class MachineSettings(TypedDict, total=False):
    """The flags of `nas run` and `nas resume` by the same names; what is left out keeps its default, or its record.

    device: `auto`, `cpu`, `cuda` or `cuda:N`. workers: trials at a time; more than 1 on Ray. ray: a cluster's address,
    `auto` for the one that is found, `local` for one of our own. cpus_per_trial, gpus_per_trial: shares, fractions
    allowed. memory_per_trial: bytes, or `800m`, `4g`. time_per_trial: seconds, or `90s`, `10m`. retries: how often a
    request runs again whose worker was lost. dashboard: whether Ray's dashboard is started; dashboard_host: where it
    listens. allow_public: whether that may be anything but this machine.
    """

    device: str
    workers: int
    ray: str | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    memory_per_trial: int | str | None
    time_per_trial: float | str | None
    retries: int
    dashboard: bool
    dashboard_host: str
    allow_public: bool


MACHINE = tuple(MachineSettings.__annotations__)
