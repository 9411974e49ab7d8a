"""What the C library keeps of freed memory.

glibc gives threads heaps of their own, up to eight a core, and gives little of them back. The viewer renders on a new
thread for each browser: one after the other each heap grows to what a picture takes, a gigabyte in all.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8
HEAPS = 2
"""For the thread that trains, and for all others: PyTorch's own large blocks are few."""


def share_heaps() -> None:
    """Let all threads that begin from now on share a few heaps; nothing where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, HEAPS)


def give_back() -> None:
    """Give freed memory back to the system; some milliseconds. Nothing where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
