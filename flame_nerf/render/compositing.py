"""Volume rendering of packed samples: rays of different lengths laid end to end in one array."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical import ShellSamples
from flame_nerf.kernels.availability import cpu_kernels_cover
from flame_nerf.kernels.cpu.compositing_function import composite

# exp(−50) is beyond float64's last digit beside 1. A limit keeps one opaque sample from eating the digits of the
# running sum that the following rays need.
_MAX_OPTICAL_DEPTH = 50.0
_TINY = 1e-10


class RenderedRays(NamedTuple):
    """What R rays see, and how much each of the N samples adds to it."""

    rgb: Float[Tensor, "R 3"]
    """Colour over the background."""
    accumulation: Float[Tensor, "R 1"]
    """Opacity, 0..1."""
    depth: Float[Tensor, "R 1"]
    """Expected distance along the ray given that it hits, metres; 0 for a ray that meets nothing."""
    weights: Float[Tensor, " N"]
    """Share of each sample in its ray's colour."""


def render_packed(
    sigma: Float[Tensor, " N"],
    rgb: Float[Tensor, "N 3"],
    samples: ShellSamples,
    n_rays: int,
    background: Float[Tensor, "R 3"] | Float[Tensor, " 3"] | None = None,
) -> RenderedRays:
    """Composite samples front to back: C = Σ T α c + T_end · background, α = 1 − exp(−σδ), T = exp(−Σ σδ before).

    Optical depths are summed in float64 whatever the inputs are; results come in the colours' precision. Formula: Max,
    "Optical models for direct volume rendering" (1995), as in NeRF (2020), equation 3.

    Note:
        Differentiable with respect to `sigma`, `rgb`, `background`, `samples.t_start` and `samples.t_end`.

    Args:
        sigma: density, 1/m, not negative.
        rgb: colours of the samples.
        samples: intervals of the samples.
        n_rays: R; rays without samples show the background.
        background: colour behind each ray or behind all; None is black.

    Raises:
        ValueError: `samples.offsets` is not for R rays and N samples.
    """
    if samples.offsets.shape[0] != n_rays + 1 or samples.ray_index.shape[0] != sigma.shape[0]:
        raise ValueError(
            f"render_packed: {sigma.shape[0]} densities of {n_rays} rays need ray_index of that length and "
            f"{n_rays + 1} offsets, not {samples.ray_index.shape[0]} and {samples.offsets.shape[0]}."
        )
    if background is None:
        background = rgb.new_zeros(3)
    if _is_compiled(sigma, rgb, background, samples):
        color, accumulation, depth, weights = composite(
            sigma, rgb, samples.t_start, samples.t_end, samples.offsets, background, _MAX_OPTICAL_DEPTH, _TINY
        )
        return RenderedRays(color, accumulation[:, None], depth[:, None], weights)
    optical_depth = (sigma.double() * (samples.t_end - samples.t_start)).clamp(max=_MAX_OPTICAL_DEPTH)
    before, total = _sums_before(optical_depth, samples)
    weights = (torch.exp(-before) * -torch.expm1(-optical_depth)).to(rgb.dtype)
    transmittance = torch.exp(-total).to(rgb.dtype)[:, None]
    # Not 1 − transmittance: a ray that hardly meets anything still has a depth.
    accumulation = -torch.expm1(-total).to(rgb.dtype)[:, None]

    middle = 0.5 * (samples.t_start + samples.t_end)
    values = torch.cat([rgb, middle[:, None].to(rgb.dtype)], dim=-1) * weights[:, None]
    sums = values.new_zeros(n_rays, 4).index_add(0, samples.ray_index, values)
    return RenderedRays(
        rgb=sums[:, :3] + transmittance * background,
        accumulation=accumulation,
        depth=sums[:, 3:] / accumulation.clamp(min=_TINY),
        weights=weights,
    )


def lit(
    outputs: dict[str, Tensor], mesh_index: Int[Tensor, " R"], gains: Float[Tensor, "B 3"] | None
) -> dict[str, Tensor]:
    """Outputs of a renderer with the head's colours times the gains of the moments; what is behind the head stays.

    Differentiable in outputs and gains.

    Args:
        outputs: rgb [R, 3], accumulation [R, 1] and background [R, 3] or [3] of rays.
        mesh_index: which of the B moments each ray shows.
        gains: of the moments; None: 1.
    """
    if gains is None:
        return outputs
    behind = (1 - outputs["accumulation"]) * outputs["background"]
    return {**outputs, "rgb": (outputs["rgb"] - behind) * gains[mesh_index] + behind}


def _is_compiled(sigma: Tensor, rgb: Tensor, background: Tensor, samples: ShellSamples) -> bool:
    """Whether the kernels may do it: they have no gradient to the intervals."""
    learned = torch.is_grad_enabled() and (samples.t_start.requires_grad or samples.t_end.requires_grad)
    return not learned and cpu_kernels_cover(sigma, rgb, background, samples.t_start, samples.t_end)


def _sums_before(values: Float[Tensor, " N"], samples: ShellSamples) -> tuple[Tensor, Tensor]:
    """Sum over a ray's samples in front of each sample [N], and over all of them [R]. `values` in float64."""
    running = torch.nn.functional.pad(values.cumsum(dim=0), (1, 0))
    at_offsets = running.index_select(0, samples.offsets)
    before = running[:-1] - at_offsets[:-1].index_select(0, samples.ray_index)
    return before, at_offsets[1:] - at_offsets[:-1]
