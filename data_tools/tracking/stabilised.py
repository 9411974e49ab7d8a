"""The face held still: every frame drawn on the canonical mesh, seen from the front. Sharp where the track is right."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from data_tools.ray_casting import MeshRays
from data_tools.runs.pictures import load_picture
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.fit.outline import head_part
from flame_nerf.heads import HeadModel

SIDE = 240
"""Pixels of a picture's side."""
MEAN_FRAMES, FILM_FRAMES = 50, 60
"""Frames in the mean, evenly spread, and in the film, in a row."""
MILLISECONDS = 60
"""That the film shows each."""


@dataclass(frozen=True)
class Stabilised:
    """The face held still by several tracks of one clip."""

    means: tuple[UInt8[np.ndarray, "h w 3"], ...]
    """Mean of the frames, by each track."""
    count: int
    """Frames in it."""
    film: bytes
    """The frames of all tracks side by side, as an animated WebP."""


def stabilised_pictures(
    head: HeadModel, tracks: tuple[Fitted, ...], pictures: list[Path], rows: Int[np.ndarray, " K"]
) -> Stabilised:
    """Draw frames on the canonical mesh as each track has them.

    Args:
        pictures: of all rows of the tracks.
        rows: those that may be shown.
    """
    views = [_FrontView(head, track) for track in tracks]
    spread = np.unique(rows[np.linspace(0, len(rows) - 1, min(MEAN_FRAMES, len(rows))).astype(int)])
    sums = [np.zeros((SIDE, SIDE, 3)) for _ in views]
    for row in spread:
        picture = load_picture(pictures[row])
        for total, view in zip(sums, views, strict=True):
            total += view.draw(int(row), picture)
    film = []
    for row in rows[:FILM_FRAMES]:
        picture = load_picture(pictures[row])
        film.append(np.concatenate([view.draw(int(row), picture) for view in views], axis=1))
    means = tuple(np.round(total / len(spread)).astype(np.uint8) for total in sums)
    return Stabilised(means, len(spread), _film(film))


class _FrontView:
    """A canonical mesh from the front, orthographic, around the face."""

    def __init__(self, head: HeadModel, track: Fitted) -> None:
        self._track, faces = track, head.faces.numpy()
        skull = track.canonical[head_part(head)]
        low, high = skull.min(axis=0), skull.max(axis=0)
        middle, half = (low + high) / 2, 0.5 * (high - low)[:2].max()
        along = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
        x, y = np.meshgrid(middle[0] + half * along, middle[1] - half * along)
        origin = np.stack([x, y, np.full_like(x, high[2] + 0.1)], axis=-1)
        hit = MeshRays(track.canonical, faces).cast(origin, np.array([0.0, 0.0, -1.0]))
        self._found = hit.face >= 0
        self._corner, self._blend = faces[hit.face[self._found]], hit.barycentric[self._found]

    def draw(self, row: int, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """A frame's picture on the mesh; black where the mesh is not, and where the picture ends."""
        pixels = self._place(row)
        at = np.full((SIDE, SIDE, 2), -10.0, dtype=np.float32)
        at[self._found] = pixels - 0.5
        return cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def _place(self, row: int) -> Float[np.ndarray, "n 2"]:
        return np.einsum("nc,nck->nk", self._blend, self._track.in_picture(row)[self._corner])


def _film(frames: list[UInt8[np.ndarray, "h w 3"]]) -> bytes:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    target = io.BytesIO()
    pictures[0].save(
        target, "WEBP", save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0, quality=60, method=0
    )
    return target.getvalue()
