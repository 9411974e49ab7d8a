"""How far from its mesh each region of the head may have substance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical import region_shell
from flame_nerf.runtime.old_runs import StoredConfig


@dataclass
class ShellConfig(StoredConfig):
    """Thickness of the shell around the mesh, metres, by region. Thick shells cost sharpness per minute of training."""

    skin: float = 0.01
    """Face and everything without an entry of its own."""
    lips: float = 0.008
    """Lips."""
    mouth: float = 0.008
    """Inside of the mouth."""
    teeth: float = 0.006
    """Teeth."""
    tongue: float = 0.006
    """Tongue."""
    eyes: float = 0.006
    """Eyeballs."""
    eyelids: float = 0.01
    """Eyelids; lashes and glasses reach beyond them."""
    ears: float = 0.015
    """Ears."""
    scalp: float = 0.045
    """Scalp: room for hair."""
    neck: float = 0.02
    """Neck: collars and hair that hangs down."""
    fur: float = 0.02
    """An animal's coat."""
    muzzle: float = 0.012
    """An animal's muzzle and jaw: short hair and whiskers."""

    @property
    def thickest(self) -> float:
        """The largest of all regions, metres."""
        return max(dataclasses.asdict(self).values())

    def thickness(self, region: Int[Tensor, " F"], region_names: tuple[str, ...]) -> Float[Tensor, " F"]:
        """Thickness of each triangle's shell; regions of other names get that of the skin."""
        return region_shell(region, region_names, dataclasses.asdict(self), default=self.skin)
