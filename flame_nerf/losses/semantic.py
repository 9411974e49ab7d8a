"""The semantic prior: a rendered head must mean what its frame means (patent CN117115331B, claims 1, 3, 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from flame_nerf.losses.functions import semantic_loss
from flame_nerf.priors.image_encoder import ImageEncoder


class SemanticPrior:
    """An encoder and the codes of the training frames' pictures, each worked out once.

    Not a module: the encoder's weights belong neither to the optimisers nor to the checkpoint.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        target: Callable[[int], Float[Tensor, "3 S S"]],
        gamma: float,
        device: torch.device | str,
    ):
        """
        Args:
            target: the picture of a training frame, in 0..1, cut and composited as rendered pictures are.
            gamma: how much the head's pose counts beside the code.
        """
        self.encoder = encoder
        self._target, self._gamma, self._device = target, gamma, torch.device(device)
        self._codes: dict[int, Float[Tensor, " D"]] = {}

    def target_code(self, frame: int) -> Float[Tensor, " D"]:
        """The code of a training frame's picture; from the second time on it is only looked up."""
        if frame not in self._codes:
            with torch.no_grad():
                self._codes[frame] = self.encoder.encode(self._target(frame)[None].to(self._device))[0]
        return self._codes[frame]

    def loss(
        self,
        rendered: Float[Tensor, "B S S 3"],
        frames: list[int],
        pose_render: Float[Tensor, "B Q"],
        pose_target: Float[Tensor, "B Q"],
    ) -> Float[Tensor, ""]:
        """Semantic loss of rendered pictures against the frames they show, from their own camera or another.

        Note:
            Differentiable in `rendered` and the poses.

        Args:
            rendered: colours on the background that the targets are on.
            frames: the training frame that each picture shows.
            pose_render: the head's pose as the rendering camera sees it.
            pose_target: the head's pose in the frame.
        """
        code = self.encoder.encode(rendered.moveaxis(-1, 1))
        target = torch.stack([self.target_code(frame) for frame in frames])
        return semantic_loss(code, pose_render, target, pose_target, self._gamma)
