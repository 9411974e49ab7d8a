"""The avatar's field: (canonical point, expression, direction) → (density, colour)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor, nn
from tyro.conf import Fixed

from flame_nerf.encodings import HashGrid, Implementation, spherical_harmonics
from flame_nerf.kernels.availability import cpu_kernels_cover
from flame_nerf.kernels.cpu.field_function import FieldShape, evaluate_field
from flame_nerf.kernels.cpu.field_layout import MAX_LOG_DENSITY, make_plan, pack_frames, pack_weights
from flame_nerf.runtime.old_runs import StoredConfig

BASE_RESOLUTION = 16
"""Vertices along one side of the canonical box at the hash grid's coarsest level: cells of about 2 cm, with which the
head's overall colours are learned in the first steps. Finer detail is the finer levels' business."""
GEOMETRY_FEATURES = 15
"""Features that the density network hands to the colour network: 16 outputs with the density, as in Instant-NGP."""
INITIAL_DENSITY = 10.0
"""Density everywhere before training, 1/m: in a shell of centimetres this is transparent enough for gradients to reach
the surface and opaque enough for there to be one."""

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass
class FieldConfig(StoredConfig):
    """Sizes of the field and how the expression enters it."""

    n_levels: int = 8
    """Levels of the hash grid. More levels represent coarse and fine detail separately and learn detail faster; time
    and memory of a step grow in proportion."""
    features_per_level: Fixed[int] = 2
    """Features per vertex of the hash grid."""
    log2_hashmap_size: int = 16
    """log2 of the vertices stored per level. One more doubles the table's memory and file size; detail that
    blurs because vertices share an entry becomes sharper."""
    max_resolution: int = 512
    """Vertices along one side of the canonical box at the finest level. Larger resolves finer detail; finer than the
    pictures' pixels it only learns noise."""
    pixels_per_cell: float = 0.0
    """Lower limit on the width of the finest cells, in pixels at the head: max_resolution is lowered to it. Larger
    values suppress speckle and lose fine detail; 0 sets no limit."""
    hidden_dim: int = 32
    """Width of both networks. Wider networks represent more expression-dependent detail; the time per sample grows
    in proportion."""
    density_layers: Fixed[int] = 1
    """Hidden layers of the density network."""
    color_layers: Fixed[int] = 1
    """Hidden layers of the colour network."""
    direction_degree: Fixed[int] = 2
    """Degree of the spherical harmonics of the viewing direction, 0 to 3; 0: colour does not depend on it."""
    use_expression: bool = True
    """Condition the field on the expression. Without, the appearance is static and only the mesh moves it, which
    loses wrinkles, teeth and shading that change with the face."""
    modulate_features: Fixed[bool] = True
    """Let the expression scale the grid's features one by one, so that wrinkles and teeth can come and go."""
    condition_color: Fixed[bool] = False
    """Let the expression shift the colour network's first layer as well."""
    condition_gain: Fixed[float] = 3.0
    """Factor on the condition, and so on the speed at which Adam changes what the expression does."""
    implementation: Implementation = "auto"
    """Implementation of the hash grid. auto: the fastest that works, on CUDA of tinycudann, Warp and torch, on the CPU
    of numba and torch. All give the same result; torch runs everywhere and is the slowest."""
    compiled: Fixed[bool] = True
    """On a CPU, compute grid and networks in kernels of our own: float32, and faster than torch in bfloat16."""
    precision: Precision = "auto"
    """Arithmetic of the networks in torch. auto: bfloat16 on a GPU or CPU that has instructions for it (GPUs from
    compute capability 8.0 on), else float32. float32 is more exact, and slower where bfloat16 is available."""


def fitted_to_pixels(config: FieldConfig, aabb: Float[Tensor, "2 3"], pixel_size: float) -> FieldConfig:
    """The config with a grid no finer than its `pixels_per_cell` asks for.

    Args:
        config: of the field.
        aabb: lower and upper corner of the canonical box, metres.
        pixel_size: width of a pixel of the training pictures at the head, metres.
    """
    if config.pixels_per_cell <= 0.0:
        return config
    resolved = round(float((aabb[1] - aabb[0]).amax()) / (config.pixels_per_cell * pixel_size))
    return replace(config, max_resolution=max(BASE_RESOLUTION, min(config.max_resolution, resolved)))


class FlameNerfField(Field):
    """Hash grid and two small networks over the canonical head.

    The density network reads the grid's features; the condition of a frame (expression, jaw, gaze) scales those
    features and shifts its first layer. Both are computed once a frame and looked up per sample, so their cost does not
    depend on the condition's length. The colour network reads geometry features and the viewing direction.

    All weights on the condition start at zero: the head is static until the pictures say otherwise.
    """

    aabb: Float[Tensor, "2 3"]

    def __init__(self, aabb: Float[Tensor, "2 3"], condition_dim: int, config: FieldConfig) -> None:
        """
        Args:
            aabb: lower and upper corner of the canonical box, metres, head axes. Nothing exists outside.
            condition_dim: C, length of a frame's condition; 0 for a static head.
            config: sizes.

        Raises:
            ValueError: a box without volume, or a network without layers.
        """
        super().__init__()
        if aabb.shape != (2, 3) or not bool((aabb[1] > aabb[0]).all()):
            raise ValueError(f"The canonical box must be a lower and an upper corner, not {aabb.tolist()}.")
        self.config = config
        self.condition_dim = condition_dim
        self.register_buffer("aabb", aabb.detach().clone().float())
        self.grid = HashGrid(
            config.n_levels,
            config.features_per_level,
            config.log2_hashmap_size,
            BASE_RESOLUTION,
            config.max_resolution,
            config.implementation,
        )
        width = config.hidden_dim
        self.density_network = _network(self.grid.out_dim, width, config.density_layers, 1 + GEOMETRY_FEATURES)
        direction_dim = (config.direction_degree + 1) ** 2 - 1
        self.color_network = _network(GEOMETRY_FEATURES + direction_dim, width, config.color_layers, 3)

        self.condition_shift = _zero_linear(condition_dim, width)
        self.condition_scale = _zero_linear(condition_dim, self.grid.out_dim) if config.modulate_features else None
        self.condition_color_shift = _zero_linear(condition_dim, width) if config.condition_color else None

    def canonical(
        self,
        p_canonical: Float[Tensor, "N 3"],
        directions: Float[Tensor, "N 3"],
        condition: Float[Tensor, "B C"],
        condition_index: Int[Tensor, " N"],
        feature_scale: Float[Tensor, "B E"] | None = None,
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Density and colour at canonical points.

        Note:
            Differentiable with respect to all parameters, and to `p_canonical`, `directions` and `condition` where they
            require a gradient.

        Args:
            p_canonical: points in the canonical head, metres.
            directions: unit viewing directions carried into the canonical head.
            condition: conditions of the B frames at hand; zeros are the neutral face.
            condition_index: frame of each point, 0..B−1.
            feature_scale: factors of the grid's features in each frame; None: 1.

        Returns:
            Density in 1/m, and RGB in 0..1.
        """
        if self.is_compiled(p_canonical):
            return self._in_kernels(p_canonical, directions, condition, condition_index, feature_scale)
        with self._arithmetic():
            sigma, geometry, frames = self._density(p_canonical, condition, condition_index, feature_scale)
            return sigma, self._color(geometry, directions, frames, condition_index)

    def get_density(self, ray_samples: RaySamples) -> tuple[Float[Tensor, "*batch 1"], Float[Tensor, "*batch G"]]:
        """Density and geometry features of the neutral face at samples given in the canonical head."""
        p_canonical = ray_samples.frustums.get_positions()
        with self._arithmetic():
            sigma, geometry, _ = self._density(p_canonical.reshape(-1, 3), *self._neutral(p_canonical))
        return sigma.view(*p_canonical.shape[:-1], 1), geometry.view(*p_canonical.shape[:-1], -1)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour of the neutral face at samples given in the canonical head, from what `get_density` returned."""
        if density_embedding is None:
            density_embedding = self.get_density(ray_samples)[1]
        directions = ray_samples.frustums.directions
        condition, index = self._neutral(directions)
        geometry = density_embedding.reshape(-1, GEOMETRY_FEATURES)
        with self._arithmetic():
            rgb = self._color(geometry, directions.reshape(-1, 3), self._conditions(condition), index)
        return {FieldHeadNames.RGB: rgb.view(*directions.shape[:-1], 3)}

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the learning rate they want: `encoding` about four times that of `network`."""
        return {
            "encoding": list(self.grid.parameters()),
            "network": [p for name, p in self.named_parameters() if not name.startswith("grid.")],
        }

    def condition_effect(self) -> Float[Tensor, "E C"]:
        """Effect of a condition: what a unit of each of its entries adds to the features' scales and the networks'
        first layers."""
        parts = (self.condition_scale, self.condition_shift, self.condition_color_shift)
        weights = torch.cat([part.weight for part in parts if part is not None])
        return self._conditions(weights)

    @contextmanager
    def networks_held(self) -> Iterator[None]:
        """In this block networks are constants: the gradient of what is evaluated here reaches the hash grid alone."""
        held = [p for p in self.get_param_groups()["network"] if p.requires_grad]
        for parameter in held:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in held:
                parameter.requires_grad_(True)

    def is_compiled(self, points: Tensor) -> bool:
        """Whether the kernels evaluate the field at these points."""
        wanted = self.config.compiled and self.config.precision != "bfloat16" and self.grid.backend == "numba"
        return wanted and cpu_kernels_cover(points, next(self.density_network.parameters()))

    def _in_kernels(
        self, p_canonical: Tensor, directions: Tensor, condition: Tensor, condition_index: Tensor, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`canonical` in compiled kernels. Only what is done once a frame stays in torch."""
        density, color = (
            [layer for layer in network if isinstance(layer, nn.Linear)]
            for network in (self.density_network, self.color_network)
        )
        frames = self._conditions(condition)
        scale = self._scale(frames, given)
        shifts = [shift(frames) for shift in (self.condition_shift, self.condition_color_shift) if shift is not None]
        degree = self.config.direction_degree
        plan = make_plan(
            self.grid.out_dim,
            tuple(layer.out_features for layer in density),
            (degree + 1) ** 2 - 1,
            tuple(layer.out_features for layer in color),
            self.condition_color_shift is not None,
        )
        return evaluate_field(
            p_canonical,
            directions,
            condition_index,
            self.grid.table,
            pack_weights(density + color),
            pack_frames(scale, shifts, self.grid.out_dim),
            self.aabb,
            FieldShape(self.grid.layout, plan, scale is not None, degree, math.log(INITIAL_DENSITY)),
        )

    def _density(
        self, p_canonical: Tensor, condition: Tensor, condition_index: Tensor, feature_scale: Tensor | None = None
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, "N G"], Float[Tensor, "B C"]]:
        """Density, geometry features, and the frames' conditions as the networks are given them."""
        x = (p_canonical - self.aabb[0]) / (self.aabb[1] - self.aabb[0])
        inside = ((x > 0.0) & (x < 1.0)).all(dim=-1)
        features = self.grid(x.clamp(0.0, 1.0))
        frames = self._conditions(condition)
        scale = self._scale(frames, feature_scale)
        if scale is not None:
            features = features * scale.index_select(0, condition_index)
        hidden = self.density_network[0](features)
        hidden = hidden + self.condition_shift(frames).index_select(0, condition_index)
        out = self.density_network[1:](hidden).float()
        log_density = out[:, 0] + math.log(INITIAL_DENSITY)
        return _TruncatedExp.apply(log_density) * inside, out[:, 1:], frames

    def _color(self, geometry: Tensor, directions: Tensor, frames: Tensor, condition_index: Tensor) -> Tensor:
        code = spherical_harmonics(directions, self.config.direction_degree)
        hidden = self.color_network[0](torch.cat([geometry, code], dim=-1))
        if self.condition_color_shift is not None:
            hidden = hidden + self.condition_color_shift(frames).index_select(0, condition_index)
        return torch.sigmoid(self.color_network[1:](hidden).float())

    def _scale(self, frames: Tensor, given: Tensor | None) -> Float[Tensor, "B E"] | None:
        """Factors of the grid's features in each frame: what it adds, times those given; None: 1."""
        scale = None if self.condition_scale is None else 1.0 + self.condition_scale(frames)
        return scale if given is None else given if scale is None else scale * given

    def _conditions(self, condition: Tensor) -> Float[Tensor, "B C"]:
        return condition * (self.config.condition_gain if self.config.use_expression else 0.0)

    def _arithmetic(self) -> AbstractContextManager:
        return arithmetic(self.aabb.device.type, self.config.precision)

    def _neutral(self, like: Tensor) -> tuple[Float[Tensor, "1 C"], Int[Tensor, " N"]]:
        index = torch.zeros(like[..., 0].numel(), dtype=torch.long, device=like.device)
        return self.aabb.new_zeros(1, self.condition_dim), index


def arithmetic(device_type: str, precision: Precision) -> AbstractContextManager:
    """Arithmetic of the networks. auto: bfloat16 where the GPU, or the CPU, multiplies it itself, else float32."""
    if precision == "auto":
        has_it = {"cuda": cuda_has_bfloat16, "cpu": _cpu_has_bfloat16}.get(device_type, bool)
        return torch.autocast(device_type, torch.bfloat16) if has_it() else nullcontext()
    return torch.autocast(device_type, torch.bfloat16, enabled=precision == "bfloat16")


@lru_cache(maxsize=1)
def cuda_has_bfloat16() -> bool:
    """True if all GPUs here multiply bfloat16 themselves, from compute capability 8.0 on; torch emulates it on older
    ones, slower than float32. All: where several train, each is to compute alike."""
    return all(torch.cuda.get_device_capability(index) >= (8, 0) for index in range(torch.cuda.device_count()))


@lru_cache(maxsize=1)
def _cpu_has_bfloat16() -> bool:
    """True if the CPU multiplies bfloat16 itself; torch emulates it elsewhere, slower than float32."""
    # Private in torch so far, hence the guard: without it, float32 is right everywhere.
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def _network(in_dim: int, width: int, layers: int, out_dim: int) -> nn.Sequential:
    """Linear layers with ReLU between, first layer first."""
    if layers < 1:
        raise ValueError(f"A network of the field needs at least one hidden layer, not {layers}.")
    dims = [in_dim] + [width] * layers
    modules: list[nn.Module] = []
    for a, b in itertools.pairwise(dims):
        modules += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*modules, nn.Linear(width, out_dim))


def _zero_linear(in_dim: int, out_dim: int) -> nn.Linear:
    linear = nn.Linear(in_dim, out_dim, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


class _TruncatedExp(torch.autograd.Function):
    """exp that neither overflows nor stops learning: the slope is held at the value where it was cut.

    After Instant-NGP's density activation.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.exp(x.clamp(max=MAX_LOG_DENSITY))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y
