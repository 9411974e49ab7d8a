"""Tracking a video on the way to something else: the one place where the plugin needs `data_tools`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flame_nerf.runtime.errors import UserError

if TYPE_CHECKING:
    from flame_nerf.viewer.live.camera import FaceReader
    from flame_nerf.viewer.live.pictures import Frame


def track_video(video: Path, subject: Path) -> None:
    """Track a video into a subject's folder; one that is there already is kept.

    Raises:
        UserError: the video cannot be tracked.
    """
    from data_tools.tracking import TrackingError, track

    try:
        track(video, subject)
    except TrackingError as error:
        raise UserError(str(error)) from error


def track_into_cache(video: Path) -> Path:
    """The subject of a video, tracked into the user's cache folder unless it is there."""
    from flame_nerf.runtime.files import cache_folder

    if not video.is_file():
        raise UserError(f"{video}: no such file")
    known = f"{video.resolve()} {video.stat().st_size} {video.stat().st_mtime_ns}"
    folder = cache_folder() / "tracked" / f"{video.stem}-{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    headline(f"Tracking {video}")
    track_video(video, folder)
    return folder


def live_face() -> FaceReader:
    """What finds a face in pictures as they come.

    Raises:
        UserError: MediaPipe is not installed.
    """
    from data_tools.tracking import TrackingError, live_face

    try:
        return live_face()
    except TrackingError as error:
        raise UserError(str(error)) from error


def played(video: Path) -> Iterator[Frame]:
    """The frames of a video file, in their order.

    Raises:
        UserError: it is no video that can be read; while it plays: what is left of it cannot be.
    """
    from data_tools.tracking import TrackingError, played

    def frames() -> Iterator[Frame]:
        try:
            yield from found
        except TrackingError as error:
            raise UserError(str(error)) from error

    try:
        found = played(video)
    except TrackingError as error:
        raise UserError(f"--video {error}") from error
    return frames()


def headline(text: str) -> None:
    """A line across the terminal that says what begins."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from flame_nerf.runtime.words import escape

    CONSOLE.rule(f"[bold]{escape(text)}")
