"""How a subject's pictures look where the face is: sharp or blurred, dark or burnt out, steady or flickering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_tools.runs.pictures import load_grey, load_pixels
from flame_nerf.data.face_boxes import head_box
from flame_nerf.subject import Frame, Subject

LOOKED_AT = 240
"""Pictures that are opened, evenly spread; every one of a short clip."""
FACE_SIDE = 200
"""Pixels of a head at which sharpness is measured: more of them would only show that skin is smooth."""
SMEAR = 9
"""Pixels over which a face is smeared to see how much that changes."""
NORMAL_MEDIAN = 0.6745
"""Median size of a normal distribution's values, in its standard deviations."""
BURNT, BLACK = 250, 12
"""Grey levels beyond which nothing is left to see."""
BORDER_GREY = 200
"""Mask value from which a pixel at the picture's edge surely belongs to the head."""
BLOCKS, IN_A_ROW = 8, 16
"""Runs of neighbouring pictures that are looked at for flicker, and their length."""


@dataclass(frozen=True)
class Look:
    """One picture, where the face is."""

    row: int
    """Row of the subject's frames."""
    blur: float
    """0 perfectly sharp to 1 without any detail, against a face of `FACE_SIDE` pixels."""
    brightness: float
    """Mean grey level of the face, 0 to 255."""
    burnt: float
    """Share of the face that is white, and"""
    black: float
    """that is black."""
    at_edge: bool
    """Whether the head's mask runs into the picture's upper edge or its sides."""


def looks_of(subject: Subject, on_picture: Callable[[], None] = lambda: None) -> tuple[Look, ...]:
    """Look at pictures evenly spread over the clip; those that cannot be read are passed over."""
    count = len(subject.frames)
    rows = np.unique(np.linspace(0, count - 1, min(LOOKED_AT, count)).round().astype(int))
    found = []
    for row in rows.tolist():
        on_picture()
        try:
            found.append(_look(subject, row))
        except OSError:
            continue
    return tuple(found)


def flicker_of(subject: Subject) -> float:
    """How much the face's brightness jumps from picture to picture, as a share of it; 0 where it changes smoothly.

    Half the median size of the second difference in runs of neighbours: movement is smooth, a lamp's beat is not.
    """
    frames = sorted(subject.frames, key=lambda frame: frame.timestep)
    if len({frame.timestep for frame in frames}) < len(frames):
        # Several cameras: pictures side by side are no neighbours in time.
        return 0.0
    jumps: list[float] = []
    starts = np.unique(np.linspace(0, max(0, len(frames) - IN_A_ROW), BLOCKS).astype(int))
    for start in starts:
        levels = _levels(subject, frames[start : start + IN_A_ROW])
        if len(levels) > 2:
            jumps += (np.abs(np.diff(levels, 2)) / 2 / max(float(np.mean(levels)), 1.0)).tolist()
    return float(np.median(jumps)) if jumps else 0.0


def _levels(subject: Subject, frames: list[Frame]) -> list[float]:
    """Mean grey level of a run of pictures inside one box, that of the first one's head."""
    levels: list[float] = []
    box: np.ndarray | None = None
    for frame in frames:
        grey = load_pixels(frame.file_path, cv2.IMREAD_REDUCED_GRAYSCALE_4)
        if grey is None:
            return []
        if box is None:
            box = head_box(subject, frame, grey.shape[1], grey.shape[0], 0.0)
        part = grey[box[1] : box[3], box[0] : box[2]]
        if part.size == 0:
            return []
        levels.append(float(part.mean()))
    return levels


def _look(subject: Subject, row: int) -> Look:
    frame = subject.frames[row]
    grey = load_grey(frame.file_path)
    mask = None if frame.mask_path is None else load_grey(frame.mask_path)
    at_edge = False
    if mask is not None:
        head = mask > BORDER_GREY
        at_edge = bool(head[0].any() or head[:, 0].any() or head[:, -1].any())
    left, top, right, bottom = face_box(subject, frame, grey.shape[1], grey.shape[0])
    face = grey[top:bottom, left:right]
    if face.size < 64:
        raise OSError(f"{frame.file_path}: the head is not in the picture.")
    return Look(
        row, blur_of(face), float(face.mean()), float((face >= BURNT).mean()), float((face <= BLACK).mean()), at_edge
    )


def face_box(subject: Subject, frame: Frame, width: int, height: int) -> np.ndarray:
    """Box of the face alone, without hair and neck: the middle of the head's, x0, y0, x1, y1."""
    landmarks = subject.track.landmarks2d
    points = landmarks[frame.timestep] if landmarks is not None and landmarks.shape[1] >= 68 else None
    size = np.array([width, height])
    if points is not None and np.isfinite(points).all():
        scaled = points * size / np.array([subject.width, subject.height])
        return np.concatenate([np.clip(scaled.min(axis=0), 0, size), np.clip(scaled.max(axis=0), 0, size)]).astype(int)
    left, top, right, bottom = head_box(subject, frame, width, height, 0.0)
    across, down = (right - left) // 5, (bottom - top) // 5
    return np.array([left + across, top + down, right - across, bottom - down])


def blur_of(face: UInt8[np.ndarray, "H W"]) -> float:
    """How little smearing a face changes it, 0 to 1: what is blurred already stays as it is.

    After Crété and others, "The blur effect" (2007): the part of the differences between neighbouring pixels that
    remains once the picture is averaged along a line; of both directions the more blurred. Noise, which would pass for
    detail, is measured where a picture has least else, in its finest diagonal, and taken off.
    """
    scale = FACE_SIDE / max(face.shape)
    if scale < 1:
        face = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sharp: Float[np.ndarray, "h w"] = face.astype(np.float32)
    diagonal = sharp[:-1, :-1] - sharp[1:, :-1] - sharp[:-1, 1:] + sharp[1:, 1:]
    noise = 2 * (float(np.median(np.abs(diagonal))) / 2 / NORMAL_MEDIAN) ** 2
    left = []
    for axis, size in ((0, (1, SMEAR)), (1, (SMEAR, 1))):
        before = float((np.diff(sharp, axis=axis) ** 2).mean()) - noise
        after = float((np.diff(cv2.blur(sharp, size), axis=axis) ** 2).mean()) - noise / SMEAR**2
        left.append(1.0 if before <= 0 else np.sqrt(max(0.0, after) / before))
    return float(min(1.0, max(left)))
