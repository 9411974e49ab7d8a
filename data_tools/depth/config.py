"""What depth maps are made from, and how their making fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.errors import OneLine

MESH = "mesh"
"""Name of the prior that needs no network: depth of the tracked mesh."""


class DepthError(OneLine, RuntimeError):
    """Depth maps that cannot be made. The text names the option or file and what to do."""


class EstimatorUnavailable(OneLine, RuntimeError):
    """A depth estimator that cannot be had on this machine; the text says what is missing and what would help."""


@dataclass(frozen=True)
class DepthConfig:
    """Options of the depth maps."""

    prior: str = "depth-anything/Depth-Anything-V2-Small-hf"
    """What says which pixel is nearer: `mesh`, the tracked head itself (nothing to download, but it knows nothing of
    hair and cloth), or a transformers depth-estimation model: its hub name or a local folder."""
    fallback: Literal["mesh", "none"] = "mesh"
    """What to do where the estimator cannot be had (no network, no package): take the mesh, or stop."""
    batch: int = 4
    """Pictures the estimator sees at a time."""
    without: tuple[str, ...] = ("scalp", "neck")
    """Regions of the mesh whose depth is left out: there hair and cloth hide it."""
    overwrite: bool = False
    """Make the maps again although they are there already."""


@dataclass(frozen=True)
class DepthSummary:
    """What came out."""

    subject: Path
    prior: str
    """`mesh`, or the estimator's name."""
    frames: int
    made: int
    """Maps made by this run; the others were there."""
    known: float
    """Share of the head's pixels that have a depth, mean over frames made."""
    agreement: float | None
    """Share of pixel pairs on the face that the estimator orders as the tracked mesh does; None for the mesh itself."""
    warnings: tuple[str, ...]
