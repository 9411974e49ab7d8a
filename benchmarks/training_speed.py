"""Training speed of a method on a subject: field samples a second in Nerfstudio's trainer, and the mapping's share.

    python benchmarks/training_speed.py SUBJECT

Runs a few hundred steps as `ns-train` does, from the step on at which everything is at work, and reports medians over
blocks of steps. *Marched* samples are those inside the shell, *evaluated* ones those that the field was asked about.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch


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

    from flame_nerf.methods import with_steps

    config = with_steps(all_methods[args.method], 6000)
    config.data = args.subject.resolve()
    config.pipeline.datamanager.data = config.data
    config.pipeline.datamanager.dataparser.downscale_factor = args.downscale
    config.output_dir, config.vis, config.timestamp = Path(tempfile.mkdtemp()), "tensorboard", "speed"
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    model, clock = trainer.pipeline.model, Stopwatch()
    clock.watch(model.renderer.mapping, "sample_shell", "carry_samples")
    clock.watch(model.renderer.meshes, "get_many")

    def step(index: int) -> dict:
        for callback in trainer.callbacks:
            if "BEFORE_TRAIN_ITERATION" in str(callback.where_to_run):
                callback.run_callback(index)
        return trainer.train_iteration(index)[2]

    trainer.pipeline.train()
    for index in range(args.warmup):
        step(index)
    rows = []
    for block in range(args.blocks):
        marched = evaluated = 0.0
        clock.seconds, start = 0.0, time.perf_counter()
        for offset in range(args.steps):
            metrics = step(args.warmup + block * args.steps + offset)
            evaluated += float(metrics["samples_per_ray"])
            marched += float(metrics["shell_samples_per_ray"])
        seconds = time.perf_counter() - start
        rays = config.pipeline.datamanager.train_num_rays_per_batch
        rows.append(
            (marched * rays / seconds, evaluated * rays / seconds, seconds / args.steps, clock.seconds / seconds)
        )
    marched, evaluated, per_step, share = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{args.method}, {torch.get_num_threads()} threads, median of {args.blocks} blocks of {args.steps} steps")
    print(f"marched samples/s    {marched:,.0f}")
    print(f"evaluated samples/s  {evaluated:,.0f}")
    print(f"step                 {1000 * per_step:.1f} ms")
    print(f"mapping and sampling {100 * share:.0f} % of a step")


class Stopwatch:
    """Seconds spent inside watched methods, which do not call each other."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: object, *names: str) -> None:
        """Replace bound methods of an object by timed ones."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function):
        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


if __name__ == "__main__":
    main()
