"""Charts of a mesh: nothing is lost, nothing overlaps, texels are where they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from flame_nerf.avatar.export.atlas import Atlas, region_scales, unwrap

pytest.importorskip("xatlas", reason="textures need the extra 'export'")


def ball(points: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh of 10 cm, wound outwards."""
    directions = np.random.default_rng(seed).normal(size=(points, 3))
    vertices = 0.1 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    triangles = ConvexHull(vertices).simplices
    corners = vertices[triangles]
    inward = np.linalg.det(corners) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    return vertices, triangles


@pytest.fixture(scope="module")
def laid_out() -> tuple[np.ndarray, np.ndarray, Atlas]:
    vertices, triangles = ball()
    return vertices, triangles, unwrap(vertices, triangles, size=256)


def test_texels_are_where_their_weights_say(laid_out):
    _, _, atlas = laid_out
    rows, columns = np.nonzero(atlas.covered)
    corners = atlas.uv[atlas.triangles[atlas.texel_triangle[rows, columns]]]
    at = (corners * atlas.texel_barycentric[rows, columns][..., None]).sum(1) * atlas.size
    np.testing.assert_allclose(at, np.stack([columns, rows], axis=1) + 0.5, atol=1e-2)


def test_charts_do_not_overlap(laid_out):
    _, _, atlas = laid_out
    a, b, c = (atlas.uv[atlas.triangles[:, k]].astype(float) for k in range(3))
    areas = 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert areas.sum() == pytest.approx(atlas.covered.mean(), rel=0.01)
    assert areas.sum() > 0.3


def test_texels_carry_points_of_the_surface(laid_out):
    vertices, triangles, atlas = laid_out
    points = atlas.at_texels(vertices, triangles)
    flat = vertices[triangles[atlas.texel_triangle[atlas.covered]]]
    normal = np.cross(flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    assert np.abs(((points - flat[:, 0]) * normal).sum(1)).max() < 1e-6


def test_a_region_that_counts_twice_is_twice_as_long():
    vertices, triangles = ball()
    front = vertices[triangles].mean(1)[:, 2] > 0
    atlas = unwrap(vertices, triangles, np.where(front, 2.0, 1.0), 512)
    texels = np.bincount(atlas.texel_triangle[atlas.covered], minlength=len(triangles))
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    density = texels[front].sum() / area[front].sum(), texels[~front].sum() / area[~front].sum()
    assert density[0] / density[1] == pytest.approx(4.0, rel=0.25)


def test_gutters_repeat_the_nearest_texel(laid_out):
    _, _, atlas = laid_out
    count = int(atlas.covered.sum())
    picture = atlas.picture(np.arange(1.0, count + 1))
    np.testing.assert_array_equal(picture[atlas.covered], np.arange(1.0, count + 1))
    assert picture.min() >= 1.0


def test_what_is_not_known_takes_its_neighbour(laid_out):
    _, _, atlas = laid_out
    count = int(atlas.covered.sum())
    known = np.zeros(count, bool)
    known[count // 2] = True
    assert set(np.unique(atlas.picture(np.arange(count), known))) == {count // 2}
    assert not atlas.picture(np.ones((count, 3)), np.zeros(count, bool)).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), flat=st.integers(0, 5), spare=st.integers(0, 3), scaled=st.booleans())
def test_every_triangle_keeps_its_corners(seed, flat, spare, scaled):
    rng = np.random.default_rng(seed)
    vertices, triangles = ball(int(rng.integers(5, 30)), seed)
    # Triangles without an area, of one vertex or of three on a line, and vertices that nothing uses.
    thin = rng.integers(0, len(vertices), (flat, 1)).repeat(3, axis=1)
    triangles = np.concatenate([triangles, thin, triangles[:1, [0, 1, 1]]])
    vertices = np.concatenate([vertices, rng.normal(size=(spare, 3))])
    scales = rng.choice([0.3, 1.0, 1.8], len(triangles)) if scaled else None
    atlas = unwrap(vertices, triangles, scales, 64)
    np.testing.assert_array_equal(atlas.source[atlas.triangles], triangles)
    assert np.isfinite(atlas.uv).all() and atlas.uv.min() >= 0 and atlas.uv.max() <= 1


def test_a_mesh_without_area_is_refused():
    with pytest.raises(ValueError, match="area"):
        unwrap(np.zeros((3, 3)), np.array([[0, 1, 2]]))


def test_scales_of_regions():
    assert region_scales(np.array([0, 1, 0]), ("sockets", "nose_horn")).tolist() == [0.3, 1.0, 0.3]
