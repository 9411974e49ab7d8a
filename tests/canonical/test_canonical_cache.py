"""The cache of posed meshes, with stand-ins of 10 bytes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from flame_nerf.canonical import PosedMeshCache


def make(calls: list[int], delay: float = 0.0):
    def build(frame: int):
        calls.append(frame)
        time.sleep(delay)
        if frame < 0:
            raise ValueError(f"no frame {frame}")
        return SimpleNamespace(frame=frame, nbytes=10)

    return build


def test_least_recently_used_goes_first():
    calls: list[int] = []
    cache = PosedMeshCache(make(calls), limit_bytes=35)
    assert [mesh.frame for mesh in cache.get_many([1, 2, 3, 1, 4])] == [1, 2, 3, 1, 4]
    assert 2 not in cache and all(frame in cache for frame in (1, 3, 4))
    assert calls == [1, 2, 3, 4] and cache.nbytes == 30 and len(cache) == 3
    cache.clear()
    assert len(cache) == 0 and cache.nbytes == 0


def test_a_mesh_over_the_limit_is_still_given():
    cache = PosedMeshCache(make([]), limit_bytes=1)
    assert cache.get(5).frame == 5 and cache.get(6).frame == 6 and len(cache) == 1


def test_many_threads_make_each_frame_once():
    calls: list[int] = []
    cache = PosedMeshCache(make(calls, delay=0.01), limit_bytes=10**6)
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        return [cache.get(frame).frame for frame in range(5)]

    with ThreadPoolExecutor(8) as pool:
        assert all(job.result() == list(range(5)) for job in [pool.submit(ask) for _ in range(8)])
    assert sorted(calls) == list(range(5))


def test_errors_are_raised_and_the_frame_is_tried_again():
    calls: list[int] = []
    cache = PosedMeshCache(make(calls), limit_bytes=10**6)
    for _ in range(2):
        with pytest.raises(ValueError, match="no frame -3"):
            cache.get(-3)
    assert calls == [-3, -3]
