"""Pace: how many requests a worker is given at once. One; several, where trials are over in a moment.

To hand over a request and to make its result durable cost about a millisecond. Beside a training that is nothing; where
a trial is looked up in a table it is nearly all, and is shared by the requests that travel together.
"""

from __future__ import annotations

from collections import deque

MOMENT = 0.05
"""Seconds: what is given at once should take no longer."""
MOST = 64
RECENT = 64
"""Trials that are looked back at."""


class Pace:
    """Learns from the trials that ended last. The longest of them counts, so that few are given where times vary."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)

    def ended(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def at_once(self) -> int:
        """1 until something is known; never more than the trials that it is known by."""
        known = len(self._recent)
        return max(1, min(known, MOST, int(MOMENT / (max(self._recent) + 1e-6)))) if known else 1
