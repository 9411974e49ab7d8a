"""The jaw joint as one more coefficient of the face, for heads whose expressions do not open the mouth (FLAME).

Where an expression opens it (jawOpen), the joint rests: with both, one mouth would have many descriptions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.heads import HeadModel

FULL_TURN = 0.5
"""Turn of the jaw about x at coefficient 1, radians: about as wide as a mouth opens."""
RANGE = (-0.1, 1.2)
"""Coefficients that a jaw can have: teeth stop it a little below its rest."""
JOINT = "jaw"


@dataclass(frozen=True)
class Jaw:
    """How L landmark points follow the jaw joint."""

    row: int
    """Of the joint in the head model."""
    share: Float[Tensor, " L"]
    """Skinning weight of the jaw on each point."""
    corrective: Float[Tensor, "9 L 3"] | None
    """Pose correctives of the jaw's rotation, metres."""
    mean: Float[Tensor, "3"]
    shape: Float[Tensor, "3 S"]
    """The joint's place, linear in the identity."""

    def place(self, identity: Float[Tensor, " S"]) -> Float[Tensor, "3"]:
        return self.mean + self.shape @ identity

    def turned(
        self, points: Float[Tensor, "T L 3"], opening: Float[Tensor, " T"], identity: Float[Tensor, " S"]
    ) -> Float[Tensor, "T L 3"]:
        """The points with the jaw at the given coefficients: correctives, then skinning."""
        change = axis_angle_to_matrix(rotation_of(opening)) - torch.eye(3, dtype=points.dtype)
        if self.corrective is not None:
            points = points + torch.einsum("tk,klc->tlc", change.flatten(1), self.corrective)
        arm = points - self.place(identity)
        return points + self.share[:, None] * (arm @ change.transpose(1, 2))

    def by_opening(self, turned: Float[Tensor, "T L 3"], identity: Float[Tensor, " S"]) -> Float[Tensor, "T L 3"]:
        """Derivative of the turned points by the coefficient, without the correctives' small part."""
        arm = turned - self.place(identity)
        about_x = torch.stack([torch.zeros_like(arm[..., 0]), -arm[..., 2], arm[..., 1]], dim=-1)
        return FULL_TURN * self.share[:, None] * about_x


def opens_by_joint(head: HeadModel) -> bool:
    """Whether the mouth opens by the jaw joint, and by no expression."""
    return JOINT in head.joint_names and not any("jaw" in name.lower() for name in head.expression_names)


def rotation_of(opening: Float[Tensor, "*T"]) -> Float[Tensor, "*T 3"]:
    """Axis-angle of the jaw joint at a coefficient: about x, chin down."""
    zero = torch.zeros_like(opening)
    return torch.stack([FULL_TURN * opening, zero, zero], dim=-1)


def mouth_opening(
    head: HeadModel, expression: Float[Tensor, "T E"], pose: Float[Tensor, "T J 3"]
) -> Float[Tensor, " T"] | None:
    """How far the mouth is open, 0 to about 1, by jawOpen or by the jaw joint; None where a head has neither."""
    if "jawOpen" in head.expression_names:
        return expression[:, head.expression_names.index("jawOpen")]
    if opens_by_joint(head):
        return pose[:, head.joint_names.index(JOINT), 0] / FULL_TURN
    return None
