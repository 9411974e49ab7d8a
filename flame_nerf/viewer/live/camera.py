"""The face in the newest picture of a camera, or of a video that plays."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from jaxtyping import Float

from flame_nerf.runtime.door import said
from flame_nerf.runtime.errors import UserError
from flame_nerf.viewer.handles import plain_text
from flame_nerf.viewer.live.moment import LiveMoment
from flame_nerf.viewer.live.pictures import Picture, Pictures


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

    def seen(self, picture: Picture, time: float) -> Face | None:
        """The face in an RGB picture, taken at `time` seconds; None where there is none."""

    def close(self) -> None:
        """Let go of it."""


class CameraReceiver:
    """Looks at pictures in a thread of its own, from when it is first asked.

    Attributes:
        took: seconds that each of the last pictures took from picture to coefficients.
        ended: whether a video is over, a camera gone or something broken.
    """

    def __init__(self, pictures: Pictures, reader: FaceReader) -> None:
        """
        Args:
            pictures: to look at; closed when there are no more of them.
            reader: finds the face; closed then, too.
        """
        self._pictures, self._reader = pictures, reader
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
            return f"{plain_text(self._pictures.name)}: {self._state}{pace}"

    def close(self) -> None:
        """See `Receiver`."""
        self._closed = True
        if self._looking is None:
            self._let_go()

    def _let_go(self) -> None:
        self._pictures.close()
        self._reader.close()

    def _look(self) -> None:
        over = self._pictures.over
        try:
            self._watch()
        except UserError as error:
            over = f"**broken off**: {error}"
        except Exception as error:
            # Of OpenCV's, MediaPipe's or a driver's; whoever looks at the page must not wait for a face.
            over = f"**no face can be looked for any more** ({said(error)})"
        finally:
            with self._news:
                self.ended, self._state = True, over
            self._let_go()

    def _watch(self) -> None:
        for when, picture in self._pictures:
            if self._closed:
                return
            taken = time.monotonic()
            face = self._reader.seen(picture, when)
            with self._news:
                self.took.append(time.monotonic() - taken)
                self._state = _words(face)
                if face is not None:
                    self._moment = LiveMoment(face.expression, face.head_turn, taken)
                self._news.notify_all()


def _words(face: Face | None) -> str:
    if face is None:
        return "**Face away**: the last one is held"
    return "learning how the face rests: keep it relaxed" if face.calibrating else "followed"
