"""The local executor: in this process, one request at a time. No Ray, and a debugger works."""

from __future__ import annotations

from ..trial import Outcome, Request, State
from ..worker import Progress, Worker
from . import Message


class LocalExecutor:
    """Advances its one request by an epoch each time the loop waits for it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._running: Progress | None = None
        self._begun = False
        self._verdict: State | None = None

    @property
    def free(self) -> bool:
        return self._running is None

    def submit(self, number: int, request: Request, seed: int) -> None:
        self._running = self._worker.perform(number, request, seed)
        self._begun, self._verdict = False, None

    def wait(self) -> list[Message]:
        if self._running is None:
            return []
        verdict, self._verdict = self._verdict, None
        try:
            if self._begun:
                return [self._running.send(verdict)]
            self._begun = True
            return [next(self._running)]
        except StopIteration as ended:
            outcome: Outcome = ended.value
            self._running = None
            return [outcome]

    def stop(self, number: int, state: State) -> None:
        self._verdict = state

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None
