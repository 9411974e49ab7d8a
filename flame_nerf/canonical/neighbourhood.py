"""Which triangles take part in a blend, and with what weight.

Patent CN117115331B, claims 8 and 9: ``p' = sum_A w_f F_f p / sum_A w_f`` over the neighbourhood A of the nearest
triangle, ``w_f = exp(-beta |c_f - p|^2)``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Neighbourhood = Literal["face", "edge", "vertex"]


def face_neighbours(faces: Int[Tensor, "F 3"], kind: Neighbourhood) -> Int[Tensor, "F K"]:
    """The neighbourhood of every face, itself first, padded with -1 at the end of the row.

    ``face``: only itself (K = 1). ``edge``: with all faces that share an edge (K = 4 on a closed surface; more where
    more than two faces meet at an edge). ``vertex``: with all faces that share a vertex.
    """
    corners = faces.detach().cpu().numpy().astype(np.int64)
    count = len(corners)
    own = np.arange(count)
    if kind == "face":
        return torch.from_numpy(own[:, None].copy()).to(faces.device)
    if kind == "edge":
        edges = np.sort(np.stack((corners, np.roll(corners, -1, axis=1)), axis=-1), axis=-1)
        key = edges[..., 0] * (corners.max(initial=0) + 1) + edges[..., 1]
    elif kind == "vertex":
        key = corners
    else:
        raise ValueError(f"neighbourhood must be 'face', 'edge' or 'vertex', not {kind!r}")
    # All pairs of faces under one key: faces sorted by key lie in runs, so the k-th next in line is a partner while
    # the run lasts.
    owner = np.repeat(own, 3)
    order = np.argsort(key.reshape(-1), kind="stable")
    key, owner = key.reshape(-1)[order], owner[order]
    pairs = []
    for lag in range(1, len(key)):
        same = key[lag:] == key[:-lag]
        if not same.any():
            break
        pairs.append(np.stack((owner[lag:][same], owner[:-lag][same])))
    both = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    both = np.concatenate((both, both[::-1]), axis=1)
    both = np.unique(both[:, both[0] != both[1]], axis=1)
    degree = np.bincount(both[0], minlength=count)
    table = np.full((count, 1 + int(degree.max(initial=0))), -1, np.int64)
    table[:, 0] = own
    first = np.concatenate(([0], np.cumsum(degree)[:-1]))
    table[both[0], 1 + np.arange(both.shape[1]) - first[both[0]]] = both[1]
    return torch.from_numpy(table).to(faces.device)


def blend_transforms(
    points: Float[Tensor, "N 3"],
    members: Int[Tensor, "N K"],
    transforms: Float[Tensor, "F 3 4"],
    centres: Float[Tensor, "F 3"],
    usable: Float[Tensor, " F"],
    *,
    beta: float,
    squared: bool,
) -> Float[Tensor, "N 3 4"]:
    """Weighted mean transform of each point's neighbourhood.

    Args:
        points: posed positions at which the weights are taken, metres.
        members: rows of :func:`face_neighbours` (shifted where several meshes are stacked); -1 is nobody.
        transforms, centres: one per face of the posed mesh(es).
        usable: 1, or 0 for faces without a frame. A row without a usable member takes its first member as it is.

    Note: differentiable with respect to ``points`` (through the weights).
    """
    flat = transforms.reshape(-1, 12)
    own = members[:, 0]
    if members.shape[1] == 1:
        return transforms.index_select(0, own)
    exponent = []
    for column in members.T:
        index = column.clamp_min(0)
        offset = centres.index_select(0, index) - points
        square = (offset * offset).sum(dim=1)
        value = beta * (square if squared else (square + 1e-24).sqrt())
        absent = (column < 0) | (usable.index_select(0, index) == 0)
        exponent.append(value.masked_fill(absent, float("inf")))
    # Subtracting the smallest exponent leaves the quotient as it is and keeps large beta from giving 0 / 0.
    exponents = torch.stack(exponent)
    floor = exponents.amin(dim=0)
    alone = torch.isinf(floor)
    weights = torch.exp(floor.masked_fill(alone, 0.0) - exponents)
    weights = torch.cat((torch.where(alone, torch.ones_like(floor), weights[0])[None], weights[1:]))
    weights = weights / weights.sum(dim=0)
    total = torch.zeros(len(points), 12, dtype=flat.dtype, device=flat.device)
    for weight, column in zip(weights, members.T, strict=True):
        total = total + weight[:, None] * flat.index_select(0, column.clamp_min(0))
    return total.reshape(-1, 3, 4)


def weight_change_bound(posed_extent: float, reach: float, *, beta: float, squared: bool) -> float:
    """How much a relative blend weight can change when a point moves from a face's centre to ``reach`` away from it.

    For members a, b with centres at most ``posed_extent`` apart, log(w_a / w_b) is
    ``beta (|c_b - p|^2 - |c_a - p|^2)``, whose gradient in p is ``2 beta (c_a - c_b)``: over a path of length ``reach``
    it changes by at most ``2 beta extent reach``. Unsquared, the difference of two distances is at most the extent at
    either end: ``2 beta extent``. Returned as a relative change, ``exp(.) - 1``.
    """
    change = 2 * beta * posed_extent * (reach if squared else 1.0)
    return float(np.expm1(min(change, 50.0)))


def is_exact_per_face(
    centres: Float[Tensor, "F 3"],
    neighbours: Int[Tensor, "F K"],
    reach: float,
    tolerance: float,
    *,
    beta: float,
    squared: bool,
) -> bool:
    """Whether weights taken once per face are those at every point near it.

    Args:
        centres: of the faces, metres.
        neighbours: members of each face's neighbourhood, itself first, -1 where there are fewer.
        reach: metres from a face's centre over which that is asked for.
        tolerance: relative change of a weight that is let pass.
        beta, squared: of the weights.
    """
    if neighbours.shape[1] == 1:
        return True
    apart = (centres[neighbours.clamp_min(0)] - centres[:, None]).norm(dim=2)
    apart = float(apart.masked_fill(neighbours < 0, 0.0).amax(dim=1).quantile(0.999))
    # Two members can lie on opposite sides of the face.
    return weight_change_bound(2 * apart, reach, beta=beta, squared=squared) <= tolerance
