"""Which timesteps or other moments cameras and rays show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from flame_nerf.motion import PosedFrame, SubjectMotion, stored_row, unstored_frame
from flame_nerf.refinement import TrackRefinement
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import Moments
from flame_nerf.runtime.to_device import to_device


class Timeline:
    """The moments that a subject can show.

    Not a module: it holds references to the modules of a model, and no weights of its own.

    Attributes:
        train_timesteps: timestep of each training camera.
        default_timestep: what is shown where nothing names a moment; None: the neutral face.
    """

    def __init__(
        self,
        motion: SubjectMotion,
        renderer: Renderer,
        refinement: TrackRefinement,
        train_timesteps: Int[Tensor, " N"],
        default_timestep: int | None,
    ):
        """
        Args:
            motion: the moments as they were tracked, and others.
            renderer: poses their meshes.
            refinement: corrects those of the track.
            train_timesteps: timestep of each training camera.
            default_timestep: what is shown where nothing names a moment; None: the neutral face.

        Raises:
            SystemExit: the track has no such default timestep. A command that loads a model shows that line alone.
        """
        last = motion.num_timesteps - 1
        if default_timestep is not None and not 0 <= default_timestep <= last:
            name = "pipeline.model.default_timestep"
            raise SystemExit(f"{name} is {default_timestep}: give one from 0 to {last}, or none.")
        self.train_timesteps = train_timesteps
        self._motion, self._renderer, self._refinement = motion, renderer, refinement
        self.default_timestep = default_timestep
        self._conditions = motion.conditions
        self._still: tuple[PosedFrame, Any] | None = None

    def of_camera(self, camera: Cameras | RayBundle, override: PosedFrame | None = None) -> Moments:
        """The one moment that a camera shows.

        Args:
            camera: one camera, or rays that all show what it does; `motion.stored_row` says how they name a moment.
            override: shown instead, unless the camera is a dataset's own.
        """
        timestep = stored_row(camera, self.train_timesteps, override is not None, default=self.default_timestep)
        if timestep is not None:
            corrected = "as_tracked" not in (camera.metadata or {})
            moments = self.at([timestep], corrected=corrected)
            return self._as_filmed(moments) if corrected and "frame_idx" in (camera.metadata or {}) else moments
        frame = (override or unstored_frame(camera, self._motion)).to(self._renderer.device)
        # A still moment is asked for again and again while the camera moves: its structures are kept.
        still = self._still
        if still is None or still[0] is not frame:
            still = self._still = frame, self._renderer.pose(frame)
        return Moments([still[1]], frame.condition[None])

    def of_frame(self, frame: PosedFrame) -> Moments:
        """A moment that is not in the track, its condition near what training shows."""
        frame = frame.to(self._renderer.device)
        return Moments([self._renderer.pose(frame)], self._renderer.nearest_seen(frame.condition[None]))

    def of_rays(
        self, rays: RayBundle, override: PosedFrame | None = None, step: int | None = None
    ) -> tuple[Moments, Int[Tensor, " R"]]:
        """The moments that rays show, and which of them each ray does.

        Args:
            rays: of stored frames (`frame_idx` in their metadata, in the host's memory), or of times, or of neither:
                those show what a picture without metadata shows.
            override: shown instead by all rays that are not of stored frames.
            step: of the training that the rays are drawn for; None: corrections as they were learned in the end.
        """
        device = self._renderer.device
        if "frame_idx" in (rays.metadata or {}):
            timesteps, of_ray = torch.unique(rays.metadata["frame_idx"][:, 0], return_inverse=True)
            moments = self.at(timesteps.tolist(), step=step)
            return moments if step is not None else self._as_filmed(moments), to_device(of_ray, device)
        if rays.times is None or override is not None:
            return self.of_camera(rays, override), torch.zeros(len(rays), dtype=torch.long, device=device)
        times, of_ray = torch.unique(rays.times[:, 0], return_inverse=True)
        frames = [self._motion.at_time(time).to(device) for time in times.tolist()]
        condition = torch.stack([frame.condition for frame in frames])
        return Moments([self._renderer.pose(frame) for frame in frames], condition), of_ray.to(device)

    def _as_filmed(self, moments: Moments) -> Moments:
        """Stored moments in the light of their frames. A picture from elsewhere, or of another moment, has none."""
        return replace(moments, gains=self._refinement.gains_of(moments.timesteps))

    def at(self, timesteps: Sequence[int], step: int | None = None, corrected: bool = True) -> Moments:
        """Moments of the track.

        Args:
            timesteps: rows of the track.
            step: of the training; None: trained.
            corrected: with what was learned of the track's errors.
        """
        rows = to_device(torch.tensor(timesteps, dtype=torch.long), self._renderer.device)
        if self._conditions.device != rows.device:
            self._conditions = self._conditions.to(rows.device)
        condition, shift = self._conditions[rows], None
        if corrected:
            condition, shift = self._refinement.corrected(rows, condition, step)
        return Moments(self._renderer.meshes.get_many(timesteps), condition, rows, shift)
