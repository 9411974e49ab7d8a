"""NeRFace (Gafni et al., "Dynamic Neural Radiance Fields for Monocular 4D Facial Avatar Reconstruction", 2021).

A NeRF in the head's frame conditioned on the expression: no mesh, so whatever moves must be said by the expression or
by the moment's latent code. What is its own here: the two networks, samples along the whole way through the scene box,
and the loss on both passes. Everything else is shared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle, RaySamples
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.field_components.encodings import NeRFEncoding
from nerfstudio.field_components.mlp import MLP
from nerfstudio.model_components.ray_samplers import PDFSampler, UniformSampler
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus
from tyro.conf import Fixed

from flame_nerf.field import Precision, arithmetic
from flame_nerf.losses.terms import LossTerms, target_colors
from flame_nerf.losses.weights import LossWeights, Term
from flame_nerf.model import FlameNerfModel, FlameNerfModelConfig
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import StepRays
from flame_nerf.runtime.old_runs import StoredConfig

DENSITY_UNIT = 10.0
"""1/m that the network's density counts in: of the order of what a head is made of, so that weights stay of order 1."""
TINY = 1e-10


POSITION_FREQUENCIES, DIRECTION_FREQUENCIES = 10, 4
"""Octaves of the positional encodings of a point and of the viewing direction, as published."""
ENCODING_UNIT = 1.0
"""Length that counts as 1 before encoding, metres: the encoding's periods are 2 pi of it and halves of that."""
EXPRESSION_SCALE = 1 / 3
"""Factor on the expression before it joins the encoded point, as published."""
COLOR_LAYERS = 4
"""Layers of the colour network, as published."""
NEAR = 0.02
"""Nothing nearer to the camera is sampled, metres."""


@dataclass
class NerfaceFieldConfig(StoredConfig):
    """Sizes of the networks and how the expression enters them, as published."""

    hidden_dim: Fixed[int] = 256
    """Width of the density network; the colour network has half of it."""
    density_layers: Fixed[int] = 8
    """Layers of the density network; from three on its input enters again in the middle."""
    use_expression: Fixed[bool] = True
    """Condition on the expression. Without, only the latent code tells one expression from another."""
    precision: Fixed[Precision] = "auto"
    """Arithmetic of the networks. auto: bfloat16 on CUDA and on a CPU that has instructions for it, else float32."""


@dataclass
class NerfaceSamplingConfig(StoredConfig):
    """Where along a ray the networks are queried, inside its way through the scene box."""

    num_coarse: Fixed[int] = 64
    """Samples of the first pass, evenly spread."""
    num_fine: Fixed[int] = 64
    """Samples that the second pass adds where the first one found something."""


class NerfaceNetwork(nn.Module):
    """(point, condition, direction) -> (density, colour)."""

    def __init__(self, condition_dim: int, config: NerfaceFieldConfig):
        super().__init__()
        self.unit = ENCODING_UNIT
        self.position = NeRFEncoding(3, POSITION_FREQUENCIES, 0.0, POSITION_FREQUENCIES - 1.0, True)
        self.direction = NeRFEncoding(3, DIRECTION_FREQUENCIES, 0.0, DIRECTION_FREQUENCIES - 1.0, True)
        width, layers = config.hidden_dim, config.density_layers
        in_dim = self.position.get_out_dim() + condition_dim
        skips = (layers // 2,) if layers > 2 else ()
        self.trunk = MLP(in_dim, layers, width, width, skips, out_activation=nn.ReLU())
        self.density = nn.Linear(width, 1)
        self.color = MLP(width + self.direction.get_out_dim(), COLOR_LAYERS + 1, width // 2, 3)

    def forward(
        self, points: Float[Tensor, "R S 3"], condition: Float[Tensor, "R C"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R S 1"], Float[Tensor, "R S 3"]]:
        """Density in 1/m and colour in 0..1 of S samples on each of R rays. Differentiable in everything."""
        samples = points.shape[1]
        # Nerfstudio's encoding takes 2 pi of its input itself.
        encoded = self.position(points / (2 * math.pi * self.unit))
        seen_from = self.direction(directions / (2 * math.pi))
        hidden = self.trunk(torch.cat([encoded, condition[:, None].expand(-1, samples, -1)], dim=-1))
        color = self.color(torch.cat([hidden, seen_from[:, None].expand(-1, samples, -1)], dim=-1))
        return DENSITY_UNIT * softplus(self.density(hidden).float()), torch.sigmoid(color.float())


class NerfaceField(nn.Module):
    """The networks of the coarse and of the fine pass."""

    condition_scale: Float[Tensor, " C"]

    def __init__(self, expression_dim: int, latent_dim: int, config: NerfaceFieldConfig):
        super().__init__()
        self.config = config
        expression_scale = EXPRESSION_SCALE if config.use_expression else 0.0
        scale = torch.cat([torch.full((expression_dim,), expression_scale), torch.ones(latent_dim)])
        self.register_buffer("condition_scale", scale, persistent=False)
        self.coarse = NerfaceNetwork(len(scale), config)
        self.fine = NerfaceNetwork(len(scale), config)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """All in one group, `network`."""
        return {"network": list(self.parameters())}


class NoMeshes:
    """What takes the place of posed meshes in a method without any."""

    def get(self, timestep: int) -> None:
        return None

    def get_many(self, timesteps: Sequence[int]) -> list[None]:
        return [None] * len(timesteps)


class NerfaceRenderer(Renderer):
    """Renders rays through the scene box, without meshes."""

    field: NerfaceField
    box: Float[Tensor, "2 3"]

    def __init__(self, box: Float[Tensor, "2 3"], field: NerfaceField, sampling: NerfaceSamplingConfig):
        """
        Args:
            box: lower and upper corner of where there may be substance, metres, head frame.
            field: the networks.
            sampling: where they are asked.
        """
        super().__init__()
        self.config, self.field, self._meshes = sampling, field, NoMeshes()
        self.register_buffer("box", box, persistent=False)
        self.coarse_sampler = UniformSampler(num_samples=sampling.num_coarse)
        self.fine_sampler = PDFSampler(num_samples=sampling.num_fine)

    @property
    def device(self) -> torch.device:
        return self.box.device

    @property
    def meshes(self) -> NoMeshes:
        return self._meshes

    def forward(
        self, rays: StepRays, condition: Float[Tensor, "B C"], step: int = 0, box: OrientedBox | None = None
    ) -> dict[str, Tensor]:
        """As `Renderer.forward`, with `rgb_coarse` [R, 3], the first pass's picture, besides.

        What the samples leave through belongs to the background, as if it were an opaque last sample.
        """
        origins, directions = rays.origins, rays.directions
        near, far = way_through_box(self.box, origins, directions, NEAR)
        hits = (far > near).nonzero()[:, 0]
        background = origins.new_zeros(3) if rays.background is None else rays.background
        behind = background.expand(len(origins), 3)
        condition = (condition * self.field.condition_scale)[rays.mesh_index[hits]]
        bundle = RayBundle(
            origins[hits],
            directions[hits],
            origins.new_ones(len(hits), 1),
            nears=near[hits, None],
            fars=far[hits, None],
        )

        def render(network: NerfaceNetwork, samples: RaySamples) -> tuple[Tensor, Tensor]:
            """Sums over the samples of colour, opacity and distance, each by its weight; and the weights."""
            points = samples.frustums.get_positions()
            with arithmetic(points.device.type, self.field.config.precision):
                sigma, rgb = network(points, condition, bundle.directions)
            if box is not None:
                sigma = sigma * box.within(points).reshape(sigma.shape)
            weights = samples.get_weights(sigma)
            middle = 0.5 * (samples.frustums.starts + samples.frustums.ends)
            values = torch.cat([rgb, torch.ones_like(sigma), middle], dim=-1)
            return (weights * values).sum(dim=1), weights

        def all_rays(sums: Float[Tensor, "K 5"]) -> Float[Tensor, "R 5"]:
            return sums.new_zeros(len(origins), 5).index_copy(0, hits, sums)

        if len(hits):
            samples = self.coarse_sampler(bundle)
            coarse, weights = render(self.field.coarse, samples)
            samples = self.fine_sampler(bundle, samples, weights.detach())
            fine, coarse = all_rays(render(self.field.fine, samples)[0]), all_rays(coarse)
        else:
            # Of a picture that is larger than the head whole chunks of rays miss it; the encodings take no empty ones.
            fine = coarse = origins.new_zeros(len(origins), 5)
        queried = float(len(hits) * (2 * self.config.num_coarse + self.config.num_fine))
        return {
            "rgb": fine[:, :3] + (1 - fine[:, 3:4]) * behind,
            "rgb_coarse": coarse[:, :3] + (1 - coarse[:, 3:4]) * behind,
            "accumulation": fine[:, 3:4],
            "depth": fine[:, 4:] / fine[:, 3:4].clamp_min(TINY),
            "background": background,
            "num_samples": torch.tensor(queried),
            "num_marched": torch.tensor(queried),
        }


def way_through_box(
    box: Float[Tensor, "2 3"], origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], near: float
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """Distances at which rays enter and leave a box, from `near` on; far <= near for rays that miss it."""
    slope = torch.where(directions.abs() < TINY, TINY, directions)
    ends = (box[:, None] - origins) / slope
    return ends.amin(dim=0).amax(dim=1).clamp_min(near), ends.amax(dim=0).amin(dim=1)


@dataclass
class NerfaceModelConfig(FlameNerfModelConfig):
    """NeRFace's choices. What concerns the mesh (`mapping`) is not used."""

    _target: type = dataclasses.field(default_factory=lambda: NerfaceModel)
    """target class to instantiate"""
    field: NerfaceFieldConfig = dataclasses.field(default_factory=NerfaceFieldConfig)  # type: ignore[assignment]  # its own model alone reads it
    """The networks."""
    sampling: NerfaceSamplingConfig = dataclasses.field(  # type: ignore[assignment]  # its own model alone reads it
        default_factory=NerfaceSamplingConfig
    )
    """Where along a ray they are queried."""
    latent_dim: int = 32
    """Length of each training timestep's latent code; other timesteps get the mean code. Longer codes fit the training
    frames better and generalise worse."""
    random_background: Fixed[bool] = False
    """The background is fixed and known: the subject's plate, or a colour."""
    eval_num_rays_per_chunk: int = 256
    """Rays rendered at a time: on a processor, more of them no longer fit its cache."""
    loss_coefficients: LossWeights = dataclasses.field(
        default_factory=lambda: LossWeights(mask_loss=0.0, unseen_loss=0.0, coarse_color_loss=1.0)
    )
    """How much each term of the loss counts."""


class NerfaceLosses(LossTerms):
    """Squared errors, of the first pass's picture too."""

    def terms(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> dict[str, Term]:
        terms = super().terms(outputs, batch, step)
        terms["coarse_color_loss"] = lambda: mse_loss(outputs["rgb_coarse"], target_colors(outputs, batch))
        return terms

    def color_loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> Float[Tensor, ""]:
        return mse_loss(outputs["rgb"], target_colors(outputs, batch))


class NerfaceModel(FlameNerfModel):
    """NeRFace on a subject of this package: the head stands still in its world."""

    config: NerfaceModelConfig

    def make_renderer(self) -> NerfaceRenderer:
        if self.config.loss_coefficients.unseen_loss:
            raise ValueError("nerface knows no mesh that unseen sides could be filled in from: leave unseen-loss at 0.")
        field = NerfaceField(self.motion.condition_dim, self.config.latent_dim, self.config.field)
        return NerfaceRenderer(self.scene_box.aabb, field, self.config.sampling)

    def make_losses(self, kind: type[LossTerms] = NerfaceLosses, **options: Any) -> LossTerms:
        return super().make_losses(kind, **options)
