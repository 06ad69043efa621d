"""Executors: where work runs. Each keeps requests going and hands back, one event at a time, what they report."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..trial import Lost, Outcome, Report, Request, Verdict

Message: TypeAlias = Report | Outcome | Lost


class Executor(Protocol):
    @property
    def free(self) -> int:
        """How many workers wait for a request."""

    def submit(self, number: int, request: Request, seed: int) -> str:
        """Starts a request on a free worker, whose name it returns."""

    def wait(self) -> list[Message]:
        """Blocks until something was reported or ended, or a worker is free; at most about a second where it can."""

    def stop(self, number: int, verdict: Verdict) -> None:
        """Ends a running trial at its latest report, with this verdict; its Outcome still comes back by `wait`."""

    def close(self) -> None:
        """Ends what runs and lets the workers go. Safe to call twice."""
