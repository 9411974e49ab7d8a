"""Training frames' moments rendered from anywhere, for the losses that look at whole views."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.refinement import PoseRefinement
from flame_nerf.render.moments import Conditioning, Timeline
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import StepRays


class TrainingViews:
    """Renders the moments of training frames on the plain background.

    Terms on whole views are rare and steep. In the networks, which all of the head shares, they would fill Adam's
    second moments, and slow down what the pictures teach: of a field with a hash grid they reach that alone.
    """

    def __init__(
        self,
        timeline: Timeline,
        renderer: Renderer,
        conditioning: Conditioning,
        pose: PoseRefinement,
        c2w: Float[Tensor, "N 3 4"],
        background: Float[Tensor, " 3"],
    ):
        """
        Args:
            timeline, renderer, conditioning, pose: the model's.
            c2w: cameras of the training frames, head frame, OpenGL axes.
            background: colour behind the head.
        """
        self.c2w = c2w
        self._timeline, self._renderer, self._conditioning = timeline, renderer, conditioning
        self._pose, self._background = pose, background

    def render(
        self, step: int, frame: int, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> dict[str, Tensor]:
        """Outputs of the renderer, with the rays (origins, directions) after correction. Differentiable in the field
        alone; of one with a hash grid, in that alone.

        Args:
            step: of the training.
            frame: index of the training frame.
            origins, directions: of the view's rays as tracked.
        """
        timestep = int(self._timeline.train_timesteps[frame])
        with torch.no_grad():
            rays = self._pose.correct_tracked_camera(self.c2w[frame], timestep, origins, directions)
        moments = self._timeline.at([timestep], step)
        condition = self._conditioning(moments).detach()
        moments = replace(moments, shift=moments.shift and moments.shift.detach())
        mesh_index: Int[Tensor, " R"] = torch.zeros(len(origins), dtype=torch.long, device=origins.device)
        with self._renderer.networks_held():
            view = StepRays(moments, mesh_index, *rays, self._background)
            view = self._renderer.prepare(view, self._renderer.known_empty(step))
            outputs = self._renderer(view, condition, step)
        return outputs | dict(zip(("origins", "directions"), rays, strict=True))
