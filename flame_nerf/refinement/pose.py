"""Small rigid corrections of the tracked head, learned with the field: by the head's turn, and over time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.geometry import axis_angle_to_matrix, matrix_to_axis_angle, mean_rotation
from flame_nerf.refinement.time_spline import TimeSpline
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.to_device import to_device

HEAD_RADIUS = 0.1
"""Metres from the head's centre at which a turn and a shift of equal parameters move a point equally far."""
TURN_FEATURES = 3
"""Inputs of the calibration for a frame: the rotation vector from the mean camera."""


LEARN_EVERY = 8
"""Steps from one that learns corrections to the next: their gradient goes through every sample's position, which makes
a step a third longer on the CPU, and six numbers a frame need few steps."""
SHIFT_PENALTY, TURN_PENALTY = 0.01, 0.01
"""Penalties on the mean shift, per metre, and on the mean turn, per metre of its movement at HEAD_RADIUS."""


@dataclass
class PoseRefinementConfig(StoredConfig):
    """Correction of tracked head poses: one that depends on the head's turn, and one that changes over the video."""

    calibrate: bool | None = None
    """Learn how the tracker errs with the turn of the head; corrects every tracked frame, held-out ones too. Makes one
    step in eight a third longer. None: unless the subject says that its poses were laid against the pictures
    themselves (`registration`), which leaves nothing of the kind."""
    calibration_start_step: int = 200
    """Training step the calibration begins at. It moves all frames together, so a coarse image is enough; later leaves
    it less time to converge."""
    over_time: bool = False
    """Learn a correction that changes over the video. Sharper, and better between training frames; worse where the
    track goes on beyond the training video, whose poses stay uncorrected."""
    knot_spacing: float = 8.0
    """Frames between its knots; it is linear between them. Larger corrects only slow errors of the track and keeps
    held-out frames in step with their neighbours; 1 corrects each training frame by itself, which is sharpest on these
    and leaves all others behind."""
    over_time_start_step: Fixed[int] = 500
    """Training step it begins at: before, the image is too blurred to align to."""


class PoseRefinement(nn.Module):
    """Corrections of a frame's camera in the head's frame, which is what a rigid correction of the head comes to.

    They turn about the head and not about the camera: seen from the camera, a shift sideways and a turn of the camera
    look alike; about the head they do not.

    The calibration is a correction that depends on nothing but how far the tracked head is turned. Landmarks of one
    camera leave depth and turn ambiguous (the bas-relief ambiguity): a face fitted too deep is turned too little, by
    about the same factor in every frame. What training frames teach about that holds for frames never trained on.
    What is left is a matter of the moment, and taken care of by a `TimeSpline`.
    """

    centre: Float[Tensor, " 3"]
    reference: Float[Tensor, "3 3"]
    feature_mean: Float[Tensor, " F"]
    feature_scale: Float[Tensor, " F"]
    train_features: Float[Tensor, "N F"]
    train_timesteps: Int[Tensor, " N"]

    def __init__(
        self,
        config: PoseRefinementConfig,
        c2w: Float[Tensor, "N 3 4"],
        timesteps: Int[Tensor, " N"],
        num_timesteps: int,
        centre: Float[Tensor, " 3"],
        registered: bool = False,
    ):
        """
        Args:
            config: see there.
            c2w: cameras of the training frames in the head's frame, OpenGL axes.
            timesteps: timestep of the track that each shows.
            num_timesteps: timesteps of the track.
            centre: middle of the head, metres: the point that corrections turn about.
            registered: whether the poses were laid against the pictures: then nothing is calibrated unless asked for.
        """
        super().__init__()
        if config.calibrate is None:
            config = replace(config, calibrate=not registered)
        self.config = config
        self.register_buffer("centre", centre.float())
        self.register_buffer("reference", mean_rotation(c2w[:, :, :3].double()).float())
        features = self._turn_features(c2w)
        self.register_buffer("feature_mean", features.mean(dim=0))
        # A head that never turns gives nothing to learn, and nothing to divide by.
        self.register_buffer("feature_scale", features.std(dim=0, correction=0).clamp_min(1e-2))
        self.register_buffer("train_features", self.features(c2w), persistent=False)
        self.register_buffer("train_timesteps", timesteps, persistent=False)
        self.calibration = nn.Parameter(torch.zeros(TURN_FEATURES, 6))
        # What steps that learn no corrections keep of them, and which steps those are.
        self._kept: tuple[tuple[int, bool, bool], Float[Tensor, "N 3 4"]] | None = None
        self.over_time: TimeSpline | None = None
        if config.over_time:
            explained = self.train_features if config.calibrate else None
            self.over_time = TimeSpline(timesteps, num_timesteps, config.knot_spacing, 6, explained)

    def features(self, c2w: Float[Tensor, "N 3 4"]) -> Float[Tensor, "N F"]:
        """Turn of tracked cameras from the mean training camera; mean 0 and deviation 1 over training."""
        return (self._turn_features(c2w) - self.feature_mean) / self.feature_scale

    def _turn_features(self, c2w: Float[Tensor, "N 3 4"]) -> Float[Tensor, "N F"]:
        """Rotation vector from the mean camera, radians."""
        return matrix_to_axis_angle(self.reference.T @ c2w[:, :, :3].to(self.reference))

    def _exponential(self, tangent: Float[Tensor, "N 6"]) -> Float[Tensor, "N 3 4"]:
        shift, turn = tangent.split(3, dim=1)
        return torch.cat([axis_angle_to_matrix(turn * (1 / HEAD_RADIUS)), shift[:, :, None]], dim=2)

    def learns(self, step: int) -> bool:
        """True if a step of the training learns corrections."""
        config = self.config
        return (config.calibrate or config.over_time) and step % LEARN_EVERY == 0

    def training_rays(self, ray_bundle: RayBundle, step: int) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Origins (metres) and directions of training frames' rays, moved: the head stays, the camera is corrected.
        Differentiable in the steps that learn corrections."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns(step)):
            return self._training_rays(ray_bundle, step)

    def _training_rays(self, ray_bundle: RayBundle, step: int) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        config = self.config
        calibrated = bool(config.calibrate) and step >= config.calibration_start_step
        over_time = self.over_time if step >= config.over_time_start_step else None
        if not calibrated and over_time is None:
            return ray_bundle.origins, ray_bundle.directions
        if self.centre.is_cuda and not self.learns(step):
            return self._moved_as_learned(ray_bundle, step, calibrated, over_time)
        # The exponential is taken once a frame, not once a ray.
        unique = torch.unique(ray_bundle.camera_indices[:, 0], return_inverse=True)
        frames, which = (to_device(indices, self.centre.device) for indices in unique)
        tangent = self._tangent(self.train_features[frames], self.train_timesteps[frames], calibrated, over_time)
        correction = self._exponential(tangent)[which]
        return self._moved(correction, ray_bundle.origins, ray_bundle.directions)

    def _moved_as_learned(
        self, ray_bundle: RayBundle, step: int, calibrated: bool, over_time: TimeSpline | None
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """As the steps that learn no corrections have it: those of all frames stay the same from one that does to the
        next, and take thirty launches less if they are kept."""
        valid_for = step // LEARN_EVERY, calibrated, over_time is not None
        if self._kept is None or self._kept[0] != valid_for:
            tangent = self._tangent(self.train_features, self.train_timesteps, calibrated, over_time)
            self._kept = valid_for, self._exponential(tangent)
        which = to_device(ray_bundle.camera_indices[:, 0], self.centre.device)
        return self._moved(self._kept[1][which], ray_bundle.origins, ray_bundle.directions)

    def _tangent(
        self,
        features: Float[Tensor, "N F"],
        timesteps: Int[Tensor, " N"],
        calibrated: bool,
        over_time: TimeSpline | None,
    ) -> Float[Tensor, "N 6"]:
        """Shift (metres) and turn (metres at 0.1 m from the centre) of frames."""
        tangent = self.centre.new_zeros(len(features), 6)
        if calibrated:
            tangent = tangent + features @ self.calibration
        if over_time is not None:
            tangent = tangent + self._beyond_turn(over_time, timesteps, features)
        return tangent

    def correct_tracked_camera(
        self,
        c2w: Float[Tensor, "3 4"],
        timestep: int,
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        more: Float[Tensor, " 6"] | None = None,
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        """Rays of a tracked frame's camera, moved by what training frames taught. No picture of it is needed.

        Args:
            c2w: the tracked camera.
            timestep: timestep of the track it shows.
            origins: metres.
            directions: unit length.
            more: a further correction, shift in metres and turn in metres at 0.1 m, for this frame alone.
        """
        tangent = self.correction(c2w[None], torch.full((1,), timestep, device=c2w.device))
        if more is not None:
            tangent = tangent + more
        return self._moved(self._exponential(tangent).expand(len(origins), -1, -1), origins, directions)

    def correction(self, c2w: Float[Tensor, "N 3 4"], timesteps: Int[Tensor, " N"]) -> Float[Tensor, "N 6"]:
        """Shift (metres) and turn (metres at 0.1 m from the centre) that tracked cameras are corrected by."""
        return self._tangent(self.features(c2w), timesteps, bool(self.config.calibrate), self.over_time)

    def _beyond_turn(
        self, over_time: TimeSpline, timesteps: Int[Tensor, " N"], features: Float[Tensor, "N F"]
    ) -> Float[Tensor, "N 6"]:
        """Correction of a timestep beyond what the calibration explains by the turn."""
        return over_time(timesteps, features if self.config.calibrate else None)

    def corrected(self, c2w: Float[Tensor, "N 3 4"], timesteps: Int[Tensor, " N"]) -> Float[Tensor, "N 3 4"]:
        """Tracked cameras after their correction."""
        correction = self._exponential(self.correction(c2w, timesteps))
        rotation, shift = correction[:, :, :3], correction[:, :, 3]
        origin = (rotation @ (c2w[:, :, 3:] - self.centre[:, None]))[:, :, 0] + self.centre + shift
        return torch.cat([rotation @ c2w[:, :, :3], origin[:, :, None]], dim=2)

    def _moved(
        self, correction: Float[Tensor, "R 3 4"], origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R 3"]]:
        rotation, shift = correction[:, :, :3], correction[:, :, 3]
        turned = rotation @ torch.stack([origins - self.centre, directions], dim=2)
        return turned[:, :, 0] + self.centre + shift, turned[:, :, 1]

    def parameters_by_group(self) -> dict[str, list[nn.Parameter]]:
        """Learned parameters by optimiser."""
        learned = [self.calibration] if self.config.calibrate else []
        if self.over_time is not None:
            learned.append(self.over_time.knots)
        return {"camera_opt": learned} if learned else {}

    def penalty(self) -> Float[Tensor, ""]:
        """Mean size of the correction over time, weighted: what the track says is worth something too."""
        if self.over_time is None:
            return self.centre.new_zeros(())
        shift, turn = self.over_time.over_training().view(-1, 2, 3).norm(dim=2).mean(dim=0)
        return SHIFT_PENALTY * shift + TURN_PENALTY * turn

    @torch.no_grad()
    def metrics(self) -> dict[str, Tensor]:
        """Mean sizes of the corrections over the training frames."""
        metrics = {}
        if self.config.calibrate:
            turn = (self.train_features @ self.calibration)[:, 3:].norm(dim=1).mean()
            metrics["calibration_turn_deg"] = torch.rad2deg(turn / HEAD_RADIUS)
        if self.over_time is not None:
            shift, turn = self.over_time.over_training().view(-1, 2, 3).norm(dim=2).mean(dim=0)
            metrics["pose_shift_mm"] = 1000.0 * shift
            metrics["pose_turn_deg"] = torch.rad2deg(turn / HEAD_RADIUS)
        return metrics
