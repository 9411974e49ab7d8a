"""A correction that changes smoothly over the video."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class TimeSpline(nn.Module):
    """Values over the rows of a track: learned at knots, straight lines between them, zero before anything is learned.

    A tracker errs alike in frames that follow each other. With knots some frames apart, a frame between frames that
    were trained on gets its correction from them, and no correction can fit the noise of one picture.

    What is common to the training frames is taken out: their mean, and what a linear function of given features would
    say. All frames moving together would only move the field and leave behind the frames that are not corrected, and
    what the features explain holds for those too, so another correction should learn it. Rows before the first and
    after the last training frame are not corrected.
    """

    def __init__(
        self,
        train_rows: Int[Tensor, " N"],
        num_rows: int,
        spacing: float,
        dim: int,
        features: Float[Tensor, "N F"] | None = None,
    ):
        """
        Args:
            train_rows: row of the track that each training frame shows.
            num_rows: T, rows of the track.
            spacing: rows between knots; at 1 every frame has a correction of its own.
            dim: length of a correction.
            features: of each training frame, what corrections of it are to have no linear part of.

        Raises:
            ValueError: knots closer than frames.
        """
        super().__init__()
        if not spacing >= 1:
            raise ValueError(f"knots must be at least one frame apart, not {spacing}")
        self.spacing = spacing
        self.knots = nn.Parameter(torch.zeros(max(2, math.ceil((num_rows - 1) / spacing) + 1), dim))
        self.first, self.last = int(train_rows.min()), int(train_rows.max())
        self.register_buffer("train_rows", train_rows, persistent=False)
        self.register_buffer("train_features", features, persistent=False)
        common = _with_constant(features, len(train_rows)).double()
        projection = torch.linalg.pinv(common) @ self._weights(train_rows).double()
        self.register_buffer("projection", projection.float(), persistent=False)

    def forward(self, rows: Int[Tensor, " B"], features: Float[Tensor, "B F"] | None = None) -> Float[Tensor, "B D"]:
        """Corrections of rows of the track; differentiable in the knots.

        Args:
            features: of these frames, where the training frames' were given.
        """
        knot, along = self._place(rows)
        values = torch.lerp(self.knots[knot], self.knots[knot + 1], along[:, None])
        values = values - _with_constant(features, len(rows)).to(values) @ (self.projection @ self.knots)
        return values * ((rows >= self.first) & (rows <= self.last))[:, None]

    def over_training(self) -> Float[Tensor, "N D"]:
        """Corrections of the training frames."""
        return self(self.train_rows, self.train_features)

    def _place(self, rows: Int[Tensor, " B"]) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
        """Knot before each row, and how far on the way to the next it is."""
        position = rows.to(torch.float32) / self.spacing
        knot = position.floor().long().clamp(0, len(self.knots) - 2)
        return knot, position - knot

    def _weights(self, rows: Int[Tensor, " B"]) -> Float[Tensor, "B K"]:
        knot, along = self._place(rows)
        weights = torch.zeros(len(rows), len(self.knots))
        weights.scatter_(1, knot[:, None], 1 - along[:, None])
        return weights.scatter_add_(1, knot[:, None] + 1, along[:, None])


def _with_constant(features: Float[Tensor, "B F"] | None, count: int) -> Float[Tensor, "B F+1"]:
    ones = torch.ones(count, 1) if features is None else features.new_ones(count, 1)
    return ones if features is None else torch.cat([ones, features], dim=1)
