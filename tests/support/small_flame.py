"""A model of FLAME's structure with as few vertices as a ball has: for what is run a hundred thousand times."""

from __future__ import annotations

import numpy as np
from flame_like import EXPRESSIONS, JOINTS, PARENTS, SHAPES
from scipy.spatial import ConvexHull

VERTICES = 42


def make_small_flame(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as of `flame_like.make_flame_like`, and the faces' `region`: a ball as large as a head, all of skin."""
    random = np.random.default_rng(seed)
    height = 1 - 2 * (np.arange(VERTICES) + 0.5) / VERTICES
    turn = np.pi * (1 + 5**0.5) * np.arange(VERTICES)
    around = np.sqrt(1 - height**2)
    ball = np.stack([around * np.sin(turn), height, around * np.cos(turn)], axis=1)
    faces = ConvexHull(ball).simplices
    corner = ball[faces]
    inward = np.einsum("fi,fi->f", np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), corner[:, 0]) < 0
    faces[inward] = faces[inward, ::-1]
    weights, joints = random.random((VERTICES, len(JOINTS))), random.random((len(JOINTS), VERTICES))
    return {
        "v_template": ball * [0.08, 0.12, 0.1],
        "f": faces.astype(np.uint32),
        "shapedirs": random.normal(0, 3e-4, (VERTICES, 3, SHAPES + EXPRESSIONS)),
        "posedirs": random.normal(0, 1e-3, (VERTICES, 3, 9 * (len(JOINTS) - 1))),
        "J_regressor": joints / joints.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([np.array(PARENTS).astype(np.uint32), range(len(JOINTS))], dtype=np.uint32),
        "parents": np.array(PARENTS),
        "region": np.zeros(len(faces), dtype=np.int64),
    }
