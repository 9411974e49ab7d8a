"""Rotations, projection and normals: the one home of each.

Conventions: a rotation matrix turns column vectors, R x. An axis-angle is the axis times the angle, radians, by the
right-hand rule. A camera-to-world matrix (c2w) has OpenGL's axes (x right, y up, z backward); camera coordinates are
OpenCV's (x right, y down, z forward). Metres, and pixels with 0 at the left and upper edge of the picture.

Functions take NumPy arrays or tensors, give back the same kind and precision, and are differentiable for tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

if TYPE_CHECKING:
    # Reading a subject needs the formulas for arrays alone, and must not wait for torch.
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")
"""A NumPy array or a tensor."""
HALF_TURN_COSINE = -0.99
"""Below it, 8 degrees from a half turn, the axis is read from a rotation's symmetric part: the skew part vanishes."""


def axis_angle_to_matrix(vector: Float[Array, "*B 3"]) -> Float[Array, "*B 3 3"]:
    """Rotation matrices of axis-angles: Rodrigues' formula, R = I + sinc(a) K + sinc(a / 2)^2 K^2 / 2.

    Differentiable everywhere, at zero too. In half the operations of Nerfstudio's exponential map, which took a
    twentieth of a training step on the CPU.
    """
    import torch

    if isinstance(vector, np.ndarray):
        return axis_angle_to_matrix(_tensor(vector)).numpy()
    zero, (x, y, z) = torch.zeros_like(vector[..., 0]), vector.unbind(dim=-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    # Not exactly zero, where the root has no slope.
    angle = (vector.square().sum(dim=-1) + 1e-20).sqrt()[..., None, None] / math.pi
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + torch.sinc(angle) * cross + 0.5 * torch.sinc(0.5 * angle).square() * (cross @ cross)


def matrix_to_axis_angle(rotation: Float[Array, "*B 3 3"]) -> Float[Array, "*B 3"]:
    """Axis-angles of rotation matrices, at most a half turn long; of a half turn either of its two axes.

    Differentiable below a half turn.
    """
    import torch

    if isinstance(rotation, np.ndarray):
        return matrix_to_axis_angle(_tensor(rotation)).numpy()
    skew = 0.5 * (rotation - rotation.transpose(-2, -1))
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    sine = axis.norm(dim=-1, keepdim=True)
    cosine = 0.5 * (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1)
    angle = torch.atan2(sine, cosine)
    found = axis * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), torch.ones_like(sine))
    near_half = cosine < HALF_TURN_COSINE
    # A short cut that is worth asking for on the CPU only: elsewhere the answer would be waited for.
    if near_half.device.type == "cpu" and not bool(near_half.any()):
        return found
    # The symmetric part is cos a I + (1 - cos a) n n^T: its largest column points along the axis n, up to a sign.
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    columns = 0.5 * (rotation + rotation.transpose(-2, -1)) - cosine[..., None] * identity
    largest = columns.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None].expand(*columns.shape[:-1], 1)
    column = torch.nn.functional.normalize(columns.gather(-1, largest)[..., 0], dim=-1)
    sign = torch.where((column * axis).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0).to(rotation.dtype)
    return torch.where(near_half, angle * sign * column, found)


def matrix_from_6d(rows: Float[np.ndarray, "*B 2 3"]) -> Float[np.ndarray, "*B 3 3"]:
    """Rotation matrices from their first two rows, which need be neither of unit length nor orthogonal (Gram-Schmidt;
    Zhou et al. 2019). The rows must not be parallel."""
    first = rows[..., 0, :] / np.linalg.norm(rows[..., 0, :], axis=-1, keepdims=True)
    second = rows[..., 1, :] - (first * rows[..., 1, :]).sum(axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def rotation_between(start: Float[Array, "*B 3"], end: Float[Array, "*B 3"]) -> Float[Array, "*B 3 3"]:
    """Shortest rotations that take unit vectors to unit vectors; opposite ones by a half turn about any axis across."""
    import torch

    if isinstance(start, np.ndarray):
        return rotation_between(_tensor(start), _tensor(end)).numpy()
    axis = torch.linalg.cross(start, end)
    sine, cosine = axis.norm(dim=-1, keepdim=True), (start * end).sum(dim=-1, keepdim=True)
    least = torch.nn.functional.one_hot(start.abs().argmin(dim=-1), 3).to(start.dtype)
    across = torch.linalg.cross(start, least)
    found = sine > 1e-6 if start.dtype is torch.float32 else sine > 1e-12
    # Nearly parallel vectors need no turn; nearly opposite ones any axis across.
    axis = torch.where(found, axis, across * (cosine < 0))
    return axis_angle_to_matrix(torch.nn.functional.normalize(axis, dim=-1, eps=1e-20) * torch.atan2(sine, cosine))


def polar_rotation(matrix: Float[Array, "*B 3 3"]) -> Float[Array, "*B 3 3"]:
    """Proper rotations nearest to matrices by least squares (orthogonal Procrustes, by the SVD)."""
    if isinstance(matrix, np.ndarray):
        u, _, vt = np.linalg.svd(matrix)
        sign = np.stack(np.broadcast_arrays(1.0, 1.0, np.sign(np.linalg.det(u @ vt))), axis=-1)
    else:
        import torch

        u, _, vt = torch.linalg.svd(matrix)
        last = torch.det(u @ vt).sign()
        sign = torch.stack([torch.ones_like(last), torch.ones_like(last), last], dim=-1)
    # Without the sign a flat or mirrored point set could be matched by a reflection.
    return (u * sign[..., None, :]) @ vt


def mean_rotation(rotations: Float[Array, "N 3 3"]) -> Float[Array, "3 3"]:
    """Chordal mean: the rotation nearest to the mean of the matrices."""
    return polar_rotation(rotations.mean(0))


def world_to_camera(points: Float[Array, "*N 3"], c2w: Float[Array, "rows 4"]) -> Float[Array, "*N 3"]:
    """World points in camera coordinates (OpenCV axes), of a rigid camera-to-world matrix (OpenGL axes)."""
    local = (points - c2w[:3, 3]) @ c2w[:3, :3]
    return local * _like(local, (1.0, -1.0, -1.0))


def perspective(
    points: Float[Array, "*N 3"],
    focal: Array | Sequence[float] | float,
    centre: Array | Sequence[float] | float,
) -> Float[Array, "*N 2"]:
    """Pixels of points given in camera coordinates (OpenCV axes), which must lie in front of the camera.

    Args:
        focal, centre: in pixels, one for both axes or (x, y).
    """
    return _like(points, focal) * points[..., :2] / points[..., 2:] + _like(points, centre)


def homogeneous(
    points: Float[np.ndarray, "*N 3"],
    focal: Sequence[float] | float,
    centre: Float[np.ndarray, "2"] | Sequence[float] | float,
) -> Float[np.ndarray, "*N 3"]:
    """Pixels times depth, and depth, of points given in camera coordinates (OpenCV axes), wherever they lie: linear, so
    that a triangle between them is one, too, if it reaches behind the camera.

    Args:
        focal, centre: in pixels, one for both axes or (x, y).
    """
    depth = points[..., 2:]
    return np.concatenate([np.asarray(focal) * points[..., :2] + np.asarray(centre) * depth, depth], axis=-1)


def project(
    points: Float[np.ndarray, "*N 3"],
    c2w: Float[np.ndarray, "rows 4"],
    intrinsics: tuple[float, float, float, float],
) -> Float[np.ndarray, "*N 2"]:
    """Pixels of world points; NaN for those behind the camera.

    Args:
        c2w: camera-to-world, OpenGL axes, rigid.
        intrinsics: fl_x, fl_y, cx, cy in pixels.

    Example:
        >>> project(np.array([0.1, 0.0, 0.0]), np.array(
        ...     [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2.0]]), (400.0, 400.0, 50.0, 50.0))
        array([70., 50.])
    """
    return perspective(in_front(world_to_camera(points, c2w)), intrinsics[:2], intrinsics[2:])


def in_front(points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Points in camera coordinates, those not in front of the camera NaN."""
    return np.where(points[..., 2:] > 1e-9, points, np.nan)


def triangle_normals(corners: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3"]:
    """Unit normals of triangles given by their corners, to the side from which these run counter-clockwise; zero of one
    without area. Differentiable."""
    import torch

    a, b, c = corners.unbind(dim=1)
    return torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)


def vertex_normals(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"]) -> Float[Array, "V 3"]:
    """Unit normals, weighted by the triangles' areas; zero where a vertex has no triangle with an area.

    They point to the side from which a triangle's corners run counter-clockwise.
    """
    import torch

    if isinstance(vertices, np.ndarray):
        return vertex_normals(_tensor(vertices), _tensor(faces).long()).numpy()
    a, b, c = vertices[faces].unbind(dim=1)
    normals = torch.zeros_like(vertices)
    normals.index_add_(0, faces.flatten(), torch.linalg.cross(b - a, c - a).repeat_interleave(3, dim=0))
    return torch.nn.functional.normalize(normals, dim=1)


def _tensor(array: np.ndarray) -> Tensor:
    """A copy as a tensor, whatever strides and rights the array has."""
    import torch

    return torch.from_numpy(np.array(array, order="C"))


def _like(points: Any, values: Any) -> Any:
    """A number as it is; a sequence as an array of the points' kind, so that it meets their last axis."""
    if not isinstance(values, tuple | list):
        return values
    return np.array(values, dtype=points.dtype) if isinstance(points, np.ndarray) else points.new_tensor(values)


def barycentric(corners: Float[Tensor, "N 3 3"], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Weights of triangles' corners at what of them is about nearest to points: at the foot of the perpendicular, or
    where it misses the triangle, near its border (cut to 0 and scaled to a sum of 1). Differentiable.

    The areas of the parts, by the cross product with the normal (C. Ericson, Real-Time Collision Detection, 3.4).
    """
    import torch

    first, second, place = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    normal = torch.linalg.cross(first, second)
    area = (normal * normal).sum(dim=1).clamp_min(1e-20)
    one = (torch.linalg.cross(place, second) * normal).sum(dim=1) / area
    two = (torch.linalg.cross(first, place) * normal).sum(dim=1) / area
    weights = torch.stack([1 - one - two, one, two], dim=1).clamp_min(0)
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-20)
