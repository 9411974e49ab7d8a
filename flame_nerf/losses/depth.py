"""The order of depths in patches as a term of the loss, against the subject's depth maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.losses.functions import depth_hinge_loss, depth_ranking_loss, depth_smoothness_loss, draw_depth_pairs
from flame_nerf.runtime.old_runs import StoredConfig

SOLID = 0.5
"""Opacity from which a ray's expected depth says where a surface is."""
DepthLoss = Literal["ranking", "hinge", "smoothness", "none"]


TAU = 0.003
"""Metres by which a pair in the right order must be apart for the ranking loss to leave it alone: the track's error."""
EQUAL_THRESHOLD = 0.01
"""Difference of the prior, as a part of its range over the patch, below which two pixels count as equally far: less is
noise in every estimator."""


@dataclass
class DepthTermConfig(StoredConfig):
    """Comparison of rendered depth with the subject's depth maps."""

    kind: DepthLoss = "ranking"
    """ranking: pixel pairs must be in the prior's order (the patent's form); hinge: the same with a margin instead of
    a logarithm; smoothness: depth may jump only where the image does, needs no depth maps; none: no such term."""
    every: int = 4
    """Steps between two with this term. Larger is faster, as patches make a step longer, and weakens the term."""
    pairs: Fixed[int] = 128
    """Pixel pairs compared in each patch."""


class DepthTerm:
    """Depth of rendered patches against the prior that came with them."""

    def __init__(self, config: DepthTermConfig):
        self.config = config
        self._without_maps = False

    def wanted(self, step: int) -> bool:
        """True if a step is to bring patches: no longer once it is known that the subject has no depth for them."""
        return self.config.kind != "none" and not self._without_maps and step % self.config.every == 0

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, ""] | None:
        """The term on the patches at the end of a batch; None where there is nothing to compare.

        Args:
            outputs: depth [R, 1] (metres along the ray), accumulation [R, 1] and directions_norm [R, 1] (what a step
                of one along the optical axis is along the ray) of the batch's rays.
            batch: image and mask of the same rays, `num_patches`, `patch_size` and, with a prior, `depth_prior`.
        """
        if self.config.kind == "none" or "num_patches" not in batch:
            return None
        prior = batch.get("depth_prior")
        if prior is None and self.config.kind != "smoothness":
            if not self._without_maps:
                self._without_maps = True
                CONSOLE.log(
                    "[yellow]This subject carries no depth maps: training goes on without the depth loss. "
                    "`flame-nerf-data depth SUBJECT` writes them."
                )
            return None
        patches, size = int(batch["num_patches"]), int(batch["patch_size"])

        def last(values: Tensor) -> Tensor:
            return values[-patches * size * size :].view(patches, size, size, -1)

        # Priors are depths along the optical axis.
        depth = last(outputs["depth"] / outputs["directions_norm"])[..., 0]
        solid = (last(outputs["accumulation"].detach())[..., 0] > SOLID).to(depth)
        weight = solid * (last(batch["mask"].to(depth.device))[..., 0] > SOLID)
        if self.config.kind == "smoothness":
            return depth_smoothness_loss(depth, last(batch["image"].to(depth.device)), weight)
        assert prior is not None, "only smoothness goes without"
        pairs = draw_depth_pairs(patches, size, self.config.pairs, device=depth.device)
        if self.config.kind == "hinge":
            return depth_hinge_loss(depth, prior.to(depth), pairs, weight, equal_threshold=EQUAL_THRESHOLD)
        return depth_ranking_loss(depth, prior.to(depth), pairs, weight, tau=TAU, equal_threshold=EQUAL_THRESHOLD)
