"""A Ray cluster for a run: one of our own on this machine, reachable from this machine only, or one that is there."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..device import cores
from ..errors import ConfigError, one_line

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Share:
    """What each worker has for itself: processors and GPUs, fractions allowed, and bytes of memory, None for any."""

    cpus: float
    gpus: float
    memory: int | None

    def fits(self, resources: Mapping[str, float]) -> int:
        """How many such shares the resources hold."""
        needs = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory or 0}
        return min(int((resources.get(name, 0) + 1e-9) // need) for name, need in needs.items() if need)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPUs"] + ([f"{self.gpus:g} GPUs"] if self.gpus else [])
        return " and ".join(parts + ([f"{self.memory / 2**30:.1f} GiB"] if self.memory else []))


class Cluster:
    """The connection, for a run's length. `close` ends a cluster that was started for the run, and no other."""

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        """Raises ConfigError where there is no such cluster, or where no worker fits into it."""
        self._config, self._note = config, note
        ray = _import(own=config.ray in (None, "local"))
        self.own = False
        if not ray.is_initialized():
            with _own_signals():
                self.dashboard = self._start(ray)
            self.own = True
        try:
            self.share = self._share(ray)
            self._check(ray)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        import ray

        if self.own:
            with _own_signals():
                ray.shutdown()
            self.own = False

    def _start(self, ray: Any) -> str:
        """Starts or joins; the dashboard's address, where there is one."""
        config = self._config
        _hush()
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if config.ray not in (None, "local"):
            self._note(f"joining the Ray cluster at {config.ray}")
            _knock(str(config.ray))
            try:
                joined = ray.init(address=config.ray, **quiet)
            except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
                raise ConfigError(
                    f"no Ray cluster can be joined at {config.ray!r} ({one_line(error)}); start one with: ray start "
                    f"--head, or leave --ray out to use this machine alone"
                ) from None
        else:
            self._note(f"starting Ray for {config.workers} {'worker' if config.workers == 1 else 'workers'}")
            joined = ray.init(
                address="local",
                num_cpus=cores(),
                include_dashboard=config.dashboard,
                dashboard_host=config.dashboard_host,
                **quiet,
            )
            with suppress(OSError):  # Ray writes its token for everybody to read
                token_file().chmod(0o600)
        address = str(joined.dashboard_url or "")
        if config.dashboard:
            self._note(f"Ray dashboard: http://{address} · its token is in {token_file()}, or: ray get-auth-token")
            if config.dashboard_host not in LOOPBACK:
                self._note(
                    f"warning: the dashboard listens on {config.dashboard_host}: whoever reaches it and has the token "
                    f"can run code as you, on every machine of the cluster"
                )
        return address

    def _share(self, ray: Any) -> Share:
        """As asked for; by default the machine's cores and GPUs, shared out, or one core of a cluster."""
        config, total = self._config, ray.cluster_resources()
        cpus = config.cpus_per_trial
        if cpus is None:
            cpus = _part(total.get("CPU", 1), config.workers) if self.own and config.ray in (None, "local") else 1.0
        gpus = config.gpus_per_trial
        if gpus is None:
            gpus = 0.0 if config.device == "cpu" else _part(total.get("GPU", 0), config.workers)
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"gpus_per_trial is {gpus:g}; expected a fraction of one GPU, or a whole number of them")
        return Share(cpus, gpus, config.memory_per_trial)

    def _check(self, ray: Any) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(self.share.fits(resources) for resources in nodes)
        if room == 0:
            most = {name: max(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU", "memory")}
            raise ConfigError(
                f"a worker asks for {self.share}, and no machine here has that; the most that one has: "
                f"{most['CPU']:g} CPUs, {most['GPU']:g} GPUs, {most['memory'] / 2**30:.1f} GiB"
            )
        if room < self._config.workers and self._config.ray in (None, "local"):
            raise ConfigError(
                f"{self._config.workers} workers with {self.share} each were asked for, and this machine has room for "
                f"{room}; ask for fewer --workers, or for less with --cpus-per-trial, --gpus-per-trial"
            )


def _knock(address: str) -> None:
    """Raises ConfigError where nobody answers at HOST:PORT: Ray itself tries for a minute, deaf to signals."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster can be joined at {address!r} ({one_line(error)}); start one with: ray start --head, or "
            f"leave --ray out to use this machine alone"
        ) from None


def token_file() -> Path:
    """Where Ray keeps the token that its dashboard and its ports ask for."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _import(own: bool) -> Any:
    """Ray, told before it is imported how to behave. Raises ConfigError where it is not installed."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if own and "ray" not in sys.modules:
        # Ray listens on every network interface but where it takes the system for a laptop's; this is its own switch
        # for that. Both are read once, when Ray is imported
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "more than one worker needs Ray, which is not installed; install it with: pip install 'ray[default,tune]'"
        ) from None
    return ray


def _hush() -> None:
    """Keeps Ray from printing to our stdout, for each worker that dies, what the run reports in a line anyway."""
    with suppress(ImportError, AttributeError):
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps Ray from answering SIGINT and SIGTERM in our place."""
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
    finally:
        with suppress(ValueError):  # signals are the main thread's alone
            for number, handler in before.items():
                signal.signal(number, handler)


def _part(total: float, workers: int) -> float:
    """An equal share, at most one, as Ray counts: in ten-thousandths."""
    return min(1.0, math.floor(10_000 * total / workers) / 10_000)
