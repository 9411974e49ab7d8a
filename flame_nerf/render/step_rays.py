"""The rays of a step: the moments that they show, and all that is known of them before the field is queried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from flame_nerf.canonical import CanonicalMapping, CanonicalPoints, MeshShift, PosedMesh, ShellSamples


@dataclass(frozen=True)
class Moments:
    """B moments of the head, posed and corrected."""

    meshes: Sequence[PosedMesh]
    """Their meshes; None each where a renderer knows no mesh."""
    condition: Float[Tensor, "B C"]
    """Expression, jaw and gaze of each."""
    timesteps: Int[Tensor, " B"] | None = None
    """Their rows of the track; None for moments that are not in it."""
    shift: MeshShift | None = None
    """How far corrections move the meshes."""
    gains: Float[Tensor, "B 3"] | None = None
    """What the head's colours are multiplied by where a stored frame's own picture is shown; None: 1."""


@dataclass(frozen=True)
class StepRays:
    """Rays of a training step, or of a part of a picture; `Renderer.prepare` fills in its samples."""

    moments: Moments
    """The B moments that they show."""
    mesh_index: Int[Tensor, " R"]
    """Which of the moments each ray shows."""
    origins: Float[Tensor, "R 3"]
    """Metres, in the head's world; corrected."""
    directions: Float[Tensor, "R 3"]
    """Of unit length; corrected."""
    background: Float[Tensor, "R 3"] | Float[Tensor, " 3"] | None = None
    """Colours behind each ray, or behind all; None: black."""
    samples: ShellSamples | None = None
    """Where the field is queried along the rays; None before the march, or where a renderer has none."""
    canonical: CanonicalPoints | None = None
    """The samples carried to the canonical head."""
    novel: bool = False
    """They are of a view that no camera filmed: in training, too, its colours are those that pictures show there."""
    density_factor: Float[Tensor, " N"] | None = None
    """Factors of the samples' densities; None: 1 each."""
    paint: Float[Tensor, "N 4"] | None = None
    """Colours that samples have in place of the field's, and how far; None: not at all."""
    recorded: bool = False
    """Of a training step whose work is recorded and replayed where it can be."""
    spare: int = 0
    """The last of the samples, which add nothing: so many were filled up."""

    def __len__(self) -> int:
        return len(self.origins)

    def filled_up(self, count: int) -> StepRays:
        """The rays with `count` samples, at most twice as many as they have; see `ShellSamples.filled_up`."""
        assert self.samples is not None, "rays are marched first"
        spare = count - len(self.samples)
        return replace(self, samples=self.samples.filled_up(count), spare=spare) if spare else self

    def part(self, which: slice | Int[Tensor, " P"]) -> StepRays:
        """Some of the rays, as before their march."""
        background = self.background
        return replace(
            self,
            mesh_index=self.mesh_index[which],
            origins=self.origins[which],
            directions=self.directions[which],
            background=background if background is None or background.ndim == 1 else background[which],
            samples=None,
            canonical=None,
            density_factor=None,
            paint=None,
            recorded=False,
            spare=0,
        )


def to_canonical(rays: StepRays, mapping: CanonicalMapping) -> CanonicalPoints:
    """Middles and directions of marched rays' samples in the canonical head."""
    meshes, shift, samples = rays.moments.meshes, rays.moments.shift, rays.samples
    assert samples is not None, "rays are marched first"
    if shift is None:
        return mapping.carry_samples(meshes, samples, rays.origins, rays.directions)
    points = samples.positions(rays.origins, rays.directions)
    points = points - shift.posed.flatten(0, 1)[samples.mesh_index * shift.posed.shape[1] + samples.face]
    along = rays.directions.index_select(0, samples.ray_index)
    carried = mapping.to_canonical(meshes, samples.mesh_index, points, samples.face, along)
    if shift.canonical is not None:
        carried = replace(carried, points=carried.points + shift.canonical[samples.face])
    return carried
