"""Training batches: pixels of few frames, drawn from a cache of byte pictures, and their rays."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.data.faults import require_trainable
from flame_nerf.data.image_cache import ImageCache
from flame_nerf.data.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.data.step_plan import StepPlan
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.motion import without_timestep
from flame_nerf.runtime.command_line import loaded_config
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.to_device import to_device
from flame_nerf.runtime.words import escape

HEAD_MARGIN = 0.05
"""Metres around the head's mesh that the surroundings' rays are drawn from: the thickest shell, and a little more."""


@dataclass
class FlameNerfDataManagerConfig(StoredConfig, VanillaDataManagerConfig):
    """Where batches come from and how large they are."""

    _target: type = field(default_factory=lambda: FlameNerfDataManager)
    """target class to instantiate"""
    dataparser: FlameNerfDataParserConfig = field(default_factory=FlameNerfDataParserConfig)
    """Reads the subject. This method needs a head track, which no other format has."""
    pixel_sampler: HeadPixelSamplerConfig = field(default_factory=HeadPixelSamplerConfig)
    """Which pixels a step looks at."""
    image_memory: int = 2 * 1024**3
    """Bytes of images held in memory; beyond that they are in a mapped temporary file on disk. More is faster for long
    videos in large frames, and is taken from main memory."""

    def __setattr__(self, name: str, value: object) -> None:
        # Nerfstudio sets `data` and writes config.yml right after it: a relative path there would tie the checkpoint
        # to the folder training was started from.
        if name == "data" and isinstance(value, Path):
            value = value.expanduser().absolute()
        super().__setattr__(name, value)


Drawn = tuple[RayBundle, dict[str, Any]]
"""Rays of a step, and what the pictures show there."""


class FlameNerfDataManager(VanillaDataManager[FlameNerfDataset]):
    """Nerfstudio's stored datamanager over a cache of byte pictures instead of collated float batches.

    Attributes:
        schedule: plans a step; a training whose losses want more than rays brings its own.
    """

    config: FlameNerfDataManagerConfig
    schedule: Callable[[int], StepPlan] = StepPlan
    _ahead: tuple[int, Future[Drawn]] | None = None

    def setup_train(self) -> None:
        if self.test_mode == "val":
            # In training alone: an avatar that is looked at may lack its pictures.
            for mended in require_trainable(self.train_dataset.subject):
                CONSOLE.log(f"[yellow]{escape(mended)}")
        self.train_pixel_sampler = self._get_pixel_sampler(self.train_dataset, self.config.train_num_rays_per_batch)
        self.iter_train_image_dataloader = itertools.repeat({"cache": self._cache(self.train_dataset)})
        self.train_ray_generator = self._rays(self.train_dataset)

    def setup_eval(self) -> None:
        self.eval_pixel_sampler = self._get_pixel_sampler(self.eval_dataset, self.config.eval_num_rays_per_batch)
        self.iter_eval_image_dataloader = itertools.repeat({"cache": self._cache(self.eval_dataset)})
        self.eval_ray_generator = self._rays(self.eval_dataset)
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(self.eval_dataset, device=self.device)

    def next_train(self, step: int) -> Drawn:
        self.train_count += 1
        ahead, self._ahead = self._ahead, None
        # Also rays of another step are waited for: pixels are drawn by one thread at a time.
        planned, drawn = (ahead[0], ahead[1].result()) if ahead is not None else (None, None)
        rays, batch = drawn if drawn is not None and planned == step else self._draw(step)
        # Outside training it is ns-export that draws: from all over the video, for one cloud of a single moment.
        return (rays, batch) if self.training else (without_timestep(rays), batch)

    def get_datapath(self) -> Path:
        """The folder that ns-viewer keeps camera paths in: the subject's own where config.yml names it and it can be
        written to, else config.yml's, else the working directory."""
        named, subject = self.config.dataparser.data, self.train_dataset.subject
        folders = [named] if named.exists() and named.samefile(subject.root) else []
        loaded = loaded_config(sys.argv)
        folders += [loaded.parent] if loaded is not None else []
        return next((folder for folder in folders if os.access(folder, os.W_OK)), Path.cwd())

    def look_ahead(self, step: int) -> Callable[[], RayBundle]:
        """Let another thread draw what :meth:`next_train` will give in a coming step.

        Returns:
            what that thread must call, once; it returns the step's rays. They do not depend on when that happens.
        """
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        drawn: Future[Drawn] = Future()
        self._ahead = step, drawn

        def draw() -> RayBundle:
            try:
                drawn.set_result(self._draw(step, generator))
            except BaseException as error:
                drawn.set_exception(error)
            return drawn.result()[0]

        return draw

    def _draw(self, step: int, generator: torch.Generator | None = None) -> Drawn:
        pictures = next(self.iter_train_image_dataloader)
        batch = self.train_pixel_sampler.sample(pictures, self.schedule(step), generator)
        rays = self.train_ray_generator(batch["indices"])
        # Where pixels were drawn is the host's business; what they show goes to the device once, not for every term.
        shown = {
            name: to_device(batch[name], self.device) for name in ("image", "mask", "depth_prior") if name in batch
        }
        return rays, batch | shown

    def _rays(self, dataset: FlameNerfDataset) -> PinholeRays:
        return PinholeRays(dataset.cameras, dataset.metadata["plate"]).to(self.device)

    def _cache(self, dataset: FlameNerfDataset) -> ImageCache:
        return ImageCache(dataset, self.config.image_memory, HEAD_MARGIN)


class PinholeRays(nn.Module):
    """Rays through pixel centres of a subject's cameras, which are all perspective and without distortion.

    The same rays as Nerfstudio's generator, which serves every camera model, in a tenth of its time. What names cameras
    and rows of the track stays in the host's memory: the host must know them, and to ask the GPU is to wait.
    """

    plate: Float[Tensor, "H W 3"] | None
    unproject: Float[Tensor, "N 3 3"]
    origin: Float[Tensor, "N 3"]
    pixel_area: Float[Tensor, "N 1"]
    times: Float[Tensor, "N 1"]

    def __init__(self, cameras: Cameras, plate: Float[Tensor, "H W 3"] | None = None):
        """
        Args:
            cameras: with `frame_idx` in their metadata.
            plate: what all of them see behind the head; rays then carry it as `background`.
        """
        super().__init__()
        self.register_buffer("plate", plate, persistent=False)
        fx, fy, cx, cy = (values.double() for values in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
        right, up, backward = cameras.camera_to_worlds[:, :, :3].double().unbind(dim=2)
        # Direction of (column, row, 1): of (column - cx) / fx to the right, (row - cy) / fy down and 1 forward.
        forward = cy / fy * up - cx / fx * right - backward
        unproject = torch.stack([right / fx, -up / fy, forward], dim=2)
        self.register_buffer("unproject", unproject.float(), persistent=False)
        self.register_buffer("origin", cameras.camera_to_worlds[:, :, 3], persistent=False)
        self.register_buffer("pixel_area", (1.0 / (fx * fy)).float(), persistent=False)
        self.frame_idx = cameras.metadata["frame_idx"]
        self.register_buffer("times", cameras.times, persistent=False)

    def forward(self, ray_indices: Int[Tensor, "R 3"]) -> RayBundle:
        """Rays of pixels given as (camera, row, column); directions have unit length."""
        drawn = ray_indices[:, :1]
        camera, row, column = to_device(ray_indices, self.origin.device).unbind(dim=1)
        pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], dim=1)
        directions = (self.unproject[camera] @ pixel[:, :, None])[:, :, 0]
        length = directions.norm(dim=1, keepdim=True)
        metadata = {"directions_norm": length, "frame_idx": self.frame_idx[drawn[:, 0]]}
        if self.plate is not None:
            metadata["background"] = self.plate[row, column]
        return RayBundle(
            origins=self.origin[camera],
            directions=directions / length,
            pixel_area=self.pixel_area[camera] / length**3,
            camera_indices=drawn,
            metadata=metadata,
            times=self.times[camera],
        )
