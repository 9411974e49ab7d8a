"""Whether compiled kernels may run here."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def numba_problem() -> str | None:
    """Why numba cannot be used here, logged once; None when it can."""
    try:
        import numba  # noqa: F401
    except Exception as error:  # numba refuses some numpy versions with its own error types
        problem = f"numba does not import ({type(error).__name__}: {error})"
        logging.getLogger(__name__).warning("Hash grid runs in plain torch, many times slower: %s.", problem)
        return problem
    return None


def cpu_kernels_cover(*values: Tensor) -> bool:
    """Whether this package's CPU kernels may take these values: all float32, in the host's memory, and numba works."""
    covered = all(value.dtype == torch.float32 and value.device.type == "cpu" for value in values)
    return covered and numba_problem() is None
