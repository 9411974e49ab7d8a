"""Who it is: identity and focal length from a few frames that differ, together with those frames' own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_tools.tracking.fit.energy import Seen, held, normal_equations, portions, within_bounds
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.lids import GapRows
from data_tools.tracking.fit.residuals import EXPRESSION, POSE, FaceState, anchor_of

KEYFRAMES = 32
"""Frames that the identity is taken from."""
INDEPENDENT_VIEWS = 16.0
"""What the keyframes count for: errors of the embedding repeat in all of them, so more frames are not more evidence."""
USUAL_GAZE = 0.12
"""Standard deviation of the eyes' turns over a clip, radians: people look about, but straight ahead on average. Where
the eyeballs lie is told by this."""
FOCAL_SPREAD = 0.03
"""Standard deviation of the logarithm of the focal length around its prior."""
SIZE_SPREAD = 0.002
"""Standard deviation of the logarithm of the face's size around the mean face's. People differ by 0.04, which pictures
of one camera do not tell: a small head nearby looks like a large one farther away. But on a small one every expression
and offset costs less, and so the face, left to itself, ends at two thirds of its size, and bent."""


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
    frames, own, common = len(state.shift), EXPRESSION.start + points.expression.shape[-1], points.shape.shape[-1] + 1
    double = {"dtype": torch.float64}
    result = ShapeEquations(
        hessian=torch.empty(frames, own, own, **double),
        gradient=torch.empty(frames, own, **double),
        cross=torch.empty(frames, own, common, **double),
        shared_hessian=torch.zeros(common, common, **double),
        shared_gradient=torch.zeros(common, **double),
    )
    basis = points.shape.float().flatten(0, 1)
    # Identity moves each point by its own three coordinates: their sums over the frames are all that it needs.
    places = PlaceSums.of(len(points.shape))
    seen = seen.with_usual(points)
    for rows in portions(frames):
        part = normal_equations(points, state.frames(rows), seen.frames(rows), USUAL_GAZE)
        at, weight = part.linearised, part.weight.float()[..., None]
        residual, by_head, by_focal = at.residual.float(), at.head.float(), at.log_focal.float()
        said = by_head * weight[..., None]
        places.add(said, by_head, by_focal, residual)
        result.shared_hessian[-1, -1] += (weight * by_focal.square()).sum()
        result.shared_gradient[-1] += (weight * by_focal * residual).sum()
        result.hessian[rows], result.gradient[rows] = part.hessian, part.gradient
        by_place = (at.frame.transpose(2, 3) @ said).transpose(1, 2)
        result.cross[rows, :, :-1] = (by_place.flatten(2) @ basis).double()
        result.cross[rows, :, -1] = torch.einsum("tlcp,tlc->tp", at.frame, weight * by_focal).double()
        if part.gaps is not None:
            _add_gaps(result, rows, part.gaps, points, by_head, by_focal)
    places.add_to(result, points.shape)
    return result


@dataclass(frozen=True)
class PlaceSums:
    """What N points say of their places in head axes, summed over frames; float64."""

    hessian: Float[Tensor, "N 3 3"]
    gradient: Float[Tensor, "N 3"]
    by_focal: Float[Tensor, "N 3"]
    """Second derivatives by place and log focal length."""

    @staticmethod
    def of(count: int) -> PlaceSums:
        """Nothing said yet."""
        double = {"dtype": torch.float64}
        return PlaceSums(*(torch.zeros(count, *shape, **double) for shape in ((3, 3), (3,), (3,))))

    def add(
        self,
        weighted: Float[Tensor, "T N C 3"],
        by_place: Float[Tensor, "T N C 3"],
        by_focal: Float[Tensor, "T N C"],
        residual: Float[Tensor, "T N C"],
    ) -> None:
        """Take C residuals of each point and frame in, in place; `weighted` is `by_place` times their weights."""
        self.hessian.add_(torch.einsum("tnci,tncj->nij", weighted, by_place))
        self.gradient.add_(torch.einsum("tnci,tnc->ni", weighted, residual))
        self.by_focal.add_(torch.einsum("tnci,tnc->ni", weighted, by_focal))

    def add_some(
        self,
        which: Int[Tensor, " n"],
        weighted: Float[Tensor, "n 3"],
        by_place: Float[Tensor, "n 3"],
        by_focal: Float[Tensor, " n"],
        residual: Float[Tensor, " n"],
    ) -> None:
        """Take one residual each of the points `which` of one frame in, each at most once, in place."""
        self.hessian[which] += weighted[:, :, None] * by_place[:, None]
        self.gradient[which] += weighted * residual[:, None]
        self.by_focal[which] += weighted * by_focal[:, None]

    def add_to(self, equations: ShapeEquations, basis: Float[Tensor, "N 3 S"]) -> None:
        """Add it to the equations of identity and log focal length, in place.

        Args:
            basis: metres per identity coefficient.
        """
        moved = basis.flatten(0, 1)
        hessian, by_focal = equations.shared_hessian, self.by_focal.flatten().to(basis) @ moved
        hessian[:-1, :-1] += moved.T @ (self.hessian.to(basis) @ basis).flatten(0, 1)
        hessian[:-1, -1] += by_focal
        hessian[-1, :-1] += by_focal
        equations.shared_gradient[:-1] += self.gradient.flatten().to(basis) @ moved


def _add_gaps(
    equations: ShapeEquations,
    rows: slice,
    gaps: GapRows,
    points: FacePoints,
    by_head: Float[Tensor, "T L 2 3"],
    by_focal: Float[Tensor, "T L 2"],
) -> None:
    """What the lids of some frames say of frames and shape together, in place."""

    def of_points(chosen: Int[Tensor, "2 K"]) -> Float[Tensor, "T 2 K 2 C"]:
        by_identity = by_head[:, chosen].double() @ points.shape[chosen]
        return torch.cat([by_identity, by_focal[:, chosen, :, None].double()], dim=-1)

    own = gaps.of_lids(of_points)
    weighted = own * gaps.weight[..., None]
    equations.cross[rows] += gaps.frame.transpose(1, 2) @ weighted
    equations.shared_hessian.add_(own.flatten(0, 1).T @ weighted.flatten(0, 1))
    equations.shared_gradient.add_((weighted * gaps.residual[..., None]).sum(dim=(0, 1)))


def shape_step(
    points: FacePoints, state: FaceState, equations: ShapeEquations, focal_prior: float, focal_free: bool
) -> FaceState:
    """The state after one step of everything at once, with the priors of what the frames share."""
    repeats = len(state.shift) / min(len(state.shift), INDEPENDENT_VIEWS)
    prior = torch.full_like(equations.shared_gradient, repeats)
    prior[-1] = repeats / FOCAL_SPREAD**2 if focal_free else 1e12
    deviation = torch.cat([state.identity, state.identity.new_tensor([np.log(state.focal / focal_prior)])])
    size, by_identity = size_and_slope(points, state.identity)
    by_shared, say = torch.cat([by_identity, by_identity.new_zeros(1)]), repeats / SIZE_SPREAD**2
    shared_hessian = equations.shared_hessian + torch.diag(prior) + say * by_shared[:, None] * by_shared
    shared_gradient = equations.shared_gradient + prior * deviation + say * size * by_shared

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


def size_and_slope(points: FacePoints, identity: Float[Tensor, " S"]) -> tuple[float, Float[Tensor, " S"]]:
    """Logarithm of a face's size against the mean face's, and its derivatives: size is how far its points lie from
    their middle, root mean square."""
    usual, face = points.mean - anchor_of(points), points.mean + points.shape @ identity
    around = face - face.mean(dim=0)
    slope = torch.einsum("lc,lcs->s", around, points.shape) / around.square().sum()
    return float(torch.log(around.norm() / usual.norm())), slope


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
    across = cross.flatten(0, 1).T
    reduced = shared_hessian - across @ by_shared.flatten(0, 1)
    right = -(shared_gradient - across @ alone.flatten())
    shared_step = torch.linalg.solve(reduced, right)
    return -alone - by_shared @ shared_step, shared_step
