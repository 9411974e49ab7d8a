"""A take: what was shown over a while, as a motion."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from flame_nerf.motion import Motion, Pose, Provenance, SubjectMotion, motion_of_poses
from flame_nerf.runtime.errors import MotionError

TAKE_FPS = 30.0
"""Moments a second of a take."""
LONGEST_TAKE = 600.0
"""Seconds after which a take that somebody forgot ends."""


class Recorder:
    """Keeps the poses that are shown, and when."""

    def __init__(self, avatar: SubjectMotion, clock: Callable[[], float] = time.monotonic) -> None:
        self._avatar, self._clock = avatar, clock
        self._shown: list[tuple[float, Pose]] | None = None

    @property
    def running(self) -> bool:
        """Whether a take is on."""
        return self._shown is not None

    def start(self, pose: Pose) -> None:
        """Begin a take with what is shown now."""
        self._shown = [(self._clock(), pose)]

    def note(self, pose: Pose) -> None:
        """Hear of a pose that is shown; does nothing while no take is on."""
        shown, now = self._shown, self._clock()
        if shown is not None and now - shown[0][0] <= LONGEST_TAKE:
            shown.append((now, pose))

    def stop(self, source: str) -> Motion:
        """End the take.

        Args:
            source: name of the avatar's subject, which says that these are its own numbers.

        Returns:
            `TAKE_FPS` moments a second; each is what was shown then.

        Raises:
            MotionError: no take is on.
        """
        shown, self._shown = self._shown, None
        if shown is None:
            raise MotionError("no take is being recorded; press Record first")
        begun, times = shown[0][0], np.array([moment for moment, _ in shown])
        seconds = min(self._clock() - begun, LONGEST_TAKE)
        ticks = begun + np.arange(max(1, int(seconds * TAKE_FPS))) / TAKE_FPS
        rows = np.searchsorted(times, ticks, side="right") - 1
        poses = [shown[max(0, int(row))][1] for row in rows]
        return motion_of_poses(poses, self._avatar, TAKE_FPS, Provenance(source=source))
