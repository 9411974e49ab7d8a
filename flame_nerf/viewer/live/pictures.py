"""Pictures as they come: a camera's, or those of a video that is played in real time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from flame_nerf.runtime.errors import UserError

LONGEST_GAP = 0.5
"""Seconds after which a picture is shown though it is late: a machine that decodes too slowly shows some at least."""

Picture = UInt8[np.ndarray, "H W 3"]
Frame = tuple[float, Callable[[], Picture]]
"""A frame of a video: seconds from its beginning, rising, and what makes its RGB picture."""


class Pictures(Protocol):
    """Where pictures come from. Used from one thread.

    Attributes:
        name: for people.
        over: why there are no more, once there are no more.
    """

    name: str
    over: str

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        """RGB pictures and when they were taken, seconds from the beginning; each is given when it is due.

        Raises:
            UserError: what is left of them cannot be read.
        """

    def close(self) -> None:
        """Let go of them."""


class Camera:
    """A camera of this machine."""

    over = "**the camera is gone**"

    def __init__(self, number: int) -> None:
        """
        Raises:
            UserError: no such camera.
        """
        import cv2

        self.name = f"camera {number}"
        self._camera = cv2.VideoCapture(number)
        if not self._camera.isOpened():
            raise UserError(f"--camera {number}: no such camera, or another program has it; try --camera 1, or --video")
        # One picture waits at most: an old one is of no use.
        self._camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        import cv2

        began = time.monotonic()
        while True:
            there, picture = self._camera.read()
            if not there:
                return
            yield time.monotonic() - began, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """See `Pictures`."""
        self._camera.release()


class Footage:
    """A video as if it were filmed now: frames whose successor is due already are left out."""

    over = "the video is over"

    def __init__(self, name: str, frames: Iterator[Frame]) -> None:
        """
        Args:
            name: the video's.
            frames: all of them, in their order.
        """
        self.name, self._frames = name, frames

    def __iter__(self) -> Iterator[tuple[float, Picture]]:
        began = shown = time.monotonic()
        last = -math.inf
        for seconds, picture in self._frames:
            step, last = seconds - last, seconds
            now = time.monotonic()
            ahead = began + seconds - now
            if ahead < -step and now - shown < LONGEST_GAP:
                continue
            time.sleep(max(0.0, ahead))
            shown = time.monotonic()
            yield seconds, picture()

    def close(self) -> None:
        """See `Pictures`."""
