"""Mattes that another program made: a folder with a picture a frame, or a video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from data_tools.runs.frame_names import PICTURES, frame_numbers, stem_of
from data_tools.runs.pictures import load_pixels, save_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.framing import Framing
from data_tools.tracking.observe.keypoints import rows_of_frames
from data_tools.tracking.observe.video import Sampled, decoded

SAME_ASPECT = 0.02
"""Largest relative difference of width to height between matte and picture."""
SAME_LENGTH = 0.02
"""Largest relative difference of length between the mattes' video and the film: encoders drop a frame at the end."""
TRANSPARENT = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")
"""Beginnings of the names of FFmpeg's pixel formats that carry transparency."""
COVERED = 0.5
"""Share of the keypoints that must lie on their mattes: below it the mattes are inverted, or another video's."""


def copy_mattes(
    source: Path,
    targets: list[Path],
    sampled: Sampled,
    wanted: Int[np.ndarray, " N"],
    first_frame: int | None,
    on_frame: Callable[[], None] = lambda: None,
) -> list[int]:
    """Bring the mattes of some sampled pictures to the pictures' size, 8 bit, 255 = subject.

    Transparency counts where a picture or video has it, else brightness; pictures of 0 and 1 count as black and white.

    Args:
        source: a folder of pictures numbered like the video's frames, or a video with as many frames.
        targets: where the matte of each sampled picture goes.
        wanted: numbers of the sampled pictures that need one.

    Returns:
        the numbers of those that have none.

    Raises:
        TrackingError: nothing there, numbers beyond the video, names that do not tell which frame they are of, a
            video of another length, another shape than the video's pictures, no pictures.
    """
    if source.is_dir():
        return _from_folder(source, targets, sampled, wanted, first_frame, on_frame)
    if not source.is_file():
        raise TrackingError(f"{source}: no such folder or video. Check --mattes.")
    row_of = {sampled.sources[number]: number for number in wanted.tolist()}
    count = 0
    for index, _, frame, _ in decoded(source):
        count = index + 1
        if index in row_of:
            transparent = frame.format.name.startswith(TRANSPARENT)
            matte = frame.to_ndarray(format="rgba")[..., 3] if transparent else frame.to_ndarray(format="rgb24")[..., 1]
            number = row_of.pop(index)
            save_picture(targets[number], _fitted(matte, sampled.framing, f"{source}: frame {index}"))
            on_frame()
    if sampled.total is not None and abs(count - sampled.total) > SAME_LENGTH * sampled.total:
        raise TrackingError(
            f"{source}: has {count} frames, the video {sampled.total}, so that they do not go together one by one. "
            "Write the mattes as a video of the same length and rate, or as pictures numbered by frame."
        )
    return sorted(row_of.values())


def _from_folder(
    folder: Path,
    targets: list[Path],
    sampled: Sampled,
    wanted: Int[np.ndarray, " N"],
    first_frame: int | None,
    on_frame: Callable[[], None],
) -> list[int]:
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".")
    )
    if not found:
        inside = next((f", but the folder {path.name}" for path in sorted(folder.iterdir()) if path.is_dir()), "")
        raise TrackingError(
            f"{folder}: holds no pictures ({', '.join(PICTURES)}){inside}. Give a folder with one matte a frame, as "
            "00000.png."
        )
    names = [path.name for path in found]
    numbers = frame_numbers(names, what=str(folder), error=TrackingError)
    labels = [stem_of(name) for name in names] if numbers is None else numbers
    rows, _ = rows_of_frames(labels, sampled, first_frame, str(folder))
    missing = []
    for number in wanted.tolist():
        if rows[number] < 0:
            missing.append(number)
        elif not targets[number].exists():
            path = found[rows[number]]
            save_picture(targets[number], _fitted(_opacity(path), sampled.framing, str(path)))
        on_frame()
    return missing


def _opacity(path: Path) -> UInt8[np.ndarray, "H W"]:
    picture = load_pixels(path, cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise TrackingError(f"{path}: cannot be read as a picture. Write it again as PNG.")
    if picture.ndim == 3:
        transparent = picture.shape[2] == 4 and picture[..., 3].min() < picture[..., 3].max()
        picture = picture[..., 3] if transparent else picture[..., :3].max(axis=2)
    if picture.dtype == np.uint16:
        picture = (picture.astype(np.float32) / 257 + 0.5).astype(np.uint8)
    elif picture.dtype != np.uint8:
        raise TrackingError(f"{path}: is of type {picture.dtype}, expected 8 or 16 bit. Write it as an 8-bit PNG.")
    return picture * 255 if picture.max(initial=0) == 1 else picture


def _fitted(matte: UInt8[np.ndarray, "h w"], framing: Framing, where: str) -> UInt8[np.ndarray, "H W"]:
    """The part of a matte that the stored picture shows, at its size."""
    height, width = matte.shape
    whole_width, whole_height = framing.film
    if abs(width * whole_height / (height * whole_width) - 1) > SAME_ASPECT:
        raise TrackingError(
            f"{where}: is {width}x{height}, the video's pictures are {whole_width}x{whole_height}: of another "
            "shape. Mattes must show the whole picture."
        )
    return framing.cut(matte)


def check_mattes(points: Float[np.ndarray, "N K 3"], mattes: list[UInt8[np.ndarray, "H W"]], where: str) -> None:
    """Keypoints must lie on their mattes.

    Raises:
        TrackingError: most do not; says what to look for.
    """
    on, count = 0, 0
    for marks, matte in zip(points, mattes, strict=True):
        at = marks[np.isfinite(marks).all(axis=1), :2].astype(int)
        at = at[(at >= 0).all(axis=1) & (at[:, 0] < matte.shape[1]) & (at[:, 1] < matte.shape[0])]
        on, count = on + int((matte[at[:, 1], at[:, 0]] > 127).sum()), count + len(at)
    if count and on < COVERED * count:
        raise TrackingError(
            f"{where}: only {100 * on / count:.0f} % of the keypoints lie on the mattes. Are they inverted (the "
            "subject must be white), or of another video or other frames?"
        )
