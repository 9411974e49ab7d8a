"""Distances between seen and fitted landmarks, and how they change with every parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_tools.tracking.fit.face.face_points import FacePoints
from flame_nerf.geometry import axis_angle_to_matrix, perspective

POSE, GAZE = slice(0, 6), slice(6, 10)
"""Columns of a frame's parameters: turn (3) and shift (3) of the head, gaze of both eyes (4), then expressions."""
EXPRESSION = slice(10, None)


@dataclass(frozen=True)
class FaceState:
    """Parameters of T frames, and what all share. float64."""

    rotation: Float[Tensor, "T 3 3"]
    """Head to camera axes."""
    shift: Float[Tensor, "T 3"]
    """Camera position of the face's anchor, metres: the middle of the mean face's points, so that turning the head does
    not move it."""
    gaze: Float[Tensor, "T 2 2"]
    expression: Float[Tensor, "T E"]
    identity: Float[Tensor, " S"]
    focal: float
    """Pixels of the stored pictures."""

    def translation(self, anchor: Float[Tensor, "3"]) -> Float[Tensor, "T 3"]:
        """Camera position of the head frame's origin."""
        return self.shift - self.rotation @ anchor

    def frames(self, which) -> FaceState:
        """The same with some of the frames."""
        return FaceState(
            self.rotation[which], self.shift[which], self.gaze[which], self.expression[which], self.identity, self.focal
        )

    def moved(self, step: Float[Tensor, "T P"]) -> FaceState:
        """After a step of the frames' parameters. Turns are applied from the left, in camera axes.

        Depth changes by a third at most: a wild step from a poor guess must not put the face behind the camera.
        """
        depth = self.shift[:, 2:]
        ahead = torch.cat([step[:, 3:5], step[:, 5:6].clamp(-depth / 3, depth / 3)], dim=1)
        return FaceState(
            axis_angle_to_matrix(step[:, 0:3]) @ self.rotation,
            self.shift + ahead,
            self.gaze + step[:, GAZE].reshape(-1, 2, 2),
            self.expression + step[:, EXPRESSION],
            self.identity,
            self.focal,
        )


@dataclass(frozen=True)
class Linearised:
    """Landmark residuals in pixels and their derivatives at a state."""

    residual: Float[Tensor, "T L 2"]
    """Fitted minus seen."""
    frame: Float[Tensor, "T L 2 P"]
    """By the frame's own parameters, or the first of them."""
    head: Float[Tensor, "T L 2 3"]
    """By the point's position in the head frame."""
    log_focal: Float[Tensor, "T L 2"]
    facing: Float[Tensor, "T L"]
    """Cosine between the surface's normal and the direction to the camera."""


def anchor_of(points: FacePoints) -> Float[Tensor, "3"]:
    """The middle of the mean face."""
    return points.mean.mean(dim=0)


def linearise(
    points: FacePoints,
    state: FaceState,
    seen: Float[Tensor, "T L 2"],
    centre: Float[Tensor, "2"],
    size: int | None = None,
) -> Linearised:
    """Residuals and derivatives of all landmarks of all frames.

    Derivatives are float32: they only steer the step, the residual decides where it ends.

    Args:
        size: number of parameters of a frame to differentiate by: 6 for the pose alone. None: all.
    """
    at_head = points.points(state.identity, state.expression, state.gaze)
    turned = (at_head - anchor_of(points)) @ state.rotation.transpose(1, 2)
    at_camera = turned + state.shift[:, None]
    residual = perspective(at_camera, state.focal, centre) - seen

    x, y, z = at_camera.float().unbind(-1)
    zero, rotation = torch.zeros_like(x), state.rotation.float()
    by_camera = (state.focal / z)[..., None, None] * torch.stack(
        [torch.stack([torch.ones_like(x), zero, -x / z], -1), torch.stack([zero, torch.ones_like(x), -y / z], -1)], -2
    )
    by_turn = torch.linalg.cross(turned.float()[:, :, None].expand_as(by_camera), by_camera, dim=-1)
    by_head = by_camera @ rotation[:, None]
    frames, count = x.shape
    every = EXPRESSION.start + points.expression.shape[-1]
    by_frame = torch.empty(frames, count, 2, every if size is None else size)
    by_frame[..., 0:3], by_frame[..., 3:6] = by_turn, by_camera
    if by_frame.shape[-1] == every:
        # [L, T*2, 3] @ [L, 3, E]: one small product a landmark instead of one a landmark and frame.
        rows = by_head.permute(1, 0, 2, 3).reshape(count, frames * 2, 3)
        by_frame[..., GAZE] = _by_gaze(points, state, at_head, by_head)
        by_frame[..., EXPRESSION] = (rows @ points.expression.float()).reshape(count, frames, 2, -1).transpose(0, 1)
        if points.jaw is not None:
            opened = points.jaw.by_opening(at_head, state.identity).float()
            by_frame[..., -1] = (by_head @ opened[..., None])[..., 0]
    outward = points.normal @ state.rotation.transpose(1, 2)
    facing = -(outward * at_camera).sum(-1) / at_camera.norm(dim=-1)
    log_focal = perspective(at_camera.float(), state.focal, torch.zeros_like(centre).float())
    return Linearised(residual, by_frame, by_head, log_focal, facing)


def _by_gaze(
    points: FacePoints, state: FaceState, at_head: Float[Tensor, "T L 3"], by_head: Float[Tensor, "T L 2 3"]
) -> Float[Tensor, "T L 2 4"]:
    """A turn about x moves a point by x cross arm, likewise about y: right to first order in the other angle."""
    result = torch.zeros(*by_head.shape[:3], 4, dtype=by_head.dtype)
    centres = points.eye_centres(state.identity)
    for eye in (0, 1):
        which = points.eye == eye
        arm = (at_head[:, which] - centres[eye]).float()
        zero = torch.zeros_like(arm[..., 0])
        about_x = points.gaze_seen[0] * torch.stack([zero, -arm[..., 2], arm[..., 1]], -1)
        about_y = points.gaze_seen[1] * torch.stack([arm[..., 2], zero, -arm[..., 0]], -1)
        moved = by_head[:, which] @ torch.stack([about_x, about_y], -1)
        result[:, which, :, 2 * eye : 2 * eye + 2] = moved
    return result
