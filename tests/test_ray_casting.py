"""Rays and nearest points of a mesh: against Open3D where that loads, and against brute force everywhere."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_thread import one_thread  # noqa: F401
from synthetic import make_subject

from data_tools.open_head.render import camera_around
from data_tools.ray_casting import MeshRays
from flame_nerf.heads import load_head

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def head() -> tuple[np.ndarray, np.ndarray]:
    """The open head with its mouth open, so that rays meet teeth and tongue too."""
    model = load_head()
    rest = torch.zeros(len(model.joint_names), 3)
    vertices = model.vertices(torch.zeros(100), model.expression_vector({"jawOpen": 0.7}), rest)
    return vertices.numpy().astype(np.float32), model.faces.numpy()


def soup(random: np.random.Generator, count: int, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unconnected triangles, a fifth without area (points and lines): vertices, faces, and which have one."""
    triangles = random.normal(size=(count, 1, 3)) + size * random.normal(size=(count, 3, 3))
    kind = random.choice(3, count, p=[0.8, 0.1, 0.1])
    kind[0] = 0
    triangles[kind == 1] = triangles[kind == 1][:, :1]
    triangles[kind == 2, 2] = triangles[kind == 2, 1]
    return triangles.reshape(-1, 3).astype(np.float32), np.arange(3 * count).reshape(-1, 3), kind == 0


def pinhole(size: int, yaw_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Origin, and directions through all pixels [size, size, 3], one metre along the axis long."""
    c2w = camera_around(yaw_deg, 5.0, 0.6)
    at = (np.arange(size) + 0.5 - size / 2) / (1.6 * size)
    x, y = np.meshgrid(at, at)
    return c2w[:3, 3], np.stack([x, -y, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T


def shadow_rays(random: np.random.Generator, vertices: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """From places near the surface to all sides; lengths differ."""
    start = vertices[random.integers(len(vertices), size=count)] + random.normal(scale=0.01, size=(count, 3))
    return start.astype(np.float32), random.normal(size=(count, 3)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- Open3D


def open3d_scene(vertices: np.ndarray, faces: np.ndarray):
    open3d = pytest.importorskip("open3d", exc_type=ImportError)
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(open3d.core.Tensor(vertices), open3d.core.Tensor(faces.astype(np.uint32)))
    return scene, open3d.core.Tensor


def open3d_cast(vertices, faces, origins, directions):
    """Distance, face (-1) and barycentric coordinates."""
    scene, tensor = open3d_scene(vertices, faces)
    rays = np.concatenate([np.broadcast_to(origins, directions.shape), directions], axis=-1).astype(np.float32)
    hit = scene.cast_rays(tensor(rays), nthreads=1)
    distance, uv = hit["t_hit"].numpy(), hit["primitive_uvs"].numpy()
    face = np.where(np.isfinite(distance), hit["primitive_ids"].numpy().astype(np.int64), -1)
    return distance, face, np.concatenate([1 - uv.sum(-1, keepdims=True), uv], axis=-1)


@pytest.mark.parametrize("yaw_deg", [0, 40])
def test_pictures_of_a_head_are_open3ds(head, yaw_deg):
    origin, directions = pinhole(150, yaw_deg)
    found = MeshRays(*head).cast(origin, directions)
    distance, face, barycentric = open3d_cast(*head, origin, directions)
    assert found.face.shape == (150, 150) and found.barycentric.shape == (150, 150, 3)
    assert (np.isfinite(found.distance) == (found.face >= 0)).all() and 0.2 < (face >= 0).mean() < 0.9
    # A ray in the line of an edge may meet either face, or pass the outline.
    same = found.face == face
    assert (~same).sum() <= 5
    seen = same & (face >= 0)
    np.testing.assert_allclose(found.distance[seen], distance[seen], atol=1e-5)
    # Single precision has Open3D off by more where a ray grazes a small triangle.
    assert (np.abs(found.barycentric - barycentric)[seen].max(axis=-1) < 1e-4).mean() > 0.999
    place = np.einsum("nk,nkx->nx", found.barycentric[seen].astype(float), head[0][head[1][face[seen]]])
    ray = origin + found.distance[seen, None] * directions[seen]
    np.testing.assert_allclose(place, ray, atol=2e-7)
    assert (found.barycentric[face < 0] == 0).all()
    np.testing.assert_allclose(found.barycentric[seen].sum(-1), 1, atol=1e-6)


def test_shadows_of_a_head_are_open3ds(head):
    rays = shadow_rays(np.random.default_rng(0), head[0], 20000)
    scene, tensor = open3d_scene(*head)
    blocked = scene.test_occlusions(tensor(np.concatenate(rays, axis=1)), nthreads=1).numpy()
    found = MeshRays(*head).occluded(*rays)
    assert (found != blocked).sum() <= 2 and 0.2 < blocked.mean() < 0.9
    assert (found == (MeshRays(*head).cast(*rays).face >= 0)).all()


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.5])
def test_nearest_places_on_a_head_are_open3ds(head, spread):
    random = np.random.default_rng(1)
    vertices, faces = head
    corners = vertices[faces[random.integers(len(faces), size=2000)]]
    points = np.einsum("nk,nkx->nx", random.dirichlet([1, 1, 1], 2000), corners)
    points = (points + random.normal(scale=spread, size=points.shape)).astype(np.float32)
    scene, tensor = open3d_scene(vertices, faces)
    answer = scene.compute_closest_points(tensor(points), nthreads=1)
    found = MeshRays(vertices, faces).closest(points)
    place = np.einsum("nk,nkx->nx", found.barycentric, vertices[faces[found.face]])
    expected = answer["points"].numpy()
    np.testing.assert_allclose(found.distance, np.linalg.norm(expected - points, axis=1), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(place - points, axis=1), found.distance, atol=1e-6, rtol=1e-6)
    same = found.face == answer["primitive_ids"].numpy()
    uv = answer["primitive_uvs"].numpy()[same]
    # Where places lie on an edge or a corner, its other faces are as near.
    assert same.sum() > 300
    np.testing.assert_allclose(found.barycentric[same][:, 1:], uv, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), log_size=st.floats(-1.5, 0.5), count=st.integers(1, 80))
def test_soups_are_open3ds(seed, log_size, count):
    random = np.random.default_rng(seed)
    vertices, faces, _ = soup(random, count, 10**log_size)
    mesh = MeshRays(vertices, faces)
    origins = random.normal(size=(200, 3), scale=2).astype(np.float32)
    directions = (random.normal(size=(200, 3)) - origins).astype(np.float32)
    found = mesh.cast(origins, directions)
    distance, face, _ = open3d_cast(vertices, faces, origins, directions)
    assert (found.face != face).sum() <= 1
    same = (found.face == face) & (face >= 0)
    np.testing.assert_allclose(found.distance[same], distance[same], atol=1e-5, rtol=1e-4)
    assert (mesh.occluded(origins, directions) == (found.face >= 0)).all()


# -------------------------------------------------------------------------------------------------------- brute force


def moller_trumbore(vertices, faces, origins, directions) -> np.ndarray:
    """Distance of every ray to every triangle [R, F] in double precision; inf where they do not meet."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    e1, e2 = b - a, c - a
    p = np.cross(directions[:, None].astype(np.float64), e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (p * e1).sum(-1)
        s = origins[:, None] - a
        u = (s * p).sum(-1) * inverse
        q = np.cross(s, e1)
        v = (directions[:, None] * q).sum(-1) * inverse
        t = (e2 * q).sum(-1) * inverse
        return np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0), t, np.inf)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), log_size=st.floats(-1.5, 0.5), count=st.integers(1, 60))
def test_soups_against_brute_force(seed, log_size, count):
    random = np.random.default_rng(seed)
    size = 10**log_size
    vertices, faces, alive = soup(random, count, size)
    mesh = MeshRays(vertices, faces)
    # Aimed at points of triangles well inside, so that no ray grazes what it aims at; packets are not full.
    target = random.integers(count, size=101)
    inside = np.einsum("nk,nkx->nx", random.dirichlet([5, 5, 5], 101), vertices[faces[target]])
    origins = random.normal(size=(101, 3), scale=2).astype(np.float32)
    directions = ((inside - origins) * random.uniform(0.1, 3, (101, 1))).astype(np.float32)
    found = mesh.cast(origins, directions)
    every = moller_trumbore(vertices, faces[alive], origins, directions)
    met = found.face >= 0
    assert alive[found.face[met]].all() and met[alive[target]].mean() > 0.98
    first = every.min(axis=1)
    exact = np.isclose(found.distance, first, rtol=1e-4, atol=1e-5) | (np.isinf(first) & ~met)
    # Others pass an edge within rounding, on one side or the other.
    assert (~exact).sum() <= 2
    assert (mesh.occluded(origins, directions) == met).all()
    place = np.einsum("nk,nkx->nx", found.barycentric, vertices[faces[found.face]])[met]
    ray = (origins + found.distance[:, None] * directions)[met]
    np.testing.assert_allclose(place, ray, atol=2e-5 * (1 + size))

    points = random.normal(size=(50, 3), scale=1 + size).astype(np.float32)
    nearest = mesh.closest(points)
    away = oracle.distances(points.astype(float), vertices.astype(float), faces)
    tolerance = 3e-6 * (1 + size + np.abs(points).max())
    np.testing.assert_allclose(nearest.distance, away.min(axis=1), atol=tolerance)
    place = np.einsum("nk,nkx->nx", nearest.barycentric.astype(float), vertices[faces[nearest.face]])
    np.testing.assert_allclose(np.linalg.norm(place - points, axis=1), nearest.distance, atol=tolerance)
    assert nearest.barycentric.min() >= -1e-6 and np.allclose(nearest.barycentric.sum(axis=1), 1, atol=1e-5)


def test_distances_are_in_lengths_of_the_direction(head):
    origin, directions = pinhole(40, 10.0)
    depth = MeshRays(*head).cast(origin, directions)
    length = np.linalg.norm(directions, axis=-1, keepdims=True)
    metres = MeshRays(*head).cast(origin, directions / length)
    np.testing.assert_allclose(depth.distance * length[..., 0], metres.distance, rtol=1e-5)
    # What lies behind the origin is not met.
    shifted = MeshRays(*head).cast(origin + directions, directions)
    assert np.isinf(shifted.distance).all() and np.isfinite(depth.distance).any()


def test_a_posed_mesh_is_the_mesh_built_there(head):
    vertices, faces = head
    rest = MeshRays(vertices, faces)
    moved = oracle.deformed(vertices, 3).astype(np.float32)
    origin, directions = pinhole(60, -20.0)
    before, there, new = rest.cast(origin, directions), rest.posed(moved), MeshRays(moved, faces)
    assert (there.cast(origin, directions).face == new.cast(origin, directions).face).mean() > 0.999
    assert (there.cast(origin, directions).face != before.face).any()
    np.testing.assert_array_equal(rest.cast(origin, directions).distance, before.distance)


def test_threads_change_nothing(head):
    mesh, rays = MeshRays(*head), shadow_rays(np.random.default_rng(2), head[0], 9001)
    alone, blocked = mesh.cast(*rays), mesh.occluded(*rays)
    torch.set_num_threads(3)
    together = mesh.cast(*rays)
    for name in ("distance", "face", "barycentric"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
    np.testing.assert_array_equal(mesh.occluded(*rays), blocked)


def test_nothing_to_meet_and_nobody_to_ask():
    point = np.zeros((1, 3))
    for mesh in (
        MeshRays(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)),
        MeshRays(np.ones((3, 3)), np.array([[0, 1, 2]])),
    ):
        for found in (mesh.cast(point, np.ones((1, 3))), mesh.closest(point)):
            assert (found.distance == np.inf).all() and (found.face == -1).all() and (found.barycentric == 0).all()
        assert not mesh.occluded(point, np.ones((1, 3))).any()
        none = np.zeros((0, 3))
        assert len(mesh.cast(none, none).face) == len(mesh.occluded(none, none)) == len(mesh.closest(none).face) == 0


# ------------------------------------------------------------------------------------------- commands without Open3D


def test_no_shipped_module_imports_open3d():
    for path in [*ROOT.glob("flame_nerf/**/*.py"), *ROOT.glob("data_tools/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "open3d" for name in names), f"{path}:{node.lineno}"


@pytest.fixture(scope="module")
def without_open3d(tmp_path_factory):
    """Run a command where importing open3d fails as it does without its system libraries."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "open3d.py").write_text("raise ImportError('libusb-1.0.so.0: cannot open shared object file')\n")
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def run(*arguments) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "data_tools.cli", *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, cwd=ROOT, timeout=300,
        )  # fmt: skip

    return run


def test_depth_of_the_mesh_without_open3d(without_open3d, tmp_path):
    root = make_subject(tmp_path / "subject", size=32, count=3).root
    done = without_open3d("depth", root, "--prior", "mesh")
    assert done.returncode == 0, done.stderr
    assert len(list((root / "depths").glob("*.png"))) == 3


@pytest.mark.slow
def test_commands_that_cast_rays_without_open3d(without_open3d, tmp_path):
    small = ("--frames", "8", "--size", "32")
    for command in (
        ("synth", tmp_path / "person", *small, "--view-moments", "1", "--novel-frames", "6"),
        ("synth-animal", tmp_path / "fox", *small),
    ):
        done = without_open3d(*command)
        assert done.returncode == 0, done.stderr
