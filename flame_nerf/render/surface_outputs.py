"""What a picture can show of the head's surface, computed when somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import StepRays

NORMALS, CANONICAL, REGION = "normals", "canonical_position", "region"
_PART = 1 << 16
"""Rays that are looked up at a time."""


class Outputs(dict):
    """Outputs of a picture. Those given as functions are computed at their first use, and count as there before."""

    def __getitem__(self, name: str) -> Tensor:
        value = super().__getitem__(name)
        if callable(value):
            value = value()
            self[name] = value
        return value

    def get(self, name: str, default: Any = None) -> Any:
        value = super().get(name, default)
        return self[name] if callable(value) else value

    def items(self) -> Iterator[tuple[str, Tensor]]:  # type: ignore[override]
        return ((name, self[name]) for name in self)

    def values(self) -> Iterator[Tensor]:  # type: ignore[override]
        return (self[name] for name in self)


def surface_outputs(
    renderer: Renderer, rays: StepRays, outputs: dict[str, Tensor], shape: tuple[int, int]
) -> dict[str, Callable[[], Tensor]]:
    """Normals, places in the canonical head and regions where the rays of a picture end; black where nothing is hit.

    Args:
        renderer: knows the surface; nothing comes of one without a mesh.
        rays: of the picture, row by row.
        outputs: its depth [R, 1], metres along the ray, and accumulation [R, 1].
        shape: height and width.

    Returns:
        functions that give [H, W, 3] each: normals from -1..1 to 0..1, canonical places from the box around the
        head to 0..1, regions in colours of their own.
    """
    if renderer.shell is None:
        return {}
    hit = outputs["accumulation"] > 0.5

    def picture(look_up: Callable[[StepRays, Tensor], Float[Tensor, "R 3"]]) -> Callable[[], Tensor]:
        @torch.no_grad()
        def compute() -> Tensor:
            parts = [
                look_up(rays.part(slice(start, start + _PART)), outputs["depth"][start : start + _PART])
                for start in range(0, len(rays), _PART)
            ]
            return torch.cat(parts).where(hit, 0.0).clamp(0, 1).view(*shape, 3)

        return compute

    def normals(part: StepRays, depth: Tensor) -> Float[Tensor, "R 3"]:
        found = renderer.normals(part, depth)
        assert found is not None, "there is a shell, so there is a mesh"
        return 0.5 + 0.5 * found

    return {
        NORMALS: picture(normals),
        CANONICAL: picture(renderer.canonical_position),
        REGION: picture(lambda part, depth: region_colours(renderer.region(part, depth))),
    }


def region_colours(region: Int[Tensor, " R"]) -> Float[Tensor, "R 3"]:
    """A colour for each number, those of neighbouring numbers far apart on the wheel."""
    hue = (region.float() * 0.61803) % 1.0
    shift = torch.tensor([0.0, 2.0, 4.0], device=region.device)
    wheel = (torch.remainder(6.0 * hue[:, None] + shift, 6.0) - 3.0).abs() - 1.0
    return 0.25 + 0.7 * wheel.clamp(0, 1)
