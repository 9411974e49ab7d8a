"""The picture that a mesh covers, and whether it lies where the mask says that the head is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from flame_nerf.data.face_boxes import project
from flame_nerf.subject import Frame, Subject

SIDE = 256
"""Longest side of the pictures that are compared."""
FARTHEST = 50 * SIDE
"""Pixels from the corner beyond which nothing is drawn: cameras that see this are said elsewhere."""
LARGER = 2
"""A mesh may cover so many times what its mask shows before that counts against it: masks of the face alone."""


def cover(
    corners: Float[np.ndarray, "V 2"], faces: Int[np.ndarray, "F 3"], shape: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Pixels whose middles a projected mesh covers.

    Args:
        corners: its vertices in pixels, 0 at the left and upper edge.
        faces: triangles; those seen from behind are covered by others on a closed mesh and are skipped.
        shape: height and width.
    """
    from flame_nerf.kernels.cpu.raster import nearest_faces

    owner, depth = np.empty(shape, np.int64), np.empty(shape)
    flat = np.concatenate([corners, np.ones_like(corners[:, :1])], axis=1).astype(np.float64)
    nearest_faces(flat, faces.astype(np.int64), True, owner, depth)
    return owner >= 0


def overlap(subject: Subject, frame: Frame, mask: UInt8[np.ndarray, "H W"]) -> float:
    """Of the smaller of mesh and mask in a picture, the part that lies under the other.

    Hair and shoulders beside the mesh do not count, nor does a neck below a mask of the face; a mesh far larger than
    what its mask shows counts as less. 0 where the head is behind the camera or out of the picture.

    Args:
        mask: 255 = head; not empty.
    """
    import cv2

    scale = min(1.0, SIDE / max(subject.width, subject.height))
    size = max(1, round(subject.width * scale)), max(1, round(subject.height * scale))
    with np.errstate(all="ignore"):
        pixels = project(subject, frame, subject.track.vertices[frame.timestep].astype(np.float64))
    pixels *= np.array(size) / [subject.width, subject.height]
    if not np.isfinite(pixels).all() or np.abs(pixels).max() > FARTHEST:
        return 0.0
    covered = cover(pixels, subject.track.faces, size[::-1])
    shown = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 127
    smaller = max(min(covered.sum(), shown.sum()), covered.sum() / LARGER)
    return float((covered & shown).sum() / smaller) if smaller else 0.0
