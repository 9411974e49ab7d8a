"""The next step's rays, their march and their way into the canonical head, beside this step's work: on a CPU nearly
half of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from flame_nerf.canonical import PosedMesh, ShellSamples
from flame_nerf.kernels.cpu.threads import background_work, help_background_work
from flame_nerf.refinement import PoseRefinement
from flame_nerf.render.head_renderer import HeadRenderer, PlacedSamples


@dataclass(frozen=True)
class Moments:
    """The moments that rays of stored frames see."""

    rows: Int[Tensor, " B"]
    """Rows of the track."""
    meshes: list[PosedMesh]
    """Their meshes."""
    of_ray: Int[Tensor, " R"]
    """Which of them each ray sees."""


def moments_of(renderer: HeadRenderer, ray_bundle: RayBundle) -> Moments:
    """Moments of rays that have `frame_idx` in their metadata; indices are in the host's memory."""
    rows, of_ray = torch.unique(ray_bundle.metadata["frame_idx"][:, 0], return_inverse=True)
    return Moments(rows, renderer.meshes.get_many(rows.tolist()), of_ray)


@dataclass(frozen=True)
class Marched:
    """A step's rays and all that is known of them before the field is asked."""

    bundle: RayBundle
    """As they were drawn."""
    moments: Moments
    """What they see."""
    origins: Float[Tensor, "R 3"]
    """Metres, corrected."""
    directions: Float[Tensor, "R 3"]
    """Of unit length, corrected."""
    samples: ShellSamples
    """Along the corrected rays."""
    placed: PlacedSamples | None
    """The samples in the canonical head; None where a step learns corrections and must be differentiable in them."""


class MarchAhead:
    """Draws, marches and carries rays on a worker thread.

    What that asks of the training, corrections of cameras and where the head is empty, is copied when it starts: the
    result does not depend on which thread is faster. Both are one step old when it is used, which moves the places that
    the field is asked at by micrometres; steps that learn corrections correct their rays anew.
    """

    def __init__(
        self, renderer: HeadRenderer, pose: PoseRefinement, look_ahead: Callable[[int], Callable[[], RayBundle]]
    ):
        """
        Args:
            renderer: samples the rays.
            pose: corrects their cameras.
            look_ahead: for a coming step, what draws its rays when the worker calls it.
        """
        self._renderer, self._look_ahead = renderer, look_ahead
        self._pose, self._pose_at_start = pose, copy.deepcopy(pose)
        self._worker: ThreadPoolExecutor | None = None
        self._running: Future[Marched] | None = None

    @torch.no_grad()
    def start(self, step: int) -> None:
        """Begin the march of a coming step."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="march-ahead")
        for ours, theirs in zip(self._pose_at_start.parameters(), self._pose.parameters(), strict=True):
            ours.copy_(theirs)
        empty = self._renderer.known_empty(step)
        if empty is not None:
            empty = self._renderer.occupancy.frozen(empty)
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        draw = self._look_ahead(step)

        @torch.no_grad()
        def march() -> Marched:
            with background_work():
                bundle = draw()
                moments = moments_of(self._renderer, bundle)
                rays = self._pose_at_start.training_rays(bundle, step)
                samples = self._renderer.sample(moments.meshes, moments.of_ray, *rays, empty, generator=generator)
                learns = self._pose.learns(step)
                placed = None if learns else self._renderer.place(moments.meshes, samples, *rays)
                return Marched(bundle, moments, *rays, samples, placed)

        self._running = self._worker.submit(march)

    def take(self, bundle: RayBundle) -> Marched | None:
        """What was done ahead for a bundle; None for any other. What went wrong there is raised here."""
        running, self._running = self._running, None
        if running is None:
            return None
        if not running.done():
            help_background_work()
        marched = running.result()
        return marched if marched.bundle is bundle else None
