"""Lids of the face mesh: how far each eye is open, as a distance of its own in the fit.

A blink moves lid points by a few pixels, less than the detector's and the head model's errors in placing them. But
those errors are nearly the same on both lids: the gap between them is told ten times better than either lid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.face.lid_points import Lids, across, gaps, widths
from data_tools.tracking.fit.residuals import FaceState, Linearised
from flame_nerf.heads.eyes import meeting_coefficient

GAP_NOISE = 0.003
"""Standard deviation of an eye's opening as detected, of the mean face's height."""
CLOSED_READING = 0.06
"""What the detector may still see between lids that are shut, eye widths."""
NEARLY_OPEN = 0.85
"""Share of an eye's usual opening from which the detector's reading is the opening itself."""
FADE = (0.25, 0.5)
"""Cosine to the camera at which an eye says nothing of its lids any more, and from which it says all."""


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

    def of_lids(self, of_points: Callable[[Int[Tensor, "2 K"]], Float[Tensor, "T 2 K 2 C"]]) -> Float[Tensor, "T N C"]:
        """Derivatives of the distances by whatever the points have derivatives by.

        Args:
            of_points: gives those of some points.
        """
        return _of_lids(self.lids, self.up, of_points)


def gap_rows(
    lids: Lids,
    seen: Float[Tensor, "T L 2"],
    usual: Float[Tensor, "2"],
    linearised: Linearised,
    facing: Float[Tensor, "T L"],
    height: Float[Tensor, " T"],
) -> GapRows:
    """What the lids' distances say around a state.

    There is no robust loss: a blink is the rare large distance that counts.

    Args:
        seen: detected points, pixels.
        usual: opening of each eye when it is open.
        linearised: of all landmarks.
        facing: cosine between each landmark's normal and the direction to the camera, -1 where it is not seen.
        height: of the mean face in each picture, pixels.
    """
    up = across(lids, seen)
    width = widths(lids, seen)
    detected = gaps(lids, seen, up)
    shut = (1 - detected / width[..., None] / (NEARLY_OPEN * usual[:, None])).clamp(0, 1)
    unread = torch.minimum(CLOSED_READING * width[..., None] * shut, detected.clamp_min(0))
    wanted = detected - unread
    residual = gaps(lids, seen + linearised.residual, up) - wanted
    low, high = FADE
    faced = facing[:, lids.upper].mean(dim=-1)
    say = ((faced - low) / (high - low)).clamp(0, 1) / (GAP_NOISE * height[:, None]) ** 2 / lids.upper.shape[1]
    weight = say[..., None].expand_as(residual)
    frame = _of_lids(lids, up, lambda rows: linearised.frame[:, rows].double())
    return GapRows(residual.flatten(1), frame, weight.flatten(1), lids, up)


def _of_lids(
    lids: Lids, up: Float[Tensor, "T 2 2"], of_points: Callable[[Int[Tensor, "2 K"]], Float[Tensor, "T 2 K 2 C"]]
) -> Float[Tensor, "T N C"]:
    apart = of_points(lids.upper) - of_points(lids.lower)
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
