"""Nearest triangles and the samples of rays on the CPU: packets of points and rays through our own tree (numba)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flame_nerf.canonical.frames import SLIVER_RATIO
from flame_nerf.canonical.search import CoarseSpace, EmptySpace, MarchSettings, Shell, ShellSamples
from flame_nerf.kernels.cells import cells_per_metre
from flame_nerf.kernels.cpu.threads import run_in_chunks
from flame_nerf.kernels.ray_ends import LAYERS

LEAF_SIZE = 8
"""Triangles that a leaf of the CPU tree holds at most; at least half as many."""
_MIN_PER_THREAD = 64
"""Rays or packets below which a second thread costs more than it brings."""
_CHUNKS_PER_THREAD = 4
"""Chunks of a march: a training step that waits for the next one's march takes over some of them."""


def median_split_order(centres: Float[np.ndarray, "F 3"], leaves: int) -> Int[np.ndarray, " F"]:
    """Order of triangles in a complete binary tree with ``leaves`` (a power of two) leaves.

    Every node splits its triangles in half along the longest side of their centres' bounding box. Leaf l of L holds
    ``order[l F // L : (l + 1) F // L]``.
    """
    count = len(centres)
    order = np.arange(count)
    nodes = 1
    while nodes < leaves:
        bounds = np.arange(nodes + 1) * count // nodes
        node = np.repeat(np.arange(nodes), np.diff(bounds))
        occupied = np.flatnonzero(np.diff(bounds))
        sorted_centres = centres[order]
        extent = np.zeros((nodes, 3))
        extent[occupied] = np.maximum.reduceat(sorted_centres, bounds[occupied]) - np.minimum.reduceat(
            sorted_centres, bounds[occupied]
        )
        along = sorted_centres[np.arange(count), extent.argmax(axis=1)[node]]
        order = order[np.lexsort((along, node))]
        nodes *= 2
    return order


@dataclass
class _NumbaHandle:
    triangles: Float[np.ndarray, "F 16"]
    boxes: Float[np.ndarray, "M 6"]

    @property
    def diagonal(self) -> float:
        """Of the mesh's bounding box, metres."""
        return float(np.linalg.norm(self.boxes[0, 3:] - self.boxes[0, :3]))


class NumbaSearch:
    """CPU search: one tree over the canonical triangles, refitted to every posed mesh (0.2 ms for a head)."""

    def __init__(self, faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"]):
        from flame_nerf.kernels.cpu import march, ray_ends, rays, tree

        self._kernels, self._marching, self._casting, self._ending = tree, march, rays, ray_ends
        self._faces = np.ascontiguousarray(faces.cpu().numpy().astype(np.int64))
        self._leaves = 1
        while self._leaves * LEAF_SIZE < len(self._faces):
            self._leaves *= 2
        self._order = median_split_order(vertices.detach().numpy()[self._faces].mean(axis=1), self._leaves)

    def build(self, vertices: Float[Tensor, "V 3"], reuse: _NumbaHandle | None = None) -> _NumbaHandle:
        handle = reuse or _NumbaHandle(
            np.empty((len(self._faces), self._kernels.TRIANGLE), np.float32),
            np.empty((2 * self._leaves - 1, self._kernels.BOX), np.float32),
        )
        self._kernels.refit(
            self._order, vertices.numpy(), self._faces, self._leaves, SLIVER_RATIO, handle.triangles, handle.boxes
        )
        return handle

    def handle_bytes(self, handle: _NumbaHandle) -> int:
        return handle.triangles.nbytes + handle.boxes.nbytes

    def make_shell(self, thickness: Float[Tensor, " F"]) -> Shell:
        values = np.ascontiguousarray(thickness.detach().numpy(), dtype=np.float32)
        reach = np.empty(2 * self._leaves - 1, np.float32)
        bounds = np.arange(self._leaves + 1) * len(self._order) // self._leaves
        reach[self._leaves - 1 :] = np.maximum.reduceat(values[self._order], bounds[:-1])
        for node in range(self._leaves - 2, -1, -1):
            reach[node] = max(reach[2 * node + 1], reach[2 * node + 2])
        return Shell(thickness, float(values.min()), float(values.max()), {"values": values, "reach": reach})

    def _addresses(self, handles: Sequence[_NumbaHandle]) -> np.ndarray:
        return np.array([(h.triangles.ctypes.data, h.boxes.ctypes.data) for h in handles], np.uint64).reshape(-1, 2)

    def nearest(
        self,
        handles: Sequence[_NumbaHandle],
        mesh_index: Int[Tensor, " N"],
        points: Float[Tensor, "N 3"],
        max_distance: float,
    ) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
        face = torch.empty(len(points), dtype=torch.int64)
        distance = torch.empty(len(points), dtype=torch.float32)
        shared = self._addresses(handles), mesh_index.numpy(), points.numpy(), np.float32(max_distance)
        out = self._leaves, self._order, face.numpy(), distance.numpy()
        least = _MIN_PER_THREAD * self._kernels.LANES
        run_in_chunks(lambda begin, end: self._kernels.nearest(begin, end, *shared, *out), len(points), least)
        return face, distance

    def first_hit(
        self,
        handles: Sequence[_NumbaHandle],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"]]:
        distance = torch.empty(len(origins), dtype=torch.float32)
        face = torch.empty(len(origins), dtype=torch.int64)
        shared = self._addresses(handles), mesh_index.numpy(), origins.numpy(), directions.numpy()
        out = np.float32(0), self._leaves, self._order, distance.numpy(), face.numpy()
        run_in_chunks(
            lambda begin, end: self._casting.first_hit(begin, end, *shared, *out), len(origins), _MIN_PER_THREAD
        )
        return distance, face

    def cast(
        self, handle: _NumbaHandle, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, " R"], Int[Tensor, " R"], Float[Tensor, "R 3"]]:
        """:meth:`first_hit` of one mesh, and where on the face that is.

        Returns:
            Distance in lengths of the direction, the face, and the barycentric coordinates of the place on it; inf, -1
            and 0 where a ray meets nothing.
        """
        distance = torch.empty(len(origins), dtype=torch.float32)
        face = torch.empty(len(origins), dtype=torch.int64)
        barycentric = torch.empty(len(origins), 3, dtype=torch.float32)
        out = distance.numpy(), face.numpy(), barycentric.numpy()
        self._cast_packets(self._casting.cast, handle, origins, directions, *out)
        return distance, face, barycentric

    def occluded(
        self, handle: _NumbaHandle, origins: Float[Tensor, "R 3"], directions: Float[Tensor, "R 3"]
    ) -> Bool[Tensor, " R"]:
        """True if rays meet anything of one mesh, at any distance; consecutive ones should go alike or start alike."""
        blocked = torch.empty(len(origins), dtype=torch.bool)
        self._cast_packets(self._casting.occluded, handle, origins, directions, blocked.numpy())
        return blocked

    def _cast_packets(self, kernel: Any, handle: _NumbaHandle, origins: Tensor, directions: Tensor, *out: Any) -> None:
        tree = handle.triangles, handle.boxes, self._leaves, self._order
        rays = origins.numpy(), directions.numpy()
        packets = -(-len(origins) // self._kernels.LANES)
        run_in_chunks(lambda begin, end: kernel(begin, end, *tree, *rays, *out), packets, _MIN_PER_THREAD)

    def march(
        self,
        handles: Sequence[_NumbaHandle],
        mesh_index: Int[Tensor, " R"],
        origins: Float[Tensor, "R 3"],
        directions: Float[Tensor, "R 3"],
        start: Float[Tensor, " R"],
        shell: Shell,
        settings: MarchSettings,
        empty: EmptySpace | None = None,
    ) -> ShellSamples:
        rays = len(origins)
        counts = torch.empty(rays, dtype=torch.int64)
        near, far, step = map(np.float32, (settings.near, settings.far, settings.step))
        ending = np.float32(settings.behind), np.float32(settings.grazing), LAYERS if settings.through else 0
        cast = self._addresses(handles), mesh_index.numpy(), origins.numpy(), directions.numpy()
        stop = np.full(rays, np.inf, np.float32)
        march = (
            start.numpy(), stop, near, far, step, settings.max_samples, self._leaves, self._order,
            shell.derived["values"], shell.derived["reach"],
        )  # fmt: skip
        known = _arguments_of(empty)
        # A ray's longest way through a box is its diagonal.
        longest = max((h.diagonal for h in handles), default=0.0) + 2 * np.sqrt(3) * shell.most
        packets = int(longest / (self._kernels.LANES * settings.step)) + 4
        per_ray = min(settings.max_samples, packets * self._kernels.LANES)

        def work(begin: int, end: int) -> tuple[list[Tensor], int]:
            # Memory that is never written is never handed out by the system, so a generous capacity is free.
            room = (end - begin) * per_ray
            integers = [torch.empty(room, dtype=torch.int64) for _ in range(3)]
            reals = [torch.empty(room, dtype=torch.float32) for _ in range(3)]
            ray, mesh, face, t_start, t_end, distance = (x.numpy() for x in integers + reals)
            if np.isfinite(settings.behind):
                self._ending.stop_behind(begin, end, *cast, near, self._leaves, self._order, ending, stop)
            used, skipped = self._marching.sample_shell(
                begin, end, *cast, *march, packets, *known, counts.numpy(), ray, mesh, t_start, t_end, face, distance
            )
            return [x[:used] for x in integers + reals], skipped

        parts, skipped = zip(*run_in_chunks(work, rays, _MIN_PER_THREAD, _CHUNKS_PER_THREAD), strict=True)
        # Copies, also of a single part: a slice would keep the whole capacity alive.
        ray, mesh, face, t_start, t_end, distance = (torch.cat(list(x)) for x in zip(*parts, strict=True))
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return ShellSamples(ray, t_start, t_end, offsets, face, mesh, distance, sum(skipped))


def _arguments_of(empty: EmptySpace | None) -> tuple:
    """Arrays of empty space that the kernel reads."""
    if empty is None:
        nothing = np.zeros(0, np.float32)
        return nothing, np.float32(0), False, nothing, nothing, 0, np.zeros(0, np.uint64), *_coarse(None)
    return (
        empty.density.numpy(), np.float32(empty.least_density), empty.unseen_too,
        empty.box[0].numpy(), cells_per_metre(empty.box, empty.resolution).numpy(), empty.resolution,
        np.array([table.data_ptr() for table in empty.transforms], np.uint64), *_coarse(empty.coarse),
    )  # fmt: skip


def _coarse(space: CoarseSpace | None) -> tuple:
    if space is None:
        return np.zeros((0, 0, 0), np.uint8), np.zeros(3, np.float32), np.float32(0)
    return space.full.numpy(), space.low.numpy(), np.float32(space.per_metre)
