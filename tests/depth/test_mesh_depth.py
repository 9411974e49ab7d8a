"""Depth of a posed mesh: the kernel against rays, against PyTorch3D, and against a surface that is known."""

import numpy as np
import pytest
import torch
from depth_oracles import by_rays, ellipsoid_depth
from synthetic import DISTANCE, ellipsoid, look_at_origin

from data_tools.depth import mesh
from data_tools.depth.mesh import MeshDepth, rasterise_compiled, rasterise_pytorch3d


def assert_alike(ours: MeshDepth, theirs: MeshDepth, depth: float = 1e-5):
    """But for pixels on a triangle's edge, where rounding decides."""
    both = (ours.face >= 0) & (theirs.face >= 0)
    assert ((ours.face >= 0) != (theirs.face >= 0)).mean() < 1e-3
    assert (ours.face != theirs.face)[both].mean() < 2e-3
    same = both & (ours.face == theirs.face)
    np.testing.assert_allclose(ours.depth[same], theirs.depth[same], rtol=depth)
    assert np.isnan(ours.depth[ours.face < 0]).all()


@pytest.mark.parametrize("distance", [0.4, 0.02])
def test_the_kernel_sees_what_rays_see(distance):
    """Of an open mesh from outside, where its far wall shows through the gap, and of one all around the camera, part of
    which is behind it."""
    vertices, faces = ellipsoid()
    faces = faces[np.random.default_rng(0).random(len(faces)) < 0.8]
    c2w = look_at_origin(0.7, -0.3)
    c2w[:3, 3] *= distance / np.linalg.norm(c2w[:3, 3])
    arguments = vertices.astype(np.float32), faces, c2w, (70.0, 80.0, 33.0, 20.0), (64, 48)
    seen = rasterise_compiled(*arguments)
    assert 0.1 < (seen.face >= 0).mean() < 0.95
    assert_alike(seen, by_rays(*arguments))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_sees_what_rays_see_of_any_triangles(seed):
    """Large and small, through one another, through the camera's plane, without area, and out of the picture."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(60, 1, 3)) * (0.5, 0.5, 0.8) - (0, 0, 0.6)
    corners = middle + random.normal(size=(60, 3, 3)) * random.uniform(0.02, 0.5, (60, 1, 1))
    corners[:3, 2] = corners[:3, 1]
    arguments = corners.reshape(-1, 3), np.arange(180).reshape(60, 3), np.eye(4), (50.0, 45.0, 40.0, 22.0), (70, 50)
    seen = rasterise_compiled(*arguments)
    assert (corners[..., 2] > 0).any(axis=1).sum() > 5 and (seen.face >= 0).mean() > 0.2
    assert not np.isin(seen.face, [0, 1, 2]).any()
    assert_alike(seen, by_rays(*arguments), 1e-4)


def test_nothing_is_seen_of_corners_that_are_no_numbers_or_all_behind():
    vertices = np.array([[0, 0, -1], [1, 0, -1], [0, 1, -1.0]])
    for wrong in (np.nan, np.inf):
        spoilt = np.where(np.eye(3, dtype=bool), wrong, vertices)
        for one in (spoilt, -vertices):
            seen = rasterise_compiled(one, np.array([[0, 1, 2]]), np.eye(4), (9.0, 9.0, 4.0, 4.0), (8, 8))
            assert (seen.face == -1).all()


@pytest.mark.parametrize("size", [(80, 80), (110, 70), (60, 90)])
def test_mesh_depth_is_the_ellipsoids(size):
    vertices, faces = ellipsoid(rings=96, sectors=128)
    c2w = look_at_origin(0.7, -0.3)
    intrinsics = (130.0, 120.0, size[0] / 2 + 3, size[1] / 2 - 5)
    seen = rasterise_compiled(vertices, faces, c2w, intrinsics, size)
    want = ellipsoid_depth(c2w, intrinsics, size)
    assert seen.depth.shape == want.shape == size[::-1]
    assert ((seen.face >= 0) == np.isfinite(seen.depth)).all()
    # The facetted silhouette lies a little inside the smooth one.
    assert (np.isfinite(seen.depth) != np.isfinite(want)).mean() < 0.01
    assert np.nanmax(np.abs(seen.depth - want)) < 0.004 and np.nanmedian(np.abs(seen.depth - want)) < 1e-4
    assert DISTANCE - 0.11 < np.nanmin(seen.depth) < DISTANCE - 0.07


@pytest.mark.parametrize("size", [(48, 48), (60, 40)])
def test_pytorch3d_sees_what_the_kernel_sees(size):
    pytest.importorskip("pytorch3d")
    vertices, faces = ellipsoid()
    arguments = (vertices, faces, look_at_origin(0.5, 0.2), (90.0, 95.0, size[0] / 2 - 4, size[1] / 2 + 2), size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ours, theirs = rasterise_compiled(*arguments), rasterise_pytorch3d(*arguments, device)
    both = np.isfinite(ours.depth) & np.isfinite(theirs.depth)
    assert (np.isfinite(ours.depth) != np.isfinite(theirs.depth)).mean() < 0.005
    assert np.abs(ours.depth - theirs.depth)[both].max() < 1e-4 and (ours.face == theirs.face)[both].mean() > 0.98


def test_rasteriser_is_chosen_without_cuda(monkeypatch):
    vertices, faces = ellipsoid()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(mesh, "rasterise_pytorch3d", lambda *arguments: pytest.fail("no CUDA here"))
    assert np.isfinite(
        mesh.rasterise(vertices, faces, look_at_origin(0, 0), (60.0, 60.0, 20, 20), (40, 40)).depth
    ).any()
