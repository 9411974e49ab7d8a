"""Neighbourhoods of faces, and the face nearest to a point."""

from __future__ import annotations

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from canonical_cases import BACKENDS, as_tensor, head_and_pose, make, near_surface, one_mesh
from hypothesis import given, settings
from hypothesis import strategies as st

from flame_nerf.canonical.neighbourhood import face_neighbours


@pytest.fixture(scope="module")
def head():
    return head_and_pose()


@pytest.mark.parametrize("kind", ["face", "edge", "vertex"])
def test_neighbourhoods_against_shared_vertices(kind):
    _, faces = oracle.icosphere(3)
    faces = np.concatenate((faces, [[0, 1, 500], [500, 501, 502]]))
    table = face_neighbours(torch.from_numpy(faces), kind).numpy()
    for face, row in enumerate(table):
        assert row[0] == face
        assert sorted(row[row >= 0]) == sorted(oracle.ring(faces, face, kind))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("spread", [0.0, 0.004, 0.05, 0.5])
def test_nearest_face_of_a_head(head, backend, spread):
    canonical, posed, faces = head
    mapping = make(canonical, faces, backend=backend)
    points = near_surface(np.random.default_rng(1), posed, faces, 300, spread)
    found = mapping.to_canonical([mapping.pose(as_tensor(posed))], one_mesh(points), torch.from_numpy(points))
    away = oracle.distances(points.astype(float), posed.astype(float), faces)
    np.testing.assert_allclose(found.distance, away.min(axis=1), atol=3e-7)
    np.testing.assert_allclose(away[np.arange(len(points)), found.face], away.min(axis=1), atol=5e-7, rtol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), log_size=st.floats(-3, 1), flat=st.booleans(), count=st.integers(1, 60))
def test_nearest_face_of_triangle_soup(backend, seed, log_size, flat, count):
    """Wild input: unconnected triangles of any size, crossing each other, some of them without area."""
    rng = np.random.default_rng(seed)
    size = 10**log_size
    soup = rng.normal(size=(count, 1, 3)) + size * rng.normal(size=(count, 3, 3))
    if flat:
        soup[..., 2] = 0
    dead = rng.random(count) < 0.2
    dead[0] = False
    soup[dead, 2] = soup[dead, 1]
    vertices = soup.reshape(-1, 3).astype(np.float32)
    faces = np.arange(3 * count).reshape(-1, 3)
    mapping = make(vertices, faces, backend=backend)
    points = rng.normal(size=(50, 3)).astype(np.float32) * (1 + size)
    found = mapping.to_canonical([mapping.pose(as_tensor(vertices))], one_mesh(points), torch.from_numpy(points))
    away = oracle.distances(points.astype(float), vertices.astype(float), faces)
    tolerance = 3e-6 * (1 + size + np.abs(points).max())
    np.testing.assert_allclose(found.distance, away.min(axis=1), atol=tolerance)
    assert not dead[found.face].any()
