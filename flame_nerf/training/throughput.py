"""How fast training goes, as a running mean."""

from __future__ import annotations

import time

import torch
from torch import Tensor


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

    def metrics(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Samples of a training step per ray, and per second: those in the shell, and those that the field was asked
        about. `outputs` are the head renderer's."""
        rays, samples, marched = len(outputs["rgb"]), float(outputs["num_samples"]), float(outputs["num_marched"])
        per_second = self.update(marched)
        values = {
            "samples_per_ray": samples / rays,
            "shell_samples_per_ray": marched / rays,
            "shell_samples_per_sec": per_second,
            "field_samples_per_sec": per_second * samples / max(marched, 1.0),
        }
        return {name: torch.tensor(value) for name, value in values.items()}
