"""Where jobs run: processes of this machine, or a cluster's."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from data_tools.batch.config import BatchConfig, BatchError
from data_tools.batch.jobs import Job, JobResult, run_job

Told = Callable[[str, str], None]
"""Told (job, step) when a step starts."""


class Engine(Protocol):
    """Runs jobs and hands out their results as they come."""

    def __call__(self, jobs: Sequence[Job], config: BatchConfig, told: Told) -> Iterator[JobResult]: ...


def local(jobs: Sequence[Job], config: BatchConfig, told: Told) -> Iterator[JobResult]:
    """Jobs as processes of this machine. Interrupted, it interrupts them and waits for their end."""
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(config.workers):
        slots.put(slot)
    stop = threading.Event()

    def run(job: Job) -> JobResult:
        slot = slots.get()
        gpu = {"CUDA_VISIBLE_DEVICES": str(slot % config.gpus)} if config.gpus else {}
        try:
            return run_job(job, config.retries, gpu, stop.is_set, lambda title: told(job.name, title))
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(config.workers, thread_name_prefix="batch") as pool:
        waiting = [pool.submit(run, job) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def on_ray(jobs: Sequence[Job], config: BatchConfig, told: Told) -> Iterator[JobResult]:
    """Jobs as tasks of a Ray cluster: the one that RAY_ADDRESS or `ray start` names, or one of this machine alone.

    Raises:
        BatchError: Ray is not installed, or does not start.
    """
    # Otherwise each worker would run `uv run` again, which installs everything anew, or fails without a network: the
    # machines of a cluster have this project already.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        raise BatchError(
            "--engine ray needs Ray, which is not installed: pip install 'flame-nerf[ray]'. --engine local needs none."
        ) from error
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False)
        # A cluster that does not start in time raises a bare Exception.
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BatchError(f"Ray does not start ({why}). `ray status` says which cluster it looks for.") from error
    try:
        yield from _ray_results(ray, jobs, config, told)
    finally:
        if ours:
            ray.shutdown()


def _ray_results(ray, jobs: Sequence[Job], config: BatchConfig, told: Told) -> Iterator[JobResult]:
    cores = max(1, int(ray.cluster_resources().get("CPU", os.cpu_count() or 1)) // config.workers)
    # A machine smaller than a worker's share of the cluster must still be able to take a job.
    # Ray's own retries are for machines that are lost: what a command does wrong, run_job sees to.
    share = {"num_cpus": min(cores, 2), "num_gpus": 1 if config.gpus else 0}
    task = ray.remote(**share, max_retries=config.retries)(run_job)
    rest, running = list(jobs), {}
    try:
        while rest or running:
            while rest and len(running) < config.workers:
                job = rest.pop(0)
                told(job.name, job.steps[0].title)
                running[task.remote(job, config.retries)] = job
            (reference, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayError as error:
                yield JobResult(job.name, "failed", 0.0, None, f"Ray: {str(error).strip().splitlines()[-1]}")
    except BaseException:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=30)
        raise
