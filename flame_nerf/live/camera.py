"""A camera, or a video file as if it were one: the face in its newest picture."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from flame_nerf.live.moment import LiveMoment
from flame_nerf.runtime.errors import UserError

USUAL_FPS = 25.0
"""Of a video that does not say."""


class Face(Protocol):
    """One picture's face."""

    @property
    def expression(self) -> Mapping[str, float]:
        """Coefficients by ARKit's names."""

    @property
    def head_turn(self) -> Float[np.ndarray, "3 3"]:
        """Rotation of the head frame in the camera's."""

    @property
    def calibrating(self) -> bool:
        """Whether it is still being learnt how the person's face rests."""


class FaceReader(Protocol):
    """What finds a face in pictures as they come."""

    def seen(self, picture: UInt8[np.ndarray, "H W 3"], time: float) -> Face | None:
        """The face in an RGB picture, taken at `time` seconds; None where there is none."""

    def close(self) -> None:
        """Let go of it."""


class CameraReceiver:
    """Looks at pictures in a thread of its own, from when it is first asked; those it is late for are left out.

    Attributes:
        took: seconds that each of the last pictures took from picture to coefficients.
        ended: whether a video is over or a camera gone.
    """

    def __init__(self, source: int | Path, reader: Callable[[], FaceReader]) -> None:
        """
        Args:
            source: number of a camera, or a video file.
            reader: makes what finds the face.

        Raises:
            UserError: no such camera or file, or it gives no picture.
        """
        import cv2

        self._name = f"camera {source}" if isinstance(source, int) else source.name
        self._is_file = not isinstance(source, int)
        if isinstance(source, Path) and not source.is_file():
            raise UserError(f"--video {source}: no such file")
        self._film = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._film.isOpened():
            raise UserError(
                f"--video {source}: no video that can be read; convert it to .mp4" if self._is_file
                else f"--camera {source}: no such camera, or another program has it; try --camera 1, or --video"
            )  # fmt: skip
        rate = float(self._film.get(cv2.CAP_PROP_FPS))
        self._fps = rate if 1 <= rate <= 1000 else USUAL_FPS
        # One picture waits at most: an old one is of no use.
        self._film.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._reader = reader()
        self.took: deque[float] = deque(maxlen=60)
        self.ended = False
        self._moment: LiveMoment | None = None
        self._state = "no picture yet"
        self._news, self._closed = threading.Condition(), False
        self._looking: threading.Thread | None = None

    def newest(self, timeout: float) -> LiveMoment | None:
        """See `Receiver`."""
        if self._looking is None:
            self._looking = threading.Thread(target=self._look, name="live-camera", daemon=True)
            self._looking.start()
        with self._news:
            self._news.wait_for(lambda: self._moment is not None, timeout)
            moment, self._moment = self._moment, None
            return moment

    def status(self) -> str:
        """See `Receiver`."""
        with self._news:
            pace = f", {1000 * np.mean(self.took):.0f} ms a picture" if self.took else ""
            return f"{self._name}: {self._state}{pace}"

    def close(self) -> None:
        """See `Receiver`."""
        self._closed = True

    def _look(self) -> None:
        over = "**no face can be looked for any more**, see the terminal"
        try:
            self._watch()
            over = "the video is over" if self._is_file else "**the camera is gone**"
        finally:
            self._film.release()
            self._reader.close()
            with self._news:
                self.ended, self._state = True, over

    def _watch(self) -> None:
        import cv2

        began, number = time.monotonic(), 0
        while not self._closed:
            if self._is_file:
                # In real time: wait for the next picture, or leave out those that are over.
                due = int((time.monotonic() - began) * self._fps)
                while number < due and self._film.grab():
                    number += 1
                time.sleep(max(0.0, began + number / self._fps - time.monotonic()))
            there, picture = self._film.read()
            taken = time.monotonic()
            if not there:
                break
            when = number / self._fps if self._is_file else taken - began
            number += 1
            face = self._reader.seen(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), when)
            with self._news:
                self.took.append(time.monotonic() - taken)
                self._state = _words(face)
                if face is not None:
                    self._moment = LiveMoment(face.expression, face.head_turn, taken)
                self._news.notify_all()


def _words(face: Any) -> str:
    if face is None:
        return "**Face away**: the last one is held"
    return "learning how the face rests: keep it relaxed" if face.calibrating else "followed"
