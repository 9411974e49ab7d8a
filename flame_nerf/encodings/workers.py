"""Run one compiled kernel on a few threads, each with its own share of the work.

Kernels that release the GIL are enough for this; numba's own parallel loops are not used because their fallback
threading layer ends the process when a viewer thread renders while the trainer trains.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, os.cpu_count() or 1), thread_name_prefix="flame-nerf")


def run_shares(kernel: Callable[..., None], *arguments: Any, shares: int) -> None:
    """Call `kernel(*arguments, share, n)` for share = 0..n−1 and return when all are done.

    Args:
        kernel: releases the GIL; different shares must write to different memory.
        shares: the most parts the work can be split into; n is that or torch's number of threads, whichever is less.
    """
    n = max(1, min(shares, torch.get_num_threads()))
    others = [_pool().submit(kernel, *arguments, share, n) for share in range(1, n)]
    try:
        kernel(*arguments, 0, n)
    finally:
        for other in others:
            other.result()
