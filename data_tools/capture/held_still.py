"""The face held still: frames drawn on the rest mesh, seen from the front. Sharp where the track is right."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from data_tools.capture.frames import seen_in_frame, skull_vertices
from data_tools.ray_casting import MeshRays
from flame_nerf.subject import Subject

SIDE = 240
"""Pixels of a picture's side."""
MEAN_FRAMES, FILM_FRAMES = 50, 60
"""Frames in the mean, evenly spread, and in the film, in a row."""
MILLISECONDS = 60
"""That the film shows each."""

Picture = UInt8[np.ndarray, "h w 3"]


class FrontView:
    """A rest mesh from the front, orthographic, around the head."""

    def __init__(
        self,
        canonical: Float[np.ndarray, "V 3"],
        faces: Int[np.ndarray, "F 3"],
        of_head: Bool[np.ndarray, " V"] | Int[np.ndarray, " K"],
    ) -> None:
        """Look at a mesh.

        Args:
            of_head: mask or numbers of the vertices that shall be in the picture; the others may be.
        """
        skull = canonical[of_head]
        low, high = skull.min(axis=0), skull.max(axis=0)
        middle, half = (low + high) / 2, 0.5 * (high - low)[:2].max()
        along = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
        x, y = np.meshgrid(middle[0] + half * along, middle[1] - half * along)
        origin = np.stack([x, y, np.full_like(x, high[2] + 0.1)], axis=-1)
        hit = MeshRays(canonical, faces).cast(origin, np.array([0.0, 0.0, -1.0]))
        self._found = hit.face >= 0
        self._corner = faces[hit.face[self._found]]
        self._blend = hit.barycentric[self._found].astype(np.float32)

    def draw(self, pixels: Float[np.ndarray, "V 2"], picture: UInt8[np.ndarray, "H W 3"]) -> Picture:
        """A frame's picture on the mesh; black where the mesh is not, and where the picture ends.

        Args:
            pixels: where the posed vertices are seen in the picture.
        """
        at = np.full((SIDE, SIDE, 2), -10.0, dtype=np.float32)
        pixels = pixels.astype(np.float32)
        at[self._found] = sum(self._blend[:, [k]] * pixels[self._corner[:, k]] for k in range(3)) - np.float32(0.5)
        return cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def film_of(frames: list[Picture]) -> bytes:
    """An animated WebP of pictures of one size."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    target = io.BytesIO()
    pictures[0].save(
        target, "WEBP", save_all=True, append_images=pictures[1:], duration=MILLISECONDS, loop=0, quality=60, method=0
    )
    return target.getvalue()


def spread(rows: Int[np.ndarray, " K"]) -> Int[np.ndarray, " M"]:
    """Rows whose mean is shown: at most `MEAN_FRAMES`, evenly spread."""
    return np.unique(rows[np.linspace(0, len(rows) - 1, min(MEAN_FRAMES, len(rows))).astype(int)])


def subject_held_still(subject: Subject) -> tuple[Picture, int, bytes] | None:
    """Mean of a subject's frames on its rest mesh, how many, and a film of those in a row; None if none can be read."""
    track = subject.track
    view = FrontView(track.canonical_vertices, track.faces, skull_vertices(track))
    draw = _drawer(subject, view)
    mean = [drawn for row in spread(np.arange(len(subject.frames))).tolist() if (drawn := draw(row)) is not None]
    film = [drawn for row in range(min(FILM_FRAMES, len(subject.frames))) if (drawn := draw(row)) is not None]
    if not mean or not film:
        return None
    return np.mean(mean, axis=0).round().astype(np.uint8), len(mean), film_of(film)


def _drawer(subject: Subject, view: FrontView) -> Callable[[int], Picture | None]:
    def draw(row: int) -> Picture | None:
        seen = seen_in_frame(subject, row)
        return None if seen is None else view.draw(np.nan_to_num(seen[1], nan=-10.0), seen[0])

    return draw
