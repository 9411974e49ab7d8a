"""A small made-up head for the tracker's tests: an egg with a face's worth of points, random smooth bases."""

from __future__ import annotations

import numpy as np
import torch

from flame_nerf.heads import HeadModel, LandmarkEmbedding

EXPRESSIONS = ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp", "eyeBlinkLeft", "eyeLookUpLeft")


def egg_head(shape_count: int = 6, seed: int = 0) -> HeadModel:
    """An egg 24 cm high on a neck that ends in a ring, with two eyes and 200 landmarks on its front."""
    random = np.random.default_rng(seed)
    rings, around = 25, 36
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    height = np.linspace(-0.22, 0.119, rings)
    radius = np.where(height > -0.1, 0.085 * np.sqrt(np.clip(1 - (height / 0.12) ** 2, 0.05, 1)), 0.05)
    ring = np.stack([np.sin(angle), np.zeros(around), np.cos(angle)], axis=1)
    shell = (ring[None] * radius[:, None, None] + height[:, None, None] * np.array([0, 1.0, 0])).reshape(-1, 3)
    a = np.arange(rings - 1)[:, None] * around + np.arange(around)[None]
    b = np.arange(rings - 1)[:, None] * around + (np.arange(around)[None] + 1) % around
    faces = np.concatenate(
        [np.stack([a, b, a + around], -1).reshape(-1, 3), np.stack([b, b + around, a + around], -1).reshape(-1, 3)]
    )
    # A nose: without it the egg's turn about its axis is hardly seen.
    nose = np.exp(-((shell[:, 0] ** 2 + shell[:, 1] ** 2) / 0.02**2)) * (shell[:, 2] > 0)
    shell[:, 2] += 0.03 * nose
    eyes, eye_faces, eye_centres = [], [], np.array([[0.032, 0.03, 0.065], [-0.032, 0.03, 0.065]])
    for centre in eye_centres:
        disc = np.array([[0, 0, 0.013], [0.006, 0, 0.012], [0, 0.006, 0.012], [-0.006, 0, 0.012], [0, -0.006, 0.012]])
        eye_faces.append(np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]]) + len(shell) + 5 * len(eyes))
        eyes.append(centre + disc)
    template = np.concatenate([shell, *eyes])
    faces = np.concatenate([faces, *eye_faces])
    eye_of = np.concatenate([np.full(len(shell), -1), np.repeat([0, 1], 5)])

    def bumps(count: int, size: float) -> np.ndarray:
        centre = template[random.integers(0, len(shell), (count, 4))]
        push = random.normal(0, size, (count, 4, 3))
        reach = np.exp(-(((template[None, None] - centre[:, :, None]) / 0.06) ** 2).sum(-1))
        return np.einsum("kbv,kbc->vck", reach, push)

    shapes, expressions = bumps(shape_count, 0.003), bumps(len(EXPRESSIONS), 0.008)
    shapes[eye_of >= 0] = expressions[eye_of >= 0] = 0.0
    joints = np.array([[0, -0.25, 0], [0, -0.15, -0.01], [0, -0.08, 0], [0, -0.03, 0.02], *eye_centres])
    skin = np.zeros((len(template), 6))
    share = np.clip((template[:, 1] + 0.16) / 0.06, 0, 1)
    below = np.clip((-0.14 - template[:, 1]) / 0.04, 0, 1)
    skin[:, 0], skin[:, 1], skin[:, 2] = (1 - share) * below, (1 - share) * (1 - below), share
    for eye in (0, 1):
        skin[eye_of == eye] = np.eye(6)[4 + eye]
    front = np.flatnonzero(shell[faces[: 2 * (rings - 1) * around, 0]][:, 2] > 0.02)
    front = front[np.abs(template[faces[front, 0]][:, 1]) < 0.1]
    chosen = np.concatenate([random.choice(front, 190, replace=False), np.arange(len(faces) - 8, len(faces))])
    blend = random.dirichlet([1, 1, 1], len(chosen))
    tensor = lambda array: torch.as_tensor(array, dtype=torch.float32)  # noqa: E731
    return HeadModel(
        name="egg",
        template=tensor(template),
        faces=torch.as_tensor(faces),
        shapedirs=tensor(shapes),
        exprdirs=tensor(expressions),
        expression_names=EXPRESSIONS,
        joint_template=tensor(joints),
        joint_shapedirs=torch.zeros(6, 3, shape_count),
        joint_names=("root", "neck", "head", "jaw", "left_eye", "right_eye"),
        parents=(-1, 0, 1, 2, 2, 2),
        skinning_weights=tensor(skin),
        posedirs=None,
        region=torch.as_tensor(np.where(eye_of[faces[:, 0]] >= 0, 1, 0)),
        region_names=("skin", "eyes"),
        landmarks=LandmarkEmbedding(
            index=torch.arange(len(chosen)),
            face=torch.as_tensor(chosen),
            barycentric=tensor(blend),
            weight=torch.ones(len(chosen)),
        ),
        licence="none",
        provenance="made up for tests",
    )
