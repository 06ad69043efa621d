"""Journal: what happened becomes durable first, and is said then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .ledger import EventKind, Ledger

SECONDS_BETWEEN_REPORT_COMMITS = 1.0


class Journal:
    """The record of a run as its loop writes it: one commit a turn, the seconds that the run has worked, and what
    people are told when the turn is durable."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._sayings: list[Callable[[], None]] = []
        self._dirty = False
        self._before = 0.0
        self._began = self._committed = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds that the run has worked, over all its processes."""
        return self._before + time.monotonic() - self._began

    def begin(self) -> None:
        """The run goes on now, after what it worked before."""
        self._before, self._began = self.ledger.elapsed(), time.monotonic()

    def record(self, kind: EventKind, number: int | None, body: dict[str, Any]) -> int:
        """Notes an event; its id."""
        self._dirty = True
        return self.ledger.record(kind, number, self.elapsed, body)

    def then(self, say: Callable[[], None]) -> None:
        """To be called when the turn is durable."""
        self._sayings.append(say)

    def commit(self) -> None:
        """Makes the turn durable, then says what happened in it. Reports alone may wait a second."""
        now = time.monotonic()
        if self._dirty or now - self._committed >= SECONDS_BETWEEN_REPORT_COMMITS:
            self.keep()
            self._committed, self._dirty = now, False
        sayings, self._sayings = self._sayings, []
        for say in sayings:
            say()

    def keep(self) -> None:
        """Makes the turn durable and says nothing."""
        self.ledger.commit(self.elapsed)
