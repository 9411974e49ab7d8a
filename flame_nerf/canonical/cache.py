"""Posed meshes kept by frame, least recently used first to go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A posed mesh as the cache knows it."""

    @property
    def nbytes(self) -> int:
        """Memory of all of it."""


Mesh = TypeVar("Mesh", bound=Sized)


class PosedMeshCache(Generic[Mesh]):
    """Posed meshes of a subject's frames, made on demand and kept under a limit of memory. Thread-safe.

    Args:
        make: poses the mesh of a frame, e.g. ``lambda frame: mapping.pose(vertices[frame])``. Never called
            twice at the same time for one frame.
        limit_bytes: what may stay; the most recent mesh always stays.

    Example:
        >>> cache = PosedMeshCache(lambda frame: mapping.pose(vertices[frame]), limit_bytes=1 << 30)
        >>> posed = cache.get_many([3, 4])
    """

    def __init__(self, make: Callable[[int], Mesh], limit_bytes: int = 1 << 30):
        self._make = make
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Mesh] = OrderedDict()
        self._pending: dict[int, Future[Mesh]] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, frame: int) -> bool:
        return frame in self._kept

    def get(self, frame: int) -> Mesh:
        """The posed mesh of a frame; errors of making it are raised here, and the frame is tried again next time."""
        with self._lock:
            mesh = self._kept.get(frame)
            if mesh is not None:
                self._kept.move_to_end(frame)
                return mesh
            pending = self._pending.get(frame)
            future: Future[Mesh] = Future() if pending is None else pending
            self._pending[frame] = future
        if pending is None:
            self._fill(frame, future)
        return future.result()

    def get_many(self, frames: Sequence[int]) -> list[Mesh]:
        """:meth:`get` of each."""
        return [self.get(frame) for frame in frames]

    def clear(self) -> None:
        """Forget all meshes."""
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def _fill(self, frame: int, future: Future[Mesh]) -> None:
        try:
            mesh = self._make(frame)
        except BaseException as error:
            with self._lock:
                del self._pending[frame]
            future.set_exception(error)
            return
        with self._lock:
            del self._pending[frame]
            self._kept[frame] = mesh
            self.nbytes += mesh.nbytes
            while self.nbytes > self._limit and len(self._kept) > 1:
                self.nbytes -= self._kept.popitem(last=False)[1].nbytes
        future.set_result(mesh)
