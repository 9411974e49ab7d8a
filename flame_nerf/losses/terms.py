"""The loss of a batch: every term by the name it is logged by, and what a step must bring for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flame_nerf.losses.depth import DepthTerm, DepthTermConfig
from flame_nerf.losses.functions import color_loss, latent_loss, mask_loss, opacity_entropy_loss
from flame_nerf.losses.view_terms import ViewTerm, wanted_terms
from flame_nerf.losses.weights import LossStarts, LossWeights, Term, is_on, objective

RenderViewAt = Callable[[int, int, Float[Tensor, "N 3"], Float[Tensor, "N 3"]], dict[str, Tensor]]
"""(step, training frame, origins, directions) -> outputs of the renderer, on the model's plain background."""


class LossTerms:
    """What training makes small.

    To add a term: a weight in `LossWeights`, perhaps a start in `LossStarts`, and an entry in :meth:`terms` under that
    name. A baseline's own terms are a subclass in its file.
    """

    def __init__(
        self,
        weights: LossWeights,
        starts: LossStarts,
        depth: DepthTermConfig,
        latent_codes: nn.Parameter | None,
        penalties: Callable[[int], Mapping[str, Term]],
    ):
        """
        Args:
            weights, starts: of the terms; one of weight 0 is not computed.
            depth: of the term on patches.
            latent_codes: of the moments [T, D]; None: there are none.
            penalties: what the track's corrections cost in a step.
        """
        self._weights, self._starts = weights, starts
        self._depth, self._latent_codes, self._penalties = DepthTerm(depth), latent_codes, penalties
        self.views: dict[str, ViewTerm] = {}
        self._c2w: Float[Tensor, "N 3 4"] | None = None
        self._render: RenderViewAt | None = None

    def add_views(self, views: dict[str, ViewTerm], c2w: Float[Tensor, "N 3 4"], render: RenderViewAt) -> None:
        """Add terms that render views of their own: of the training frames' cameras `c2w` (head frame, OpenGL axes)."""
        self.views, self._c2w, self._render = views, c2w, render

    def wants_patches(self, step: int) -> bool:
        """Whether a step is to bring patches."""
        return is_on("depth_loss", step, self._weights, self._starts) and self._depth.wanted(step)

    def losses(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None
    ) -> dict[str, Float[Tensor, ""]]:
        """The terms that count, each times its weight; their sum is what training makes small.

        Args:
            outputs: of the renderer.
            batch: image [R, 3] and mask [R, 1] of the same rays, in 0..1; and with patches what `DepthTerm.loss` says.
            step: of the training; None: evaluation, which has the terms that need nothing but the batch.
        """
        at = sys.maxsize if step is None else step
        return objective(self.terms(outputs, batch, step), at, self._weights, self._starts)

    def terms(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> dict[str, Term]:
        """All terms, ready to be computed; arguments as of :meth:`losses`."""
        accumulation, matte = outputs["accumulation"], batch["mask"].to(outputs["rgb"].device)
        terms: dict[str, Term] = {
            "color_loss": lambda: self.color_loss(outputs, batch, step),
            "mask_loss": lambda: mask_loss(accumulation, matte),
            "opacity_entropy_loss": lambda: opacity_entropy_loss(accumulation),
        }
        codes = self._latent_codes
        if codes is not None:
            terms["latent_regularizer"] = lambda: latent_loss(codes)
        if step is not None:
            terms["depth_loss"] = lambda: self._depth.loss(outputs, batch)
            if self._c2w is not None and self._render is not None:
                terms |= wanted_terms(self.views, step, self._c2w, partial(self._render, step))
            terms |= self._penalties(step)
        return terms

    def color_loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int | None) -> Float[Tensor, ""]:
        """Of the rendered colours; arguments as of :meth:`losses`."""
        return color_loss(outputs["rgb"], target_colors(outputs, batch))


def target_colors(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, "R 3"]:
    """The batch's colours on the background that the rays were rendered on."""
    device = outputs["rgb"].device
    image, matte = batch["image"].to(device), batch["mask"].to(device)
    return image * matte + outputs["background"] * (1 - matte)


def training_psnr(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    """Peak signal-to-noise ratio of a batch's rays on their background, dB."""
    with torch.no_grad():
        error = torch.nn.functional.mse_loss(outputs["rgb"], target_colors(outputs, batch))
    return -10 * error.clamp_min(1e-10).log10()
