"""What the fit minimises: landmark distances against what is plausible for a face, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.tracking.camera import to_camera
from data_tools.tracking.fit.face.face_points import HEAD_SHARE_OF_EXTENT, FacePoints
from data_tools.tracking.fit.face.lid_points import openings, usual_openings
from data_tools.tracking.fit.lids import GapRows, gap_rows, highest
from data_tools.tracking.fit.residuals import EXPRESSION, GAZE, POSE, FaceState, Linearised, anchor_of, linearise
from flame_nerf.geometry import perspective

GRAZING = (-0.2, 0.3)
"""Cosine to the camera at which a point is a guess (a detector may invent the far cheek), and where it counts fully."""
SPREAD = 0.3
"""Standard deviation of an expression coefficient."""
BLINK_SPREAD = 1.0
"""The same of a blink's: eyes are open or shut, and rarely in between."""
SPARSITY = 1.0
"""Pull to zero of each coefficient that begins at zero: of two explanations the one with fewer expressions wins."""
GAZE_SPREAD, GAZE_DISAGREEMENT = 0.4, 0.03
"""Standard deviations of an eye's turn and of the difference between both eyes, radians."""
TOGETHER = 20
"""Frames in a portion; see `portions`."""
IRIS_FADE, HARDLY = (0.4, 0.7), 1e-3
"""Share of its usual opening at which an eye's iris is hardly seen, and from which it is; and what it says then."""


@dataclass(frozen=True)
class Seen:
    """Detected landmarks of T frames, those that the head model has."""

    pixels: Float[Tensor, "T L 2"]
    """Any finite number where the trust is zero."""
    centre: Float[Tensor, "2"]
    """Principal point, pixels."""
    trust: Float[Tensor, "T L"] | None = None
    """0..1: how sure the detector was of each point, 0 where it found none. None: of all alike."""

    usual: Float[Tensor, "2"] | None = None
    """How far each eye is open in the clip when it is open, in `openings` of the lids. None: as in these frames."""
    irises: Float[Tensor, "T 2"] | None = None
    """1 where an eye's iris was found in the picture, 0 where it was not. None: irises are the detector's."""
    size: Float[Tensor, "2"] | None = None
    """Width and height of the pictures; None: all points lie in them."""

    def frames(self, which) -> Seen:
        trust, irises = (None if part is None else part[which] for part in (self.trust, self.irises))
        return Seen(self.pixels[which], self.centre, trust, self.usual, irises, self.size)

    def outside(self) -> Bool[Tensor, "T L"]:
        """Points beyond the picture's edge: a detector that has them there guesses."""
        if self.size is None:
            return torch.zeros_like(self.pixels[..., 0], dtype=torch.bool)
        return ((self.pixels < 0) | (self.pixels > self.size)).any(dim=-1)

    def facing(self, linearised: Linearised) -> Float[Tensor, "T L"]:
        """Cosine between each point's normal and the direction to the camera; -1 beyond the picture's edge, where it
        is seen as little as a cheek that is turned away."""
        return linearised.facing.masked_fill(self.outside(), -1.0)

    def with_usual(self, points: FacePoints) -> Seen:
        """The same that knows how far eyes are usually open, so that a part of the frames does, too."""
        return self if points.lids is None else replace(self, usual=self.usual_opening(points))

    def usual_opening(self, points: FacePoints) -> Float[Tensor, "2"]:
        """How far each eye is open when it is open; of points with lids."""
        return usual_openings(points.lids, self.pixels) if self.usual is None else self.usual

    def say(self, points: FacePoints) -> Float[Tensor, "*T L"]:
        """Weight of each landmark before it is known how far off it is."""
        say = points.weight if self.trust is None else points.weight * self.trust
        outside = self.outside()
        return torch.where(outside, points.detector.guess * say, say) if outside.any() else say


@dataclass(frozen=True)
class NormalEquations:
    """Second-order model of the energy around a state, frame by frame. float64."""

    hessian: Float[Tensor, "T P P"]
    gradient: Float[Tensor, "T P"]
    linearised: Linearised
    weight: Float[Tensor, "T L"]
    """Of each landmark, 1 / pixels²."""
    gaps: GapRows | None
    """What the lids add; in hessian and gradient already."""


def face_height(points: FacePoints, identity: Float[Tensor, " S"] | None = None) -> float:
    """Height of a face, metres: from between the brows to the chin, or what comes near it on other heads.

    Args:
        identity: whose. None: the mean face's.
    """
    still, rows = points.mean if identity is None else points.mean + points.shape @ identity, span_rows(points)
    if rows is None:
        extent = still.max(dim=0).values - still.min(dim=0).values
        return float(extent[1]) * HEAD_SHARE_OF_EXTENT
    return float((still[rows[0]] - still[rows[1]]).norm())


def span_rows(points: FacePoints) -> tuple[int, int] | None:
    """Rows of the points between the brows and at the chin; None where a head has no such points."""
    rows = [(points.index == number).nonzero() for number in points.detector.span or ()]
    return (int(rows[0][0]), int(rows[1][0])) if rows and all(len(row) for row in rows) else None


def mean_face_px(points: FacePoints, state: FaceState) -> Float[Tensor, " T"]:
    """Height in each picture that the mean face would have in the head's place, pixels: the fit's unit of length, which
    does not change with who is fitted. A person's own may be a tenth higher or lower; see `face_height_px`."""
    return state.focal * face_height(points) / state.shift[:, 2]


def face_height_px(points: FacePoints, state: FaceState) -> Float[Tensor, " T"]:
    """Height of this person's face in each picture if it looked straight into the camera, pixels: what errors are told
    in."""
    return state.focal * face_height(points, state.identity) / state.shift[:, 2]


def landmark_weights(points: FacePoints, state: FaceState, seen: Seen, linearised: Linearised) -> Float[Tensor, "T L"]:
    """Say of each landmark in each frame, 1 / pixels²: by trust in the point, visibility, and how far off it is."""
    detector, height = points.detector, mean_face_px(points, state)[:, None]
    low, high = GRAZING
    facing = ((linearised.facing - low) / (high - low)).clamp(0, 1)
    visible = detector.guess + (1 - detector.guess) * facing * facing * (3 - 2 * facing)
    distance = linearised.residual.norm(dim=-1) / (detector.outlier * height)
    say = seen.say(points) * iris_seen(points, seen) * visible
    return say / (1 + distance**2) / (detector.noise * height) ** 2


def iris_seen(points: FacePoints, seen: Seen) -> Float[Tensor, "T L"]:
    """1 for all points but the irises, which say less the farther lids are shut, and hardly anything where they were
    not found: gaze is then that of the frames around."""
    result = torch.ones_like(seen.pixels[..., 0])
    share = result.new_ones(len(result), 2) if seen.irises is None else seen.irises.to(result)
    if points.lids is not None:
        low, high = IRIS_FADE
        opening = openings(points.lids, seen.pixels) / seen.usual_opening(points).clamp_min(1e-6)
        share = share.minimum(((opening - low) / (high - low)).to(share))
    for eye in (0, 1):
        result[:, points.eye == eye] = share[:, eye, None].clamp(HARDLY, 1)
    return result


def normal_equations(
    points: FacePoints, state: FaceState, seen: Seen, gaze_spread: float = GAZE_SPREAD, size: int | None = None
) -> NormalEquations:
    """Gauss-Newton model of the energy by each frame's own parameters; pose, gaze, expressions.

    Args:
        gaze_spread: standard deviation of an eye's turn, radians.
        size: number of a frame's parameters: 6 for the pose alone. None: all.
    """
    linearised = linearise(points, state, seen.pixels, seen.centre, size)
    weight = landmark_weights(points, state, seen, linearised)
    rows = linearised.frame.flatten(1, 2)
    weighted = rows * weight.float().repeat_interleave(2, dim=1)[..., None]
    hessian = (weighted.transpose(1, 2) @ rows).double()
    gradient = (weighted.transpose(1, 2) @ linearised.residual.float().flatten(1)[..., None])[..., 0].double()
    if hessian.shape[1] > POSE.stop:
        _add_priors(points, state, hessian, gradient, gaze_spread)
    gaps = None
    if points.lids is not None:
        facing = seen.facing(linearised)
        gaps = gap_rows(
            points.lids, seen.pixels, seen.usual_opening(points), linearised, facing, mean_face_px(points, state)
        )
        by = gaps.frame * gaps.weight[..., None]
        hessian += by.transpose(1, 2) @ gaps.frame
        gradient += (by * gaps.residual[..., None]).sum(dim=1)
    return NormalEquations(hessian, gradient, linearised, weight, gaps)


def frame_equations(
    points: FacePoints, state: FaceState, seen: Seen, size: int | None = None, workers: int = 1
) -> tuple[Float[Tensor, "T P P"], Float[Tensor, "T P"]]:
    """Hessian and gradient of `normal_equations`, some frames at a time: memory does not grow with the frames."""
    seen = seen.with_usual(points)
    frames = len(state.shift)
    size = EXPRESSION.start + points.expression.shape[-1] if size is None else size
    hessian = torch.empty(frames, size, size, dtype=torch.float64)
    gradient = torch.empty(frames, size, dtype=torch.float64)

    def one(block: range) -> None:
        # What autograd is told is told to each thread by itself.
        with torch.no_grad():
            for rows in portions(block.stop, block.start):
                part = normal_equations(points, state.frames(rows), seen.frames(rows), size=size)
                hessian[rows], gradient[rows] = part.hessian, part.gradient

    run_blocks(blocks_of(frames, workers), one, workers)
    return hessian, gradient


def portions(stop: int, first: int = 0) -> list[slice]:
    """Runs of frames whose derivatives are held at once: few enough to stay in the processor's cache."""
    return [slice(start, min(start + TOGETHER, stop)) for start in range(first, stop, TOGETHER)]


def _add_priors(
    points: FacePoints,
    state: FaceState,
    hessian: Float[Tensor, "T P P"],
    gradient: Float[Tensor, "T P"],
    gaze_spread: float,
) -> None:
    expression = torch.diagonal(hessian, dim1=1, dim2=2)[:, EXPRESSION]
    tight = torch.full_like(points.low, 1 / SPREAD**2)
    if points.lids is not None:
        tight[list(points.lids.blink)] = 1 / BLINK_SPREAD**2
    expression += tight
    gradient[:, EXPRESSION] += state.expression * tight
    gradient[:, EXPRESSION] += SPARSITY * (points.low == 0)
    # Gaze as (left x, left y, right x, right y): each near zero, both alike.
    same, apart = 1 / gaze_spread**2, 1 / GAZE_DISAGREEMENT**2
    agree = torch.eye(4, dtype=torch.float64) * (same + apart)
    for axis in (0, 1):
        agree[axis, axis + 2] = agree[axis + 2, axis] = -apart
    hessian[:, GAZE, GAZE] += agree
    gradient[:, GAZE] += state.gaze.flatten(1) @ agree


def held(points: FacePoints, state: FaceState, gradient: Float[Tensor, "T P"]) -> Bool[Tensor, "T P"]:
    """Expressions that sit at a bound and would leave it: they are left out of the next step."""
    result = torch.zeros_like(gradient, dtype=torch.bool)
    push, now = gradient[:, EXPRESSION], state.expression
    result[:, EXPRESSION] = ((now <= points.low) & (push > 0)) | ((now >= highest(points, state)) & (push < 0))
    return result


def within_bounds(points: FacePoints, state: FaceState) -> FaceState:
    """The state with coefficients brought back between their bounds."""
    return replace(state, expression=state.expression.clamp(points.low, highest(points, state)))


def mean_distance(points: FacePoints, state: FaceState, seen: Seen) -> Float[Tensor, " T"]:
    """Mean distance between seen and fitted landmarks in pixels, each landmark by the embedding's trust in it."""
    distance = (fitted_pixels(points, state, seen.centre) - seen.pixels).norm(dim=-1)
    say = seen.say(points)
    return (distance * say).sum(dim=1) / say.sum(dim=-1)


def filled(points: FacePoints, state: FaceState, seen: Seen) -> Seen:
    """The same with points that were not found lying where the state has them: for looking at all points alike."""
    if seen.trust is None:
        return seen
    pixels = torch.where(seen.trust[..., None] > 0, seen.pixels, fitted_pixels(points, state, seen.centre))
    return replace(seen, pixels=pixels)


def fitted_pixels(points: FacePoints, state: FaceState, centre: Float[Tensor, "2"]) -> Float[Tensor, "T L 2"]:
    """Where the fitted landmarks are in the pictures."""
    found = torch.empty(len(state.shift), len(points.mean), 2, dtype=torch.float64)
    for rows in portions(len(found)):
        part = state.frames(rows)
        at_head = points.points(part.identity, part.expression, part.gaze)
        at_camera = to_camera(at_head, part.rotation, part.translation(anchor_of(points)))
        found[rows] = perspective(at_camera, part.focal, centre)
    return found
