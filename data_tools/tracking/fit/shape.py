"""Who it is: identity and focal length from a few frames that differ, together with those frames' own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_tools.tracking.fit.energy import Seen, held, normal_equations, within_bounds
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.residuals import POSE, FaceState

KEYFRAMES = 32
"""Frames that the identity is taken from."""
INDEPENDENT_VIEWS = 16.0
"""What the keyframes count for: errors of the embedding repeat in all of them, so more frames are not more evidence."""
USUAL_GAZE = 0.12
"""Standard deviation of the eyes' turns over a clip, radians: people look about, but straight ahead on average. Where
the eyeballs lie is told by this."""
FOCAL_SPREAD = 0.03
"""Standard deviation of the logarithm of the focal length around its prior."""


@dataclass(frozen=True)
class Evidence:
    """Residuals that tell of the shape besides landmarks: rows of weighted least squares, N in all."""

    frame: Int[Tensor, " N"]
    """Row of the keyframe."""
    residual: Float[Tensor, " N"]
    """Pixels."""
    by_pose: Float[Tensor, "N 6"]
    by_identity: Float[Tensor, "N S"]
    by_log_focal: Float[Tensor, " N"]
    weight: Float[Tensor, " N"]
    """1 / pixels²."""


def choose_keyframes(state: FaceState, seen: Seen, count: int = KEYFRAMES) -> Int[np.ndarray, " K"]:
    """Frames as different as can be in pose and in the shape of the face: farthest-point sampling.

    Starts from the frame nearest to the average, so the choice does not depend on where the clip begins.
    """
    turned = state.rotation.flatten(1)
    # Centred, scaled pixel positions see the mouth and brows; pose dominates because it moves all points.
    shape = seen.pixels - seen.pixels.mean(dim=1, keepdim=True)
    shape = (shape / shape.flatten(1).norm(dim=1)[:, None, None]).flatten(1)
    feature = torch.cat([turned, 4 * shape], dim=1)
    chosen = [int((feature - feature.mean(dim=0)).norm(dim=1).argmin())]
    nearest = (feature - feature[chosen[0]]).norm(dim=1)
    while len(chosen) < min(count, len(feature)):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (feature - feature[chosen[-1]]).norm(dim=1))
    return np.sort(np.array(chosen))


def fit_shape(
    points: FacePoints,
    state: FaceState,
    seen: Seen,
    focal_prior: float,
    focal_free: bool,
    steps: int,
    evidence: Callable[[FaceState], Evidence] | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> FaceState:
    """Gauss-Newton over all keyframes' parameters, the identity and the focal length at once.

    The frames' parameters are eliminated from each step (Schur complement), so it costs one small solve a frame and one
    of the identity's size.

    Args:
        state: of the keyframes.
        focal_prior: pixels.
        focal_free: whether the focal length may leave its prior.
        evidence: further residuals, linearised anew at each step.
    """
    for _ in range(steps):
        state = _step(points, state, seen, focal_prior, focal_free, evidence)
        on_step()
    return state


def _step(
    points: FacePoints,
    state: FaceState,
    seen: Seen,
    focal_prior: float,
    focal_free: bool,
    evidence: Callable[[FaceState], Evidence] | None,
) -> FaceState:
    equations = shape_equations(points, state, seen)
    if evidence is not None:
        equations.add(evidence(state))
    return shape_step(points, state, equations, focal_prior, focal_free)


@dataclass(frozen=True)
class ShapeEquations:
    """Gauss-Newton model of an energy by all frames' parameters (P each) and what they share: identity and log focal
    length, G in all. float64; may be added to."""

    hessian: Float[Tensor, "T P P"]
    gradient: Float[Tensor, "T P"]
    cross: Float[Tensor, "T P G"]
    shared_hessian: Float[Tensor, "G G"]
    shared_gradient: Float[Tensor, " G"]

    def add(self, evidence: Evidence) -> None:
        """Take further residuals in, in place."""
        shared = torch.cat([evidence.by_identity, evidence.by_log_focal[:, None]], dim=1)
        weighted = shared * evidence.weight[:, None]
        self.shared_hessian.add_(shared.T @ weighted)
        self.shared_gradient.add_(weighted.T @ evidence.residual)
        for frame in evidence.frame.unique().tolist():
            mine = evidence.frame == frame
            pose = evidence.by_pose[mine]
            weighted_pose = pose * evidence.weight[mine, None]
            self.hessian[frame, POSE, POSE] += weighted_pose.T @ pose
            self.gradient[frame, POSE] += weighted_pose.T @ evidence.residual[mine]
            self.cross[frame, POSE] += weighted_pose.T @ shared[mine]


def shape_equations(points: FacePoints, state: FaceState, seen: Seen) -> ShapeEquations:
    """What the landmarks say of frames and shape, with the frames' priors."""
    equations = normal_equations(points, state, seen, USUAL_GAZE)
    shared = _shared_derivatives(points, state, equations.linearised.head, equations.linearised.log_focal)
    weighted = shared * equations.weight.float().repeat_interleave(2, dim=1)[..., None]
    residual = equations.linearised.residual.flatten()
    result = ShapeEquations(
        hessian=equations.hessian.clone(),
        gradient=equations.gradient.clone(),
        cross=(equations.linearised.frame.flatten(1, 2).transpose(1, 2) @ weighted).double(),
        shared_hessian=(shared.flatten(0, 1).T @ weighted.flatten(0, 1)).double(),
        shared_gradient=(weighted.flatten(0, 1).T @ residual.float()).double(),
    )
    if equations.gaps is not None:
        gaps = equations.gaps
        own = gaps.of_lids(shared.unflatten(1, (-1, 2)).double())
        weighted = own * gaps.weight[..., None]
        result.cross.add_(gaps.frame.transpose(1, 2) @ weighted)
        result.shared_hessian.add_(own.flatten(0, 1).T @ weighted.flatten(0, 1))
        result.shared_gradient.add_((weighted * gaps.residual[..., None]).sum(dim=(0, 1)))
    return result


def shape_step(
    points: FacePoints, state: FaceState, equations: ShapeEquations, focal_prior: float, focal_free: bool
) -> FaceState:
    """The state after one step of everything at once, with the priors of what the frames share."""
    repeats = len(state.shift) / min(len(state.shift), INDEPENDENT_VIEWS)
    prior = torch.full_like(equations.shared_gradient, repeats)
    prior[-1] = repeats / FOCAL_SPREAD**2 if focal_free else 1e12
    deviation = torch.cat([state.identity, state.identity.new_tensor([np.log(state.focal / focal_prior)])])
    shared_hessian = equations.shared_hessian + torch.diag(prior)
    shared_gradient = equations.shared_gradient + prior * deviation

    fixed = held(points, state, equations.gradient)
    frame_step, shared_step = eliminated_step(
        equations.hessian, equations.gradient, equations.cross, shared_hessian, shared_gradient, fixed
    )
    moved = replace(
        state.moved(frame_step),
        identity=state.identity + shared_step[:-1],
        focal=state.focal * float(torch.exp(shared_step[-1])),
    )
    return within_bounds(points, moved)


def eliminated_step(
    hessian: Float[Tensor, "T P P"],
    gradient: Float[Tensor, "T P"],
    cross: Float[Tensor, "T P G"],
    shared_hessian: Float[Tensor, "G G"],
    shared_gradient: Float[Tensor, " G"],
    fixed: Bool[Tensor, "T P"],
) -> tuple[Float[Tensor, "T P"], Float[Tensor, " G"]]:
    """Newton step of frames and what they share, the frames eliminated (Schur complement).

    Args:
        fixed: parameters of frames that stay.
    """
    free = (~fixed).double()
    hessian = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(fixed.double() + 1e-6)
    gradient, cross = gradient * free, cross * free[..., None]
    solved = torch.linalg.solve(hessian, torch.cat([cross, gradient[..., None]], dim=-1))
    by_shared, alone = solved[..., :-1], solved[..., -1]
    reduced = shared_hessian - (cross.transpose(1, 2) @ by_shared).sum(dim=0)
    right = -(shared_gradient - (cross.transpose(1, 2) @ alone[..., None])[..., 0].sum(dim=0))
    shared_step = torch.linalg.solve(reduced, right)
    return -alone - by_shared @ shared_step, shared_step


def _shared_derivatives(
    points: FacePoints, state: FaceState, by_head: Float[Tensor, "T L 2 3"], by_log_focal: Float[Tensor, "T L 2"]
) -> Float[Tensor, "T N S_plus_1"]:
    """Derivatives of the residuals by identity and log focal length, N = 2 L rows a frame."""
    frames, count = by_log_focal.shape[:2]
    rows = by_head.float().permute(1, 0, 2, 3).reshape(count, frames * 2, 3)
    by_identity = (rows @ points.shape.float()).reshape(count, frames, 2, -1).transpose(0, 1)
    return torch.cat([by_identity, by_log_focal.float()[..., None]], dim=-1).flatten(1, 2)
