"""Still pictures: PNG files, labels, contact sheets, and how far a picture is from the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import complete_file

GAP = 4
"""Pixels between the pictures of a sheet."""
PAPER = 255
"""Grey level between them."""
LABEL_HEIGHT = 22
"""Pixels of the line of text above a picture."""


def to_uint8(picture: Float[Tensor, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colours 0 to 1 as bytes, rounded, clamped."""
    return (picture.detach().clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()


def psnr(
    picture: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB, over the mask's pixels where one is given; inf for equal pictures."""
    squared = (picture.astype(np.float64) - truth.astype(np.float64)) ** 2
    if mask is not None and mask.any():
        squared = squared[mask]
    error = float(squared.mean()) / 255.0**2
    return math.inf if error == 0.0 else -10.0 * math.log10(error)


def write_png(path: Path | str, picture: UInt8[np.ndarray, "H W 3"], *, synced: bool = True) -> Path:
    """Writes a picture; it appears under its name only when complete.

    Args:
        synced: see `runtime.files.whole`.

    Raises:
        FilmError: the file cannot be written (no right to, a full disk).
    """
    path = Path(path)
    with complete_file(path, "picture", FilmError, synced=synced) as spare:
        Image.fromarray(picture).save(spare, format="PNG")
    return path


def labelled(picture: UInt8[np.ndarray, "H W 3"], text: str) -> UInt8[np.ndarray, "H2 W 3"]:
    """The picture with a line of dark text above it, as large as fits the picture's width."""
    bar = Image.new("RGB", (picture.shape[1], LABEL_HEIGHT), (PAPER,) * 3)
    fonts = (ImageFont.load_default(size) for size in range(16, 6, -1))
    font = next((font for font in fonts if font.getlength(text) <= picture.shape[1] - 6), ImageFont.load_default(7))
    ImageDraw.Draw(bar).text((3, LABEL_HEIGHT // 2), text, fill=(20, 20, 20), font=font, anchor="lm")
    return np.concatenate([np.asarray(bar), picture], axis=0)


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "H W 3"]], columns: int | None = None
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures of one size in rows on white paper, `columns` in each (default: about as many as rows)."""
    if not pictures:
        raise FilmError("a contact sheet without pictures")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), PAPER, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
