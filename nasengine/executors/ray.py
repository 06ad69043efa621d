"""The Ray executor: a pool of warm workers, on this machine or on many. Workers may die, hang and come back."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NasError, RunFailed, one_line
from ..plan import Observer, Plan
from ..trial import Evaluate, Learn, Lost, Outcome, Report, Request, State, Verdict
from . import Message
from .cluster import Cluster
from .pace import Pace
from .remote import Ready, RemoteWorker, ordered

SECONDS_A_TURN = 1.0
SECONDS_TO_OBEY = 3.0
"""How long after its time limit a trial may take to end by itself, before its process is killed."""
SECONDS_BEFORE_COMPLAINING = 20.0
STARTS_BEFORE_GIVING_UP = 10
"""How often in a row a worker may die before it is ready. More than once or twice: machines may be leaving."""


@dataclass(slots=True, eq=False)
class Slot:
    """A worker's place. pending: what it was asked last; numbers: the trials that it has, the one that it works on
    first; requests: what it is given next, as `submit` was."""

    name: str
    actor: Any
    pending: Any
    numbers: list[int] = field(default_factory=list)
    requests: list[tuple[int, Request, int]] = field(default_factory=list)
    ready: bool = False
    node: str = ""
    failures: int = 0
    verdict: Verdict | None = None
    began: float = 0.0
    curve: list[Mapping[str, float]] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    label: str = ""


class RayExecutor:
    """Keeps `workers` actors, each with its share of the cluster. Each works on one request at a time, and is given
    several where they are over in a moment."""

    def __init__(self, plan: Plan, folder: Path, storage: str | None, observer: Observer) -> None:
        """Raises ConfigError where the cluster, or a worker's share of it, is not to be had."""
        self._config, self._note = plan.config, observer.note
        self._cluster = Cluster(plan.config, observer.note)
        self._slots: list[Slot] = []
        self._idle: deque[Slot] = deque()
        self._pace, self._singly = Pace(), 0
        self._fatal: NasError | None = None
        try:
            self._order = ordered(plan, folder, storage, self._cluster.share.gpus)
            self._slots = [Slot(f"w{index}", None, None) for index in range(plan.config.workers)]
            for slot in self._slots:
                self._hire(slot)
        except BaseException:
            self.close()
            raise
        self._complain_at: float | None = time.monotonic() + SECONDS_BEFORE_COMPLAINING

    @property
    def free(self) -> int:
        return sum(not slot.requests for slot in self._idle)

    @property
    def room(self) -> int:
        return sum(max(self._at_once - len(slot.requests), 0) for slot in self._idle)

    @property
    def _at_once(self) -> int:
        return 1 if self._singly else self._pace.at_once

    def submit(self, number: int, request: Request, seed: int) -> str:
        slot = min(self._idle, key=lambda idle: len(idle.requests))
        slot.requests.append((number, request, seed))
        return slot.name

    def _give(self, slot: Slot) -> None:
        """Sends a worker what it was meant to be given."""
        number, request, _ = slot.requests[0]
        if len(slot.requests) > 1:
            slot.label = f"trials {number} to {slot.requests[-1][0]}"
        elif isinstance(request, Evaluate):
            slot.label = f"trial {number} {request.architecture.short}"
        else:
            what = f"learning {request.restart}" if isinstance(request, Learn) else "teaching the evaluator"
            slot.label = f"trial {number} {what}"
        slot.pending = slot.actor.begin.options(name=slot.label).remote(slot.requests)
        slot.numbers, slot.requests = [number for number, _, _ in slot.requests], []
        self._singly = max(self._singly - len(slot.numbers), 0)
        self._idle.remove(slot)
        slot.verdict = None
        self._begins(slot)

    @staticmethod
    def _begins(slot: Slot) -> None:
        """The worker is at another trial. To be interrupted is for all that it has; another verdict was for one."""
        slot.verdict = slot.verdict if slot.verdict == "interrupted" else None
        slot.curve, slot.notes, slot.began = [], {}, time.monotonic()

    def wait(self) -> list[Message]:
        import ray

        if self._fatal is not None:  # what came with it has been handed over
            raise self._fatal
        for slot in [slot for slot in self._idle if slot.requests]:
            self._give(slot)
        for slot in self._slots:
            if slot.numbers and slot.pending is None:
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
            if number in slot.numbers:
                slot.verdict = verdict

    def close(self) -> None:
        import ray

        for slot in self._slots:
            if slot.actor is not None:
                ray.kill(slot.actor)
        self._slots = []
        self._cluster.close()

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
        slot.numbers, slot.ready = [], False

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
            return []
        return [self._taken(slot, message) for message in answer]

    def _taken(self, slot: Slot, message: Message) -> Message:
        """What the loop is told of a message of the worker's."""
        if isinstance(message, Report):
            slot.curve.append(message.metrics)
            if message.note is not None:
                slot.notes[message.note] = None
        elif isinstance(message, Outcome):
            self._pace.ended(message.seconds)
            slot.numbers.remove(message.number)
            self._begins(slot)
            if not slot.numbers:
                self._idle.append(slot)
            if message.state == "out_of_memory" and self._shared_memory:
                return Lost(message.number, "out_of_memory", message.error or "out of memory")
        return message

    @property
    def _shared_memory(self) -> bool:
        """Whether another trial may be the one that took the memory that this one lacked."""
        gpus = self._cluster.share.gpus
        return len(self._slots) > 1 and self._config.memory_per_trial is None and gpus == 0

    def _replace(self, slot: Slot, error: Exception) -> list[Message]:
        import ray

        numbers, node = slot.numbers, slot.node
        text, state = _cause(error)
        if not slot.ready:
            slot.failures += 1
            if slot.failures >= STARTS_BEFORE_GIVING_UP:
                raise RunFailed(f"a worker could not be started {slot.failures} times, the last time: {text}")
        ray.kill(slot.actor)
        self._hire(slot)
        if numbers and node not in {known["NodeID"] for known in _nodes() if known["Alive"]}:
            return self._lost(numbers, "failed", "the machine of its worker left the cluster", blamed=False)
        return self._lost(numbers, state, text)

    def _lost(self, numbers: list[int], state: State, text: str, blamed: bool = True) -> list[Message]:
        """The trials of a worker that is gone. Where there were several, nobody knows which of them was to blame: they
        run again one by one, before all others."""
        alone = len(numbers) == 1
        self._singly += 0 if alone else len(numbers)
        return [Lost(number, state, text, blamed=blamed and alone) for number in numbers]

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
            if slot.numbers and now - slot.began > (limit or 0) + SECONDS_TO_OBEY:
                curve, numbers = tuple(slot.curve), slot.numbers
                error = f"it took longer than the {limit:g} s that a trial may, and had to be killed"
                if len(numbers) > 1:
                    messages += self._lost(numbers, "timed_out", error)
                else:
                    ended = Outcome(
                        numbers[0], "timed_out", curve[-1] if curve else {}, curve, now - slot.began, slot.name, error,
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
