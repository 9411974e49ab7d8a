"""A head, points and rays about it, and its mapping: what tests of `flame_nerf.canonical` share."""

from __future__ import annotations

import canonical_oracle as oracle
import numpy as np
import torch

from flame_nerf.canonical import CanonicalMapping, MappingConfig

BACKENDS = ["numba", "warp"]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def make(vertices: np.ndarray, faces: np.ndarray, **config) -> CanonicalMapping:
    return CanonicalMapping(torch.from_numpy(faces), as_tensor(vertices), MappingConfig(**config))


def head_and_pose() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices of a head at rest and with its jaw dropped, and its faces."""
    vertices, faces = oracle.head_like(6)
    # Round as the code will see them, so that oracle and code speak of the same mesh.
    return vertices.astype(np.float32), oracle.deformed(vertices, 0).astype(np.float32), faces


def head_in_shell() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same, and the thickness of each face's shell in metres: the scalp's is that of hair."""
    rest, posed, faces = head_and_pose()
    scalp = rest[faces].mean(axis=1)[:, 1] > 0.03
    return rest, posed, faces, np.where(scalp, 0.045, 0.01)


def one_mesh(points: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(points), dtype=torch.int64)


def near_surface(rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, count: int, spread: float):
    centres = vertices[faces].mean(axis=1)
    return (centres[rng.integers(len(faces), size=count)] + rng.normal(size=(count, 3)) * spread).astype(np.float32)


def camera_rays(rng: np.random.Generator, count: int, distance: float, spread: float = 0.12):
    """Rays from around the head towards points near it: hits, grazes and misses."""
    eye = rng.normal(size=(count, 3))
    eye *= distance / np.linalg.norm(eye, axis=1, keepdims=True)
    along = rng.normal(size=(count, 3)) * spread / 2 - eye
    return as_tensor(eye), as_tensor(along / np.linalg.norm(along, axis=1, keepdims=True))
