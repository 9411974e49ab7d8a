"""Which pixels a training step looks at: few frames, mostly the head, more of mouth and eyes than their size; and
whole patches beside them where a loss compares pixels with their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.data.image_cache import ImageCache
from flame_nerf.data.step_plan import StepPlan
from flame_nerf.runtime.old_runs import StoredConfig

NEW_FRAMES_PER_BATCH = 2
"""Frames that each step of a long video exchanges for others, which are prepared anew: two cost little of a step, and
400 frames are renewed in 200 steps."""
PATCH_HEAD_SHARE = 0.9
"""Share of patches centred on the matte and its rim; the others lie anywhere in the head's box, where it is empty."""


@dataclass
class HeadPixelSamplerConfig(StoredConfig, PixelSamplerConfig):
    """How a step's pixels are drawn. The shares need not add up to one; they are relative."""

    _target: type = field(default_factory=lambda: HeadPixelSampler)
    """target class to instantiate"""
    frames_per_batch: int = 8
    """Frames a step draws its rays from. More give steadier gradients; each needs its own search structure, so a step
    takes longer."""
    frames_at_hand: int = 400
    """Frames of a long video that steps draw from at a time; each step exchanges two of them, so that the whole video
    comes round. More mix the video better and need about 2 MB each, which `sampling.mesh-memory` must hold. Shorter
    videos are drawn from as a whole."""
    matte_share: Fixed[float] = 0.65
    """Share of rays inside the matte and a rim around it."""
    surroundings_share: Fixed[float] = 0.15
    """Share of rays anywhere in the box of the head and its shell: they teach what is empty."""
    mouth_share: float = 0.12
    """Share of rays in the box of the mouth. Larger gives sharper lips and teeth, at the expense of the rest."""
    eyes_share: float = 0.08
    """Share of rays in the boxes of the eyes. Larger gives sharper eyes and lids, at the expense of the rest."""
    num_patches: int = 8
    """Patches that a step with a patch loss (depth) adds to its rays. More give that term steadier gradients; the time
    of such a step grows with them."""
    patch_size: int = 12
    """Rays along the side of a patch. Larger compares pixels farther apart; each patch adds the square of it."""
    patch_strides: Fixed[tuple[int, ...]] = (1, 2, 4)
    """Pixels from ray to ray inside a patch, one drawn for each patch: wide patches cover the head's shape, dense ones
    its surface."""


class HeadPixelSampler(PixelSampler):
    """Draws pixels from a `ImageCache`: a handful of tensor operations, no loop over frames."""

    config: HeadPixelSamplerConfig
    _size_reported: bool = False
    _at_hand: Int[Tensor, " A"] | None = None
    _coming: Int[Tensor, " C"] = torch.empty(0, dtype=torch.long)

    def sample(
        self,
        image_batch: dict[str, ImageCache],
        plan: StepPlan | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Draw one step's pixels.

        Args:
            image_batch: the cache under "cache".
            plan: of the step; None: rays alone.
            generator: of the random numbers; torch's own where None.

        Returns:
            indices [R, 3] (picture, row, column; sorted by picture), image [R, 3] and mask [R, 1] in 0..1. With
            patches in the plan the rays of P patches of K x K pixels follow, patch by patch and row by row, from the
            same pictures; then also num_patches P, patch_size K and, where the subject has depth maps, depth_prior
            [P, K, K] (relative, larger = nearer, NaN where unknown).
        """
        cache = image_batch["cache"].fill()
        draw = Draw(generator)
        picture = self._pictures(draw, len(cache))
        row, column = self._pixels(draw, cache, picture, self._kinds(draw, len(picture)))
        extra: dict[str, Any] = {}
        if plan is not None and plan.patches:
            patch = self._patches(draw, cache, picture)
            picture, row, column = (
                torch.cat([rays, pixels.flatten()]) for rays, pixels in zip((picture, row, column), patch, strict=True)
            )
            extra = {"num_patches": patch[0].shape[0], "patch_size": patch[0].shape[1]}
            prior = cache.depth_prior(*patch)
            if prior is not None:
                extra["depth_prior"] = prior
        rgba = cache.pictures[picture, row, column].float() / 255.0
        return {
            "indices": torch.stack([picture, row, column], dim=1),
            "image": rgba[:, :3],
            "mask": rgba[:, 3:],
            **extra,
        }

    def _pictures(self, draw: Draw, count: int) -> Int[Tensor, " R"]:
        hand = self._hand(draw, count)
        chosen = hand[draw.shuffled(len(hand))[: self.config.frames_per_batch]].sort().values
        # Rays of one frame lie together: its search structure stays in the processor's cache.
        return chosen[torch.arange(self.num_rays_per_batch) * len(chosen) // self.num_rays_per_batch]

    def _hand(self, draw: Draw, count: int) -> Int[Tensor, " A"]:
        """Frames that this step may draw from: all, or of a long video a part that changes a little with each step."""
        size = max(self.config.frames_at_hand, self.config.frames_per_batch)
        if count <= size:
            return torch.arange(count)
        if self._at_hand is None:
            self._at_hand = draw.shuffled(count)[:size]
            return self._at_hand
        new = NEW_FRAMES_PER_BATCH
        if len(self._coming) < new:
            rest = torch.isin(torch.arange(count), self._at_hand, invert=True).nonzero()[:, 0]
            self._coming = rest[draw.shuffled(len(rest))]
        entering, self._coming = self._coming[:new], self._coming[new:]
        # Those that have been here longest go.
        self._at_hand = torch.cat([self._at_hand, entering])[-size:]
        return self._at_hand

    def _patches(
        self, draw: Draw, cache: ImageCache, pictures: Int[Tensor, " R"]
    ) -> tuple[Int[Tensor, "P K K"], Int[Tensor, "P K K"], Int[Tensor, "P K K"]]:
        """Picture, row and column of every pixel of the step's patches, which come from the step's pictures."""
        config = self.config
        size, strides = self._fitting(cache)
        picture = pictures[draw.integers(len(pictures), config.num_patches)].sort().values
        elsewhere = (draw.uniform(config.num_patches) >= PATCH_HEAD_SHARE).long()
        centre = self._pixels(draw, cache, picture, elsewhere)
        stride = strides[draw.integers(len(strides), config.num_patches)]
        span = (size - 1) * stride
        along = torch.arange(size)
        row, column = (
            torch.minimum((middle - span // 2).clamp(min=0), length - 1 - span)[:, None] + along * stride[:, None]
            for middle, length in zip(centre, (cache.height, cache.width), strict=True)
        )
        shape = (config.num_patches, size, size)
        return picture[:, None, None].expand(shape), row[:, :, None].expand(shape), column[:, None, :].expand(shape)

    def _fitting(self, cache: ImageCache) -> tuple[int, Int[Tensor, " S"]]:
        """Patch size and strides that fit into the pictures; says once where that is not what was asked for."""
        config, shortest = self.config, min(cache.height, cache.width)
        size = min(config.patch_size, shortest)
        strides = [stride for stride in config.patch_strides if (size - 1) * stride < shortest] or [1]
        if (size, strides) != (config.patch_size, list(config.patch_strides)) and not self._size_reported:
            self._size_reported = True
            CONSOLE.log(
                f"[yellow]Patches of {config.patch_size} rays at strides {', '.join(map(str, config.patch_strides))} "
                f"are larger than the pictures ({cache.width}x{cache.height}): patches of {size} rays at strides "
                f"{', '.join(map(str, strides))} are used. Lower pixel-sampler.patch-size."
            )
        return size, torch.tensor(strides)

    def _pixels(
        self, draw: Draw, cache: ImageCache, picture: Int[Tensor, " R"], kind: Int[Tensor, " R"]
    ) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
        along = draw.uniform(3, len(picture))
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

    def _kinds(self, draw: Draw, count: int) -> Int[Tensor, " R"]:
        """0 matte, 1 surroundings, 2 mouth, 3 right eye, 4 left eye (boxes of the cache, moved up by one)."""
        return torch.bucketize(draw.uniform(count), self._thresholds())

    def _thresholds(self) -> Float[Tensor, " 4"]:
        config = self.config
        eye = config.eyes_share / 2
        shares = torch.tensor([config.matte_share, config.surroundings_share, config.mouth_share, eye, eye])
        return (shares / shares.sum()).cumsum(0)[:-1]


class Draw:
    """Random numbers of one step."""

    def __init__(self, generator: torch.Generator | None = None):
        self._generator = generator

    def uniform(self, *shape: int) -> Float[Tensor, "..."]:
        """In [0, 1)."""
        return torch.rand(shape, generator=self._generator)

    def shuffled(self, count: int) -> Int[Tensor, " N"]:
        """0 to count - 1, in any order."""
        return torch.randperm(count, generator=self._generator)

    def integers(self, below: int, count: int) -> Int[Tensor, " P"]:
        """`count` of 0 to below - 1."""
        return torch.randint(below, (count,), generator=self._generator)
