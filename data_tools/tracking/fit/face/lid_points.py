"""Pairs of points on the lids, and how far each eye is open by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.heads.eyes import BLINKS, LIDS, SIDES

USUAL_QUANTILE = 0.75
"""Of a clip's openings: eyes are open for most of the time."""


@dataclass(frozen=True)
class Lids:
    """Lid points of both eyes, the subject's left first; rows of the head's landmark points."""

    upper: Int[Tensor, "2 K"]
    lower: Int[Tensor, "2 K"]
    corners: Int[Tensor, "2 2"]
    """Outer and inner corner."""
    share: Float[Tensor, "2"]
    """Each eye's width over the distance between both eyes' outer corners, on the mean head."""
    blink: tuple[int, ...]
    """Fitted expression that closes each eye; empty where there is none by name."""


def find_lids(index: Sequence[int], mean: Float[Tensor, "L 3"], names: Sequence[str]) -> Lids | None:
    """The lid points among a head's landmarks, or None where it lacks them.

    Args:
        index: number of each landmark in the face mesh.
        mean: their places on the mean head, metres.
        names: of the fitted expressions.
    """
    row = {number: at for at, number in enumerate(index)}
    upper, lower, corners = [], [], []
    for side in SIDES:
        marks = LIDS[side]
        pairs = [(row[u], row[d]) for u, d in zip(marks.upper, marks.lower, strict=True) if u in row and d in row]
        if not pairs or not all(number in row for number in marks.corners):
            return None
        upper.append([u for u, _ in pairs])
        lower.append([d for _, d in pairs])
        corners.append([row[number] for number in marks.corners])
    if len(upper[0]) != len(upper[1]):
        return None
    ends = torch.tensor(corners)
    return Lids(
        upper=torch.tensor(upper),
        lower=torch.tensor(lower),
        corners=ends,
        share=(mean[ends[:, 0]] - mean[ends[:, 1]]).norm(dim=-1) / (mean[ends[0, 0]] - mean[ends[1, 0]]).norm(),
        blink=tuple(names.index(name) for name in BLINKS) if all(name in names for name in BLINKS) else (),
    )


def across(lids: Lids, pixels: Float[Tensor, "T L 2"]) -> Float[Tensor, "T 2 2"]:
    """Unit vector of each eye in the picture from the lower to the upper lid, square to the line of its corners."""
    outer, inner = pixels[:, lids.corners].unbind(dim=2)
    along = torch.nn.functional.normalize(inner - outer, dim=-1)
    # Inner corners lie to the right of the subject's right eye's outer corner and to the left of the left's.
    up = torch.stack([along[..., 1], -along[..., 0]], dim=-1)
    return up * up.new_tensor([-1.0, 1.0])[:, None]


def gaps(lids: Lids, pixels: Float[Tensor, "T L 2"], up: Float[Tensor, "T 2 2"]) -> Float[Tensor, "T 2 K"]:
    """How far the upper lid's points lie above the lower's, pixels."""
    return ((pixels[:, lids.upper] - pixels[:, lids.lower]) * up[:, :, None]).sum(dim=-1)


def widths(lids: Lids, pixels: Float[Tensor, "T L 2"]) -> Float[Tensor, "T 2"]:
    """Width of each eye in the picture by its own corners, or by both eyes' where these show more of it, pixels."""
    corners = pixels[:, lids.corners]
    own = (corners[:, :, 0] - corners[:, :, 1]).norm(dim=-1)
    both = (corners[:, 0, 0] - corners[:, 1, 0]).norm(dim=-1)
    return torch.maximum(own, both[:, None] * lids.share).clamp_min(1e-6)


def openings(
    lids: Lids, pixels: Float[Tensor, "T L 2"], detected: Float[Tensor, "T L 2"] | None = None
) -> Float[Tensor, "T 2"]:
    """How far each eye is open: the lids' mean distance over the eye's width; about 0.3 open, 0 closed.

    Args:
        detected: points that tell the eyes' directions and widths; None: `pixels` themselves.
    """
    detected = pixels if detected is None else detected
    return gaps(lids, pixels, across(lids, detected)).mean(dim=-1) / widths(lids, detected)


def usual_openings(lids: Lids, pixels: Float[Tensor, "T L 2"]) -> Float[Tensor, "2"]:
    """How far each eye is open in a clip when it is open."""
    return openings(lids, pixels).quantile(USUAL_QUANTILE, dim=0)
