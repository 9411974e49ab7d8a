"""Both eyes of each picture, cut out upright and at one scale, and what of them lies between the lids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_tools.runs.pictures import load_grey
from flame_nerf.heads.eyes import LIDS, SIDES

IRISES = {"Left": tuple(range(473, 478)), "Right": tuple(range(468, 473))}
"""Face mesh points of each iris, its middle first."""
_RIMS = {
    "Left": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "Right": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
}
"""Face mesh points around each eye's opening: from the outer corner along the upper lid, back along the lower."""
_UPPER = slice(0, 9)
_BROWS, _CHIN = 10, 152
_CORNERS_APART = 0.088
"""Usual distance between the outer corners of both eyes, metres: lengths in an eye are told by it."""
_HALF_WIDTH, _HALF_HEIGHT, STEP = 0.014, 0.008, 0.0009
"""Extent of a patch around the middle between an eye's corners, and distance of its samples, metres."""
_INSIDE = 0.0006
"""What is nearer than this to the rim of the lids may be lashes, metres."""
_FINE = 4
"""Cells that a sample's distance to the rim is measured in."""
_STEEPEST = 0.5
"""Cosine to the camera beyond which a face is not believed to be turned."""


@dataclass(frozen=True)
class EyePatches:
    """Both eyes of T frames, the subject's left first; N samples each. Lengths in metres of a usual face, in axes of
    the eye: along the line through the corners of both eyes, to the subject's left, and down from it."""

    value: Float[np.ndarray, "T 2 N"]
    """Grey, full scale 1; float32."""
    inside: Float[np.ndarray, "T 2 N"]
    """1 between the lids, 0 elsewhere."""
    below: Float[np.ndarray, "T 2 N"]
    """How far below the upper lid's rim each sample lies."""
    marked: Float[np.ndarray, "T 2 2"]
    """Where the face mesh has the middle of each iris."""
    slope: Float[np.ndarray, "T 2"]
    """Slope of the face against the picture along both axes: circles on it are seen as ellipses."""
    axes: Float[np.ndarray, "T 2 2"]
    """Pixels by metres."""

    def __len__(self) -> int:
        return len(self.value)

    @property
    def seen(self) -> Float[np.ndarray, "T 2"]:
        """Square metres between the lids."""
        return self.inside.sum(axis=2) * STEP**2


def places() -> Float[np.ndarray, "N 2"]:
    """Where a patch's samples are, metres from the middle between the eye's corners."""
    return np.stack(np.meshgrid(*_ticks()), axis=-1).reshape(-1, 2)


def cut_patches(pictures: Sequence[Path], landmarks: Float[np.ndarray, "T 478 3"]) -> EyePatches:
    """Cut both eyes out of each picture.

    Args:
        landmarks: face mesh points as `find_landmarks` gives them, all of them finite.

    Raises:
        OSError: a picture is missing or cannot be decoded.
    """
    at = places()
    frames, shape = len(pictures), (len(pictures), 2, len(at))
    value, inside, below = (np.zeros(shape, np.float32) for _ in range(3))
    marked, slope, axes = np.zeros((frames, 2, 2)), np.zeros((frames, 2)), np.zeros((frames, 2, 2))
    left, right = LIDS["Left"].corners[0], LIDS["Right"].corners[0]
    for frame, (path, points) in enumerate(zip(pictures, landmarks, strict=True)):
        picture = load_grey(path)
        across, down = points[left] - points[right], points[_CHIN] - points[_BROWS]
        along = across[:2] / max(np.linalg.norm(across[:2]), 1e-9)
        scale = max(np.linalg.norm(across), 1.0) / _CORNERS_APART
        turned = np.stack([along, [-along[1], along[0]]], axis=1)
        axes[frame] = scale * turned
        ahead = np.cross(across, down)
        ahead /= max(np.linalg.norm(ahead), 1e-9)
        slope[frame] = ahead[:2] @ turned / max(abs(ahead[2]), _STEEPEST)
        for eye, side in enumerate(SIDES):
            middle = points[list(LIDS[side].corners), :2].mean(axis=0)
            rim, iris = ((points[list(rows), :2] - middle) @ turned / scale for rows in (_RIMS[side], IRISES[side]))
            value[frame, eye] = _samples(picture, middle + at @ axes[frame].T, 0.5 * scale * STEP)
            inside[frame, eye] = _between(rim)
            upper = rim[_UPPER][np.argsort(rim[_UPPER, 0])]
            below[frame, eye] = at[:, 1] - np.interp(at[:, 0], upper[:, 0], upper[:, 1])
            marked[frame, eye] = iris[0]
    return EyePatches(value, inside, below, marked, slope, axes)


def _ticks() -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " rows"]]:
    return tuple(np.arange(-half, half + STEP / 2, STEP) for half in (_HALF_WIDTH, _HALF_HEIGHT))


def _samples(picture: UInt8[np.ndarray, "H W"], at: Float[np.ndarray, "N 2"], blur: float) -> Float[np.ndarray, " N"]:
    """The picture at places in pixels, after a Gaussian of so many of them where that is more than half of one."""
    size = np.array(picture.shape[::-1])
    low = np.clip(np.floor(at.min(axis=0)).astype(int) - 4, 0, size - 2)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + 5, low + 2, size)
    part = picture[low[1] : high[1], low[0] : high[0]].astype(np.float32) / 255
    if blur > 0.5:
        part = cv2.GaussianBlur(part, (0, 0), blur)
    x, y = (at - low - 0.5).astype(np.float32).T
    return cv2.remap(part, x[None], y[None], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)[0]


def _between(rim: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, " N"]:
    """1 for a patch's samples that lie well inside the rim of an eye, metres; else 0."""
    columns, rows = (len(ticks) for ticks in _ticks())
    canvas = np.zeros((rows * _FINE, columns * _FINE), np.uint8)
    corner = (rim + [_HALF_WIDTH, _HALF_HEIGHT]) / STEP * _FINE
    cv2.fillPoly(canvas, [np.round(corner * 16).astype(np.int32)], 255, shift=4)
    deep = cv2.distanceTransform(canvas, cv2.DIST_L2, 3)[::_FINE, ::_FINE]
    return (deep > _INSIDE / STEP * _FINE).astype(np.float32).ravel()
