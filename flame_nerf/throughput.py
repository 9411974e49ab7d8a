"""How fast something goes, as a running mean."""

from __future__ import annotations

import time


class Throughput:
    """Running mean of a rate, from the wall time between updates."""

    def __init__(self, smoothing: float = 0.95):
        self._smoothing = smoothing
        self._last: float | None = None
        self._amount = self._seconds = 0.0

    def update(self, amount: float) -> float:
        """Add what was done since the last call; returns the rate per second."""
        now = time.perf_counter()
        if self._last is not None:
            self._amount = self._smoothing * self._amount + amount
            self._seconds = self._smoothing * self._seconds + (now - self._last)
        self._last = now
        return self._amount / self._seconds if self._seconds > 0 else 0.0
