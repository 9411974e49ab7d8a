"""The capture report: one HTML page with pictures and curves, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from data_tools.capture.measured import Measured
from data_tools.capture.page import write_capture_page
from data_tools.runs.charts import curves
from data_tools.runs.page import data_uri, mesh_on_picture
from data_tools.runs.pictures import load_grey, load_picture
from data_tools.tracking.config import TrackSummary
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.result import Quality
from data_tools.tracking.stabilised import Stabilised
from flame_nerf.heads import HeadModel

WIDE = 3.0
"""Standard deviations that fill the bar of a statistical expression."""
TARGET_IOU = 0.94
"""What a good capture reaches; the page marks what falls short."""


def write_report(
    summary: TrackSummary,
    head: HeadModel,
    fitted: Fitted,
    quality: Quality,
    pictures: list[Path],
    masks: list[Path],
    measured: Measured,
    target: float,
    stabilised: Stabilised | None = None,
) -> None:
    """Write the page: what the footage covers and lacks, and how the track lies on the pictures.

    Args:
        pictures, masks: of all rows of `fitted`.
        measured: what the footage shows.
        target: landmark distance that a good capture stays below, fraction of the face's height.
        stabilised: the face held still, if the frames were registered.
    """
    chosen = _telling_frames(head, fitted, quality)
    figures = [
        (
            data_uri(_overlay(head, fitted, row, pictures[row], masks[row])),
            f"{title}: picture {pictures[row].stem}, {100 * quality.error[row]:.2f} % off",
        )
        for title, row in chosen.items()
    ]
    error = (f"landmark distance, % of the {summary.noun}'s height", 100 * quality.error)
    write_capture_page(
        summary.report,
        measured,
        tiles=_tiles(summary, target),
        warnings=summary.warnings,
        notes=summary.notes,
        held_still=None if stabilised is None else _held_still(stabilised),
        figures=figures,
        sections=[("Fit, frame by frame", [curves([error], mark=100 * target)]), *_lids(quality)],
        expressions=_coverage(head, fitted.expression),
    )


def _tiles(summary: TrackSummary, target: float) -> list[tuple[str, str, str, bool]]:
    """Name, value and note of each number at the top, and whether it is what a good capture reaches."""
    iou = summary.outline_iou
    return [
        ("frames left out", f"{len(summary.dropped) + summary.lost}", f"{summary.frames} are used", True),
        (
            "landmarks off by",
            f"{100 * summary.reprojection_fraction:.2f} %",
            f"of the {summary.noun}'s height, {summary.reprojection_px:.2f} px",
            summary.reprojection_fraction <= target,
        ),
        ("outline and matte", f"{iou:.3f}", f"IoU, {summary.band}", iou >= TARGET_IOU),
        *_lids_tile(summary),
        *_registered_tile(summary),
    ]


def _lids_tile(summary: TrackSummary) -> list[tuple[str, str, str, bool]]:
    if summary.closures is None:
        return []
    note = f"of {summary.closures} seen, each eye by itself" if summary.closures else "no eye closes in this video"
    return [("closures followed", f"{summary.closures_followed}", note, summary.closures_followed > 0)]


def _lids(quality: Quality) -> list[tuple[str, list[str]]]:
    """Openings of both eyes over the frames, detected and fitted."""
    if quality.lids is None:
        return []
    charts = [
        curves([(f"{side} eye, as seen", quality.lids.detected[:, eye]), ("as fitted", quality.lids.mesh[:, eye])])
        for eye, side in enumerate(("left", "right"))
    ]
    return [("Lids: how far the subject's eyes are open, 1 is usual, 0 closed", charts)]


def _registered_tile(summary: TrackSummary) -> list[tuple[str, str, str, bool]]:
    if summary.registered is None:
        return []
    change = f"{summary.look_before:.1f} → {summary.look_after:.1f}"
    alone, astray = len(summary.by_landmarks), len(summary.off_course)
    note = f"grey levels from the look; {alone} frames by landmarks, {astray} probably wrong"
    return [("registration", change, note, summary.look_after < summary.look_before)]


def _held_still(stabilised: Stabilised) -> list[tuple[str, str]]:
    """The face held still, by landmarks alone and as registered: the mean of its frames, and a film of them."""
    names = ("by landmarks alone", "registered")
    film = base64.b64encode(stabilised.film).decode()
    means = [
        (data_uri(mean), f"Mean of {stabilised.count} frames, {name}")
        for mean, name in zip(stabilised.means, names, strict=True)
    ]
    return [*means, (f"data:image/webp;base64,{film}", f"Left {names[0]}, right {names[1]}")]


def _telling_frames(head: HeadModel, fitted: Fitted, quality: Quality) -> dict[str, int]:
    """Rows worth looking at, by what they show."""
    yaw = quality.angles_deg[:, 0]
    chosen = {
        "First": 0,
        "Turned most to the right": int(yaw.argmin()),
        "Turned most to the left": int(yaw.argmax()),
        "Looking down most": int(quality.angles_deg[:, 1].argmin()),
    }
    if fitted.mouth_open is not None:
        chosen["Mouth open widest"] = int(fitted.mouth_open.argmax())
    return chosen | {"Fitted worst": int(quality.error.argmax())}


def _overlay(head: HeadModel, fitted: Fitted, row: int, picture: Path, mask: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with what is cut away darkened and the mesh's front drawn on it."""
    return mesh_on_picture(load_picture(picture), load_grey(mask), fitted.in_picture(row), head.faces.numpy())


def _coverage(head: HeadModel, expression: Float[np.ndarray, "T E"]) -> list[tuple[str, float, float]]:
    """Each expression's name, its value in one frame of ten, and its largest; the most used first."""
    if head.expression_range != "unit":
        # Either way from neutral, in standard deviations: three fill the bar.
        expression = np.abs(expression) / WIDE
    usual, most = np.quantile(expression, 0.9, axis=0), expression.max(axis=0)
    order = np.argsort(-most, kind="stable")
    return [(head.expression_names[row], float(usual[row]), float(most[row])) for row in order]
