"""Executors: where work runs. Each keeps requests going and hands back, one event at a time, what they report."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from ..trial import Outcome, Report, Request, State

Message: TypeAlias = Report | Outcome


class Executor(Protocol):
    @property
    def free(self) -> bool:
        """Whether a worker waits for a request."""

    def submit(self, number: int, request: Request, seed: int) -> None:
        """Starts a request on a free worker."""

    def wait(self) -> list[Message]:
        """Blocks until something was reported or ended."""

    def stop(self, number: int, state: State) -> None:
        """Ends a running trial at its latest report, with this state; its Outcome still comes back by `wait`."""

    def close(self) -> None:
        """Ends what runs and lets the workers go. Safe to call twice."""
