"""The meaning of whole pictures as a term of the loss: a rendered head must mean what its frame means (patent
CN117115331B, claims 1, 3, 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from tyro.conf import Fixed

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.geometry import matrix_to_axis_angle
from flame_nerf.losses.encoders import ImageEncoderConfig, PriorUnavailable, load_image_encoder
from flame_nerf.losses.encoders.image_encoder import ImageEncoder
from flame_nerf.losses.functions import semantic_loss
from flame_nerf.losses.head_views import HeadViews
from flame_nerf.losses.view_geometry import nearest_view, perturb_camera
from flame_nerf.runtime.old_runs import StoredConfig
from flame_nerf.runtime.to_device import to_device
from flame_nerf.runtime.words import escape


class ShownFace(Protocol):
    """A face that is not in the track."""

    @property
    def vertices(self) -> Float[Tensor, "V 3"]:
        """Its mesh in the head frame, metres."""


RenderView = Callable[..., dict[str, Tensor]]
"""(training frame, origins, directions[, face to show instead of the frame's]) -> outputs of the renderer, on the
model's plain background."""


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


GAMMA = 0.1
"""Weight of the head's pose beside the image's code in the compared vectors (patent, claim 4): a turn of 30 degrees
adds 0.05 to the distance of vectors whose length is 1."""


@dataclass
class SemanticTermConfig(StoredConfig):
    """Comparison of the embedding of rendered images with that of the video's frames."""

    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """The pretrained network that embeds an image."""
    every: int = 20
    """Steps between two with this term. Larger is faster, since rendering and embedding an image takes longer than a
    step, and weakens the term."""
    size: int = 48
    """Rays along the side of the image rendered for it. Larger shows the encoder more detail; time grows with the
    square."""
    max_angle_deg: Fixed[float] = 25.0
    """Largest turn of the camera around the head; every other image is taken from the frame's own camera."""


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
        self._c2w: Float[Tensor, "N 3 4"] | None = None
        self._turn = 0

    def prepare(self, dataset: FlameNerfDataset, background: tuple[float, float, float], device: torch.device) -> bool:
        """Load the encoder; says once what is missing where it cannot be had, and the term then stays out.

        Returns:
            Whether the term is ready.

        Raises:
            ValueError: the config names what cannot be right, such as weights of another model.
        """
        try:
            encoder = load_image_encoder(self.config.encoder, device)
            self._views = HeadViews(dataset, self.config.size, background)
        except PriorUnavailable as reason:
            CONSOLE.log(f"[yellow]Training goes on without the semantic loss: {escape(reason)}")
            return False
        self._prior = SemanticPrior(encoder, self._views.target, GAMMA, device)
        return True

    def wanted(self, step: int) -> bool:
        """True if a step is to have this term."""
        return self._prior is not None and step % self.config.every == 0

    def loss(self, c2w: Float[Tensor, "N 3 4"], render: RenderView) -> Float[Tensor, ""]:
        """The term for a training frame drawn at random.

        Args:
            c2w: cameras of the training frames, head frame, OpenGL axes.
            render: renders rays at a training frame's moment.
        """
        assert self._prior is not None and self._views is not None, "asked for while it is not wanted"
        self._turn += 1
        if self._c2w is None:
            # Where cameras stand is worked out beside a GPU: which frame is most alike must be known here.
            self._c2w = c2w.detach().cpu()
        frame = int(torch.randint(len(c2w), ()))
        camera, alike = self._c2w[frame], frame
        if self._turn % 2 == 0:
            camera = perturb_camera(camera, self._centre, self.config.max_angle_deg)
            alike = nearest_view(self._c2w, self._centre, camera)
        size = self.config.size
        pair = to_device(torch.stack([camera, self._c2w[alike]]), c2w.device)
        rgb = render(frame, *self._views.rays(frame, pair[0], jitter=True))["rgb"].view(1, size, size, 3)
        poses = matrix_to_axis_angle(pair[:, :, :3])
        return self._prior.loss(rgb, [alike], poses[:1], poses[1:])
