"""A training step's rays, prepared: now, or beside the step before, on a worker. On a CPU that is half of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from flame_nerf.canonical import EmptySpace
from flame_nerf.kernels.cpu.threads import background_work, help_background_work
from flame_nerf.refinement import PoseRefinement
from flame_nerf.render.moments import Timeline
from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import StepRays

LookAhead = Callable[[int], Callable[[], RayBundle]]
"""For a coming step, what draws its rays when a worker calls it."""


class TrainingRays:
    """From a step's ray bundle to its `StepRays`, by one way whichever thread walks it.

    With :meth:`prefetch`, the next step's rays are drawn, marched and carried on a worker thread. What that asks of the
    training, corrections of cameras and where the head is empty, is copied when it starts: the result does not depend
    on which thread is faster. Both are one step old when it is used, which moves the places that the field is queried
    at by micrometres; steps that learn corrections correct their rays anew.
    """

    def __init__(
        self,
        timeline: Timeline,
        renderer: Renderer,
        pose: PoseRefinement,
        background: Callable[[RayBundle], Float[Tensor, "R 3"] | Float[Tensor, " 3"]],
    ):
        """
        Args:
            timeline: knows the moments of rays.
            renderer: prepares rays.
            pose: corrects their cameras.
            background: what to render them on.
        """
        self._timeline, self._renderer, self._pose, self._background = timeline, renderer, pose, background
        self._look_ahead: LookAhead | None = None
        self._pose_at_start = pose
        self._worker: ThreadPoolExecutor | None = None
        self._running: Future[tuple[RayBundle, StepRays]] | None = None

    def prefetch(self, look_ahead: LookAhead | None) -> None:
        """Prepare each step's rays beside the step before it, from the next step on; None: no longer."""
        self._look_ahead, self._running = look_ahead, None
        self._pose_at_start = copy.deepcopy(self._pose)

    @property
    def prefetches(self) -> bool:
        """Whether the next step's rays are prepared beside each step."""
        return self._look_ahead is not None

    def prepare(self, bundle: RayBundle, step: int) -> StepRays:
        """Rays of a step, corrected, prepared, and on their background.

        Args:
            bundle: rays of stored frames, `frame_idx` in their metadata.
            step: of the training.

        Raises:
            ValueError: rays that are not finite; also where a worker met them.
        """
        rays = self._take(bundle)
        if self._look_ahead is not None:
            self._start(step + 1, self._look_ahead)
        background = self._background(bundle)
        if rays is None:
            rays = self._prepared(bundle, step, self._pose, self._renderer.known_empty(step))
        elif rays.canonical is None:
            origins, directions = self._pose.training_rays(bundle, step)
            rays = self._renderer.carry(replace(rays, origins=origins, directions=directions))
        return replace(rays, background=background)

    def _prepared(
        self,
        bundle: RayBundle,
        step: int,
        pose: PoseRefinement,
        empty: EmptySpace | None,
        generator: torch.Generator | None = None,
        carry: bool = True,
    ) -> StepRays:
        """All that can be known of a step's rays but their background; without `carry`, but their canonical points."""
        moments, mesh_index = self._timeline.of_rays(bundle, step=step)
        origins, directions = pose.training_rays(bundle, step)
        rays = StepRays(moments, mesh_index, origins, directions, recorded=self._renderer.records(step))
        prepare = self._renderer.prepare if carry else self._renderer.march
        return prepare(rays, empty, generator)

    @torch.no_grad()
    def _start(self, step: int, look_ahead: LookAhead) -> None:
        """Begin to prepare a coming step."""
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        for ours, theirs in zip(self._pose_at_start.parameters(), self._pose.parameters(), strict=True):
            ours.copy_(theirs)
        empty = self._renderer.known_empty(step, frozen=True)
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        draw = look_ahead(step)

        @torch.no_grad()
        def work() -> tuple[RayBundle, StepRays]:
            with background_work():
                bundle = draw()
                # A step that learns corrections carries its samples itself: that must be differentiable in them.
                carry = not self._pose.learns(step)
                return bundle, self._prepared(bundle, step, self._pose_at_start, empty, generator, carry)

        self._running = self._worker.submit(work)

    def _take(self, bundle: RayBundle) -> StepRays | None:
        """What was prepared for a bundle; None for any other. What went wrong there is raised here."""
        running, self._running = self._running, None
        if running is None:
            return None
        if not running.done():
            help_background_work()
        prepared_for, rays = running.result()
        return rays if prepared_for is bundle else None
