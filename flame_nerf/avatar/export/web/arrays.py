"""Arrays as text in a page: little-endian, base64, small where that costs nothing to see."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from jaxtyping import Float

_TYPES = {"f4": "Float32Array", "i2": "Int16Array", "u2": "Uint16Array", "u1": "Uint8Array", "u4": "Uint32Array"}


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as the page's script reads it: the name of its type there, and its bytes."""
    values = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return {"type": _TYPES[values.dtype.str[1:]], "base64": base64.b64encode(values.tobytes()).decode()}


def indices(values: np.ndarray) -> dict[str, Any]:
    """Whole numbers from 0 on, in 16 bits where they fit."""
    return array(values.astype(np.uint16 if values.size == 0 or values.max() < 1 << 16 else np.uint32))


def columns(values: Float[np.ndarray, "T N"]) -> dict[str, Any]:
    """A table in 16 bits, each column with a scale of its own."""
    scale = np.maximum(np.abs(values).max(axis=0, initial=0.0), 1e-12) / 32767
    return {"scale": scale.astype(float).tolist(), **array(np.round(values / scale).astype(np.int16))}


def sparse_directions(directions: Float[np.ndarray, "V 3 E"], least: float = 1e-5) -> dict[str, Any]:
    """Directions of vertices in 16 bits, without the vertices that one moves by less than `least` metres."""
    rows, values, starts, scales = [], [], [0], []
    for column in np.moveaxis(directions, 2, 0):
        moved = np.flatnonzero(np.abs(column).max(axis=1) > least)
        scale = max(float(np.abs(column).max(initial=0.0)), 1e-12) / 32767
        rows.append(moved)
        values.append(np.round(column[moved] / scale).astype(np.int16))
        starts.append(starts[-1] + len(moved))
        scales.append(scale)
    row = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    value = np.concatenate(values) if values else np.zeros((0, 3), np.int16)
    return {"start": starts, "scale": scales, "row": indices(row), "value": array(value)}


def webp(values: Float[np.ndarray, "H W *C"], quality: int) -> str:
    """A picture, 0..1, as an opaque WebP in base64; one of a single channel becomes grey."""
    import io

    from PIL import Image

    pixels = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(stream, "WEBP", quality=quality, method=4)
    return base64.b64encode(stream.getvalue()).decode()
