"""Small rigid corrections of the tracked head, one per training frame, learned with the field."""

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


@dataclass
class PoseRefinementConfig(CameraOptimizerConfig):
    """Refinement of the training frames' head poses. Held-out frames keep their tracked pose."""

    _target: type = field(default_factory=lambda: PoseRefinement)
    """target class to instantiate"""
    mode: Literal["off", "SO3xR3"] = "SO3xR3"
    """SO3xR3: learn a rotation and a translation a frame; off: trust the tracker."""
    trans_l2_penalty: float = 0.01
    """Penalty on the mean shift, per metre."""
    rot_l2_penalty: float = 0.01
    """Penalty on the mean turn, per metre of its movement at 0.1 m from the centre."""
    start_step: int = 500
    """Training step refinement begins at: before, the picture is too blurred to align to."""


class PoseRefinement(CameraOptimizer):
    """Nerfstudio's camera optimiser, turning about the head instead of about the camera.

    Seen from the camera, a shift sideways and a turn of the camera look alike, so Nerfstudio's own parameters hardly
    tell them apart; about the head they do. The corrections' mean is taken out: all frames moving together would only
    move the field away from the frames that are not refined.
    """

    config: PoseRefinementConfig

    def __init__(self, config: PoseRefinementConfig, num_cameras: int, device: torch.device | str, **kwargs):
        super().__init__(config, num_cameras, device, **kwargs)
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, indices: Int[Tensor, " R"]) -> Float[Tensor, "R 3 4"]:
        """Corrections [rotation | translation] of training frames; the rotation is about `centre`."""
        centred = self.pose_adjustment - self.pose_adjustment.mean(dim=0, keepdim=True)
        scale = centred.new_tensor([1.0, 1.0, 1.0, 1 / HEAD_RADIUS, 1 / HEAD_RADIUS, 1 / HEAD_RADIUS])
        # The exponential is taken once a frame, not once a ray.
        frames, which = torch.unique(indices, return_inverse=True)
        return exp_map_SO3xR3(centred[frames] * scale)[which]

    def apply_to_raybundle(self, raybundle: RayBundle) -> None:
        """Move the rays of training frames in place: the head stays, the camera is corrected. Differentiable."""
        if self.config.mode == "off":
            return
        correction = self(raybundle.camera_indices[:, 0])
        rotation, shift = correction[:, :, :3], correction[:, :, 3]
        raybundle.origins = _turn(rotation, raybundle.origins - self.centre) + self.centre + shift
        raybundle.directions = _turn(rotation, raybundle.directions)

    def get_metrics_dict(self, metrics_dict: dict[str, Tensor]) -> None:
        """Add the mean shift and turn of all training frames."""
        if self.config.mode == "off":
            return
        shift, turn = self.pose_adjustment.detach().view(-1, 2, 3).norm(dim=2).mean(dim=0)
        metrics_dict["pose_shift_mm"] = 1000.0 * shift
        metrics_dict["pose_turn_deg"] = torch.rad2deg(turn / HEAD_RADIUS)


def _turn(rotation: Float[Tensor, "R 3 3"], vectors: Float[Tensor, "R 3"]) -> Float[Tensor, "R 3"]:
    return (rotation * vectors[:, None, :]).sum(dim=-1)
