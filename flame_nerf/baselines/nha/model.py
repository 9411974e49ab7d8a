"""Neural Head Avatars as a Nerfstudio model: its config, its terms of the loss."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flame_nerf.baselines.nha.networks import NhaFieldConfig
from flame_nerf.baselines.nha.renderer import NhaRenderer, NhaSurfaceConfig
from flame_nerf.losses.terms import LossTerms
from flame_nerf.losses.weights import LossWeights, Term
from flame_nerf.model import FlameNerfModel, FlameNerfModelConfig


@dataclass
class NhaModelConfig(FlameNerfModelConfig):
    """Neural Head Avatars' choices. What concerns samples around the mesh (`mapping`) is not used."""

    _target: type = dataclasses.field(default_factory=lambda: NhaModel)
    """target class to instantiate"""
    field: NhaFieldConfig = dataclasses.field(default_factory=NhaFieldConfig)  # type: ignore[assignment]  # its own model alone reads it
    """The networks."""
    sampling: NhaSurfaceConfig = dataclasses.field(default_factory=NhaSurfaceConfig)  # type: ignore[assignment]  # its own model alone reads it
    """The mesh, and what rays see of it."""
    eval_num_rays_per_chunk: int = 1 << 15
    """Rays rendered at a time."""
    loss_coefficients: LossWeights = dataclasses.field(
        default_factory=lambda: LossWeights(mask_loss=0.1, unseen_loss=0.0, normal_loss=0.02, laplacian_loss=0.05)
    )
    """How much each term of the loss counts."""


class NhaLosses(LossTerms):
    """The terms on the mesh's shape beside those on colours and silhouette."""

    def terms(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> dict[str, Term]:
        terms = super().terms(outputs, batch, step)
        if step is not None:
            terms["normal_loss"] = lambda: outputs["normal_error"]
            terms["laplacian_loss"] = lambda: outputs["roughness"]
        return terms


class NhaModel(FlameNerfModel):
    """Neural Head Avatars on a subject of this package."""

    config: NhaModelConfig

    def make_renderer(self) -> NhaRenderer:
        config = self.config
        if config.loss_coefficients.unseen_loss:
            raise ValueError("nha's surface is closed on all sides as it is: leave unseen-loss at 0.")
        return NhaRenderer(
            self.subject.track, self.motion, config.field, config.sampling, self.pixel_size, config.latent_dim
        )

    def make_losses(self, kind: type[LossTerms] = NhaLosses, **options: Any) -> LossTerms:
        return super().make_losses(kind, **options)
