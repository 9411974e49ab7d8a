"""From where the training cameras saw the head: beyond that, view-dependent colour is invented."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SLACK = 0.05
"""Radians added to what the cameras span: triangles turn a little against the head, and directions with them."""
ALL_AROUND = 0.5
"""Cameras whose mean direction is shorter than this, for unit directions, surround the head."""


class SeenDirections:
    """The cone of directions in which training cameras saw each point of the canonical head.

    A colour network that knows the viewing direction has learned it inside that cone; outside it tints whole sides of
    the face. There a point is given the colour that it has at the cone's border.
    """

    def __init__(self, c2w: Float[Tensor, "N 3 4"], centre: Float[Tensor, " 3"]):
        """
        Args:
            c2w: training cameras in the head's frame.
            centre: of the head, metres.
        """
        towards = centre - c2w[:, :, 3]
        distance = towards.norm(dim=1)
        unit = towards / distance[:, None]
        mean = unit.mean(dim=0)
        self.surround = bool(mean.norm() < ALL_AROUND)
        axis = torch.nn.functional.normalize(mean, dim=0)
        self._eye = centre - axis * distance.mean()
        limit = torch.acos((unit @ axis).clamp(-1.0, 1.0)).max() + SLACK
        self._cosine, self._sine = limit.cos(), limit.sin()

    def nearest(self, points: Float[Tensor, "N 3"], directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Unit directions (from the eye on) at canonical points (metres); those outside moved to the border."""
        if self.surround:
            return directions
        axis = torch.nn.functional.normalize(points - self._eye.to(points), dim=1)
        along = (directions * axis).sum(dim=1, keepdim=True)
        across = torch.nn.functional.normalize(directions - along * axis, dim=1)
        border = self._cosine.to(points) * axis + self._sine.to(points) * across
        return torch.where(along < self._cosine.to(points), border, directions)
