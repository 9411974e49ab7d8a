"""A light that changes over the video, learned with the field: skin and expressions would take it for their own."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flame_nerf.refinement.time_spline import TimeSpline

KNOT_SPACING = 4.0
"""Frames between the knots of the gains, which are linear between them: exposure and white balance follow a scene
within a few tenths of a second."""
UNIT = 0.6
"""Log gain of 1 at a knot: it scales the optimiser's steps."""
PULL, NEIGHBOUR_PULL = 1e-3, 2e-2
"""Penalties on the mean squared log gain, and on the mean squared difference of neighbouring knots."""


class FrameGains(nn.Module):
    """A gain of each colour over time: a frame shows the head's colours times its own.

    A camera's exposure and white balance drift, lamps and clouds change. A field without gains learns a mean light, and
    lets expressions carry what was different while they were filmed: a blink then tints the whole face. The geometric
    mean of the training frames' gains is 1, so that pictures of no frame, which have none, show the mean light.
    """

    def __init__(self, train_timesteps: Int[Tensor, " N"], num_timesteps: int):
        """
        Args:
            train_timesteps: timestep of the track that each training frame shows.
            num_timesteps: timesteps of the track.
        """
        super().__init__()
        self.spline = TimeSpline(train_timesteps, num_timesteps, KNOT_SPACING, 3)

    def forward(self, timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B 3"]:
        """Gains of red, green and blue at timesteps of the track: between the neighbours' where training has a gap, and
        those of the first and the last training frame outside of them. Differentiable in the knots."""
        return torch.exp(UNIT * self.spline(timesteps.clamp(self.spline.first, self.spline.last)))

    def penalty(self) -> Float[Tensor, ""]:
        """What the gains cost, by their logarithms: they are to be small, and to change slowly."""
        size = self.spline.over_training().square().mean()
        change = self.spline.knots.diff(dim=0).square().mean()
        return UNIT**2 * (PULL * size + NEIGHBOUR_PULL * change)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Checkpoints older than the gains: their field knows one light.
        state_dict.setdefault(f"{prefix}spline.knots", torch.zeros_like(self.spline.knots))
        super()._load_from_state_dict(state_dict, prefix, *rest)
