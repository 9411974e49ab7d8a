"""Which pixels a training step looks at: few frames, mostly the head, more of mouth and eyes than their size."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor

from flame_nerf.pictures import PictureCache


@dataclass
class HeadPixelSamplerConfig(PixelSamplerConfig):
    """How a step's pixels are drawn. The shares need not add up to one; they are relative."""

    _target: type = field(default_factory=lambda: HeadPixelSampler)
    """target class to instantiate"""
    frames_per_batch: int = 8
    """Frames a step draws its rays from: each needs its own search structure."""
    matte_share: float = 0.65
    """Share of rays inside the matte and a rim around it."""
    surroundings_share: float = 0.15
    """Share of rays anywhere in the box of the head and its shell: they carve away what is not there."""
    mouth_share: float = 0.12
    """Share of rays in the box of the mouth."""
    eyes_share: float = 0.08
    """Share of rays in the boxes of the eyes."""


class HeadPixelSampler(PixelSampler):
    """Draws pixels from a `PictureCache`: a handful of tensor operations, no loop over frames."""

    config: HeadPixelSamplerConfig

    def sample(self, image_batch: dict[str, PictureCache]) -> dict[str, Tensor]:
        """Draw one step's pixels.

        Args:
            image_batch: the cache under "cache".

        Returns:
            indices [R, 3] (picture, row, column; sorted by picture), image [R, 3] and mask [R, 1] in 0..1.
        """
        cache = image_batch["cache"].fill()
        picture = self._pictures(len(cache))
        row, column = self._pixels(cache, picture)
        rgba = cache.pictures[picture, row, column].float() / 255.0
        return {
            "indices": torch.stack([picture, row, column], dim=1),
            "image": rgba[:, :3],
            "mask": rgba[:, 3:],
        }

    def _pictures(self, count: int) -> Int[Tensor, " R"]:
        chosen = torch.randperm(count)[: self.config.frames_per_batch].sort().values
        # Rays of one frame lie together: its search structure stays in the processor's cache.
        return chosen[torch.arange(self.num_rays_per_batch) * len(chosen) // self.num_rays_per_batch]

    def _pixels(self, cache: PictureCache, picture: Int[Tensor, " R"]) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
        kind = self._kinds(len(picture))
        along = torch.rand(3, len(picture))
        box = cache.boxes[picture, (kind - 1).clamp(min=0)]
        in_box_row = box[:, 1] + (along[0] * (box[:, 3] - box[:, 1])).long()
        in_box_column = box[:, 0] + (along[1] * (box[:, 2] - box[:, 0])).long()
        which = cache.block_start[picture] + (along[2] * cache.block_count[picture]).long()
        corner = cache.blocks[which].long()
        in_matte_row = corner[:, 0] + (along[0] * cache.block).long()
        in_matte_column = corner[:, 1] + (along[1] * cache.block).long()
        matte = kind == 0
        row = torch.where(matte, in_matte_row, in_box_row).clamp(max=cache.height - 1)
        column = torch.where(matte, in_matte_column, in_box_column).clamp(max=cache.width - 1)
        return row, column

    def _kinds(self, count: int) -> Int[Tensor, " R"]:
        """0 matte, 1 surroundings, 2 mouth, 3 right eye, 4 left eye (boxes of the cache, moved up by one)."""
        return torch.bucketize(torch.rand(count), self._thresholds())

    def _thresholds(self) -> Float[Tensor, " 4"]:
        config = self.config
        eye = config.eyes_share / 2
        shares = torch.tensor([config.matte_share, config.surroundings_share, config.mouth_share, eye, eye])
        return (shares / shares.sum()).cumsum(0)[:-1]
