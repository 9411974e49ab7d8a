"""The performer's own pictures, moment by moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from flame_nerf.motion.files.sources import picture_numbers

if TYPE_CHECKING:
    from flame_nerf.subject import Subject


class PerformerImages:
    """Picture of a subject that shows, or is the last before, each moment of its motion."""

    def __init__(self, subject: Subject, count: int) -> None:
        """
        Args:
            subject: the performer.
            count: moments of its motion.
        """
        self._subject = subject
        frames = {frame.timestep: frame for frame in reversed(subject.frames)}
        rows = sorted(frames)
        numbers = picture_numbers(subject)
        at = np.array(rows) if numbers is None else numbers - numbers[0]
        self._frames = [
            frames[rows[max(0, int(np.searchsorted(at, index, side="right")) - 1)]] for index in range(count)
        ]

    def __call__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        from flame_nerf.data.dataset import read_picture

        return read_picture(self._frames[index], self._subject.width, self._subject.height)
