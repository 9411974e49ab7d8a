"""Work on runs of frames side by side in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

LONGEST = 100
"""Frames in a run: what an interruption loses at most, per thread."""


def blocks_of(count: int, workers: int) -> list[range]:
    """Split frames into runs, at least one a worker."""
    length = max(1, min(LONGEST, -(-count // workers)))
    return [range(start, min(start + length, count)) for start in range(0, count, length)]


def run_blocks(blocks: list[range], work: Callable[[range], None], workers: int) -> None:
    """Call `work` for each run, `workers` at a time. The first failure stops what has not begun, and is raised."""
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(work, block) for block in blocks]
        try:
            wait(jobs, return_when="FIRST_EXCEPTION")
            for job in jobs:
                if job.done():
                    job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        for job in jobs:
            job.result()
