"""Files of an export: each whole or not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from jaxtyping import Float, Int

from flame_nerf.runtime.files import whole


def write_once(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file under another name first; one that is there already is left alone."""
    if path.exists():
        return
    with whole(path, alone=True, synced=False) as spare, spare.open("wb") as file:
        write(file)


def write_picture(path: Path, channels: np.ndarray) -> None:
    """Write a PNG from RGB, RGBA, grey or 16-bit grey pixels."""
    order = channels if channels.ndim == 2 else cv2.cvtColor(
        channels, cv2.COLOR_RGBA2BGRA if channels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    )  # fmt: skip
    write_once(path, lambda file: file.write(cv2.imencode(".png", order, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]))


def write_obj(path: Path, vertices: Float[np.ndarray, "V 3"], face_lines: bytes) -> None:
    """Write a mesh with a tenth of a micrometre; its faces as `obj_faces` gives them."""
    lines = b"".join(b"v %.7f %.7f %.7f\n" % tuple(vertex) for vertex in vertices.astype(float).tolist())
    write_once(path, lambda file: file.write(lines + face_lines))


def obj_faces(faces: Int[np.ndarray, "F 3"]) -> bytes:
    """Faces as an OBJ file's lines: the same for all meshes of a sequence."""
    return b"".join(b"f %d %d %d\n" % tuple(face) for face in (faces + 1).tolist())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, over an older file of that name."""
    path.unlink(missing_ok=True)
    write_once(path, lambda file: file.write(json.dumps(content, indent=1).encode()))
