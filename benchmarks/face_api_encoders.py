"""Three small networks trained on faces, as encoders of the semantic loss: benchmarks only.

Their weights are in the npm package @vladmandic/face-api (MIT licence), in its folder `model`, which the encoder's
`weights` must name; the networks are built here as that package's JavaScript builds them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, max_pool2d, pad, relu

from flame_nerf.losses.encoders import ImageEncoderConfig, PriorUnavailable
from flame_nerf.losses.encoders.image_encoder import NetworkEncoder

MEAN, STD = [122.782 / 255, 117.001 / 255, 104.298 / 255], [1.0, 1.0, 1.0]


def identity(config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    """Who it is: dlib's face recognition network, 128 numbers."""
    return _encoder("identity", _Identity(_weights(config, "face_recognition_model")), config, device)


def expression(config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    """What the face expresses: the 256 numbers from which seven expressions are told."""
    return _encoder("expression", _Features(_weights(config, "face_expression_model")), config, device)


def landmarks(config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    """Where its parts are: the 256 numbers from which 68 landmarks are told."""
    return _encoder("landmarks", _Features(_weights(config, "face_landmark_68_model")), config, device)


def _encoder(name: str, network: nn.Module, config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    return NetworkEncoder(name, network, config.input_size or network.size, MEAN, STD, device)


def _weights(config: ImageEncoderConfig, model: str) -> dict[str, Tensor]:
    """A model's arrays by name, their eight bits spread again; filters as torch has them."""
    manifest = Path(config.weights) / f"{model}-weights_manifest.json"
    if not manifest.is_file():
        raise PriorUnavailable(f"{manifest} is not there: npm pack @vladmandic/face-api, and unpack it")
    data = manifest.with_name(f"{model}.bin").read_bytes()
    found, at = {}, 0
    for group in json.loads(manifest.read_text()):
        for entry in group["weights"]:
            packed = entry.get("quantization")
            kind = np.dtype(packed["dtype"] if packed else entry["dtype"])
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(data, kind, count, at).astype(np.float32).reshape(entry["shape"])
            at += count * kind.itemsize
            values = values * packed["scale"] + packed["min"] if packed else values
            if values.ndim == 4:
                # Depthwise filters [h, w, channels, 1] become [channels, 1, h, w].
                values = values.transpose((2, 3, 0, 1) if "depthwise" in entry["name"] else (3, 2, 0, 1))
            found[entry["name"]] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return found


class _Network(nn.Module):
    size: int

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        for name, values in weights.items():
            self.register_buffer(name.replace("/", "_"), values, persistent=False)

    def at(self, name: str) -> Tensor:
        return getattr(self, name.replace("/", "_"))

    def seen(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 S S"]:
        """At the size that the network was trained on: its last pooling knows no other."""
        return interpolate(pictures, (self.size, self.size), mode="bilinear", align_corners=False)


class _Features(_Network):
    """face-api's FaceFeatureExtractor: four dense blocks of depthwise separable convolutions."""

    size = 112

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 256"]:
        values = self.seen(pictures)
        for block in range(4):
            values = self._block(values, f"dense{block}", first=block == 0)
        return avg_pool2d(values, 7, 2).flatten(1)

    def _block(self, values: Tensor, name: str, first: bool) -> Tensor:
        if first:
            filters, bias = self.at(f"{name}/conv0/filters"), self.at(f"{name}/conv0/bias")
            total = relu(conv2d(pad(values, (0, 1, 0, 1)), filters, bias, stride=2))
        else:
            total = relu(self._separable(values, f"{name}/conv0", stride=2))
        for number in (1, 2, 3):
            total = total + self._separable(relu(total), f"{name}/conv{number}")
        return relu(total)

    def _separable(self, values: Tensor, name: str, stride: int = 1) -> Tensor:
        filters = self.at(f"{name}/depthwise_filter")
        # What "same" is for even sizes.
        values = pad(values, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        values = conv2d(values, filters, stride=stride, groups=len(filters))
        return conv2d(values, self.at(f"{name}/pointwise_filter"), self.at(f"{name}/bias"))


class _Identity(_Network):
    """face-api's FaceRecognitionNet, which is dlib's ResNet."""

    size = 150
    blocks = (
        *("conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down"),
        *("conv128_1", "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
    )

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 128"]:
        values = max_pool2d(relu(self._conv(self.seen(pictures), "conv32_down", stride=2)), 3, 2)
        for name in self.blocks:
            down = "down" in name
            out = relu(self._conv(values, f"{name}/conv1", stride=2 if down else 1))
            out = self._conv(out, f"{name}/conv2")
            if down:
                values = avg_pool2d(values, 2, 2)
                rows, columns = (values.shape[axis] - out.shape[axis] for axis in (2, 3))
                out = pad(out, (0, columns, 0, rows))
                values = pad(values, (0, 0, 0, 0, 0, out.shape[1] - values.shape[1]))
            values = relu(out + values)
        return values.mean(dim=(2, 3)) @ self.at("fc")

    def _conv(self, values: Tensor, name: str, stride: int = 1) -> Tensor:
        padding = 0 if stride == 2 else 1
        values = conv2d(values, self.at(f"{name}/conv/filters"), self.at(f"{name}/conv/bias"), stride, padding)
        weights, biases = (self.at(f"{name}/scale/{part}")[:, None, None] for part in ("weights", "biases"))
        return values * weights + biases
