"""Where work runs: the device asked for, and the cores that this process may use."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from .config import Config

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def pick_device(wanted: str) -> str:
    """`auto`: the GPU where there is one. Raises ConfigError where the device asked for is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"the device {wanted!r} was asked for, but torch finds no CUDA GPU here; use --device cpu")
    if ":" in wanted and int(wanted.partition(":")[2]) >= torch.cuda.device_count():
        raise ConfigError(f"the device {wanted!r} was asked for, but there are {torch.cuda.device_count()} GPUs")
    return wanted


@cache
def keep_freed_memory() -> None:
    """Lets the C library keep what a training step frees for the next one, up to a gigabyte, where it is glibc.

    It would give blocks over 32 MB, and whatever lies at the end of its heap, back to the system, which then hands out
    every page anew at every layer: a third of the time of a step on a CPU where activations have some megabytes.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            library.mallopt(M_MMAP_THRESHOLD, 2**28)
            library.mallopt(M_TRIM_THRESHOLD, 2**30)


def cores() -> int:
    """The cores that this process may use: its affinity, and the container's quota."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            found = min(found, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return found


def available_cores() -> int:
    """The cores that one trial's threads may use: those of the process, or fewer where OMP_NUM_THREADS says so."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(threads)) if threads.isdigit() and int(threads) > 0 else cores()


def environment() -> dict[str, str]:
    """Where the run was started: versions and the machine, for people."""
    found = {"Python": platform.python_version()}
    for name in ("nasengine", "torch", "ray", "optuna", "numpy", "networkx"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    found["system"] = platform.platform()
    found["processor"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return found


def threads_of(config: Config) -> int:
    """How many threads a trial's work runs with, where it was not said: its share of the processors.

    Raises ConfigError where the share is more than this machine has.
    """
    if config.cpus_per_trial is not None:
        if config.ray in (None, "local") and config.cpus_per_trial > cores():
            raise ConfigError(
                f"cpus_per_trial is {config.cpus_per_trial:g}, and this machine has {cores()}; ask for fewer"
            )
        return max(1, int(config.cpus_per_trial))
    return default_threads() if config.workers == 1 and config.ray is None else 1


def default_threads() -> int:
    """All cores but one. Whatever else the machine does then has a core to itself: one busy neighbour on a core that a
    thread of ours needs makes every layer of a small network wait for it."""
    return max(1, available_cores() - 1)
