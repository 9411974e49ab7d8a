"""How one method learns on this machine: held-out PSNR over the time of its training.

    python benchmarks/learning_curve.py SUBJECT flame-nerf-cpu
    python benchmarks/learning_curve.py SUBJECT nerfacto --minutes 10 --downscale 1 --result nerfacto.json

Each method has its own settings, LPIPS left out. PSNR is taken on pixels well inside the matte of a few held-out
frames, the clock standing still meanwhile. Prints a row for every look, and writes the curve, what a step costs and the
peak of memory to --result.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import resource
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_speed import make_trainer, measure, settle, train_step

from flame_nerf.render.picture import camera_rays, render_in_parts

NERFACTO_CPU_RAYS = 512
"""Rays of nerfacto's step on a processor: at its 4096, ten minutes are a hundred steps or fewer."""
JUDGED_FRAMES, JUDGED_PIXELS = 6, 500
"""Held-out frames that PSNR is taken on, and pixels in each: more take a slow method longer than its training."""
BLOCK_SECONDS = 2.0
"""Length of a timed block of steps; rates are medians over blocks."""
FIRST_LOOK, LOOK_GROWTH = 4.0, 1.3
"""Seconds of training until PSNR is first taken, and how much longer each further wait is."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("method", help="a method that ns-train knows")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time, unless its steps end before")
    parser.add_argument("--downscale", type=int, default=2, help="train at 1/N of the stored size")
    parser.add_argument("--result", type=Path, help="JSON file to write")
    args = parser.parse_args()
    print("| seconds | steps | held-out PSNR, dB |\n|---|---|---|")
    learned = learn(args)
    if args.result:
        args.result.write_text(json.dumps(learned))


def reached(curve: list[list[float]], psnr: float) -> float:
    """Seconds after which a curve of (seconds, dB) first reaches a PSNR, between its points linearly; inf if never."""
    for (before, low), (after, high) in zip([[0.0, -math.inf], *curve], curve, strict=False):
        if high >= psnr:
            share = (psnr - low) / (high - low) if math.isfinite(low) and high > low else 1.0
            return before + share * (after - before)
    return math.inf


def method_config(method: str, device: str) -> Any:
    """A method's own settings for a device."""
    from nerfstudio.configs.method_configs import all_methods
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig

    config = copy.deepcopy(all_methods[method])
    config.machine.device_type = device
    if method == "nerfacto":
        leave_out_lpips()
        # Its own loads pictures in processes, which take a small machine's cores from it and outlive the training.
        data = config.pipeline.datamanager
        config.pipeline.datamanager = VanillaDataManagerConfig(
            dataparser=data.dataparser,
            train_num_rays_per_batch=NERFACTO_CPU_RAYS if device == "cpu" else data.train_num_rays_per_batch,
        )
        if device == "cpu":
            config.mixed_precision, config.pipeline.model.implementation = False, "torch"
    return config


def leave_out_lpips() -> None:
    """nerfacto downloads LPIPS's network when it is built; nothing here asks for it."""
    from torchmetrics.image import lpip

    class NoPerceptualMetric(torch.nn.Module):
        def __init__(self, **kwargs: Any):
            super().__init__()

    lpip.LearnedPerceptualImagePatchSimilarity = NoPerceptualMetric


def learn(args: argparse.Namespace, first_look: float = FIRST_LOOK) -> dict[str, Any]:
    """Train the method and note what comes of it: `speed`, `curve` of (seconds, dB), `steps`, `memory_gib`."""
    torch.manual_seed(0)
    trainer = make_trainer(method_config(args.method, args.device), args.subject, args.downscale)
    judge = Judge(trainer.pipeline)
    curve, spent, index, look = [], 0.0, 0, first_look
    while spent < 60 * args.minutes and index < trainer.config.max_num_iterations:
        start = time.perf_counter()
        while spent + time.perf_counter() - start < min(look, 60 * args.minutes):
            train_step(trainer, index)
            index += 1
            if index == trainer.config.max_num_iterations:
                break
        settle(trainer.device)
        spent += time.perf_counter() - start
        curve.append((spent, judge.psnr()))
        print(f"| {spent:.1f} | {index} | {curve[-1][1]:.2f} |", flush=True)
        look = max(look, spent) * LOOK_GROWTH
    # By now all parts of the step are at work; further steps change no figure above.
    block = max(1, round(BLOCK_SECONDS * index / spent))
    speed = measure(trainer, warmup=block, blocks=5, steps=block, first=index)
    if args.device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"curve": curve, "steps": index, "memory_gib": memory / 2**30, "speed": asdict(speed)}


class Judge:
    """PSNR of a pipeline on pixels well inside the matte of a few held-out frames, the same for all methods."""

    def __init__(self, pipeline: Any):
        from flame_nerf.data.dataset import read_rgba
        from flame_nerf.subject import load_subject

        self._pipeline, dataset = pipeline, pipeline.datamanager.eval_dataset
        root = Path(dataset.image_filenames[0]).parent.parent
        by_path = {frame.file_path.resolve(): frame for frame in load_subject(root).frames}
        chosen = np.unique(np.linspace(0, len(dataset) - 1, JUDGED_FRAMES).astype(int))
        self._views = []
        for index in chosen.tolist():
            camera = dataset.cameras[index : index + 1].to(pipeline.device)
            frame = by_path[Path(dataset.image_filenames[index]).resolve()]
            rgba = torch.from_numpy(read_rgba(frame, int(camera.width), int(camera.height))).reshape(-1, 4) / 255.0
            inside = (rgba[:, 3] == 1.0).nonzero()[:, 0]
            pixels = inside[torch.randperm(len(inside), generator=torch.Generator().manual_seed(index))[:JUDGED_PIXELS]]
            self._views.append((camera, pixels.to(pipeline.device), rgba[pixels, :3]))

    @torch.no_grad()
    def psnr(self) -> float:
        """Mean over the frames, dB. Leaves the pipeline in training mode."""
        self._pipeline.eval()
        values = []
        for camera, pixels, truth in self._views:
            shown = shown_pixels(self._pipeline.model, camera, pixels).float().cpu().clamp(0, 1)
            values.append(-10 * math.log10(max(1e-10, float((shown - truth).square().mean()))))
        self._pipeline.train()
        return statistics.fmean(values)


def shown_pixels(model: Any, camera: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Colours [N, 3] of some pixels of a picture, which a slow method could not render as a whole."""
    size = model.config.eval_num_rays_per_chunk
    if hasattr(model, "gauss_params"):
        # Gaussians are drawn as a whole picture.
        parts = [model.get_outputs_for_camera(camera)["rgb"].flatten(0, 1)[pixels]]
    elif hasattr(model, "timeline"):
        moments = model.timeline.of_camera(camera)
        rays = camera_rays(camera, moments, model.refinement.pose, model.background.color).part(pixels)
        with model.shown_weights():
            parts = [render_in_parts(model.renderer, rays, model.conditioning(moments), size)["rgb"]]
    else:
        rays = camera.generate_rays(camera_indices=0, keep_shape=True).flatten()
        parts = [model(rays[part])["rgb"] for part in pixels.split(size)]
    return torch.cat(parts)


if __name__ == "__main__":
    main()
