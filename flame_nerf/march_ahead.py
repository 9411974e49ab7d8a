"""The next step's rays and their march through the shell, beside this step's work: on a CPU nearly half of its time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from nerfstudio.cameras.rays import RayBundle

from flame_nerf.canonical import ShellSamples
from flame_nerf.head_renderer import HeadRenderer
from flame_nerf.refinement import PoseRefinement
from flame_nerf.threads import background_work, help_background_work


class MarchAhead:
    """Draws and marches rays on a worker thread.

    What that asks of the training, corrections of cameras and where the head is empty, is copied when it starts: the
    samples do not depend on which thread is faster. Both are one step old when the samples are used, which moves the
    places along a ray that the field is asked at by micrometres.
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
        self._running: Future[tuple[RayBundle, ShellSamples]] | None = None

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
        def march() -> tuple[RayBundle, ShellSamples]:
            with background_work():
                bundle = draw()
                rows, mesh_index = torch.unique(bundle.metadata["frame_idx"][:, 0], return_inverse=True)
                meshes = self._renderer.meshes.get_many(rows.tolist())
                rays = self._pose_at_start.training_rays(bundle, step)
                return bundle, self._renderer.sample(meshes, mesh_index, *rays, empty, generator=generator)

        self._running = self._worker.submit(march)

    def take(self, bundle: RayBundle) -> ShellSamples | None:
        """The samples of a bundle that was marched ahead; None for any other. What went wrong there is raised here."""
        running, self._running = self._running, None
        if running is None:
            return None
        if not running.done():
            help_background_work()
        marched, samples = running.result()
        return samples if marched is bundle else None
