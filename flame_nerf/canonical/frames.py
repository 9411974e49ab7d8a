"""Tangent frames of triangles, and the transform that carries one pose of a triangle onto another.

Patent CN117115331B, claims 8 and 9: a triangle has a frame ``L = [R t; 0 1]`` made of its tangent, bitangent and normal
(the columns of R) and its centre t. With L of the posed and L' of the canonical mesh, ``F = L' L^-1`` carries points
near the posed triangle to where they are near the canonical one. With ``scale`` the lengths grow by
``sqrt(area' / area)``, as INSTA does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SLIVER_RATIO = 1e-6
"""A triangle whose doubled area is below this fraction of the sum of its squared edges has no normal to speak of. It
gets no frame and is never the nearest face; Warp's own point query draws the line in the same place."""


@dataclass(frozen=True)
class TriangleFrames:
    """Frames of F triangles, in the space of the vertices they were made from (metres)."""

    rotation: Float[Tensor, "F 3 3"]
    """Columns: tangent (along the first edge), bitangent, normal. Right-handed; arbitrary where not ``valid``."""
    centre: Float[Tensor, "F 3"]
    """Mean of the three vertices."""
    double_area: Float[Tensor, " F"]
    """Length of the cross product of two edges, square metres."""
    valid: Bool[Tensor, " F"]
    """False for triangles without area."""


def triangle_frames(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> TriangleFrames:
    """Tangent frames of all triangles.

    Note: differentiable in principle, but used without gradient: the mapping is a constant of a frame.
    """
    a, b, c = (vertices.index_select(0, faces[:, corner]) for corner in range(3))
    ab, ac, bc = b - a, c - a, c - b
    normal = torch.linalg.cross(ab, ac)
    double_area = normal.norm(dim=1)
    edges_squared = (ab * ab + ac * ac + bc * bc).sum(dim=1)
    valid = double_area > SLIVER_RATIO * edges_squared
    normal = normal / double_area.clamp_min(torch.finfo(normal.dtype).tiny)[:, None]
    tangent = torch.nn.functional.normalize(ab, dim=1)
    bitangent = torch.linalg.cross(normal, tangent)
    rotation = torch.stack((tangent, bitangent, normal), dim=2)
    return TriangleFrames(rotation, (a + b + c) / 3, double_area, valid)


def face_transforms(
    posed: TriangleFrames,
    canonical: TriangleFrames,
    *,
    scale: bool,
    scale_limit: float | Float[Tensor, " F"] = float("inf"),
) -> Float[Tensor, "F 3 4"]:
    """``F = L' L^-1`` of every triangle: ``p_canonical = F[:, :3] p_posed + F[:, 3]`` (metres).

    With ``scale``, lengths are multiplied by ``sqrt(area' / area)``, kept between ``1/scale_limit`` and
    ``scale_limit``, which may differ from triangle to triangle. Triangles without area in either mesh only move with
    their centre.
    """
    linear = canonical.rotation @ posed.rotation.transpose(1, 2)
    if scale:
        tiny = torch.finfo(linear.dtype).tiny
        factor = (canonical.double_area.clamp_min(tiny) / posed.double_area.clamp_min(tiny)).sqrt()
        limit = torch.as_tensor(scale_limit, dtype=linear.dtype, device=linear.device)
        linear = linear * factor.clamp(1 / limit, limit)[:, None, None]
    identity = torch.eye(3, dtype=linear.dtype, device=linear.device)
    linear = torch.where((posed.valid & canonical.valid)[:, None, None], linear, identity)
    offset = canonical.centre - (linear @ posed.centre[:, :, None])[:, :, 0]
    return torch.cat((linear, offset[:, :, None]), dim=2)


def nearest_rotation(linear: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 3 3"]:
    """Gram-Schmidt on the columns: the proper rotation that a blend of rotations stands for.

    The first column keeps its direction. Where the blend has collapsed (opposite frames cancelled out) it is the
    identity.
    """
    # Cross products of strided columns are twice as slow as this copy and contiguous ones.
    x, y, _ = linear.movedim(-1, 0).contiguous()
    length = x.norm(dim=-1, keepdim=True)
    x = x / length
    z = torch.linalg.cross(x, y)
    height = z.norm(dim=-1, keepdim=True)
    z = z / height
    rotation = torch.stack((x, torch.linalg.cross(z, x), z), dim=-1)
    sound = (length > 1e-6) & (height > 1e-6)
    # A short cut that is worth asking for on the CPU only: elsewhere the answer would be waited for.
    if sound.device.type == "cpu" and bool(sound.all()):
        return rotation
    identity = torch.eye(3, dtype=linear.dtype, device=linear.device)
    return torch.where(sound[..., None], rotation, identity)
