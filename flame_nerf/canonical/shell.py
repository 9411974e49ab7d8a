"""Sampling rays inside the shell: the space close enough to the posed mesh to hold skin or hair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical.search import EmptySpace, MarchSettings, MeshSearch, Shell, ShellSamples

HAIR_REGIONS = ("scalp", "fur")
"""Regions with hair over the mesh."""
NECK_REGIONS = ("neck",)
"""Regions that clothes stand off."""
INNER_REGIONS = ("mouth", "teeth", "tongue", "eyes")
"""Regions that lie inside of the face, with the head behind them."""


def march_shell(
    search: MeshSearch,
    handles: Sequence[Any],
    mesh_index: Int[Tensor, " R"],
    origins: Float[Tensor, "R 3"],
    directions: Float[Tensor, "R 3"],
    *,
    shell: Shell,
    settings: MarchSettings,
    jitter: bool,
    generator: torch.Generator | None,
    empty: EmptySpace | None = None,
) -> ShellSamples:
    """Samples of constant length whose middles lie inside the shell.

    A ray is cut into pieces ``[(k + u) step, (k + u + 1) step]``, u uniform in [0, 1) for the whole ray with ``jitter``
    and 0 without. A piece is kept where the distance from its middle to the mesh is at most the thickness of the shell
    at the nearest face, between ``near`` and ``far``, and not behind the ray's end, see `flame_nerf.kernels.ray_ends`.
    Nothing that meets this is left out, but for what exceeds ``max_samples`` on a ray.

    Args:
        search, handles: the structure and its posed meshes.
        mesh_index: posed mesh of each ray.
        origins: world metres.
        directions: of unit length.
        shell: thickness of each face's, metres.
        settings: the pieces, and between where they lie.
        generator: of the jitter; on the rays' device.
        empty: samples in there are left out.

    Raises:
        ValueError: a step, or a number of samples, that is not positive; rays that are not finite.

    Note: nothing here is differentiable; use :meth:`ShellSamples.positions` for a gradient to the rays.
    """
    if not settings.step > 0:
        raise ValueError(f"step must be a positive number of metres, got {settings.step}")
    if settings.max_samples < 1:
        raise ValueError(f"max_samples must be at least 1, got {settings.max_samples}")
    rays, device = len(origins), origins.device
    summed = origins.detach().sum() + directions.detach().sum()
    if device.type == "cpu":
        _require_finite(summed)
    if jitter:
        start = torch.rand(rays, device=device, generator=generator)
    else:
        start = torch.zeros(rays, device=device)
    if rays == 0:
        index, none = torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(0, device=device)
        return ShellSamples(index, none, none, torch.zeros(1, dtype=torch.int64, device=device), index, index, none)
    samples = search.march(
        handles,
        mesh_index.to(torch.int64).contiguous(),
        origins.detach().to(torch.float32).contiguous(),
        directions.detach().to(torch.float32).contiguous(),
        start,
        shell,
        settings,
        empty,
    )
    # On CUDA a march finds nothing along such rays, and has waited for the GPU already.
    _require_finite(summed)
    return samples


def _require_finite(summed: Float[Tensor, ""]) -> None:
    # Judged by the host: on a GPU it would take four launches more.
    if not math.isfinite(float(summed)):
        raise ValueError(
            "ray origins or directions are not finite: a camera pose is broken, or its refinement diverged"
        )


def region_shell(
    region: Int[Tensor, " F"], region_names: Sequence[str], thickness: Mapping[str, float], default: float
) -> Float[Tensor, " F"]:
    """Shell thickness per face from one per region (metres); regions not named in ``thickness`` get ``default``."""
    values = torch.tensor([thickness.get(name, default) for name in region_names], dtype=torch.float32)
    return values.to(region.device)[region.to(torch.int64)]
