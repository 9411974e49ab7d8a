"""INSTA's choices (Zielonka et al., "Instant Volumetric Head Avatars", 2023) over the shared renderer and field.

What is its own here: what conditions the field and where, and two loss terms. Its mapping, sizes and optimisers are
settings of the shared parts, in `flame_nerf.methods`.

Where it had to be carried over rather than set: its FLAME head has no inside of the mouth, ours may have one; hair and
cloth come from the mesh's regions, not from a segmentation of the picture; and samples lie in the shared shell around
the mesh, which asks the field about a tenth of the points that INSTA's occupancy grid alone would.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from flame_nerf.canonical import MappingConfig, ShellSamples
from flame_nerf.field import FieldConfig
from flame_nerf.losses.functions import color_loss
from flame_nerf.losses.terms import LossTerms, target_colors
from flame_nerf.losses.weights import LossWeights, Term
from flame_nerf.model import FlameNerfModel, FlameNerfModelConfig
from flame_nerf.motion import SubjectMotion
from flame_nerf.render.head_renderer import HeadRenderer
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.render.step_rays import StepRays
from flame_nerf.runtime.words import escape
from flame_nerf.subject import HeadTrack

MOUTH_REGIONS = ("lips", "mouth", "teeth", "tongue")
"""Where errors count `mouth_weight` times."""
HIDDEN_REGIONS = ("scalp", "neck")
"""Where hair and cloth lie over the mesh, so that its depth is not the picture's."""

# INSTA's own figures, and so no options.
CONDITION_EXPRESSIONS = 16
"""Expression values in the field's condition: the first ones of a statistical head, whose order is that of their
variance; of named blendshapes those that vary most over the training frames."""
CONDITION_REGIONS = ("lips",)
"""Regions near which the condition is these. Elsewhere it is ones: only the mesh moves what is there."""
MOUTH_WEIGHT = 40.0
"""Weight of the colours of mouth and lips."""
MOUTH_WEIGHT_START_STEP = 500
"""Training step from which they have it."""


@dataclass
class InstaModelConfig(FlameNerfModelConfig):
    """INSTA's choices beyond the sizes of the shared parts."""

    _target: type = dataclasses.field(default_factory=lambda: InstaModel)
    """target class to instantiate"""
    ema_decay: float = 0.95
    """Evaluation, films and the viewer show weights averaged over about 1 / (1 - ema_decay) steps; 0: the last ones."""
    loss_coefficients: LossWeights = dataclasses.field(
        default_factory=lambda: LossWeights(mask_loss=0.0, unseen_loss=0.0, mesh_depth_loss=1.25)
    )
    """How much each term of the loss counts. There is no mask loss: the background is random."""


def conditioning_columns(track: HeadTrack, train_rows: Int[Tensor, " N"], count: int) -> list[int]:
    """Columns of the expression that condition the field; see `CONDITION_EXPRESSIONS`. All, where there are no more."""
    names = track.expression_names
    if all(re.search(r"\d$", name) for name in names):
        return list(range(min(count, len(names))))
    spread = torch.from_numpy(track.expression)[train_rows.cpu()].std(dim=0, correction=0)
    return spread.argsort(descending=True, stable=True)[:count].sort().values.tolist()


class InstaRenderer(HeadRenderer):
    """The shared renderer; the field is conditioned on a timestep's expression near some regions, on ones elsewhere."""

    columns: Int[Tensor, " K"]
    conditioned_faces: Bool[Tensor, " F"]
    mouth_faces: Bool[Tensor, " F"]
    hidden_faces: Bool[Tensor, " F"]

    def __init__(
        self,
        track: HeadTrack,
        motion: SubjectMotion,
        mapping: MappingConfig,
        field: FieldConfig,
        sampling: SamplingConfig,
        pixel_size: float,
        *,
        columns: list[int],
        conditioned_regions: tuple[str, ...],
    ):
        """
        Args:
            track, motion, mapping, field, sampling, pixel_size: of `HeadRenderer`.
            columns: columns of the condition that the field gets.
            conditioned_regions: regions of the mesh near which the field gets them.
        """
        super().__init__(track, motion, mapping, field, sampling, pixel_size, len(columns))
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        regions = {"conditioned": conditioned_regions, "mouth": MOUTH_REGIONS, "hidden": HIDDEN_REGIONS}
        for name, names in regions.items():
            faces = torch.from_numpy(self._track.region_faces(*names))
            self.register_buffer(f"{name}_faces", faces, persistent=False)

    def condition_effect(self) -> Float[Tensor, "E C"]:
        chosen = super().condition_effect()
        return chosen.new_zeros(len(chosen), self._motion.condition_dim).index_copy(1, self.columns, chosen)

    def conditioning(
        self, condition: Float[Tensor, "B C"], samples: ShellSamples
    ) -> tuple[Float[Tensor, "B+1 K"], Int[Tensor, " N"]]:
        chosen = condition[:, self.columns]
        chosen = torch.cat([chosen, torch.ones_like(chosen[:1])])
        return chosen, torch.where(self.conditioned_faces[samples.face], samples.mesh_index, len(condition))

    def mesh_depth(self, rays: StepRays) -> dict[str, Tensor]:
        """What rays meet first of their meshes.

        Returns:
            mesh_depth [R, 1], metres along the ray, inf where nothing is met; on_mouth [R, 1] and bare [R, 1]: whether
            it is part of the mouth, and whether neither hair nor cloth lies over it.
        """
        distance, face = self.mapping.first_hit(rays.moments.meshes, rays.mesh_index, rays.origins, rays.directions)
        met = face >= 0
        on_mouth, hidden = met & self.mouth_faces[face], self.hidden_faces[face]
        found = {"mesh_depth": distance, "on_mouth": on_mouth, "bare": met & ~hidden}
        return {name: values[:, None] for name, values in found.items()}

    def forward(
        self, rays: StepRays, condition: Float[Tensor, "B C"], step: int = 0, box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """As `HeadRenderer.forward`; in training with `mesh_depth`'s results besides."""
        outputs = super().forward(rays, condition, step, box)
        return outputs | self.mesh_depth(rays) if self.training else outputs


class InstaLosses(LossTerms):
    """INSTA's weight on the mouth, and its term on the mesh's depth."""

    def __init__(self, *args: Any, mouth_weight: float, mouth_start: int):
        """
        Args:
            args: of `LossTerms`.
            mouth_weight: how often the colours of mouth and lips count.
            mouth_start: training step from which they do.
        """
        super().__init__(*args)
        self._mouth_weight, self._mouth_start = mouth_weight, mouth_start

    def terms(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> dict[str, Term]:
        terms = super().terms(outputs, batch, step)
        if step is not None:
            counted = outputs["bare"] & (batch["mask"].to(outputs["bare"].device) > 0.5)
            terms["mesh_depth_loss"] = lambda: mesh_depth_loss(outputs["depth"], outputs["mesh_depth"], counted)
        return terms

    def color_loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> Float[Tensor, ""]:
        if step is None or step < self._mouth_start:
            return super().color_loss(outputs, batch, step)
        weight = 1.0 + (self._mouth_weight - 1.0) * outputs["on_mouth"].float()
        # The rest of the face keeps its own weight beside the mouth's, so this is no weighted mean.
        return color_loss(outputs["rgb"], target_colors(outputs, batch), weight=weight) * weight.mean()


class InstaModel(FlameNerfModel):
    """INSTA on a subject of this package."""

    config: InstaModelConfig

    def make_renderer(self) -> InstaRenderer:
        config, track = self.config, self.subject.track
        if config.latent_dim:
            raise ValueError("flame-nerf-insta conditions its field on 16 expressions alone: leave latent-dim at 0.")
        columns = conditioning_columns(track, self.train_timesteps, CONDITION_EXPRESSIONS)
        names = ", ".join(track.expression_names[column] for column in columns)
        regions = ", ".join(CONDITION_REGIONS)
        CONSOLE.log(f"The field is conditioned on {len(columns)} expressions near {regions}: {escape(names)}.")
        return InstaRenderer(
            track, self.motion, config.mapping, config.field, config.sampling, self.pixel_size,
            columns=columns, conditioned_regions=CONDITION_REGIONS,
        )  # fmt: skip

    def make_losses(self, kind: type[LossTerms] = InstaLosses, **options: Any) -> LossTerms:
        options = {"mouth_weight": MOUTH_WEIGHT, "mouth_start": MOUTH_WEIGHT_START_STEP} | options
        return super().make_losses(kind, **options)


def mesh_depth_loss(
    depth: Float[Tensor, "R 1"], mesh_depth: Float[Tensor, "R 1"], counted: Bool[Tensor, "R 1"]
) -> Float[Tensor, ""]:
    """Mean absolute difference over all rays of rendered and mesh depth, metres; rays not `counted` add nothing."""
    return (depth - mesh_depth.where(counted, depth)).abs().mean()
