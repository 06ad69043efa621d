"""The local executor: in this process, one request at a time. No Ray, and a debugger works."""

from __future__ import annotations

import inspect
import time
from dataclasses import replace

from ..limits import TookTooLong, held_data, memory_limit, time_limit
from ..trial import Outcome, Request, Verdict
from ..worker import Progress, Worker
from . import Message


class LocalExecutor:
    """Advances its one request by an epoch each time the loop waits for it.

    seconds, memory: what a trial may take, in seconds and bytes; None for any.
    """

    def __init__(self, worker: Worker, seconds: float | None = None, memory: int | None = None) -> None:
        self._worker, self._seconds, self._memory = worker, seconds, memory
        self._running: Progress | None = None
        self._begun = False
        self._verdict: Verdict | None = None
        self._started = 0.0

    @property
    def free(self) -> int:
        return int(self._running is None)

    def submit(self, number: int, request: Request, seed: int) -> str:
        self._running, self._number = self._worker.perform(number, request, seed), number
        self._begun, self._verdict, self._started = False, None, time.monotonic()
        self._held = held_data() if self._memory is not None else None
        return self._worker.name

    def wait(self) -> list[Message]:
        if self._running is None:
            return []
        taken = time.monotonic() - self._started
        left = None if self._seconds is None else self._seconds - taken
        verdict: Verdict | None = None
        if self._begun:
            verdict, self._verdict = self._verdict, None
            if left is not None and left <= 0:
                verdict = verdict or "timed_out"
        if verdict is not None:
            left = None  # to end it properly may take a moment longer
        message: Message | None = None
        try:
            with memory_limit(self._memory, self._held), time_limit(left):
                message = self._running.send(verdict)
        except StopIteration as ended:
            message = ended.value
        except TookTooLong:  # it rang when the trial's own code had just been left
            if inspect.getgeneratorstate(self._running) == inspect.GEN_CLOSED:
                message = Outcome(self._number, "timed_out", seconds=taken, worker=self._worker.name)
        self._begun = True
        if isinstance(message, Outcome):
            self._running = None
            if message.state == "timed_out":
                message = replace(message, error=f"it took longer than the {self._seconds:g} s that a trial may")
        return [] if message is None else [message]

    def stop(self, number: int, verdict: Verdict) -> None:
        self._verdict = verdict

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
