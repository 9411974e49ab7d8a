"""Pose of one frame refined on that frame's own picture, the avatar held fixed: what tracking costs, told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from flame_nerf.losses.functions import color_loss
from flame_nerf.render.compositing import lit
from flame_nerf.render.picture import camera_rays

if TYPE_CHECKING:
    from flame_nerf.model import FlameNerfModel


def refine_pose_on_frame(
    model: FlameNerfModel,
    camera: Cameras,
    picture: Float[Tensor, "H W 3"],
    region: Bool[Tensor, "H W"],
    *,
    steps: int = 60,
    rays: int = 1500,
    lr: float = 3e-4,
) -> Float[Tensor, " 6"]:
    """Shift and turn of a frame's camera that bring the avatar's picture closest to the frame's, by Adam.

    For evaluation: the difference to the picture without it is what the track's error costs, not the avatar's. Only
    pose moves; expression and avatar stay.

    Args:
        model: trained, in evaluation mode.
        camera: one of the dataset's, with `frame_idx` in its metadata.
        picture: the frame on the model's background colour, in 0..1.
        region: pixels that count.
        steps, rays: how long, and how many pixels are looked at in each step.
        lr: metres a step.

    Returns:
        A correction to put into the camera's metadata as "pose_correction", or for `camera_rays(..., correction=...)`.
    """
    correction = torch.zeros(6, device=model.device, requires_grad=True)
    optimizer = torch.optim.Adam([correction], lr=lr)
    pixels = region.flatten().nonzero()[:, 0].to(model.device)
    target = picture.reshape(-1, 3).to(model.device)
    moments = model.timeline.of_camera(camera)
    condition, pose, color = model.conditioning(moments), model.refinement.pose, model.background.color
    with model.shown_weights():
        for _ in range(steps):
            chosen = pixels[torch.randint(len(pixels), (rays,), device=model.device)]
            bundle = camera_rays(camera, moments, pose, color, correction).part(chosen)
            outputs = model.renderer(model.renderer.prepare(bundle, model.renderer.known_empty()), condition)
            outputs = lit(outputs, bundle.mesh_index, moments.gains)
            optimizer.zero_grad()
            color_loss(outputs["rgb"], target[chosen]).backward(inputs=[correction])
            optimizer.step()
    return correction.detach()
