"""A recorded head whose every number is known: what the writers of other tools' formats write, and importers must find.

In one convention: OpenCV world-to-camera, metres, FLAME's own forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from flame_like import flame_forward, make_flame_like
from scipy.spatial.transform import Rotation

from data_tools.ray_casting import MeshRays

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
SIZE = (88, 104)
INTRINSICS = (150.0, 143.0, 47.5, 49.0)
"""Off the middle and not square."""
BACKDROP = np.array([60, 140, 90])


@dataclass(frozen=True)
class View:
    """One picture."""

    timestep: int
    w2c: np.ndarray
    """OpenCV axes."""
    intrinsics: tuple[float, float, float, float] = INTRINSICS
    camera: int = 0


@dataclass(frozen=True)
class Truth:
    model: dict[str, np.ndarray]
    shape: np.ndarray
    expr: np.ndarray
    pose: np.ndarray
    """[T, 5, 3]"""
    translation: np.ndarray
    views: tuple[View, ...]
    size: tuple[int, int]
    vertices: np.ndarray
    """[T, V, 3] in the world."""

    @property
    def faces(self) -> np.ndarray:
        return self.model["f"].astype(int)

    def in_camera(self, view: View) -> np.ndarray:
        """Vertices in OpenCV camera coordinates."""
        return self.vertices[view.timestep] @ view.w2c[:3, :3].T + view.w2c[:3, 3]

    def in_picture(self, view: View) -> np.ndarray:
        x, y, z = self.in_camera(view).T
        fl_x, fl_y, cx, cy = view.intrinsics
        return np.stack([fl_x * x / z + cx, fl_y * y / z + cy], axis=1)

    def neutral(self, jaw: float) -> np.ndarray:
        pose = np.zeros((1, 5, 3))
        pose[0, 2, 0] = jaw
        return flame_forward(self.model, self.shape, np.zeros((1, 1)), pose, np.zeros(3))[0]


def make_truth(
    kind: str, count: int = 5, *, size: tuple[int, int] = SIZE, shapes: int = 20, offset: np.ndarray | None = None,
    seed: int = 0, model: dict[str, np.ndarray] | None = None,
) -> Truth:  # fmt: skip
    """A short recording.

    Args:
        kind: still (the head stands still and the camera moves), turning (the camera looks along -z of the world and
            the head turns by root and neck), moving (a still camera from in front, a head with translation), rig (the
            same before three cameras).
        offset: [V, 3] the person's own vertex offsets.
        model: in place of the one of FLAME's size.
    """
    random = np.random.default_rng(seed)
    model = make_flame_like() if model is None else model
    if offset is not None:
        model = model | {"v_template": model["v_template"] + offset}
    phase = np.arange(count) / count
    expr = random.normal(0, 0.5, (count, 30))
    pose = np.zeros((count, 5, 3))
    pose[:, 2, 0] = 0.05 + 0.2 * phase
    pose[:, 3:, :2] = random.normal(0, 0.1, (count, 2, 2))
    translation = np.zeros((count, 3))
    if kind != "still":
        pose[:, 0] = np.stack([0.1 * np.sin(9 * phase), 0.35 * np.sin(6 * phase) + 0.1, 0.05 * phase], axis=1)
        pose[:, 1] = np.stack([0.15 * np.cos(5 * phase), 0.25 * np.sin(7 * phase), 0.08 * np.sin(4 * phase)], axis=1)
    if kind in ("moving", "rig"):
        translation = np.array([0.03, -0.02, 0.05]) + random.normal(0, 0.01, (count, 3))
    shape = random.normal(0, 0.6, shapes)
    vertices = flame_forward(model, shape, expr, pose, translation)
    views = []
    for t in range(count):
        if kind == "still":
            swing = Rotation.from_euler("yx", [0.5 * math.sin(6 * phase[t]) + 0.1, 0.15 * math.cos(5 * phase[t])])
            views.append(View(t, _looking(swing.as_matrix(), vertices.mean(axis=(0, 1)), 0.55)))
        elif kind == "rig":
            for camera, yaw in enumerate((-0.4, 0.05, 0.5)):
                turned = Rotation.from_euler("yx", [yaw, 0.1 * camera]).as_matrix()
                shifted = tuple(np.array(INTRINSICS) + np.array([6.0, 4.0, 2.0, -3.0]) * camera)
                views.append(View(t, _looking(turned, vertices.mean(axis=(0, 1)), 0.6), shifted, camera))
        else:
            w2c = np.eye(4)
            w2c[:3, 3] = -vertices.mean(axis=(0, 1)) + [0.01, 0.005, -0.58]
            views.append(View(t, FLIP @ w2c))
    return Truth(model, shape, expr, pose, translation, tuple(views), size, vertices)


def _looking(turned: np.ndarray, at: np.ndarray, distance: float) -> np.ndarray:
    """World-to-camera of a camera before the face, seen as turned by a rotation."""
    w2c = np.eye(4)
    w2c[:3, :3] = FLIP[:3, :3] @ turned
    w2c[:3, 3] = [0.015, 0.01, distance] - w2c[:3, :3] @ at
    return w2c


def silhouette(truth: Truth, view: View) -> np.ndarray:
    """Coverage [H, W] as bytes, by ray casting."""
    fine, (width, height) = 3, truth.size
    x, y = np.meshgrid((np.arange(width * fine) + 0.5) / fine, (np.arange(height * fine) + 0.5) / fine)
    fl_x, fl_y, cx, cy = view.intrinsics
    directions = np.stack([(x - cx) / fl_x, (y - cy) / fl_y, np.ones_like(x)], axis=-1)
    hit = MeshRays(truth.in_camera(view), truth.faces).occluded(np.zeros(3), directions).astype(float)
    return np.rint(255 * hit.reshape(height, fine, width, fine).mean(axis=(1, 3))).astype(np.uint8)


def picture(matte: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3]: a skin-coloured silhouette before a green wall."""
    share = matte[..., None] / 255.0
    return np.rint(share * np.array([200, 150, 130]) + (1 - share) * BACKDROP).astype(np.uint8)


def nha_truth(tracked: tuple[int, int] = SIZE, count: int = 5, model: dict[str, np.ndarray] | None = None) -> Truth:
    """One focal length for both axes when it was tracked."""
    truth = make_truth("moving", count, model=model)
    fl_x, _, cx, cy = INTRINSICS
    fl_y = fl_x * tracked[0] / truth.size[0] * truth.size[1] / tracked[1]
    return replace(truth, views=tuple(replace(view, intrinsics=(fl_x, fl_y, cx, cy)) for view in truth.views))


def deca_truth(count: int = 5, focal: float = 160.0, model: dict[str, np.ndarray] | None = None) -> Truth:
    """A head before a camera whose centre is the picture's, turned by FLAME's root only, at a distance of its own in
    each picture."""
    truth = make_truth("turning", count, model=model)
    random = np.random.default_rng(5)
    pose = truth.pose.copy()
    pose[:, 1] = pose[:, 3:] = 0
    vertices = flame_forward(truth.model, truth.shape, truth.expr, pose, np.zeros(3))
    views = []
    for t in range(count):
        w2c = FLIP.copy()
        w2c[:3, 3] = random.normal([0.01, 0.0, 0.6], [0.02, 0.02, 0.04])
        views.append(View(t, w2c, (focal, focal, truth.size[0] / 2, truth.size[1] / 2)))
    return replace(truth, pose=pose, vertices=vertices, views=tuple(views))
