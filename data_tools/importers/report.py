"""The import report: one HTML page with what was found and the mesh on the pictures, nothing loaded from elsewhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
from jaxtyping import UInt8

from data_tools.importers.capture import Capture, Shot
from data_tools.importers.config import ImportingError, ImportSummary
from data_tools.importers.inputs.mattes import matte_of
from data_tools.importers.overlay import Verdict
from data_tools.runs.page import data_uri, mesh_on_picture, render_page
from data_tools.runs.picture_files import read_picture
from flame_nerf.runtime.files import whole

SHOWN = 6
"""Pictures with the mesh drawn on them."""
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
    figures = [
        (
            data_uri(_overlay(capture, judged[i])),
            f"{judged[i].name}: IoU {verdict.each[i]:.3f}" if compared else judged[i].name,
        )
        for i in places
    ]
    iou = summary.outline_iou
    page = render_page(
        "import.html",
        title=f"Import report: {summary.format}",
        summary=summary,
        iou="not measured" if iou is None else f"{iou:.3f}",
        good=iou is not None and iou >= GOOD_IOU,
        facts=[("format", summary.format), ("recognised by", summary.why), *summary.facts.items()],
        figures=figures,
        listed=LISTED,
    )
    with whole(summary.report, alone=True) as spare:
        spare.write_text(page, encoding="utf-8")


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
    camera = shot.camera.resized(decoded.rgb.shape[1::-1])
    pixels = camera.project(capture.meshes.vertices([shot.timestep])[0].astype(np.float64))
    matte = matte_of(decoded, shot.matte, shot.segmentation)
    return mesh_on_picture(decoded.rgb, matte, pixels, np.asarray(capture.meshes.faces))
