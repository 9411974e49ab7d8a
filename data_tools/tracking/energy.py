"""What the fit minimises: landmark distances against what is plausible for a face, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_tools.tracking.face_points import FacePoints
from data_tools.tracking.residuals import EXPRESSION, GAZE, FaceState, Linearised, linearise

NOISE = 0.02
"""Standard deviation of a landmark as a fraction of the face's height. A single point is better; but neighbours
err together, so that 478 points count as far fewer."""
OUTLIER = 0.03
"""Distance, same unit, at which a point has lost half its say (Cauchy weight)."""
GRAZING = (-0.2, 0.3)
"""Cosine to the camera at which a point is a guess (the detector invents the far cheek), and where it counts fully."""
GUESS = 0.1
"""Weight of such a guess."""
SPREAD = 0.3
"""Standard deviation of an expression coefficient."""
SPARSITY = 1.0
"""Pull to zero of each blendshape coefficient: of two explanations the one with fewer expressions wins."""
GAZE_SPREAD, GAZE_DISAGREEMENT = 0.4, 0.03
"""Standard deviations of an eye's turn and of the difference between both eyes, radians."""
FACE_TOP, FACE_BOTTOM = 9, 152
"""Detector's points between the brows and at the chin: their distance is the face's height."""


@dataclass(frozen=True)
class Seen:
    """Detected landmarks of T frames, those that the head model has."""

    pixels: Float[Tensor, "T L 2"]
    centre: Float[Tensor, "2"]
    """Principal point, pixels."""

    def frames(self, which) -> Seen:
        return Seen(self.pixels[which], self.centre)


@dataclass(frozen=True)
class NormalEquations:
    """Second-order model of the energy around a state, frame by frame. float64."""

    hessian: Float[Tensor, "T P P"]
    gradient: Float[Tensor, "T P"]
    linearised: Linearised
    weight: Float[Tensor, "T L"]
    """Of each landmark, 1 / pixels²."""


def face_height(points: FacePoints) -> float:
    """Height of the mean face from between the brows to the chin, metres.

    Raises:
        ValueError: if the head has none of the two landmarks.
    """
    rows = [(points.index == number).nonzero() for number in (FACE_TOP, FACE_BOTTOM)]
    if not all(len(row) for row in rows):
        extent = points.mean.max(dim=0).values - points.mean.min(dim=0).values
        return float(extent[1]) * 0.65
    top, bottom = (points.mean[int(row[0])] for row in rows)
    return float((top - bottom).norm())


def face_height_px(points: FacePoints, state: FaceState) -> Float[Tensor, "T"]:
    """Height of the face in each picture if it looked straight into the camera, pixels."""
    return state.focal * face_height(points) / state.shift[:, 2]


def landmark_weights(points: FacePoints, state: FaceState, linearised: Linearised) -> Float[Tensor, "T L"]:
    """Say of each landmark in each frame, 1 / pixels²: by trust in the point, visibility, and how far off it is."""
    height = face_height_px(points, state)[:, None]
    low, high = GRAZING
    seen = ((linearised.facing - low) / (high - low)).clamp(0, 1)
    visible = GUESS + (1 - GUESS) * seen * seen * (3 - 2 * seen)
    distance = linearised.residual.norm(dim=-1) / (OUTLIER * height)
    return points.weight * visible / (1 + distance**2) / (NOISE * height) ** 2


def normal_equations(points: FacePoints, state: FaceState, seen: Seen) -> NormalEquations:
    """Gauss-Newton model of the energy by each frame's own parameters; pose, gaze, expressions."""
    linearised = linearise(points, state, seen.pixels, seen.centre)
    weight = landmark_weights(points, state, linearised)
    rows = linearised.frame.flatten(1, 2)
    weighted = rows * weight.float().repeat_interleave(2, dim=1)[..., None]
    hessian = (weighted.transpose(1, 2) @ rows).double()
    gradient = (weighted.transpose(1, 2) @ linearised.residual.float().flatten(1)[..., None])[..., 0].double()
    _add_priors(points, state, hessian, gradient)
    return NormalEquations(hessian, gradient, linearised, weight)


def _add_priors(
    points: FacePoints, state: FaceState, hessian: Float[Tensor, "T P P"], gradient: Float[Tensor, "T P"]
) -> None:
    expression = torch.diagonal(hessian, dim1=1, dim2=2)[:, EXPRESSION]
    expression += 1 / SPREAD**2
    gradient[:, EXPRESSION] += state.expression / SPREAD**2
    if points.bounded:
        gradient[:, EXPRESSION] += SPARSITY
    # Gaze as (left x, left y, right x, right y): each near zero, both alike.
    same, apart = 1 / GAZE_SPREAD**2, 1 / GAZE_DISAGREEMENT**2
    agree = torch.eye(4, dtype=torch.float64) * (same + apart)
    for axis in (0, 1):
        agree[axis, axis + 2] = agree[axis + 2, axis] = -apart
    hessian[:, GAZE, GAZE] += agree
    gradient[:, GAZE] += state.gaze.flatten(1) @ agree


def held(points: FacePoints, state: FaceState, gradient: Float[Tensor, "T P"]) -> Bool[Tensor, "T P"]:
    """Expressions that sit at a bound and would leave it: they are left out of the next step."""
    result = torch.zeros_like(gradient, dtype=torch.bool)
    if points.bounded:
        push = gradient[:, EXPRESSION]
        result[:, EXPRESSION] = ((state.expression <= 0) & (push > 0)) | ((state.expression >= 1) & (push < 0))
    return result


def within_bounds(points: FacePoints, state: FaceState) -> FaceState:
    """The state with blendshape weights brought back into 0..1."""
    if not points.bounded:
        return state
    return FaceState(state.rotation, state.shift, state.gaze, state.expression.clamp(0, 1), state.identity, state.focal)


def mean_distance(points: FacePoints, state: FaceState, seen: Seen) -> Float[Tensor, "T"]:
    """Mean distance between seen and fitted landmarks in pixels, each landmark by the embedding's trust in it."""
    at_head = points.points(state.identity, state.expression, state.gaze)
    at_camera = (at_head - points.mean.mean(dim=0)) @ state.rotation.transpose(1, 2) + state.shift[:, None]
    pixels = state.focal * at_camera[..., :2] / at_camera[..., 2:] + seen.centre
    distance = (pixels - seen.pixels).norm(dim=-1)
    return (distance * points.weight).sum(dim=1) / points.weight.sum()
