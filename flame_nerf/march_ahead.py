"""The next step's march through the shell, beside this step's work: on a CPU nearly half of a step's time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from flame_nerf.canonical import ShellSamples
from flame_nerf.head_renderer import HeadRenderer
from flame_nerf.threads import background_work


class MarchAhead:
    """Marches rays on a worker thread.

    What a march asks for, cameras after their correction and where the head is empty, is taken when it starts: samples
    do not depend on which thread is faster. Both are one step old when the samples are used, which moves the places
    along a ray that the field is asked at by micrometres.
    """

    def __init__(self, renderer: HeadRenderer):
        self._renderer = renderer
        self._worker: ThreadPoolExecutor | None = None
        self._running: tuple[RayBundle, Future[ShellSamples]] | None = None

    def start(
        self, bundle: RayBundle, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"], step: int
    ) -> None:
        """Begin the march of a coming step.

        Args:
            bundle: what that step will be given.
            origins, directions: of its rays after correction; metres, unit length.
            step: of the training.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="march-ahead")
        frame_idx = bundle.metadata["frame_idx"][:, 0]
        empty = self._renderer.known_empty(step)
        if empty is not None:
            empty = replace(empty, density=empty.density.clone())
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

        def march() -> ShellSamples:
            with background_work():
                rows, mesh_index = torch.unique(frame_idx, return_inverse=True)
                meshes = self._renderer.meshes.get_many(rows.tolist())
                rays = origins.detach(), directions.detach()
                return self._renderer.sample(meshes, mesh_index, *rays, empty, generator=generator)

        self._running = bundle, self._worker.submit(march)

    def take(self, bundle: RayBundle) -> ShellSamples | None:
        """The samples of a bundle that was marched ahead; None for any other. What went wrong there is raised here."""
        running, self._running = self._running, None
        if running is None:
            return None
        samples = running[1].result()
        return samples if running[0] is bundle else None
