"""Mediapipe's face landmarks, and pictures of a head model to find them on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from data_tools.ray_casting import SurfacePoints
from flame_nerf.heads import HeadModel

LANDMARK_COUNT = 478
# In mediapipe's numbering the first iris belongs to the subject's right eye; a centre and four points around it each.
IRISES = {"right": tuple(range(468, 473)), "left": tuple(range(473, 478))}

# What the detector sees in place of bare geometry: it was trained on people.
_SKIN = (0.78, 0.70, 0.66)
_ALBEDO = {
    "eyes": (0.95, 0.95, 0.95), "lips": (0.72, 0.55, 0.53), "mouth": (0.35, 0.15, 0.15), "teeth": (0.95, 0.95, 0.90)
}  # fmt: skip
_IRIS_COLOUR = (0.20, 0.13, 0.08)
_IRIS_RADIUS = 0.00585
_PUPIL_RADIUS = 0.0022


def open_detector():
    """Mediapipe's face mesh with irises for single pictures; a context manager.

    Raises:
        ImportError: mediapipe is not installed.
    """
    from mediapipe.python.solutions.face_mesh import FaceMesh

    return FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1, min_detection_confidence=0.3)


def detect(detector, image: np.ndarray) -> Float[np.ndarray, "478 2"] | None:
    """Landmarks of a picture in pixels (x, y), or None where no face is found."""
    result = detector.process(image).multi_face_landmarks
    if not result:
        return None
    return np.array([(p.x, p.y) for p in result[0].landmark]) * [image.shape[1], image.shape[0]]


def landmark_set(name: str) -> frozenset[int]:
    """Indices of one of mediapipe's own groups: LIPS, LEFT_EYE, RIGHT_EYE, FACE_OVAL..."""
    from mediapipe.python.solutions import face_mesh_connections

    return frozenset(i for edge in getattr(face_mesh_connections, f"FACEMESH_{name}") for i in edge)


def inner_lips() -> frozenset[int]:
    """The ring of lip landmarks that borders the opening of the mouth."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_LIPS

    neighbours: dict[int, set[int]] = {}
    for a, b in FACEMESH_LIPS:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    ring, new = {13}, {13}
    while new:
        new = {n for i in new for n in neighbours[i]} - ring
        ring |= new
    return frozenset(ring)


def detection_albedo(head: HeadModel) -> Callable[[SurfacePoints], Float[np.ndarray, "R 3"]]:
    """Colour of surface points for the detector's pictures: skin, lips, teeth, and eyes with an iris that looks ahead.

    Returns:
        A function for MeshView.lambert.
    """
    colour = np.array([_ALBEDO.get(name, _SKIN) for name in head.region_names])[head.region.numpy()]
    template, faces = head.template.numpy(), head.faces.numpy()
    eyes = head.region_mask("eyes").numpy()
    centres = head.joint_template.numpy()[[head.joint_names.index("left_eye"), head.joint_names.index("right_eye")]]

    def albedo(hits: SurfacePoints) -> np.ndarray:
        result = colour[hits.face]
        on_eye = eyes[hits.face]
        point = (template[faces[hits.face[on_eye]]] * hits.barycentric[on_eye][:, :, None]).sum(1)
        ahead = point - np.where(point[:, :1] > 0, centres[:1], centres[1:])
        radius = np.where(ahead[:, 2] > 0, np.linalg.norm(ahead[:, :2], axis=1), np.inf)
        painted = result[on_eye]
        painted[radius < _IRIS_RADIUS] = _IRIS_COLOUR
        painted[radius < _PUPIL_RADIUS] = 0.02
        result[on_eye] = painted
        return result

    return albedo


def pose_with_jaw(head: HeadModel, identity: Float[torch.Tensor, " S"], jaw_open: float) -> Float[torch.Tensor, "V 3"]:
    """Vertices with the mouth opened by the jawOpen expression, or by the jaw joint in models without it.

    Models with neither keep it closed.
    """
    pose = torch.zeros(len(head.joint_names), 3)
    if "jawOpen" in head.expression_names:
        expression = head.expression_vector({"jawOpen": jaw_open})
    else:
        expression = torch.zeros(len(head.expression_names))
        if "jaw" in head.joint_names:
            pose[head.joint_names.index("jaw"), 0] = 0.35 * jaw_open
    return head.vertices(identity, expression, pose)
