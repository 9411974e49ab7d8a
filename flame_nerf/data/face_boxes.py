"""Where mouth and eyes are in a picture: training looks there more often, and metrics are also taken there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from flame_nerf import geometry
from flame_nerf.subject import Frame, Subject

MEDIAPIPE_POINTS = 478
"""Length of a landmark row that the point numbers below belong to (face mesh with irises)."""
MEDIAPIPE_FEATURES = {
    "mouth": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    "right_eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    "left_eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
}
"""Outer lip contour and eye contours in mediapipe's numbering; right and left are the subject's."""
MEDIAPIPE_CHIN = 152
"""Lowest point of the face's outline in the same numbering."""
FEATURES = tuple(MEDIAPIPE_FEATURES)
PADDING = 0.25
"""Part of a box's longer side that is added all round: lips and lids move, and so do their shadows."""

Box = Int[np.ndarray, "4"]
"""x0, y0, x1, y1 in pixels, x1 and y1 excluded; empty (x1 <= x0) where the feature is out of the picture."""


def feature_boxes(subject: Subject, frame: Frame, width: int, height: int) -> Int[np.ndarray, "3 4"]:
    """Boxes of `FEATURES` in a frame shrunk to width x height.

    From the stored landmarks where the frame has mediapipe's 478, otherwise from the projected mesh regions.
    """
    scale = np.array([width / subject.width, height / subject.height])
    return np.stack([_box(_points(subject, frame, name) * scale, width, height) for name in FEATURES])


def chin_row(subject: Subject, frame: Frame, height: int) -> int:
    """First pixel row below the chin in a frame shrunk to `height`: metrics of the head look above it."""
    track = subject.track
    if track.landmarks2d is not None and track.landmarks2d.shape[1] == MEDIAPIPE_POINTS:
        row = track.landmarks2d[frame.timestep, MEDIAPIPE_CHIN, 1]
    else:
        # Without landmarks: a face's chin is about that far below its mouth, and a muzzle's jaw reaches no deeper.
        mouth, eyes = (np.nanmean(_points(subject, frame, name)[:, 1]) for name in ("mouth", "left_eye"))
        row = mouth + 0.7 * (mouth - eyes)
    return int(np.clip(np.ceil(row * height / subject.height), 0, height)) if np.isfinite(row) else height


def head_box(subject: Subject, frame: Frame, width: int, height: int, margin: float) -> Box:
    """Box around the projected head grown by `margin` metres: rays outside of it meet nothing that could be learned."""
    vertices = subject.track.vertices[frame.timestep]
    low, high = vertices.min(axis=0) - margin, vertices.max(axis=0) + margin
    corners = np.stack(np.meshgrid(*np.stack([low, high], axis=1), indexing="ij"), axis=-1).reshape(-1, 3)
    scale = np.array([width / subject.width, height / subject.height])
    return _box(project(subject, frame, corners) * scale, width, height, padding=0.0)


def project(subject: Subject, frame: Frame, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
    """World points to pixels of the stored picture; NaN behind the camera."""
    return geometry.project(points, frame.c2w, subject.intrinsics_of(frame))


def _points(subject: Subject, frame: Frame, feature: str) -> Float[np.ndarray, "N 2"]:
    track = subject.track
    if track.landmarks2d is not None and track.landmarks2d.shape[1] == MEDIAPIPE_POINTS:
        points = track.landmarks2d[frame.timestep, list(MEDIAPIPE_FEATURES[feature])]
        if np.isfinite(points).all():
            return points
    # A muzzle has no lips of its own: then its mouth is where to look.
    mouth = "lips" if "lips" in track.region_names else "mouth"
    faces = track.region_faces(mouth) if feature == "mouth" else track.region_faces("eyes", "eyelids")
    vertices = track.vertices[frame.timestep][np.unique(track.faces[faces])]
    if feature != "mouth":
        # x points to the subject's left in the canonical head, whatever the head's pose.
        side = track.canonical_vertices[np.unique(track.faces[faces]), 0]
        vertices = vertices[side > 0 if feature == "left_eye" else side < 0]
    return project(subject, frame, vertices)


def _box(points: Float[np.ndarray, "N 2"], width: int, height: int, padding: float = PADDING) -> Box:
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        return np.zeros(4, dtype=np.int64)
    low, high = points.min(axis=0), points.max(axis=0)
    grow = padding * (high - low).max()
    size = np.array([width, height])
    return np.concatenate([np.clip(np.floor(low - grow), 0, size), np.clip(np.ceil(high + grow), 0, size)]).astype(int)
