"""The interface of a renderer: all that the model, the losses and films know of how a method renders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int, UInt8
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor, nn

from flame_nerf.canonical import EmptySpace
from flame_nerf.motion import PosedFrame
from flame_nerf.render.step_rays import StepRays


class Field(Protocol):
    """A field as its renderer's model knows it."""

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by their optimiser."""


class Meshes(Protocol):
    """Posed meshes by timestep; None each in a method without any."""

    def get(self, timestep: int, /) -> Any:
        """The mesh of one timestep."""

    def get_many(self, timesteps: Sequence[int], /) -> list[Any]:
        """The meshes of several."""


class Renderer(nn.Module):
    """Renders rays that show moments of a head. A picture is `renderer(renderer.prepare(rays), condition)`.

    What a method has not is as it stands here: no mesh, no march, no memory of what training showed.

    Attributes:
        field: what is learned.
        marches: rays are marched before the field is queried, which is worth a thread of its own.
    """

    field: Field
    marches: bool = False

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        raise NotImplementedError

    @property
    def meshes(self) -> Meshes:
        """Posed meshes of the track."""
        raise NotImplementedError

    def forward(
        self,
        rays: StepRays,
        condition: Float[Tensor, "B D"],
        step: int = 0,
        box: OrientedBox | None = None,
    ) -> dict[str, Tensor]:
        """Query the field along prepared rays and composite what it says. Differentiable in the field, the condition
        and the rays.

        Args:
            rays: of :meth:`prepare`.
            condition: of each of their moments.
            step: of the training.
            box: nothing outside of it is rendered.

        Returns:
            rgb [R, 3], accumulation [R, 1], depth [R, 1] (metres along the ray, 0 where nothing is hit), background
            [R, 3] or [3], and num_marched and num_samples [], the samples that there were and those queried.
        """
        raise NotImplementedError

    def prepare(
        self, rays: StepRays, empty: EmptySpace | None = None, generator: torch.Generator | None = None
    ) -> StepRays:
        """Everything before the field is queried: :meth:`march`, then :meth:`carry`."""
        return self.carry(self.march(rays, empty, generator))

    def march(
        self, rays: StepRays, empty: EmptySpace | None = None, generator: torch.Generator | None = None
    ) -> StepRays:
        """Find the rays' samples. Not differentiable.

        Args:
            rays: without samples.
            empty: of :meth:`known_empty`; samples there are left out.
            generator: of the samples' jitter. By default torch's own in training, and no jitter otherwise.
        """
        return rays

    def carry(self, rays: StepRays) -> StepRays:
        """Carry samples to the canonical head. Differentiable in origins and directions, and in the meshes' shift."""
        return rays

    def known_empty(self, step: int = 0, frozen: bool = False) -> EmptySpace | None:
        """Where a step of the training need not look; None where it looks everywhere.

        Args:
            step: of the training; pictures have none.
            frozen: as it is now, whatever is learned from here on.
        """
        return None

    def record_steps(self) -> None:
        """From now on, replay what is the same work in every training step, where a method can. For CUDA."""

    def records(self, step: int) -> bool:
        """Whether a step of the training is replayed where it can be."""
        return False

    def pose(self, frame: PosedFrame) -> Any:
        """Search structure and frames (`PosedMesh`) of a moment that is not in the track; None where a method has no
        mesh."""
        return None

    @property
    def shell(self) -> Float[Tensor, " F"] | None:
        """How far from each triangle there may be substance, metres; None without a mesh."""
        return None

    @property
    def in_kernels(self) -> bool:
        """Whether this package's kernels do the heavy work, and torch only what is small."""
        return False

    def normals(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"] | None:
        """Unit normals of the surface where rays end, towards the camera; None without a mesh. `depth` in metres."""
        return None

    def canonical_position(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Float[Tensor, "R 3"]:
        """Where rays end in the canonical head, 0 to 1 of the box around it; for renderers with a mesh."""
        raise NotImplementedError

    def region(self, rays: StepRays, depth: Float[Tensor, "R 1"]) -> Int[Tensor, " R"]:
        """Number of the part of the face where rays end; for renderers with a mesh."""
        raise NotImplementedError

    def set_training_views(self, c2w: Float[Tensor, "N 3 4"], conditions: Float[Tensor, "N C"]) -> None:
        """Let the renderer know what training shows: cameras in the head's frame, OpenGL axes, and conditions."""

    def set_surface(
        self, colours: Float[Tensor, "V 3"], solid: Bool[Tensor, " V"], standoff: Float[Tensor, " V"]
    ) -> None:
        """Let the renderer know what the mesh's vertices look like, 0..1, which are part of the person, and how far
        something stands off them, metres."""

    def set_detail(self, left_out: UInt8[Tensor, " V"]) -> None:
        """Let the renderer know how many eighths of its levels a field shall do without, the finest, at each vertex."""

    def nearest_seen(self, condition: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Conditions that the field knows from training; those given where it is to be asked for any."""
        return condition

    def condition_effect(self) -> Float[Tensor, "E C"] | None:
        """What the field makes of a moment's condition, a linear map; None where it is none."""
        return None

    def networks_held(self) -> AbstractContextManager:
        """In this block the gradient reaches a hash grid alone, where the field has one."""
        return nullcontext()
