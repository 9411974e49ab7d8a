"""A correction that changes smoothly over the video."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class TimeSpline(nn.Module):
    """Values over the timesteps of a track: learned at knots, linear between them, zero before anything is learned.

    A tracker errs alike in frames that follow each other. With knots some frames apart, a frame between frames that
    were trained on gets its correction from them, and no correction can fit the noise of one picture.

    What is common to the training frames is taken out: their mean, and what a linear function of given features would
    say. All frames moving together would only move the field and leave behind the frames that are not corrected, and
    what the features explain holds for those too, so another correction should learn it. Rows before the first and
    after the last training frame are not corrected.
    """

    train_timesteps: Int[Tensor, " N"]
    train_features: Float[Tensor, "N F"] | None
    projection: Float[Tensor, "F+1 K"]

    def __init__(
        self,
        train_timesteps: Int[Tensor, " N"],
        num_timesteps: int,
        spacing: float,
        dim: int,
        features: Float[Tensor, "N F"] | None = None,
    ):
        """
        Args:
            train_timesteps: timestep of the track that each training frame shows.
            num_timesteps: T, timesteps of the track.
            spacing: timesteps between knots; at 1 every frame has a correction of its own.
            dim: length of a correction.
            features: of each training frame, what corrections of it are to have no linear part of.

        Raises:
            ValueError: knots closer than frames.
        """
        super().__init__()
        if not spacing >= 1:
            raise ValueError(f"knots must be at least one frame apart, not {spacing}")
        self.spacing = spacing
        self.knots = nn.Parameter(torch.zeros(max(2, math.ceil((num_timesteps - 1) / spacing) + 1), dim))
        self.first, self.last = int(train_timesteps.min()), int(train_timesteps.max())
        self.register_buffer("train_timesteps", train_timesteps, persistent=False)
        self.register_buffer("train_features", features, persistent=False)
        common = _with_constant(features, train_timesteps).double()
        projection = torch.linalg.pinv(common) @ self._weights(train_timesteps).double()
        self.register_buffer("projection", projection.float(), persistent=False)

    def forward(
        self, timesteps: Int[Tensor, " B"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B D"]:
        """Corrections of timesteps of the track; differentiable in the knots.

        Args:
            features: of these frames, where the training frames' were given.
        """
        knot, along = self._place(timesteps)
        values = torch.lerp(self.knots[knot], self.knots[knot + 1], along[:, None])
        values = values - _with_constant(features, timesteps).to(values) @ (self.projection @ self.knots)
        return values * ((timesteps >= self.first) & (timesteps <= self.last))[:, None]

    def over_training(self) -> Float[Tensor, "N D"]:
        """Corrections of the training frames."""
        return self(self.train_timesteps, self.train_features)

    def _place(self, timesteps: Int[Tensor, " B"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """Knot before each timestep, and how far on the way to the next it is."""
        position = timesteps.to(torch.float32) / self.spacing
        knot = position.floor().long().clamp(0, len(self.knots) - 2)
        return knot, position - knot

    def _weights(self, timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        knot, along = self._place(timesteps)
        weights = torch.zeros(len(timesteps), len(self.knots))
        weights.scatter_(1, knot[:, None], 1 - along[:, None])
        return weights.scatter_add_(1, knot[:, None] + 1, along[:, None])


def _with_constant(features: Float[Tensor, "B F"] | None, timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B F+1"]:
    like = {"device": timesteps.device} if features is None else {"device": features.device, "dtype": features.dtype}
    ones = torch.ones(len(timesteps), 1, **like)
    return ones if features is None else torch.cat([ones, features], dim=1)
