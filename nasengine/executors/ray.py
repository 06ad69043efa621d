"""The Ray executor: a pool of warm workers, on this machine or on many. Workers may die, hang and come back."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, NasError, RunFailed, one_line
from ..plan import Observer, Plan, kind_of
from ..registry import importable
from ..trial import Evaluate, Learn, Lost, Outcome, Report, Request, State, Verdict
from . import Message
from .cluster import Cluster
from .remote import Order, Ready, RemoteWorker

SECONDS_A_TURN = 1.0
SECONDS_TO_OBEY = 3.0
"""How long after its time limit a trial may take to end by itself, before its process is killed."""
SECONDS_BEFORE_COMPLAINING = 20.0
STARTS_BEFORE_GIVING_UP = 10
"""How often in a row a worker may die before it is ready. More than once or twice: machines may be leaving."""


@dataclass(slots=True, eq=False)
class Slot:
    """A worker's place. pending: what it was asked last; number: the trial that it works on."""

    name: str
    actor: Any
    pending: Any
    number: int | None = None
    ready: bool = False
    node: str = ""
    failures: int = 0
    verdict: Verdict | None = None
    began: float = 0.0
    curve: list[Mapping[str, float]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    label: str = ""


class RayExecutor:
    """Keeps `workers` actors, each with its share of the cluster, and gives each one request at a time."""

    def __init__(self, plan: Plan, folder: Path, storage: str | None, observer: Observer) -> None:
        """Raises ConfigError where the cluster, or a worker's share of it, is not to be had."""
        self._config, self._note = plan.config, observer.note
        self._cluster = Cluster(plan.config, observer.note)
        self._slots: list[Slot] = []
        self._idle: deque[Slot] = deque()
        self._fatal: NasError | None = None
        try:
            self._order = self._ordered(plan, folder, storage)
            self._slots = [Slot(f"w{index}", None, None) for index in range(plan.config.workers)]
            for slot in self._slots:
                self._hire(slot)
        except BaseException:
            self.close()
            raise
        self._complain_at: float | None = time.monotonic() + SECONDS_BEFORE_COMPLAINING

    @property
    def free(self) -> int:
        return len(self._idle)

    def submit(self, number: int, request: Request, seed: int) -> str:
        slot = self._idle.popleft()
        slot.number, slot.verdict, slot.curve, slot.began = number, None, [], time.monotonic()
        slot.notes = {}
        if isinstance(request, Evaluate):
            what = f" {request.architecture.short}"
        else:
            what = f" learning {request.restart}" if isinstance(request, Learn) else " teaching the evaluator"
        slot.label = f"trial {number}{what}"
        slot.pending = slot.actor.begin.options(name=slot.label).remote(number, request, seed)
        return slot.name

    def wait(self) -> list[Message]:
        import ray

        if self._fatal is not None:  # what came with it has been handed over
            raise self._fatal
        for slot in self._slots:
            if slot.number is not None and slot.pending is None:
                slot.pending = slot.actor.go_on.options(name=slot.label).remote(slot.verdict)
                slot.verdict = None
        pending = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        ready, waiting = ray.wait(list(pending), num_returns=1, timeout=SECONDS_A_TURN)
        if ready and waiting:
            more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            ready += more
        messages: list[Message] = []
        for reference in ready:
            try:
                messages += self._collect(pending[reference])
            except NasError as error:
                self._fatal = self._fatal or error
        if self._fatal is not None and not messages:
            raise self._fatal
        return messages + self._overdue()

    def stop(self, number: int, verdict: Verdict) -> None:
        for slot in self._slots:
            if slot.number == number:
                slot.verdict = verdict

    def close(self) -> None:
        import ray

        for slot in self._slots:
            if slot.actor is not None:
                ray.kill(slot.actor)
        self._slots = []
        self._cluster.close()

    def _ordered(self, plan: Plan, folder: Path, storage: str | None) -> Order:
        """Names where there are names; the task, for its data's sake, and what has no name as objects."""
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
            device=config.device if config.device == "cpu" or not self._cluster.share.gpus else "cuda",
            threads=config.threads or 1,
            gpus=self._cluster.share.gpus,
            seconds=config.time_per_trial,
            memory=config.memory_per_trial,
            constraints=config.constraints,
            latency_table=plan.space.latency_table,
            stages=len(plan.funnel),
            measures=plan.measures,
        )

    def _hire(self, slot: Slot) -> None:
        """A new process for the slot; it is ready when it has loaded everything."""
        import ray

        share = self._cluster.share
        made = ray.remote(RemoteWorker).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            memory=share.memory or 0,
            max_restarts=0,
            name=f"{self._order.folder.name} {slot.name} {os.urandom(3).hex()}",
        )
        slot.actor = made.remote(slot.name, self._order)
        slot.pending = slot.actor.prepare.options(name="prepare").remote()
        slot.number, slot.ready = None, False

    def _collect(self, slot: Slot) -> list[Message]:
        """What a worker answered; a dead one is replaced. Raises what is the run's fault, not a trial's."""
        import ray

        reference, slot.pending = slot.pending, None
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise RunFailed(f"a worker failed: {one_line(error.cause or error)}") from error
        except ray.exceptions.RayError as error:
            return self._replace(slot, error)
        if isinstance(answer, NasError):
            raise answer
        if isinstance(answer, Ready):
            slot.ready, slot.node, slot.failures = True, answer.node, 0
            self._idle.append(slot)
        elif isinstance(answer, Report):
            slot.curve.append(answer.metrics)
            if answer.note is not None:
                slot.notes[answer.note] = None
            return [answer]
        elif isinstance(answer, Outcome):
            slot.number = None
            self._idle.append(slot)
            if answer.state == "out_of_memory" and self._shared_memory:
                return [Lost(answer.number, "out_of_memory", answer.error or "out of memory")]
            return [answer]
        return []

    @property
    def _shared_memory(self) -> bool:
        """Whether another trial may be the one that took the memory that this one lacked."""
        gpus = self._cluster.share.gpus
        return len(self._slots) > 1 and self._config.memory_per_trial is None and gpus == 0

    def _replace(self, slot: Slot, error: Exception) -> list[Message]:
        import ray

        number, node = slot.number, slot.node
        text, state = _cause(error)
        if not slot.ready:
            slot.failures += 1
            if slot.failures >= STARTS_BEFORE_GIVING_UP:
                raise RunFailed(f"a worker could not be started {slot.failures} times, the last time: {text}")
        ray.kill(slot.actor)
        self._hire(slot)
        if number is None:
            return []
        if node not in {known["NodeID"] for known in _nodes() if known["Alive"]}:
            return [Lost(number, "failed", "the machine of its worker left the cluster", blamed=False)]
        return [Lost(number, state, text)]

    def _overdue(self) -> list[Message]:
        """Kills the workers whose trial goes on past its limit of time, and says once if workers find no place."""
        import ray

        now = time.monotonic()
        if self._complain_at is not None and now > self._complain_at:
            homeless = sum(not slot.ready for slot in self._slots)
            self._complain_at = None
            if homeless:
                self._note(f"{homeless} of {len(self._slots)} workers wait for {self._cluster.share} to be free")
        limit = self._config.time_per_trial
        messages: list[Message] = []
        for slot in self._slots if limit is not None else []:
            if slot.number is not None and now - slot.began > (limit or 0) + SECONDS_TO_OBEY:
                curve, number = tuple(slot.curve), slot.number
                error = f"it took longer than the {limit:g} s that a trial may, and had to be killed"
                ended = Outcome(
                    number, "timed_out", curve[-1] if curve else {}, curve, now - slot.began, slot.name, error,
                    notes=tuple(slot.notes),
                )  # fmt: skip
                messages.append(ended)
                ray.kill(slot.actor)
                self._hire(slot)
        return messages


def _nodes() -> list[dict[str, Any]]:
    import ray

    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def _cause(error: Exception) -> tuple[str, State]:
    """Why a worker was lost, in a line, and the state of a trial that is lost for good."""
    text = str(error)
    if "running low on memory" in text or type(error).__name__ == "OutOfMemoryError":
        return "its worker was killed: the machine ran out of memory", "out_of_memory"
    return "its worker died", "failed"
