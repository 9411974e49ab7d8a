"""Lids of the face mesh: how far each eye is open, as a distance of its own in the fit.

A blink moves lid points by a few pixels, less than the detector's and the head model's errors in placing them. But
those errors are nearly the same on both lids: the gap between them is told ten times better than either lid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.heads.eyes import BLINKS, LIDS, SIDES, meeting_coefficient

if TYPE_CHECKING:
    from data_tools.tracking.fit.face_points import FacePoints
    from data_tools.tracking.fit.residuals import FaceState, Linearised

GAP_NOISE = 0.003
"""Standard deviation of an eye's opening as detected, of the face's height."""
CLOSED_READING = 0.06
"""What the detector may still see between lids that are shut, eye widths."""
NEARLY_OPEN = 0.85
"""Share of an eye's usual opening from which the detector's reading is the opening itself."""
FADE = (0.25, 0.5)
"""Cosine to the camera at which an eye says nothing of its lids any more, and from which it says all."""
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


@dataclass(frozen=True)
class GapRows:
    """Residuals of the lids' distances, N = 2 K a frame: mesh minus detector."""

    residual: Float[Tensor, "T N"]
    """Pixels."""
    frame: Float[Tensor, "T N P"]
    """By the frame's own parameters."""
    weight: Float[Tensor, "T N"]
    """1 / pixels²."""
    lids: Lids
    up: Float[Tensor, "T 2 2"]

    def of_lids(self, by_point: Float[Tensor, "T L 2 C"]) -> Float[Tensor, "T N C"]:
        """Derivatives of the distances by whatever the points have derivatives by."""
        return _of_lids(self.lids, self.up, by_point)


def gap_rows(
    lids: Lids,
    seen: Float[Tensor, "T L 2"],
    usual: Float[Tensor, "2"],
    linearised: Linearised,
    height: Float[Tensor, " T"],
) -> GapRows:
    """What the lids' distances say around a state.

    There is no robust loss: a blink is the rare large distance that counts.

    Args:
        seen: detected points, pixels.
        usual: opening of each eye when it is open.
        linearised: of all landmarks.
        height: of the face in each picture, pixels.
    """
    up = across(lids, seen)
    width = widths(lids, seen)
    detected = gaps(lids, seen, up)
    shut = (1 - detected / width[..., None] / (NEARLY_OPEN * usual[:, None])).clamp(0, 1)
    unread = torch.minimum(CLOSED_READING * width[..., None] * shut, detected.clamp_min(0))
    wanted = detected - unread
    residual = gaps(lids, seen + linearised.residual, up) - wanted
    low, high = FADE
    facing = linearised.facing[:, lids.upper].mean(dim=-1)
    say = ((facing - low) / (high - low)).clamp(0, 1) / (GAP_NOISE * height[:, None]) ** 2 / lids.upper.shape[1]
    weight = say[..., None].expand_as(residual)
    frame = _of_lids(lids, up, linearised.frame.double())
    return GapRows(residual.flatten(1), frame, weight.flatten(1), lids, up)


def _of_lids(lids: Lids, up: Float[Tensor, "T 2 2"], by_point: Float[Tensor, "T L 2 C"]) -> Float[Tensor, "T N C"]:
    apart = by_point[:, lids.upper] - by_point[:, lids.lower]
    return torch.einsum("tekxc,tex->tekc", apart, up.to(apart)).flatten(1, 2)


def closed_at(points: FacePoints, identity: Float[Tensor, " S"]) -> Float[Tensor, "2"]:
    """Coefficient of each eye's blink at which this person's lids meet."""
    lids, rest = points.lids, (points.mean + points.shape @ identity).numpy()
    moved = points.expression.numpy()
    return identity.new_tensor(
        [
            meeting_coefficient(*(array[rows] for array in (rest, moved[..., column]) for rows in (upper, lower)))
            for upper, lower, column in zip(lids.upper.numpy(), lids.lower.numpy(), lids.blink, strict=True)
        ]
    )


def highest(points: FacePoints, state: FaceState) -> Float[Tensor, " E"]:
    """Upper bounds of a person's fitted coefficients: a blink ends where the lids meet."""
    if points.lids is None or not points.lids.blink:
        return points.high
    high = points.high.clone()
    high[list(points.lids.blink)] = closed_at(points, state.identity)
    return high
