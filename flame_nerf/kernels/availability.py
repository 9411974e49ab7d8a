"""Whether compiled kernels may run here."""

from __future__ import annotations

import logging
from functools import lru_cache


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
