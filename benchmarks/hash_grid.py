"""Time the hash grid, the field and the compositing, forward and backward, on samples that lie as in training.

    python benchmarks/hash_grid.py [--samples 14000] [--rounds 30] [--threads 1] [--more torch warp]

All variants are timed in turn within each round, so a busy machine slows them alike: read the ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flame_nerf.encodings import HashGrid
from flame_nerf.field import FieldConfig, FlameNerfField
from flame_nerf.render.compositing import render_packed

BOX = torch.tensor([[-0.17] * 3, [0.17] * 3])
STEP = 0.0017
PER_RAY = 12


@dataclass
class Samples:
    """Packed intervals on rays."""

    ray_index: Tensor
    t_start: Tensor
    t_end: Tensor
    offsets: Tensor


def shell_samples(n: int) -> tuple[Tensor, Samples]:
    """Points [N, 3], metres, on parallel rays through a shell 2 cm thick on a ball of 12 cm, and their intervals."""
    generator = np.random.default_rng(0)
    n_rays = n // PER_RAY
    surface = generator.normal(size=(n_rays, 3))
    surface *= 0.12 / np.linalg.norm(surface, axis=1, keepdims=True)
    surface[:, 2] = np.abs(surface[:, 2])
    t = (np.arange(PER_RAY) + generator.random((n_rays, 1))) * STEP
    points = surface[:, None] + np.array([0.0, 0.0, 1.0]) * (0.01 - t)[..., None]
    start = torch.from_numpy(t.reshape(-1)).float()
    index = torch.arange(n_rays).repeat_interleave(PER_RAY)
    samples = Samples(index, start, start + STEP, torch.arange(n_rays + 1) * PER_RAY)
    return torch.from_numpy(points.reshape(-1, 3)).float(), samples


def grid_step(implementation: str, log2_size: int, points: Tensor, to_positions: bool) -> Callable[[], None]:
    """Forward and backward of the encoding alone."""
    grid = HashGrid(8, 2, log2_size, 16, 512, implementation=implementation)
    x = ((points - BOX[0]) / (BOX[1] - BOX[0])).requires_grad_(to_positions)
    upstream = torch.randn(len(x), grid.out_dim)

    def run() -> None:
        grid.zero_grad()
        grid(x).backward(upstream)

    return run


def training_step(config: FieldConfig, points: Tensor, samples: Samples) -> Callable[[], None]:
    """Field, compositing, loss, backward and Adam: a training step without sampling and mapping."""
    field = FlameNerfField(BOX, 61, config)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15, fused=True)
    n_rays = len(samples.offsets) - 1
    directions = torch.tensor([0.0, 0.0, -1.0]).expand(len(points), -1)
    condition, index = torch.rand(6, 61), (samples.ray_index % 6).sort().values
    target, background = torch.rand(n_rays, 3), torch.rand(n_rays, 3)

    def run() -> None:
        sigma, rgb = field.canonical(points, directions, condition, index)
        loss = torch.nn.functional.huber_loss(
            render_packed(sigma, rgb, samples, n_rays, background).rgb, target, delta=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def rendering_step(samples: Samples) -> Callable[[], None]:
    """Compositing alone, forward and backward."""
    n, n_rays = len(samples.ray_index), len(samples.offsets) - 1
    sigma, rgb = torch.rand(n, requires_grad=True), torch.rand(n, 3, requires_grad=True)

    def run() -> None:
        render_packed(sigma, rgb, samples, n_rays, torch.ones(3)).rgb.sum().backward()

    return run


def main() -> None:
    """Print one line a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=14_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--more", nargs="*", default=[], choices=("torch", "warp"), help="time these grids too (slow on a CPU)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    points, samples = shell_samples(arguments.samples)
    variants = {
        "grid numba 2^16": grid_step("numba", 16, points, False),
        "grid numba 2^16, with positions": grid_step("numba", 16, points, True),
        "grid numba 2^18": grid_step("numba", 18, points, False),
        "compositing": rendering_step(samples),
        "training step": training_step(FieldConfig(), points, samples),
        "training step, bf16": training_step(FieldConfig(precision="bfloat16"), points, samples),
        "training step, width 64": training_step(FieldConfig(hidden_dim=64), points, samples),
        "training step, width 64, bf16": training_step(
            FieldConfig(hidden_dim=64, precision="bfloat16"), points, samples
        ),
    }
    for grid in arguments.more:
        variants[f"grid {grid} 2^16"] = grid_step(grid, 16, points, False)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(arguments.rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    print(f"{len(points)} samples, {arguments.threads} thread(s); ms: median (fastest), samples/s of the fastest")
    for name, values in times.items():
        fastest = min(values)
        print(
            f"{name:34s} {np.median(values) * 1e3:7.2f} ({fastest * 1e3:6.2f})  {len(points) / fastest / 1e3:8.0f} k/s"
        )


if __name__ == "__main__":
    main()
