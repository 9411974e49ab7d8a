"""Reports as HTML pages of one file each, nothing loaded from elsewhere, and the pictures in them."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

SIDE = 360
"""Longest side of a picture in a report, pixels."""
MESH_COLOUR, CUT_COLOUR = (80, 220, 120), (40, 60, 90)
FARTHEST = 1e4
"""Pixels from the corner beyond which a triangle is not drawn: it is seen from too near."""


def render_page(template: str, **values: Any) -> str:
    """A page from one of the templates beside this file. Values are escaped: names and messages may hold anything."""
    import jinja2

    loader = jinja2.PackageLoader("data_tools.runs")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(values)


def data_uri(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as an address that holds it."""
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def mesh_on_picture(
    picture: UInt8[np.ndarray, "H W 3"],
    matte: UInt8[np.ndarray, "H W"] | None,
    pixels: Float[np.ndarray, "V 2"],
    faces: Int[np.ndarray, "F 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, at most `SIDE` long, what the matte cuts away darkened, and the mesh's front drawn on it.

    Args:
        pixels: where the vertices are seen in the picture; NaN behind the camera.
    """
    shape = np.array(picture.shape[1::-1])
    scale = SIDE / shape.max()
    size = np.maximum(1, np.round(shape * scale)).astype(int)
    image = cv2.resize(picture, size.tolist(), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if matte is not None:
        share = cv2.resize(matte, size.tolist(), interpolation=cv2.INTER_LINEAR)[..., None] / 255.0
        image = image * share + (0.45 * image + 0.55 * np.array(CUT_COLOUR)) * (1 - share)
    image = np.ascontiguousarray(image.astype(np.uint8))

    triangles = (pixels * (size / shape))[faces]
    triangles = triangles[np.isfinite(triangles).all(axis=(1, 2)) & (np.abs(triangles).max(axis=(1, 2)) < FARTHEST)]
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    wire = image.copy()
    cv2.polylines(wire, list(np.round(triangles[front] * 16).astype(np.int32)), True, MESH_COLOUR, 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(wire, 0.4, image, 0.6, 0)
