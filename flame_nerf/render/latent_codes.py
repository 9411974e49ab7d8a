"""A code of each moment's own, for what neither pose nor expression says: light, a collar, a lock of hair."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

INITIAL_SPREAD = 0.01
"""Standard deviation of the codes before training: near zero, so that the moments start out alike."""


class LatentCodes(nn.Module):
    """One learned code per row of the track that training shows (NeRFace); all other moments get their mean."""

    def __init__(self, num_rows: int, dim: int, trained_rows: Int[Tensor, " N"]):
        """
        Args:
            num_rows: T, rows of the track.
            dim: D, length of a code.
            trained_rows: rows that training shows; several frames may show one row.
        """
        super().__init__()
        trained = torch.zeros(num_rows, dtype=torch.bool)
        trained[trained_rows] = True
        self.register_buffer("trained", trained, persistent=False)
        self.codes = nn.Parameter(INITIAL_SPREAD * torch.randn(num_rows, dim))

    def forward(self, rows: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Codes of rows of the track: their own where training shows them, else the mean. Differentiable."""
        return torch.where(self.trained[rows, None], self.codes[rows], self.mean())

    def mean(self) -> Float[Tensor, " D"]:
        """Mean code of the rows that training shows: what a moment that is not in the track is given."""
        return self.codes[self.trained].mean(dim=0)
