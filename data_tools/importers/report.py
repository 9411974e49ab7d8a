"""The import report: one HTML page with what was found and the mesh on the pictures, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import os
from collections import Counter

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from data_tools.importers.capture import Capture, Shot
from data_tools.importers.config import ImportingError, ImportSummary
from data_tools.importers.inputs.mattes import matte_of
from data_tools.importers.overlay import Verdict
from data_tools.runs.picture_files import read_picture

SHOWN = 6
"""Pictures with the mesh drawn on them."""
SIDE = 360
"""Their longest side in pixels."""
MESH_COLOUR, CUT_COLOUR = (80, 220, 120), (40, 60, 90)
GOOD_IOU = 0.9
LISTED = 40
"""Frames left out that are named one by one."""


def write_report(summary: ImportSummary, capture: Capture, judged: list[Shot], verdict: Verdict | None) -> None:
    """Write the page.

    Args:
        judged: shots that were compared with the mesh, in the order of the verdict.
    """
    places = np.unique(np.linspace(0, len(judged) - 1, SHOWN).round().astype(int))
    compared = verdict is not None and len(verdict.each) == len(judged)
    figures = "".join(
        f'<figure><img alt="" src="{_data_uri(_overlay(capture, judged[i]))}">'
        f"<figcaption>{html.escape(judged[i].name)}{f': IoU {verdict.each[i]:.3f}' if compared else ''}</figcaption>"
        "</figure>"
        for i in places
    )
    facts = "".join(
        f"<tr><th>{html.escape(name)}<td>{html.escape(value)}"
        for name, value in {"format": summary.format, "recognised by": summary.why, **summary.facts}.items()
        if value
    )
    iou = "not measured" if summary.outline_iou is None else f"{summary.outline_iou:.3f}"
    good = summary.outline_iou is not None and summary.outline_iou >= GOOD_IOU
    page = _PAGE.format(
        source=html.escape(summary.format),
        iou=iou,
        iou_class="" if good else " short",
        pictures=summary.pictures,
        timesteps=summary.timesteps,
        left_out=len(summary.left_out),
        warnings="".join(f"<li>{html.escape(warning)}" for warning in summary.warnings) or "<li>Nothing.",
        facts=facts,
        figures=figures,
        missing=_left_out(summary.left_out),
    )
    part = summary.report.with_name(f".{summary.report.name}.part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, summary.report)


def _left_out(frames: tuple[tuple[str, str], ...]) -> str:
    if not frames:
        return "<p>None."
    rows = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(reason)}" for name, reason in frames[:LISTED])
    more = f"<p>and {len(frames) - LISTED} more" if len(frames) > LISTED else ""
    return f"<table>{rows}</table>{more}"


def reasons_in_short(frames: tuple[tuple[str, str], ...]) -> list[str]:
    """Why frames were left out, counted: `3: its mesh does not exist (00004, 00009, …)`."""
    kinds: dict[str, list[str]] = {}
    for name, reason in frames:
        words = " ".join(word for word in reason.split() if "." not in word and "/" not in word)
        kinds.setdefault(words, []).append(name)
    counted = Counter({words: len(names) for words, names in kinds.items()})
    return [
        f"{count}: {words} ({', '.join(kinds[words][:3])}{', …' if count > 3 else ''})"
        for words, count in counted.most_common()
    ]


def _overlay(capture: Capture, shot: Shot) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with what is cut away darkened and the mesh's front drawn on it."""
    decoded = read_picture(shot.picture, ImportingError)
    matte = matte_of(decoded, shot.matte, shot.segmentation)
    scale = SIDE / max(decoded.rgb.shape[:2])
    size = (max(1, round(decoded.rgb.shape[1] * scale)), max(1, round(decoded.rgb.shape[0] * scale)))
    image = cv2.resize(decoded.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if matte is not None:
        share = cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR)[..., None] / 255.0
        image = image * share + (0.45 * image + 0.55 * np.array(CUT_COLOUR)) * (1 - share)
    image = np.ascontiguousarray(image.astype(np.uint8))
    pixels = shot.camera.resized(size).project(capture.meshes.vertices([shot.timestep])[0].astype(np.float64))
    return _wire(image, pixels, np.asarray(capture.meshes.faces))


def _wire(
    image: UInt8[np.ndarray, "h w 3"], pixels: Float[np.ndarray, "V 2"], faces: Int[np.ndarray, "F 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    triangles = pixels[faces]
    triangles = triangles[np.isfinite(triangles).all(axis=(1, 2)) & (np.abs(triangles).max(axis=(1, 2)) < 1e4)]
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    wire = image.copy()
    cv2.polylines(wire, list(np.round(triangles[front] * 16).astype(np.int32)), True, MESH_COLOUR, 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(wire, 0.4, image, 0.6, 0)


def _data_uri(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Import report: {source}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --good: #1f7a4d; --bad: #b3372f; }}
@media (prefers-color-scheme: dark) {{ :root {{ --good: #63c795; --bad: #ef8379; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.1em; margin: 2em 0 .5em; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: 10px; }}
.tile {{ flex: 1 1 140px; border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }}
.tile b {{ display: block; font-size: 1.35em; color: var(--good); }} .tile.short b {{ color: var(--bad); }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid var(--line); padding: 4px 8px; text-align: left; vertical-align: top; }}
th {{ white-space: nowrap; font-weight: 500; opacity: .8; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 12px; }}
figure {{ margin: 0; }} figure img {{ width: 100%; border-radius: 6px; }}
figcaption {{ font-size: .85em; opacity: .8; }}
</style>
<h1>Import report: {source}</h1>
<div class=tiles>
<div class="tile{iou_class}"><b>{iou}</b>outline and matte, IoU, brow to chin</div>
<div class=tile><b>{pictures}</b>pictures of {timesteps} moments</div>
<div class=tile><b>{left_out}</b>frames left out</div>
</div>
<h2>What to know before training</h2>
<ul>{warnings}</ul>
<h2>What was found</h2>
<table>{facts}</table>
<h2>The mesh on the pictures (what the mask cuts away is dark)</h2>
<div class=pictures>{figures}</div>
<h2>Frames left out</h2>
{missing}
</html>
"""
