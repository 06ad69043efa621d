"""Executors: where work runs. Each keeps requests going and hands back, one event at a time, what they report."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..trial import Lost, Outcome, Report, Request, Verdict

Message: TypeAlias = Report | Outcome | Lost


class Executor(Protocol):
    @property
    def free(self) -> int:
        """How many workers wait for a request."""

    @property
    def room(self) -> int:
        """How many requests it takes now: at least `free`, and more where trials are over in a moment, which a worker
        is then given several of."""

    def submit(self, number: int, request: Request, seed: int) -> str:
        """Hands a request to a worker, whose name it returns: a free one, or one that begins it after others."""

    def wait(self) -> list[Message]:
        """Blocks until something was reported or ended, or a worker is free; at most about a second where it can."""

    def stop(self, number: int, verdict: Verdict) -> None:
        """Ends a trial with this verdict, at its latest report, or before it has begun where others come first; its
        Outcome still comes back by `wait`."""

    def close(self) -> None:
        """Ends what runs and lets the workers go. Safe to call twice."""
