"""What the field is conditioned on: expression, jaw and gaze, and a code of each timestep's own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import Moments

INITIAL_SPREAD = 0.01
"""Standard deviation of the codes before training: near zero, so that the moments start out alike."""


class LatentCodes(nn.Module):
    """One learned code per timestep that training shows (NeRFace); all other moments get their mean.

    For what neither pose nor expression says: light, a collar, a lock of hair.
    """

    trained: Bool[Tensor, " T"]
    trained_rows: Int[Tensor, " U"]

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
        # A mask of them would have to be counted first, which a GPU is waited for.
        self.register_buffer("trained_rows", trained.nonzero()[:, 0], persistent=False)
        self.codes = nn.Parameter(INITIAL_SPREAD * torch.randn(num_rows, dim))

    @classmethod
    def of_timesteps(cls, num_rows: int, dim: int, trained_rows: Int[Tensor, " N"]) -> LatentCodes | None:
        """Codes as above; None for a length of 0."""
        return cls(num_rows, dim, trained_rows) if dim else None

    def forward(self, rows: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Codes of rows of the track: their own where training shows them, else the mean. Differentiable."""
        return torch.where(self.trained[rows, None], self.codes[rows], self.mean())

    def mean(self) -> Float[Tensor, " D"]:
        """Mean code of the rows that training shows: what a moment that is not in the track is given."""
        return self.codes[self.trained_rows].mean(dim=0)


class Conditioning:
    """From moments to what the field is conditioned on: their conditions and their latent codes."""

    def __init__(self, renderer: Renderer, latents: LatentCodes | None, train_timesteps: Int[Tensor, " N"]):
        """
        Args:
            renderer: knows which conditions its field was trained on.
            latents: codes of the timesteps; None: there are none.
            train_timesteps: timestep of each training frame.
        """
        self._renderer, self._latents, self._train_timesteps = renderer, latents, train_timesteps

    def __call__(self, moments: Moments) -> Float[Tensor, "B D"]:
        """Conditions, in pictures near what was trained where the renderer has it so, with the latent codes of their
        timesteps, or the mean code without. Differentiable in the codes, and in training in the conditions."""
        condition, timesteps = moments.condition, moments.timesteps
        if not (self._renderer.training or self._are_trained(timesteps)):
            condition = self._renderer.nearest_seen(condition)
        if self._latents is None:
            return condition
        mean = timesteps is None
        codes = self._latents.mean().expand(len(condition), -1) if mean else self._latents(timesteps)
        return torch.cat([condition, codes], dim=-1)

    def _are_trained(self, timesteps: Int[Tensor, " B"] | None) -> bool:
        """Whether all were trained on: such moments keep the condition that they were trained with, also where that
        was corrected meanwhile."""
        return timesteps is not None and bool(torch.isin(timesteps, self._train_timesteps.to(timesteps)).all())
