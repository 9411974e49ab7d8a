"""The two priors of the patent as terms of the loss: the order of depths in patches, the meaning of whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.losses.functions import depth_hinge_loss, depth_ranking_loss, depth_smoothness_loss, draw_depth_pairs
from flame_nerf.losses.head_views import HeadViews
from flame_nerf.priors import (
    ImageEncoderConfig,
    PriorUnavailable,
    SemanticPrior,
    load_image_encoder,
    nearest_view,
    perturb_camera,
)
from flame_nerf.refinement.pose import rotation_vector

SOLID = 0.5
"""Opacity from which a ray's expected depth says where a surface is."""

DepthLoss = Literal["ranking", "hinge", "smoothness", "none"]


@dataclass
class DepthTermConfig:
    """How rendered depth is compared with the subject's depth maps."""

    kind: DepthLoss = "ranking"
    """ranking: pixel pairs must lie in the prior's order (the patent's form); hinge: the same with a margin instead of
    a logarithm; smoothness: depth may jump only where the picture does, needs no prior; none: no such term."""
    every: int = 4
    """Steps from one with patches to the next."""
    pairs: int = 128
    """Pixel pairs compared in each patch."""
    tau: float = 0.003
    """Metres that a pair in right order must be apart to be left in peace (ranking)."""
    equal_threshold: float = 0.01
    """Difference of the prior, of its whole range, below which two pixels count as equally far."""


class DepthTerm:
    """Depth of rendered patches against the prior that came with them."""

    def __init__(self, config: DepthTermConfig):
        self.config = config
        self._told = False

    def wanted(self, step: int) -> bool:
        """Whether a step is to bring patches."""
        return self.config.kind != "none" and step % self.config.every == 0

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
            if not self._told:
                self._told = True
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
        pairs = draw_depth_pairs(patches, size, self.config.pairs, device=depth.device)
        equal = self.config.equal_threshold
        if self.config.kind == "hinge":
            return depth_hinge_loss(depth, prior.to(depth), pairs, weight, equal_threshold=equal)
        return depth_ranking_loss(depth, prior.to(depth), pairs, weight, tau=self.config.tau, equal_threshold=equal)


@dataclass
class SemanticTermConfig:
    """How the meaning of rendered pictures is compared with that of the video's frames."""

    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """The pretrained network that says what a picture means."""
    every: int = 20
    """Steps from one with this term to the next."""
    size: int = 48
    """Rays along the side of the picture that is rendered for it."""
    max_angle_deg: float = 25.0
    """How far the camera is carried around the head; every other picture is taken from the frame's own camera."""
    gamma: float = 0.1
    """How much the head's pose counts in the compared vectors, beside the picture's code."""


RenderView = Callable[[int, Float[Tensor, "N 3"], Float[Tensor, "N 3"]], dict[str, Tensor]]
"""(training frame, origins, directions) -> outputs of the renderer, on the model's plain background."""


class SemanticTerm:
    """Renders a training frame's moment, from its camera or from beside it, and asks the encoder what it sees.

    From its own camera it is to mean what the frame means; from beside, what that frame means which saw the head most
    nearly from there: a side view does not mean what the front does.
    """

    def __init__(self, config: SemanticTermConfig, centre: Float[Tensor, " 3"]):
        """
        Args:
            config: see there.
            centre: middle of the head, metres: what cameras are carried around.
        """
        self.config = config
        self._centre = centre
        self._prior: SemanticPrior | None = None
        self._views: HeadViews | None = None
        self._turn = 0

    def prepare(self, dataset: FlameNerfDataset, background: tuple[float, float, float], device: torch.device) -> None:
        """Load the encoder; says once what is missing where it cannot be had, and the term then stays out.

        Raises:
            ValueError: the config names what cannot be right, such as weights of another model.
        """
        try:
            encoder = load_image_encoder(self.config.encoder, device)
            self._views = HeadViews(dataset, self.config.size, background)
        except PriorUnavailable as reason:
            CONSOLE.log(f"[yellow]Training goes on without the semantic loss: {reason}")
            return
        self._prior = SemanticPrior(encoder, self._views.target, self.config.gamma, device)

    def wanted(self, step: int) -> bool:
        """Whether a step is to have this term."""
        return self._prior is not None and step % self.config.every == 0

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView) -> Float[Tensor, ""]:
        """The term for a training frame drawn at random.

        Args:
            c2w: cameras of the training frames, head frame, OpenGL axes.
            render: renders rays at a training frame's moment.
        """
        self._turn += 1
        frame = int(torch.randint(len(c2w), ()))
        camera, alike = c2w[frame], frame
        if self._turn % 2 == 0:
            centre = self._centre.to(c2w)
            camera = perturb_camera(camera, centre, self.config.max_angle_deg)
            alike = nearest_view(c2w, centre, camera)
        size = self.config.size
        rgb = render(frame, *self._views.rays(frame, camera, jitter=True))["rgb"].view(1, size, size, 3)
        poses = rotation_vector(torch.stack([camera, c2w[alike]])[:, :, :3])
        return self._prior.loss(rgb, [alike], poses[:1], poses[1:])
