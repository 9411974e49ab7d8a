"""Memory that was freed goes back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from flame_nerf.runtime.heap import give_back


def _held_mb() -> float:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_what_was_freed_beneath_what_is_kept_is_given_back():
    blocks = [b"x" * 16384 for _ in range(4000)]
    kept = blocks[-1]
    full = _held_mb()
    del blocks
    give_back()
    assert full - _held_mb() > 40 and kept[0] == ord("x")
