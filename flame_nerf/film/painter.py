"""How a film looks: its size, what is behind the head, and how the camera is held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from flame_nerf.film.pictures import to_uint8
from flame_nerf.runtime.door import open_picture
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.film_options import LookConfig

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

COLOURS = {"white": 1.0, "black": 0.0}
MOST_PIXELS = 1 << 26
"""Pixels of a picture as it is rendered, before it is shrunk."""


Paint = Callable[[dict[str, Tensor]], UInt8[np.ndarray, "H W C"]]


def painter(pipeline: Pipeline, look: LookConfig, width: int, height: int) -> Paint:
    """What makes a picture of this look, width x height, of a model's outputs for a camera of as many rays.

    Raises:
        FilmError: a background that is not there, or is no picture.
    """
    model = pipeline.model
    behind = None if look.background is None or look.transparent else _behind(model, look.background, width, height)
    many = look.supersample

    def paint(outputs: dict[str, Tensor]) -> UInt8[np.ndarray, "H W C"]:
        if look.background is None:
            return to_uint8(_shrunk(outputs["rgb"], many))
        rgba = model.get_rgba_image(outputs).cpu()
        # Shrunk premultiplied: a pixel's colour is that of what is in it.
        colour, alpha = _shrunk(torch.cat([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], dim=-1), many).split(
            (3, 1), -1
        )
        if behind is None:
            return to_uint8(torch.cat([colour / alpha.clamp_min(1e-6), alpha], dim=-1))
        return to_uint8(colour + behind * (1 - alpha))

    return paint


def is_picture(background: str | None) -> bool:
    """Whether a look's background names a picture's file."""
    return background not in (None, "transparent", "plate", *COLOURS)


def _shrunk(values: Float[Tensor, "H W C"], factor: int) -> Float[Tensor, "H2 W2 C"]:
    if factor == 1:
        return values
    return torch.nn.functional.avg_pool2d(values.movedim(-1, 0)[None], factor)[0].movedim(0, -1)


def _behind(model: Any, name: str, width: int, height: int) -> Float[Tensor, "H W 3"] | float:
    if name in COLOURS:
        return COLOURS[name]
    if name == "plate":
        plate = model.background.plate
        if plate is None:
            raise FilmError("--background plate: this avatar's video has no clean plate; give a picture's file instead")
        picture = Image.fromarray(to_uint8(plate))
    else:
        picture = _picture(Path(name).expanduser())
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255.0)


def _picture(path: Path) -> Image.Image:
    missing = f"--background {path}: no such picture; give a file, or white, black, transparent or plate"
    with open_picture(path, FilmError, remedy="Give --background another picture.", missing=missing) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")
