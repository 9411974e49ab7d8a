"""A correction of the tracked identity, shared by all frames and learned with the field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flame_nerf.runtime.old_runs import StoredConfig


@dataclass
class IdentityRefinementConfig(StoredConfig):
    """Correction of the tracked identity: the same for all frames, posed and canonical head alike."""

    enabled: bool = False
    """Learn it. In the head's own frame nearly all of it is the field's anyway, so it helps where the jaw or the neck
    turns far. Needs the head model that posed the subject, and makes every step a little longer."""


class IdentityRefinement(nn.Module):
    """Offset of the identity coefficients, in standard deviations."""

    face_directions: Float[Tensor, "F 3 S"]

    def __init__(self, config: IdentityRefinementConfig, face_directions: Float[Tensor, "F 3 S"]):
        """
        Args:
            config: see there.
            face_directions: how far each triangle's middle moves with each coefficient, metres, head frame.
        """
        super().__init__()
        self.config = config
        self.offset = nn.Parameter(torch.zeros(face_directions.shape[2]))
        self.register_buffer("face_directions", face_directions, persistent=False)

    def face_shift(self) -> Float[Tensor, "F 3"]:
        """Shift of each triangle's middle by the offset, head at rest, metres."""
        return self.face_directions @ self.offset

    def penalty(self) -> Float[Tensor, ""]:
        """Mean squared offset."""
        return self.offset.square().mean()
