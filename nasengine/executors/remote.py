"""A worker in a process of its own: the local executor there, reached from afar."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, NasError, RunError, one_line
from ..latency import LatencyTable
from ..plan import Plan, kind_of
from ..registry import importable, load, make
from ..trial import Request, Verdict
from . import Message
from .local import LocalExecutor


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is made of: names and settings, and references to what has no name.

    parts: by role, the plugin's name and options. objects: by role, a reference to the plugin itself in the object
    store: the task with its data, and whatever was given as an object. storage: where checkpoints go, if not into the
    run's folder. path: where Python looks for modules, too. gpus: the share of them. seconds, memory: a trial's limits.
    latency_table: of the space. stages: of the run's funnel. measures: see `Worker`.
    """

    folder: Path
    parts: Mapping[Any, tuple[str, Mapping[str, Any]]]
    objects: Mapping[Any, Any]
    storage: str | None
    path: tuple[str, ...]
    device: str
    threads: int
    gpus: float
    seconds: float | None
    memory: int | None
    constraints: tuple[str, ...]
    latency_table: LatencyTable | None
    stages: int
    measures: tuple[str, ...]


def ordered(plan: Plan, folder: Path, storage: str | None, gpus: float) -> Order:
    """Names where there are names; the task, for its data's sake, and what has no name as objects. gpus: a worker's
    share. Raises ConfigError where something can be sent in neither way."""
    import ray

    config = plan.config
    wanted = {role: plugin for role, plugin in plan.roles.items() if kind_of(role) != "stopper"}
    named = {role: plugin for role, plugin in wanted.items() if importable(plugin)}
    parts = {role: (plugin.known_as, plugin.settings) for role, plugin in named.items()}
    objects = {}
    for role, plugin in wanted.items():
        if kind_of(role) == "task" or role not in named:
            try:
                objects[role] = ray.put(plugin)
            except (TypeError, ValueError, AttributeError) as error:
                raise ConfigError(
                    f"the {role} {plugin.known_as!r} cannot be sent to another process ({one_line(error)}); use "
                    f"one worker, or define it in a module"
                ) from None
    return Order(
        folder=folder,
        parts=parts,
        objects=objects,
        storage=storage,
        path=(os.getcwd(),),
        device=config.device if config.device == "cpu" or not gpus else "cuda",
        threads=config.threads or 1,
        gpus=gpus,
        seconds=config.time_per_trial,
        memory=config.memory_per_trial,
        constraints=config.constraints,
        latency_table=plan.space.latency_table,
        stages=len(plan.funnel),
        measures=plan.measures,
    )


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker says that it is ready, and where."""

    pid: int
    host: str
    node: str


class RemoteWorker:
    """What Ray makes an actor of. Errors that are the run's, not a trial's, come back as values."""

    def __init__(self, name: str, order: Order) -> None:
        self._name, self._order = name, order

    def prepare(self) -> Ready | NasError:
        """Loads everything, once."""
        try:
            self._executor = self._made()
        except NasError as error:
            return error
        import ray

        return Ready(os.getpid(), socket.gethostname(), ray.get_runtime_context().get_node_id())

    def begin(self, requests: Sequence[tuple[int, Request, int]]) -> list[Message] | NasError:
        """Starts with requests, as `Executor.submit` is given them; what comes of them in a moment, or in an epoch."""
        for number, request, seed in requests:
            self._executor.submit(number, request, seed)
        return self._step()

    def go_on(self, verdict: Verdict | None) -> list[Message] | NasError:
        """What comes of the next epoch, or of the verdict; of the requests that wait here, too."""
        if verdict == "interrupted":
            self._executor.stop_all(verdict)
        elif verdict is not None:
            self._executor.stop(self._executor.number, verdict)
        return self._step()

    def _step(self) -> list[Message] | NasError:
        try:
            messages = self._executor.wait()
            while not messages:
                messages = self._executor.wait()
        except NasError as error:
            return error
        self._measure()
        return messages

    def _made(self) -> LocalExecutor:
        import ray
        import torch

        from ..device import pick_device
        from ..storage import storage_at
        from ..worker import Worker

        order = self._order
        sys.path.extend(folder for folder in order.path if folder not in sys.path)
        if order.storage is None and not (order.folder / "ledger.sqlite").exists():
            raise RunError(
                f"the worker on {socket.gethostname()} does not see the run's folder {order.folder}; use a folder "
                f"that all machines share (--out), or a place that all reach (--storage s3://…)"
            )
        for role, (name, _) in order.parts.items():
            load(kind_of(role), name)  # first, so that what refers to a plugin's file finds it
        parts: dict[str, Any] = {role: ray.get(reference) for role, reference in order.objects.items()}
        for role, (name, options) in order.parts.items():
            if role not in parts:
                parts[role] = make(kind_of(role), name, options)
        parts["space"] = parts["space"].constrained(order.constraints, order.latency_table)
        torch.set_num_threads(order.threads)
        torch.backends.cudnn.deterministic = True
        device = pick_device(order.device)
        if 0 < order.gpus < 1 and device != "cpu":  # so that a neighbour on the same GPU does not pay for this one
            torch.cuda.set_per_process_memory_fraction(order.gpus)
        storage = storage_at(order.storage or order.folder)
        worker = Worker(
            parts["space"], parts["strategy"], parts["evaluator"], parts["task"], device, storage, self._name,
            roles=parts, stages=order.stages, measures=order.measures,
        )  # fmt: skip
        self._device = worker.device
        return LocalExecutor(worker, order.seconds, order.memory)

    def _measure(self) -> None:
        """Says on Ray's metrics how much of the GPU the trial takes."""
        if self._device.type != "cuda":
            return
        import torch

        from .metrics import gpu_memory

        gpu_memory(
            self._order.folder.name, self._name, self._executor.number, torch.cuda.max_memory_allocated(self._device)
        )
