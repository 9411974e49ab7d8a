"""Warp beside torch: kernels that read and write torch's tensors, launched where torch works. Imports Warp when asked.

Warp compiles its kernels at their first use, with a compiler of its own, and keeps them for the next time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from flame_nerf.runtime.to_device import to_device


@lru_cache(maxsize=1)
def load_warp() -> ModuleType:
    """Warp, without its greeting."""
    import warp as wp

    if hasattr(wp, "LOG_WARNING"):
        wp.config.log_level = wp.LOG_WARNING
    else:
        wp.config.quiet = True
    wp.init()
    return wp


@lru_cache(maxsize=1)
def warp_cuda_problem() -> str | None:
    """Why Warp cannot be used on CUDA here; None when it can."""
    try:
        usable = load_warp().is_cuda_available()
    except Exception as error:  # a wheel for another system fails in ways of its own
        return f"warp does not import ({type(error).__name__}: {error})"
    return None if usable else "warp finds no CUDA driver that it works with"


def launch(kernel: Any, dim: int, inputs: Sequence[Any], device: torch.device) -> None:
    """Run a kernel in torch's current stream, so that neither has to wait for the other; nothing where ``dim`` is 0.

    Args:
        kernel: of Warp.
        dim: threads.
        inputs: its arguments; tensors as :func:`wrap` gives them. Whoever calls keeps the tensors alive until then.
        device: where the tensors are.
    """
    if dim == 0:
        return
    wp = load_warp()
    # Named, not made current: Warp's current stream belongs to all threads, and a viewer's may be rendering.
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    wp.launch(kernel, dim=dim, inputs=list(inputs), device=wp.device_from_torch(device), stream=stream)


@contextlib.contextmanager
def torch_stream(device: torch.device) -> Iterator[None]:
    """In this block Warp's own structures on a device are made in torch's current stream."""
    if device.type != "cuda":
        yield
        return
    wp = load_warp()
    with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):
        yield


def wrap(tensor: Tensor, dtype: Any = None) -> Any:
    """A contiguous tensor's memory as an argument for :func:`launch`; ``dtype``: Warp's, where it is a vector's."""
    return load_warp().from_torch(tensor.detach(), dtype=dtype, return_ctype=True)


def upload(values: Sequence[int], device: torch.device) -> Int[Tensor, " N"]:
    """A few integers on a device, without waiting for it."""
    return to_device(torch.tensor(values, dtype=torch.int64), device)


def addresses(tables: Sequence[Tensor], device: torch.device) -> Int[Tensor, " N"]:
    """Where contiguous tensors begin in a device's memory. Whoever uses them must keep the tensors alive."""
    return upload([table.data_ptr() for table in tables], device)
