"""What every reader of a format returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from data_tools.importers.inputs.cameras import Camera
from data_tools.importers.inputs.mattes import Segmentation

if TYPE_CHECKING:
    from data_tools.importers.flame import Flame, FlameMeshes


@dataclass(frozen=True)
class Scratch:
    """What a reader gets for work that takes long."""

    folder: Path
    """Kept when an import is interrupted, or stops for its overlay; not made yet."""
    silent: bool
    """Show no progress bars."""


@dataclass(frozen=True)
class Shot:
    """One picture and how it was taken."""

    name: str
    """As the data call it, for reports."""
    picture: Path
    camera: Camera
    """In the world of the meshes, for the picture's own size."""
    timestep: int
    """Row of the meshes."""
    split: str = ""
    """train, val or test; empty where the data do not say."""
    matte: Path | None = None
    """Grey picture, white = person; None: the picture's alpha, if it has one."""
    segmentation: Segmentation | None = None


class Meshes(Protocol):
    """The head of every moment, made or read when asked for."""

    faces: Int[np.ndarray, "F 3"]

    def __len__(self) -> int: ...

    def vertices(self, rows: Sequence[int]) -> Float[np.ndarray, "B V 3"]:
        """Posed heads in the world of the cameras, metres, float32.

        Raises:
            ImportingError: naming the file at fault.
        """
        ...


@dataclass(frozen=True)
class Capture:
    """A recording in somebody's format, not read further than needed to know what is in it."""

    format: str
    shots: tuple[Shot, ...]
    meshes: Meshes
    canonical: Float[np.ndarray, "V 3"]
    """The head at rest, lips apart, in the head frame."""
    stabilised: bool
    """Whether the world is the head frame already: the skull stands still."""
    expression: Float[np.ndarray, "T E"]
    expression_names: tuple[str, ...]
    pose: Float[np.ndarray, "T J 3"]
    joint_names: tuple[str, ...]
    identity: Float[np.ndarray, " S"]
    region: Int[np.ndarray, " F"] | None = None
    """None: told apart by what moves and what does not."""
    region_names: tuple[str, ...] = ()
    flame: Flame | None = None
    """The head model, if one was used."""
    background: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """Axes, signs, scale, topology and dimensions that were found."""
    left_out: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


def capture_of(person: FlameMeshes, flame: Flame, **fields: Any) -> Capture:
    """A capture of one person's meshes: what is the same for all formats with FLAME's parameters.

    Args:
        fields: the rest of `Capture`'s fields, over those that are filled here.
    """
    own = {
        "meshes": person,
        "canonical": person.canonical(),
        "stabilised": True,
        "expression": person.expression,
        "expression_names": person.head.expression_names,
        "pose": person.pose,
        "joint_names": person.head.joint_names,
        "identity": person.identity,
        "region": person.head.region.numpy(),
        "region_names": person.head.region_names,
        "flame": flame,
    }
    return Capture(**(own | fields))
