"""What is behind the head: a colour, the subject's clean plate, or, in training, a colour of each ray's own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components import renderers
from torch import Tensor, nn


class Background(nn.Module):
    """The background of rays and pictures.

    Attributes:
        color: behind everything that has no plate.
    """

    color: Float[Tensor, " 3"]
    plate: Float[Tensor, "H W 3"] | None

    def __init__(self, color: Float[Tensor, " 3"], plate: Float[Tensor, "H W 3"] | None):
        """
        Args:
            color: RGB in 0..1.
            plate: what the camera of the dataset saw behind the head, where the subject has that.
        """
        super().__init__()
        self.register_buffer("color", color, persistent=False)
        self.register_buffer("plate", plate, persistent=False)

    def of_rays(self, rays: RayBundle, randomly: bool = False) -> Float[Tensor, "R 3"] | Float[Tensor, " 3"]:
        """Behind a batch: the plate's pixels where the batch carries them; else random colours, or `color`."""
        if "background" in (rays.metadata or {}):
            return rays.metadata["background"]
        return torch.rand(len(rays), 3, device=self.color.device) if randomly else self.color

    def of_picture(self, camera: Cameras, height: int, width: int) -> Float[Tensor, " 3"] | Float[Tensor, "HW 3"]:
        """Behind a camera's picture: the plate in the dataset's own pictures, else a colour."""
        if isinstance(renderers.BACKGROUND_COLOR_OVERRIDE, Tensor):
            return renderers.BACKGROUND_COLOR_OVERRIDE.to(self.color.device)
        if self.plate is None or "frame_idx" not in (camera.metadata or {}):
            return self.color
        sized = torch.nn.functional.interpolate(self.plate.movedim(-1, 0)[None], (height, width), mode="area")
        return sized[0].movedim(0, -1).reshape(-1, 3)
