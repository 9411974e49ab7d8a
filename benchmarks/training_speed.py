"""Training speed of a method on a subject: field samples a second in Nerfstudio's trainer, and the mapping's share.

    python benchmarks/training_speed.py SUBJECT

Runs a few hundred steps as `ns-train` does, from the step on at which everything is at work, and reports medians over
blocks of steps. *Marched* samples are those inside the shell, *evaluated* ones those that the field was asked about.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Speed:
    """Medians over blocks of steps."""

    marched: float
    """Samples inside the shell, a second; 0 for methods that do not say."""
    evaluated: float
    """Samples that the field was asked about, a second; 0 for methods that do not say."""
    rays: float
    """Rays a second."""
    step_ms: float
    """Wall time of a step."""
    mapping_share: float
    """Part of a step that goes into preparing its rays, which is sampling, mapping and meshes, or into waiting for what
    a worker thread does of it; 0 for methods without."""


def make_trainer(config: Any, subject: Path, downscale: int) -> Any:
    """Nerfstudio's trainer for a method's config on a subject at 1/downscale of its size, set up and in training mode.

    It writes to a temporary folder.
    """
    config = copy.deepcopy(config)
    config.data = subject.resolve()
    data = config.pipeline.datamanager
    data.data = config.data
    if hasattr(data.dataparser, "stabilize"):
        data.dataparser.downscale_factor = downscale
    else:
        # A stock parser would look for a folder of smaller pictures.
        data.camera_res_scale_factor = 1.0 / downscale
    config.output_dir, config.vis, config.timestamp = Path(tempfile.mkdtemp()), "tensorboard", "speed"
    config.viewer.quit_on_train_completion = True
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()
    return trainer


def train_step(trainer: Any, index: int) -> dict[str, Any]:
    """One step as the trainer's own loop takes it; returns its metrics."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    for callback in trainer.callbacks:
        callback.run_callback_at_location(index, Location.BEFORE_TRAIN_ITERATION)
    metrics = trainer.train_iteration(index)[2]
    for callback in trainer.callbacks:
        callback.run_callback_at_location(index, Location.AFTER_TRAIN_ITERATION)
    return metrics


def settle(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(trainer: Any, warmup: int, blocks: int, steps: int, first: int = 0) -> Speed:
    """Train `warmup` steps and then time blocks of steps; `first` is how many steps were taken before."""
    model, clock = trainer.pipeline.model, Stopwatch()
    renderer = getattr(model, "renderer", None)
    if getattr(model, "training_rays", None) is not None:
        clock.watch(model.training_rays, "prepare")
    # All that a step renders counts, its views from aside too.
    samples = {"num_marched": 0.0, "num_samples": 0.0}

    def count(module: Any, inputs: Any, outputs: dict[str, Any]) -> None:
        for name in samples:
            samples[name] += float(outputs[name])

    counting = renderer.register_forward_hook(count) if renderer is not None else None
    rays = trainer.pipeline.datamanager.get_train_rays_per_batch()
    for index in range(first, first + warmup):
        train_step(trainer, index)
    rows = []
    for block in range(blocks):
        settle(trainer.device)
        samples.update(num_marched=0.0, num_samples=0.0)
        clock.seconds, start = 0.0, time.perf_counter()
        for offset in range(steps):
            train_step(trainer, first + warmup + block * steps + offset)
        settle(trainer.device)
        seconds = time.perf_counter() - start
        marched, evaluated = (total / seconds for total in samples.values())
        rows.append((marched, evaluated, steps * rays / seconds, 1000 * seconds / steps, clock.seconds / seconds))
    if counting is not None:
        counting.remove()
    return Speed(*(statistics.median(column) for column in zip(*rows, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--method", default="flame-nerf-cpu")
    parser.add_argument("--downscale", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=400, help="steps before the clock starts")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--steps", type=int, default=60, help="steps a block")
    args = parser.parse_args()

    from nerfstudio.configs.method_configs import all_methods

    trainer = make_trainer(all_methods[args.method], args.subject, args.downscale)
    speed = measure(trainer, args.warmup, args.blocks, args.steps)
    print(f"{args.method}, {torch.get_num_threads()} threads, median of {args.blocks} blocks of {args.steps} steps")
    print(f"marched samples/s    {speed.marched:,.0f}")
    print(f"evaluated samples/s  {speed.evaluated:,.0f}")
    print(f"step                 {speed.step_ms:.1f} ms")
    print(f"mapping and sampling {100 * speed.mapping_share:.0f} % of a step")


class Stopwatch:
    """Seconds that its own thread spends inside watched methods, which do not call each other."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._thread = threading.current_thread()

    def watch(self, owner: object, *names: str) -> None:
        """Replace bound methods of an object by timed ones."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function):
        def timed(*args, **kwargs):
            if threading.current_thread() is not self._thread:
                return function(*args, **kwargs)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


if __name__ == "__main__":
    main()
