"""The local executor: in this process, one request at a time. No Ray, and a debugger works."""

from __future__ import annotations

import inspect
import time
from collections import deque
from dataclasses import replace

from ..errors import NasError
from ..limits import TookTooLong, held_data, memory_limit, time_limit
from ..trial import Outcome, Request, Verdict
from ..worker import Progress, Worker
from . import Message
from .pace import MOMENT


class LocalExecutor:
    """Advances its one request by an epoch each time the loop waits for it.

    In a worker on Ray, which is given several requests, it goes through those that are over in a moment. In the
    search's own process it takes one, so that a candidate that ends the process takes no other's result along.

    seconds, memory: what a trial may take, in seconds and bytes; None for any.
    """

    def __init__(self, worker: Worker, seconds: float | None = None, memory: int | None = None) -> None:
        self._worker, self._seconds, self._memory = worker, seconds, memory
        self._queue: deque[tuple[int, Request, int]] = deque()
        self._running: Progress | None = None
        self.number = -1
        """The trial that is worked on, or was last."""
        self._begun = False
        self._verdict: Verdict | None = None
        self._started = 0.0
        self._unbegun: list[Message] = []
        self._fatal: NasError | None = None

    @property
    def free(self) -> int:
        return int(self._running is None)

    room = free

    def submit(self, number: int, request: Request, seed: int) -> str:
        self._queue.append((number, request, seed))
        if self._running is None:
            self._begin()
        return self._worker.name

    def wait(self) -> list[Message]:
        """One message; or the outcomes of trials that end within a moment, up to the first report.

        Raises NasError where a mistake of the user's shows, once what came before it was handed over.
        """
        if self._fatal is not None:
            raise self._fatal
        messages, self._unbegun = self._unbegun, []
        until = time.monotonic() + MOMENT
        while self._running is not None:
            try:
                message = self._advance(self._running)
            except NasError as error:
                if not messages:
                    raise
                self._fatal = error
                break
            if message is not None:
                messages.append(message)
            if not isinstance(message, Outcome):
                break
            self._running = None
            if self._queue:
                self._begin()
            if time.monotonic() >= until:
                break
        return messages

    def stop(self, number: int, verdict: Verdict) -> None:
        if number == self.number:
            self._verdict = verdict
        elif waiting := [request for request in self._queue if request[0] == number]:
            self._queue.remove(waiting[0])
            self._unbegun.append(Outcome(number, verdict, worker=self._worker.name))

    def stop_all(self, verdict: Verdict) -> None:
        """The trial that is worked on, and those that come after it."""
        for number in [self.number, *(number for number, _, _ in self._queue)]:
            self.stop(number, verdict)

    def close(self) -> None:
        self._queue.clear()
        if self._running is not None:
            self._running.close()
            self._running = None

    def _begin(self) -> None:
        number, request, seed = self._queue.popleft()
        self._running, self.number = self._worker.perform(number, request, seed), number
        self._begun, self._verdict, self._started = False, None, time.monotonic()
        self._held = held_data() if self._memory is not None else None

    def _advance(self, running: Progress) -> Message | None:
        """By an epoch: what comes of it; nothing where a limit rang between two."""
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
                message = running.send(verdict)
        except StopIteration as ended:
            message = ended.value
        except TookTooLong:  # it rang when the trial's own code had just been left
            if inspect.getgeneratorstate(running) == inspect.GEN_CLOSED:
                message = Outcome(self.number, "timed_out", seconds=taken, worker=self._worker.name)
        self._begun = True
        if isinstance(message, Outcome) and message.state == "timed_out":
            message = replace(message, error=f"it took longer than the {self._seconds:g} s that a trial may")
        return message
