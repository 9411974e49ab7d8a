"""Where the head is seen from, and how large, in every frame of a subject."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from flame_nerf.data.face_boxes import MEDIAPIPE_CHIN, MEDIAPIPE_POINTS, project
from flame_nerf.subject import Subject
from flame_nerf.subject.rigid import rigid_fit

MEDIAPIPE_BROWS = 9
"""Point between the brows in mediapipe's numbering."""
FROM_EYES = 1.85
"""Height from brow line to chin over the distance from the eyes to the lips."""
ROWS_AT_ONCE = 256
"""Timesteps whose meshes are held in double precision at a time."""
OF_MESH = 0.45
"""The same over the height of a head's mesh with its neck, where it has neither eyes nor lips."""


def head_from_world(subject: Subject) -> Float[np.ndarray, "T 4 4"]:
    """Rigid motion that lays each timestep's skull on the rest head's."""
    track = subject.track
    faces = track.region_faces("scalp", "ears")
    rows: Int[np.ndarray, " N"] = np.unique(track.faces[faces if faces.any() else slice(None)])
    rest = track.canonical_vertices[rows].astype(np.float64)
    blocks = range(0, track.num_timesteps, ROWS_AT_ONCE)
    posed = (track.vertices[start : start + ROWS_AT_ONCE][:, rows].astype(np.float64) for start in blocks)
    return np.concatenate([rigid_fit(block, rest) for block in posed])


def head_angles(subject: Subject) -> Float[np.ndarray, "N 2"]:
    """Yaw and pitch of the head against the camera in each frame, degrees.

    Yaw is positive when the head is turned to the subject's left, pitch when it looks up; a camera that moves around a
    still head counts as the head that turns.
    """
    motion = head_from_world(subject)
    # The face's direction in the camera's axes: row z of the camera's rotation in the head frame.
    forward = np.stack([motion[f.timestep, 2, :3] @ f.c2w[:3, :3] for f in subject.frames])
    yaw = np.arctan2(forward[:, 0], forward[:, 2])
    pitch = np.arcsin(np.clip(forward[:, 1], -1.0, 1.0))
    return np.degrees(np.stack([yaw, pitch], axis=1))


def face_heights(subject: Subject) -> Float[np.ndarray, " N"]:
    """Height of the face from brow line to chin in each frame, pixels of the stored pictures; NaN where unknown."""
    track = subject.track
    eyes, lips = (_region_vertices(subject, *names) for names in (("eyes", "eyelids"), ("lips", "mouth")))
    landmarks = track.landmarks2d if track.landmarks2d is not None else np.zeros((track.num_timesteps, 0, 2))
    heights = np.full(len(subject.frames), np.nan)
    for row, frame in enumerate(subject.frames):
        if landmarks.shape[1] == MEDIAPIPE_POINTS:
            ends = landmarks[frame.timestep, [MEDIAPIPE_BROWS, MEDIAPIPE_CHIN]]
            heights[row] = np.linalg.norm(ends[1] - ends[0])
            if np.isfinite(heights[row]):
                continue
        vertices = track.vertices[frame.timestep]
        if len(eyes) and len(lips):
            ends = project(subject, frame, np.stack([vertices[eyes].mean(axis=0), vertices[lips].mean(axis=0)]))
            heights[row] = FROM_EYES * np.linalg.norm(ends[1] - ends[0])
        else:
            heights[row] = OF_MESH * np.ptp(project(subject, frame, vertices)[:, 1])
    return heights


def _region_vertices(subject: Subject, *names: str) -> Int[np.ndarray, " N"]:
    return np.flatnonzero(subject.track.region_vertices(*names))
