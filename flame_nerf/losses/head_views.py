"""The training frames as whole-picture losses see them: one coarse square around the head each."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.geometry import perspective, world_to_camera
from flame_nerf.losses.encoders import PriorUnavailable
from flame_nerf.losses.view_geometry import Window, crop_image, square_window, window_rays


class HeadViews:
    """Targets and rays of size x size pixels over each training frame's head.

    Raises:
        PriorUnavailable: a frame has no mask: the picture's surroundings would count as part of the person.
    """

    def __init__(
        self, dataset: FlameNerfDataset, size: int, background: tuple[float, float, float], margin: float = 0.05
    ):
        """
        Args:
            size: rays along the side of a view.
            margin: part of the head's size that is seen all around it.
            background: what targets are composited on; rendered views must be, too.
        """
        if any(dataset.frame(index).mask_path is None for index in range(len(dataset))):
            raise PriorUnavailable("the subject has no masks, so the picture's background would be compared too")
        self.size, self.background, self._margin = size, background, margin
        self._dataset = dataset
        cameras = dataset.cameras
        self._focal = torch.cat([cameras.fx, cameras.fy], dim=1)
        self._centre = torch.cat([cameras.cx, cameras.cy], dim=1)
        self._windows: dict[int, Window] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def window(self, frame: int) -> Window:
        """The square around a frame's head; a frame with an empty matte is seen whole."""
        if frame not in self._windows:
            alpha = self._dataset.matte(frame)
            height, width = alpha.shape
            shortest = min(width, height)
            whole = ((width - shortest) / 2, (height - shortest) / 2, float(shortest))
            self._windows[frame] = square_window(alpha, self._margin) if alpha.max() > 127 else whole
        return self._windows[frame]

    def target(self, frame: int) -> Float[Tensor, "3 S S"]:
        """The frame's picture, cut and composited, colours in 0..1."""
        rgba = self._dataset.get_numpy_image(frame)
        return crop_image(rgba, self.window(frame), self.size, self.background)

    def rays(
        self, frame: int, c2w: Float[Tensor, "3 4"], jitter: torch.Generator | bool = False
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Rays of a view with the frame's lens from any camera pose, row by row: origins, unit directions (N = S²)."""
        return window_rays(self.window(frame), self.size, self._focal[frame], self._centre[frame], c2w, jitter)

    def rays_towards(
        self, frame: int, c2w: Float[Tensor, "3 4"], points: Float[Tensor, "P 3"], margin: float
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """Jittered rays of a close-up with the frame's lens from any camera pose; as of :meth:`rays`.

        Args:
            points: the square around them is shown, metres.
            margin: part of its side that is shown all around it.
        """
        camera = world_to_camera(points.cpu(), c2w.cpu())
        places = perspective(camera, self._focal[frame], self._centre[frame])
        low, high = places.amin(dim=0), places.amax(dim=0)
        side = float((high - low).max()) * (1 + 2 * margin)
        left, top = ((low + high - side) / 2).tolist()
        return window_rays((left, top, side), self.size, self._focal[frame], self._centre[frame], c2w, jitter=True)
