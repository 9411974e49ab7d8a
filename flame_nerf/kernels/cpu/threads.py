"""Run compiled kernels on a few threads, each with its own part of the work.

Kernels that release the GIL are enough for this; numba's own parallel loops are not used because their fallback
threading layer ends the process when a viewer thread renders while the trainer trains.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch


def run_in_chunks(work: Callable[[int, int], Any], count: int, least: int, chunks_per_thread: int = 1) -> list[Any]:
    """``work(begin, end)`` over ``range(count)`` on up to `num_threads` threads, at least ``least`` items each.

    Args:
        work: releases the GIL; different ranges must write to different memory.
        count: items in all; 0 is one call with an empty range.
        least: items below which a second thread costs more than it brings.
        chunks_per_thread: more than one lets threads that come later take part (`help_background_work`).

    Returns:
        Results in order. An exception of any of them is raised here.
    """
    parts = parts_of(count, least, chunks_per_thread)
    bounds = [count * part // parts for part in range(parts + 1)]
    return _run([partial(work, bounds[part], bounds[part + 1]) for part in range(parts)])


def run_shares(kernel: Callable[..., None], *arguments: Any, shares: int) -> None:
    """Call ``kernel(*arguments, share, shares)`` for share = 0..shares-1 and return when all are done.

    Args:
        kernel: releases the GIL; different shares must write to different memory.
        shares: from `parts_of`.
    """
    _run([partial(kernel, *arguments, share, shares) for share in range(shares)])


def parts_of(count: int, least: int, parts_per_thread: int = 1) -> int:
    """Into how many parts work is split: so many for each of `num_threads` at most, and at least ``least`` items each.
    Never by how many of them are free: sums over parts are the same in every run."""
    return max(1, min(num_threads() * parts_per_thread, count // max(least, 1)))


_background = threading.local()
_background_work = 0
_counting = threading.Lock()
_open_to_help: set[Callable[[], None]] = set()
"""What takes jobs of each piece of background work at hand."""
_left_to_kernels: int | None = None


def num_threads() -> int:
    """Threads that kernels may use: torch's number, or what `threads_for_kernels` left them."""
    return _left_to_kernels or torch.get_num_threads()


@contextmanager
def threads_for_kernels() -> Iterator[None]:
    """In this block kernels have torch's threads, and torch itself has one: its small operations gain nothing from
    others, and wait for those that are at work in the background (measured: a sixteenth of a training step)."""
    global _left_to_kernels
    before, of_torch = _left_to_kernels, torch.get_num_threads()
    _left_to_kernels = num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        _left_to_kernels = before


@contextmanager
def background_work() -> Iterator[None]:
    """While this block runs on a thread of its own, it has half of the threads and all others the rest: two parts
    at once on one core cost more than one after the other."""
    global _background_work
    with _counting:
        _background_work += 1
    _background.running = True
    try:
        yield
    finally:
        _background.running = False
        with _counting:
            _background_work -= 1


def help_background_work() -> None:
    """Take part in what runs in the background, until there is nothing left of it to begin."""
    for share in list(_open_to_help):
        share()


def _free_threads() -> int:
    threads = num_threads()
    if not _background_work:
        return threads
    half = threads // 2
    return max(1, half if _is_background() else threads - half)


def _is_background() -> bool:
    return getattr(_background, "running", False)


def _run(jobs: list[Callable[[], Any]]) -> list[Any]:
    """All jobs on the threads that are free, the calling one among them; each takes the next that nobody has taken.
    Results in order."""
    if len(jobs) == 1:
        return [jobs[0]()]
    next_job, results = itertools.count(), [Future() for _ in jobs]

    def share() -> None:
        # Counting is one step of the interpreter: no job is taken twice.
        while (number := next(next_job)) < len(jobs):
            try:
                results[number].set_result(jobs[number]())
            except BaseException as error:
                results[number].set_exception(error)

    for _ in range(min(_free_threads(), len(jobs)) - 1):
        pool_of(os.getpid()).submit(share)
    if _is_background():
        _open_to_help.add(share)
    share()
    _open_to_help.discard(share)
    # Also after an error: nobody may still write to the caller's arrays when it goes on.
    wait(results)
    return [result.result() for result in results]


@lru_cache(maxsize=1)
def pool_of(pid: int) -> ThreadPoolExecutor:
    """One pool for all kernels of this process; a forked one gets its own, as threads do not survive a fork."""
    return ThreadPoolExecutor(max_workers=max(1, os.cpu_count() or 1), thread_name_prefix="flame-nerf")
