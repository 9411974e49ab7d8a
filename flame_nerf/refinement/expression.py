"""Corrections of tracked expressions, learned with the field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flame_nerf.refinement.time_spline import TimeSpline
from flame_nerf.runtime.old_runs import StoredConfig

LEAST_DEVIATION = 0.02
"""Share of the largest expression's deviation that every expression may at least move by."""


KNOT_SPACING = 8.0
"""Frames between the knots of the correction, which is linear between them: about a quarter of a second, in which an
expression comes or goes."""


@dataclass
class ExpressionRefinementConfig(StoredConfig):
    """Correction of tracked expressions; it moves the mesh and changes the field's condition."""

    enabled: bool = False
    """Learn them. Sharper where the tracker misread an expression; needs the head model that posed the subject, and
    makes every step a little longer."""


class ExpressionRefinement(nn.Module):
    """Offsets of the expression over time, in units of each expression's own deviation over training.

    The mesh follows to first order: a point near a triangle is moved back by how far the offset moves that triangle,
    which is what re-posing the mesh would do but for the triangle's own small turn, and costs no new search structure.
    As in Neural Head Avatars and PointAvatar, which refine their tracks with the picture.
    """

    def __init__(
        self,
        config: ExpressionRefinementConfig,
        expression: Float[Tensor, "T E"],
        face_directions: Float[Tensor, "F 3 E"],
        train_timesteps: Int[Tensor, " N"],
    ):
        """
        Args:
            config: see there.
            expression: the track's coefficients.
            face_directions: how far each triangle's middle moves with each expression, metres, head frame.
            train_timesteps: timesteps of the track that are trained on.
        """
        super().__init__()
        self.config = config
        deviation = expression[train_timesteps].std(dim=0, correction=0)
        scale = deviation.clamp_min(LEAST_DEVIATION * float(deviation.max().clamp_min(1e-6)))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("face_directions", face_directions, persistent=False)
        self.spline = TimeSpline(train_timesteps, len(expression), KNOT_SPACING, expression.shape[1])

    def offsets(self, timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """Offsets of the expressions at timesteps of the track."""
        return self.spline(timesteps) * self.scale

    def face_shift(self, offsets: Float[Tensor, "B E"]) -> Float[Tensor, "B F 3"]:
        """Shift of each triangle's middle by the offsets, metres, head frame."""
        return torch.einsum("fce,be->bfc", self.face_directions, offsets)

    def penalty(self) -> Float[Tensor, ""]:
        """Mean squared offset over training, in squared deviations."""
        return self.spline.over_training().square().mean()
