"""CUDA graphs on a GPU that is not there: the operators that were recorded, over the same memory, again and again.

PyTorch's own `make_graphed_callables` works with them. As on a GPU nothing of Python runs in a replay: what was a
number of Python's when it was recorded stays that number, and what is read lies where it lay. What a recording would be
broken off for is refused: to wait for the GPU, and to bring numbers of the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_record import RECORD, DeviceFault, place
from torch.utils._pytree import tree_leaves


class Graph:
    """What was recorded.

    Attributes:
        launches: pieces of work in a replay.
    """

    recording: Graph | None = None

    def __init__(self, **_: Any) -> None:
        self.launches = 0
        self._work: list[Callable[[], None]] = []
        self._kept: list[Any] = []

    def note(
        self, work: Callable[..., Any] | None, args: Any = (), kwargs: dict[str, Any] | None = None, made: Any = None
    ) -> None:
        """Take down work that was just done and what it made; None: nothing but memory that stays the recording's."""
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        outputs = [x for x in tree_leaves(made) if isinstance(x, torch.Tensor)]
        self._kept += [*given, *outputs]
        if work is None:
            return
        known = {x.untyped_storage().data_ptr() for x in given}
        fresh = [x.untyped_storage().data_ptr() not in known for x in outputs]

        def again() -> None:
            found = [x for x in tree_leaves(work(*args, **(kwargs or {}))) if isinstance(x, torch.Tensor)]
            for old, now, is_fresh in zip(outputs, found, fresh, strict=True):
                if is_fresh:
                    old.copy_(now)

        self.launches += 1
        self._work.append(again)

    def replay(self) -> None:
        """All of it again: one launch."""
        RECORD.launches["graph"] += 1
        RECORD.inside += self.launches
        for again in self._work:
            again()


@contextlib.contextmanager
def record_in(graph: Graph, **_: Any) -> Iterator[None]:
    """`torch.cuda.graph`."""
    Graph.recording = graph
    waited = RECORD.waits.copy()
    try:
        yield
    finally:
        Graph.recording = None
    new = RECORD.waits - waited
    if new:
        raise DeviceFault(f"waited for while a graph is recorded: {', '.join(new)}")


def refuse_upload(name: str) -> None:
    """Raise where a recording would read the host's memory."""
    if Graph.recording is not None:
        raise DeviceFault(f"{name} of the host's numbers while a graph is recorded, in {place()}")


def pretend_graphs(stream: type) -> None:
    """PyTorch with such graphs."""
    torch.cuda.CUDAGraph, torch.cuda.graph = Graph, record_in
    torch.cuda.graphs.graph_pool_handle = lambda: (0, 0)
    torch.cuda.Stream = stream
    torch.cuda.stream = lambda _: contextlib.nullcontext()
