"""Rotations, projection and normals against SciPy and against what they mean, for arrays and tensors alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from flame_nerf.geometry import (
    axis_angle_to_matrix,
    barycentric,
    matrix_from_6d,
    matrix_to_axis_angle,
    mean_rotation,
    perspective,
    polar_rotation,
    project,
    rotation_between,
    vertex_normals,
    world_to_camera,
)

ANGLES = [0.0, 1e-12, 1e-9, 5e-7, 2e-6, 5e-4, 1e-3, 0.5, 2.0, 3.0, np.pi - 1e-3, np.pi - 1e-7, np.pi - 1e-10]
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.5


def vectors_of(length: float, count: int = 100) -> np.ndarray:
    vectors = np.random.default_rng(2).normal(size=(count, 3))
    # Turns about the axes themselves too, where entries vanish.
    vectors = np.concatenate([vectors, np.eye(3), -np.eye(3)])
    return vectors * (length / np.linalg.norm(vectors, axis=1, keepdims=True))


def orbit_pose() -> np.ndarray:
    c2w = np.eye(4)[:3]
    c2w[:, :3] = Rotation.from_euler("yxz", [25.0, -10.0, 4.0], degrees=True).as_matrix()
    c2w[:, 3] = c2w[:, 2] * 1.5
    return c2w


@pytest.mark.parametrize("length", [*ANGLES, np.pi, 5.0, 7.0])
def test_axis_angles_become_matrices(length):
    vectors = vectors_of(length)
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(axis_angle_to_matrix(vectors), expected, atol=1e-13)
    single = axis_angle_to_matrix(torch.from_numpy(vectors).float())
    assert single.dtype is torch.float32
    np.testing.assert_allclose(single.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("length", ANGLES)
def test_matrices_become_axis_angles(length):
    vectors = vectors_of(length)
    matrices = Rotation.from_rotvec(vectors).as_matrix()
    found = matrix_to_axis_angle(matrices)
    np.testing.assert_allclose(found, Rotation.from_matrix(matrices).as_rotvec(), atol=1e-9)
    if length > np.pi - 1e-6:
        # So near a half turn rounding decides between the two ends of the axis.
        found = found * np.sign((found * vectors).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, vectors, atol=1e-9)
    single = matrix_to_axis_angle(torch.from_numpy(matrices).float()).numpy()
    np.testing.assert_allclose(axis_angle_to_matrix(single), matrices, atol=3e-6)


def test_a_half_turn_is_about_one_of_its_two_axes():
    matrices = Rotation.from_rotvec(vectors_of(np.pi)).as_matrix()
    found = matrix_to_axis_angle(matrices)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.pi, atol=1e-9)
    np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), matrices, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3), (2, 0, 3)])
def test_batches_of_every_shape(shape):
    vectors = np.random.default_rng(0).normal(size=(*shape, 3))
    matrices = axis_angle_to_matrix(vectors)
    assert matrices.shape == (*shape, 3, 3)
    np.testing.assert_allclose(matrix_to_axis_angle(matrices), vectors, atol=1e-12)
    assert rotation_between(vectors, vectors).shape == (*shape, 3, 3)
    assert polar_rotation(matrices).shape == (*shape, 3, 3)


def test_arrays_of_any_strides_and_rights():
    vectors = vectors_of(1.0)[::-2, ::-1]
    expected = Rotation.from_rotvec(vectors.copy()).as_matrix()
    vectors.flags.writeable = False
    matrices = axis_angle_to_matrix(vectors)
    np.testing.assert_allclose(matrices, expected, atol=1e-13)
    np.testing.assert_allclose(matrix_to_axis_angle(np.swapaxes(matrices, 1, 2)), -vectors, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.3, 3.0])
def test_slopes_are_those_of_the_matrix_exponential(size):
    vector = torch.tensor([[0.6, -0.48, 0.64]], dtype=torch.float64) * size
    crosses = torch.from_numpy(np.stack([np.cross(np.eye(3), unit).T for unit in np.eye(3)])).transpose(1, 2)
    found = torch.autograd.functional.jacobian(axis_angle_to_matrix, vector)
    wanted = torch.autograd.functional.jacobian(
        lambda v: torch.linalg.matrix_exp(torch.einsum("nk,kij->nij", v, crosses)), vector
    )
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.3, 3.0, 3.1])
def test_there_and_back_is_the_identity_in_slopes_too(size):
    vector = torch.tensor([0.6, -0.48, 0.64], dtype=torch.float64) * size
    found = torch.autograd.functional.jacobian(lambda v: matrix_to_axis_angle(axis_angle_to_matrix(v)), vector)
    torch.testing.assert_close(found, torch.eye(3, dtype=torch.float64), atol=1e-5, rtol=0)


def test_six_numbers_become_a_rotation():
    matrices = Rotation.random(50, random_state=0).as_matrix()
    scale = np.random.default_rng(0).uniform(0.1, 5.0, (50, 2, 1))
    rows = matrices[:, :2] * scale
    rows[:, 1] += 3.0 * rows[:, 0]
    np.testing.assert_allclose(matrix_from_6d(rows), matrices, atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.1, np.pi - 1e-7, np.pi])
def test_the_rotation_between_two_vectors_is_the_shortest(angle):
    start = vectors_of(1.0)
    across = np.cross(start, np.roll(start, 1, axis=0))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    end = Rotation.from_rotvec(across * angle).apply(start)
    for found in (rotation_between(start, end), rotation_between(*map(torch.from_numpy, (start, end))).numpy()):
        np.testing.assert_allclose((found @ start[..., None])[..., 0], end, atol=1e-9)
        np.testing.assert_allclose(Rotation.from_matrix(found).magnitude(), angle, atol=1e-7)


def test_the_polar_rotation_is_the_nearest_and_proper():
    random = np.random.default_rng(0)
    matrices = random.normal(size=(40, 3, 3))
    assert (np.linalg.det(matrices) < 0).any()
    found = polar_rotation(matrices)
    np.testing.assert_allclose(found @ np.swapaxes(found, 1, 2), np.tile(np.eye(3), (40, 1, 1)), atol=1e-12)
    assert (np.linalg.det(found) > 0).all()
    others = Rotation.random(300, random_state=0).as_matrix()
    nearest = np.linalg.norm(found - matrices, axis=(1, 2))
    assert (np.linalg.norm(others[:, None] - matrices, axis=(2, 3)) >= nearest).all()
    np.testing.assert_allclose(polar_rotation(torch.from_numpy(matrices)).numpy(), found, atol=1e-12)


def test_the_mean_of_rotations_is_scipy_s():
    rotations = Rotation.from_rotvec(vectors_of(0.8))
    np.testing.assert_allclose(mean_rotation(rotations.as_matrix()), rotations.mean().as_matrix(), atol=1e-12)


def test_points_are_seen_where_a_pinhole_camera_sees_them():
    c2w, intrinsics = orbit_pose(), (800.0, 700.0, 300.0, 260.0)
    matrix = np.array([[800.0, 0, 300.0], [0, 700.0, 260.0], [0, 0, 1]])
    w2c = np.diag([1, -1, -1, 1]) @ np.linalg.inv(np.vstack([c2w, [0, 0, 0, 1]]))
    camera = CUBE @ w2c[:3, :3].T + w2c[:3, 3]
    expected = (camera @ matrix.T)[:, :2] / camera[:, 2:]
    np.testing.assert_allclose(world_to_camera(CUBE, c2w), camera, atol=1e-12)
    np.testing.assert_allclose(project(CUBE, c2w, intrinsics), expected, atol=1e-9)
    np.testing.assert_allclose(project(CUBE.reshape(2, 4, 3), c2w, intrinsics), expected.reshape(2, 4, 2), atol=1e-9)
    tensors = world_to_camera(torch.from_numpy(CUBE), torch.from_numpy(c2w))
    np.testing.assert_allclose(perspective(tensors, intrinsics[:2], intrinsics[2:]).numpy(), expected, atol=1e-9)
    centre = torch.tensor([300.0, 260.0], dtype=torch.float64)
    np.testing.assert_allclose(perspective(tensors, 800.0, centre).numpy()[:, 0], expected[:, 0], atol=1e-9)


def test_points_behind_the_camera_are_seen_nowhere():
    c2w = orbit_pose()
    points = np.stack([c2w[:, 3] + c2w[:, 2], c2w[:, 3], c2w[:, 3] - c2w[:, 2]])
    pixels = project(points, c2w, (800.0, 700.0, 300.0, 260.0))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [300.0, 260.0])


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_normals_of_a_ball_point_outwards(kind):
    from trimesh.creation import icosphere

    ball = icosphere(subdivisions=2)
    lonely = np.concatenate([ball.vertices, [[0.0, 0.0, 0.0]]])
    faces = np.asarray(ball.faces, dtype=np.int32)
    if kind == "array":
        found = vertex_normals(lonely, faces)
    else:
        found = vertex_normals(torch.from_numpy(lonely), torch.from_numpy(faces).long()).numpy()
    np.testing.assert_allclose(found[:-1], ball.vertices, atol=0.03)
    np.testing.assert_array_equal(found[-1], 0.0)


def test_barycentric_weights_give_back_a_place_and_stay_on_the_triangle():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 3, 3, generator=generator)
    weights = torch.rand(200, 3, generator=generator) + 0.05
    weights /= weights.sum(dim=1, keepdim=True)
    place = (weights[:, :, None] * corners).sum(dim=1)
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # A place off the plane has its foot's.
    assert torch.allclose(barycentric(corners, place + 0.3 * normal), weights, atol=2e-3)
    beyond = barycentric(corners, place + 3 * (corners[:, 0] - corners[:, 1]))
    assert (beyond >= 0).all() and torch.allclose(beyond.sum(dim=1), torch.ones(200), atol=1e-5)
