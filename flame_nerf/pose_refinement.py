"""Small rigid corrections of the tracked head, learned with the field: one per training frame, and one for them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

HEAD_RADIUS = 0.1
"""Metres from the head's centre at which a turn and a shift of equal parameters move a point equally far."""
TURN_FEATURES = 3
"""What the calibration knows of a frame: the rotation vector from the mean camera."""


@dataclass
class PoseRefinementConfig(CameraOptimizerConfig):
    """Correction of tracked head poses: the calibration's for every frame, and the training frames' own."""

    _target: type = field(default_factory=lambda: PoseRefinement)
    """target class to instantiate"""
    mode: Literal["off", "SO3xR3"] = "off"
    """SO3xR3: also learn a rotation and a translation of each training frame's own. Sharper training frames, but the
    field then drifts away from the tracked poses of frames never trained on; off: the calibration alone."""
    trans_l2_penalty: float = 0.01
    """Penalty on the mean shift, per metre."""
    rot_l2_penalty: float = 0.01
    """Penalty on the mean turn, per metre of its movement at 0.1 m from the centre."""
    start_step: int = 500
    """Training step the frames' own corrections begin at: before, the picture is too blurred to align to."""
    calibrate: bool = True
    """Learn how the tracker errs with the turn of the head; corrects every tracked frame, held-out ones too."""
    calibration_start_step: int = 200
    """Training step the calibration begins at. It moves all frames together, so a coarse picture is enough."""


class PoseRefinement(CameraOptimizer):
    """Nerfstudio's camera optimiser, turning about the head instead of about the camera, with a calibration beside it.

    Seen from the camera, a shift sideways and a turn of the camera look alike, so Nerfstudio's own parameters hardly
    tell them apart; about the head they do. The frames' own corrections have their mean taken out: all frames moving
    together would only move the field away from the frames that are not refined.

    The calibration is a correction that depends on nothing but how far the tracked head is turned. Landmarks of one
    camera leave depth and turn ambiguous (the bas-relief ambiguity): a face fitted too deep is turned too little, by
    about the same factor in every frame. What training frames teach about that holds for frames never trained on.
    """

    config: PoseRefinementConfig

    def __init__(self, config: PoseRefinementConfig, num_cameras: int, device: torch.device | str, **kwargs):
        super().__init__(config, num_cameras, device, **kwargs)
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("reference", torch.eye(3))
        self.register_buffer("feature_mean", torch.zeros(TURN_FEATURES))
        self.register_buffer("feature_scale", torch.ones(TURN_FEATURES))
        self.register_buffer("train_features", torch.zeros(num_cameras, TURN_FEATURES), persistent=False)
        self.calibration = torch.nn.Parameter(torch.zeros(TURN_FEATURES, 6, device=device))

    def set_frames(self, c2w: Float[Tensor, "N 3 4"], centre: Float[Tensor, " 3"]) -> None:
        """Tell how the training frames are turned, and the point that corrections turn about.

        Args:
            c2w: cameras of the training frames in the head's frame, OpenGL axes.
            centre: middle of the head, metres.
        """
        u, _, vt = torch.linalg.svd(c2w[:, :, :3].double().mean(dim=0))
        sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ vt))], dtype=torch.float64))
        self.reference.copy_(u @ sign @ vt)
        self.centre.copy_(centre)
        features = self._turn_features(c2w)
        self.feature_mean.copy_(features.mean(dim=0))
        # A head that never turns gives nothing to learn, and nothing to divide by.
        self.feature_scale.copy_(features.std(dim=0, correction=0).clamp_min(1e-2))
        self.train_features.copy_(self.features(c2w))

    def features(self, c2w: Float[Tensor, "N 3 4"]) -> Float[Tensor, "N F"]:
        """How far tracked cameras are turned from the mean training camera; mean 0 and deviation 1 over training."""
        return (self._turn_features(c2w) - self.feature_mean) / self.feature_scale

    def _turn_features(self, c2w: Float[Tensor, "N 3 4"]) -> Float[Tensor, "N F"]:
        """Rotation vector from the mean camera, radians."""
        return rotation_vector(self.reference.T @ c2w[:, :, :3].to(self.reference))

    def _exponential(self, tangent: Float[Tensor, "N 6"]) -> Float[Tensor, "N 3 4"]:
        scale = tangent.new_tensor([1.0, 1.0, 1.0, 1 / HEAD_RADIUS, 1 / HEAD_RADIUS, 1 / HEAD_RADIUS])
        return exp_map_SO3xR3(tangent * scale)

    def forward(
        self, indices: Int[Tensor, " R"], calibrated: bool = True, frames_too: bool = True
    ) -> Float[Tensor, "R 3 4"]:
        """Corrections [rotation | translation] of training frames; the rotation is about `centre`.

        Args:
            indices: training frame of each ray.
            calibrated: with the calibration.
            frames_too: with the frames' own corrections.
        """
        # The exponential is taken once a frame, not once a ray.
        frames, which = torch.unique(indices, return_inverse=True)
        tangent = self.centre.new_zeros(len(frames), 6)
        if calibrated:
            tangent = tangent + self.train_features[frames] @ self.calibration
        if frames_too:
            tangent = tangent + (self.pose_adjustment - self.pose_adjustment.mean(dim=0, keepdim=True))[frames]
        return self._exponential(tangent)[which]

    def correct_training_rays(self, raybundle: RayBundle, step: int) -> None:
        """Move the rays of training frames in place: the head stays, the camera is corrected. Differentiable."""
        calibrated = self.config.calibrate and step >= self.config.calibration_start_step
        frames_too = self.config.mode != "off" and step >= self.config.start_step
        if calibrated or frames_too:
            correction = self(raybundle.camera_indices[:, 0], calibrated, frames_too)
            moved = self._moved(correction, raybundle.origins, raybundle.directions)
            raybundle.origins, raybundle.directions = moved

    def correct_tracked_camera(
        self, c2w: Float[Tensor, "3 4"], origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Rays of a tracked frame's camera, moved by the calibration alone: no picture of that frame is needed."""
        if not self.config.calibrate:
            return origins, directions
        correction = self._exponential(self.features(c2w[None]) @ self.calibration)
        return self._moved(correction.expand(len(origins), -1, -1), origins, directions)

    def _moved(
        self, correction: Float[Tensor, "R 3 4"], origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        rotation, shift = correction[:, :, :3], correction[:, :, 3]
        return _turn(rotation, origins - self.centre) + self.centre + shift, _turn(rotation, directions)

    def get_param_groups(self, param_groups: dict) -> None:
        """Add the corrections that are learned to the group `camera_opt`."""
        learned = [self.calibration] if self.config.calibrate else []
        if self.config.mode != "off":
            learned.append(self.pose_adjustment)
        if learned:
            param_groups["camera_opt"] = learned

    def get_metrics_dict(self, metrics_dict: dict[str, Tensor]) -> None:
        """Add the mean size of the corrections over the training frames."""
        if self.config.calibrate:
            turn = (self.train_features @ self.calibration.detach())[:, 3:].norm(dim=1).mean()
            metrics_dict["calibration_turn_deg"] = torch.rad2deg(turn / HEAD_RADIUS)
        if self.config.mode != "off":
            shift, turn = self.pose_adjustment.detach().view(-1, 2, 3).norm(dim=2).mean(dim=0)
            metrics_dict["pose_shift_mm"] = 1000.0 * shift
            metrics_dict["pose_turn_deg"] = torch.rad2deg(turn / HEAD_RADIUS)


def rotation_vector(rotation: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3"]:
    """Axis times angle of rotation matrices, radians; for turns below a half one."""
    skew = 0.5 * (rotation - rotation.transpose(1, 2))
    axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
    sine = axis.norm(dim=-1, keepdim=True)
    cosine = 0.5 * (rotation.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1)
    angle = torch.atan2(sine, cosine)
    return axis * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), torch.ones_like(sine))


def _turn(rotation: Float[Tensor, "R 3 3"], vectors: Float[Tensor, "R 3"]) -> Float[Tensor, "R 3"]:
    return (rotation * vectors[:, None, :]).sum(dim=-1)
