"""Thickness of the shell, in which there may be density, by region of the head."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical import region_shell
from flame_nerf.runtime.old_runs import StoredConfig

REGIONS = {
    "lips": 0.008,
    "mouth": 0.008,
    "teeth": 0.006,
    "tongue": 0.006,
    "eyes": 0.006,
    "eyelids": 0.01,  # lashes and the rims of glasses
    "ears": 0.015,
    "muzzle": 0.012,  # short hair and whiskers
}
"""Thickness of the shell, metres, of regions on which nothing stands off the mesh by more, on any head: a few times the
tracker's error there."""


@dataclass
class ShellConfig(StoredConfig):
    """Thickness of the shell around the mesh, metres, by region. Density exists nowhere else, so what stands off the
    mesh by more is cut off; a thicker shell has more samples to compute, and less detail for the same training time."""

    skin: float = 0.01
    """Shell over the face and every region without a thickness of its own. Raise it for beards or a loose track;
    samples grow in proportion."""
    scalp: float = 0.045
    """Shell over the scalp: room for hair. Raise it for big hair, lower it for short hair, which trains faster."""
    neck: float = 0.04
    """Shell over the neck: collars, shoulders beside it and hair that hangs down. Raise it for scarves and long hair;
    it costs samples."""
    fur: float = 0.02
    """Shell over an animal's coat. Raise it for long hair; samples grow in proportion."""

    def by_region(self) -> dict[str, float]:
        """Thickness of every region that has one, metres."""
        return REGIONS | dataclasses.asdict(self)

    @property
    def thickest(self) -> float:
        """The largest of all regions, metres."""
        return max(self.by_region().values())

    def thickness(self, region: Int[Tensor, " F"], region_names: tuple[str, ...]) -> Float[Tensor, " F"]:
        """Thickness of each triangle's shell; regions of other names get that of the skin."""
        return region_shell(region, region_names, self.by_region(), default=self.skin)
