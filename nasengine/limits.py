"""What a trial may take of its process: memory and time. Where it takes more, its own code meets an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class TookTooLong(BaseException):
    """The trial's time is up. No Exception, so that a candidate's own `except Exception` does not swallow it."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raises TookTooLong inside the block when the seconds are over, wherever Python code runs there.

    It cannot reach code that stays inside C; and does nothing but in a process's main thread.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def memory_limit(bytes_: int | None, held: int | None) -> Iterator[None]:
    """Inside the block the process may hold so many bytes beyond what it `held` when the trial began.

    More fails as it does where the machine has no more. Linux only: elsewhere nothing is limited.
    """
    if bytes_ is None or held is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + bytes_
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def held_data() -> int | None:
    """The bytes of data that the process holds, as the kernel counts them for RLIMIT_DATA."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:")), None)
