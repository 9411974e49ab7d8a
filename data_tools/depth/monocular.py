"""Depth from single pictures, by any depth-estimation model that the transformers package reads."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from data_tools.depth.config import DepthError, EstimatorUnavailable
from flame_nerf.runtime.hub import why_unavailable

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


class MonocularEstimator:
    """A depth-estimation model, loaded."""

    def __init__(self, prior: str):
        """
        Args:
            prior: name on the model hub, or a local folder.

        Raises:
            EstimatorUnavailable: no transformers package, no network, or the hub refuses.
            DepthError: a folder that is not there, or that holds no depth-estimation model.
        """
        folder = Path(prior).expanduser()
        local = folder.is_dir()
        if not local and (prior.startswith((".", "~")) or folder.is_absolute() or prior.count("/") != 1):
            raise DepthError(
                f"--prior {prior}: no such folder. Give a folder with a depth-estimation model, its hub name "
                "(owner/name), or mesh."
            )
        try:
            from transformers import pipeline
        except ImportError as error:
            raise EstimatorUnavailable(
                f"the transformers package is missing ({error}): pip install 'flame-nerf[depth]'"
            ) from error
        reason = None if local else why_unavailable(prior, WEIGHT_FILES)
        if reason is not None:
            raise EstimatorUnavailable(f"{reason}. Copy the model's folder here and give that as --prior")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._pipeline = pipeline("depth-estimation", model=str(folder) if local else prior, device=device)
        except OSError as error:
            if local:
                raise DepthError(f"--prior {prior}: no whole model in that folder ({_brief(error)})") from error
            raise EstimatorUnavailable(f"{prior} could not be fetched ({_brief(error)})") from error
        except (ValueError, KeyError, RuntimeError) as error:
            raise DepthError(f"--prior {prior} is no depth-estimation model ({_brief(error)})") from error
        self.name = folder.resolve().name if local else prior

    def estimate(self, pictures: list[UInt8[np.ndarray, "H W 3"]]) -> list[Float[np.ndarray, "H W"]]:
        """Depth of each picture at the picture's size, in whatever unit and direction the model was trained on."""
        from PIL import Image

        results = self._pipeline([Image.fromarray(picture) for picture in pictures], batch_size=len(pictures))
        maps = []
        for picture, result in zip(pictures, results, strict=True):
            values = result["predicted_depth"].squeeze().float().cpu().numpy()
            if values.shape != picture.shape[:2]:
                values = cv2.resize(values, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
            maps.append(values.astype(np.float64))
        return maps


def _brief(error: Exception) -> str:
    return str(error).strip().split(os.linesep)[0][:300]
