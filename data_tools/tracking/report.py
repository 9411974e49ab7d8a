"""The capture report: one HTML page with pictures and curves, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from data_tools.runs.pictures import load_grey, load_picture
from data_tools.tracking.config import TrackSummary
from data_tools.tracking.fit.fitted import Fitted
from data_tools.tracking.result import Quality
from data_tools.tracking.stabilised import Stabilised
from flame_nerf.heads import HeadModel

PICTURE_SIDE = 360
"""Longest side of a picture in the report, pixels."""
MESH_COLOUR, CUT_COLOUR = (80, 220, 120), (40, 60, 90)
WIDE = 3.0
"""Standard deviations that fill the bar of a statistical expression."""
TARGET_IOU = 0.94
"""What a good capture reaches; the page marks what falls short."""


def write_report(
    path: Path,
    summary: TrackSummary,
    head: HeadModel,
    fitted: Fitted,
    quality: Quality,
    pictures: list[Path],
    masks: list[Path],
    source: str,
    target: float,
    stabilised: Stabilised | None = None,
) -> None:
    """Write the page.

    Args:
        target: landmark distance that a good capture stays below, fraction of the face's height.
        pictures, masks: of all rows of `fitted`.
        source: the video's name.
        stabilised: the face held still, if the frames were registered.
    """
    chosen = _telling_frames(head, fitted, quality)
    figures = "".join(
        f"<figure>{_image(_overlay(head, fitted, row, pictures[row], masks[row]))}"
        f"<figcaption>{html.escape(title)}: picture {html.escape(pictures[row].stem)}, "
        f"{100 * quality.error[row]:.2f} % off</figcaption></figure>"
        for title, row in chosen.items()
    )
    (low, high), iou = summary.yaw_range_deg, summary.outline_iou
    tiles = "".join(
        [
            _tile("frames", f"{summary.frames}", f"{len(summary.dropped) + summary.lost} left out"),
            _tile(
                "landmarks off by",
                f"{100 * summary.reprojection_fraction:.2f} %",
                f"of the {summary.noun}'s height, {summary.reprojection_px:.2f} px",
                summary.reprojection_fraction <= target,
            ),
            _tile("outline and matte", f"{iou:.3f}", f"IoU, {summary.band}", iou >= TARGET_IOU),
            _tile("head turns", f"{low:.0f}° … {high:+.0f}°", "yaw"),
            _tile("head nods", "{:.0f}° … {:+.0f}°".format(*summary.pitch_range_deg), "pitch"),
        ]
        + _lids_tile(summary)
        + _registered_tile(summary)
    )
    advice = "".join(f"<li>{html.escape(warning)}</li>" for warning in summary.warnings)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in summary.notes)
    page = _PAGE.format(
        source=html.escape(source),
        tiles=tiles,
        notes=f"<ul>{notes}</ul>" if notes else "",
        advice=f"<ul class=warn>{advice}</ul>" if advice else "<p class=good>Nothing to complain about.</p>",
        figures=figures,
        error=_curves(
            [(f"landmark distance, % of the {summary.noun}'s height", 100 * quality.error)], marks=100 * target
        ),
        turns=_curves([("yaw", quality.angles_deg[:, 0]), ("pitch", quality.angles_deg[:, 1])], unit="°"),
        coverage=_coverage(head, fitted.expression),
        lids=_lids(quality),
        look="" if stabilised is None else _look(stabilised),
    )
    part = path.with_name(f".{path.name}.part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, path)


def _lids_tile(summary: TrackSummary) -> list[str]:
    if summary.closures is None:
        return []
    note = f"of {summary.closures} seen, each eye by itself" if summary.closures else "no eye closes in this video"
    return [_tile("closures followed", f"{summary.closures_followed}", note, summary.closures_followed > 0)]


def _lids(quality: Quality) -> str:
    """Openings of both eyes over the frames, detected and fitted."""
    if quality.lids is None:
        return ""
    charts = "".join(
        _curves([(f"{side} eye, as seen", quality.lids.detected[:, eye]), ("as fitted", quality.lids.mesh[:, eye])])
        for eye, side in enumerate(("left", "right"))
    )
    return f"<h2>Lids: how far the subject's eyes are open, 1 is usual, 0 closed</h2>{charts}"


def _registered_tile(summary: TrackSummary) -> list[str]:
    if summary.registered is None:
        return []
    change = f"{summary.look_before:.1f} → {summary.look_after:.1f}"
    note = f"grey levels from the look; {len(summary.by_landmarks)} frames by landmarks"
    return [_tile("registration", change, note, summary.look_after < summary.look_before)]


def _look(stabilised: Stabilised) -> str:
    """The face held still, by landmarks alone and as registered: the mean of its frames, and a film of them."""
    names = ("by landmarks alone", "registered")
    means = "".join(
        f"<figure>{_image(mean)}<figcaption>Mean of {stabilised.count} frames, {name}</figcaption></figure>"
        for mean, name in zip(stabilised.means, names, strict=True)
    )
    film = base64.b64encode(stabilised.film).decode()
    return (
        f"<h2>The face held still: what is sharp lies at the same place in every frame</h2><div class=pictures>{means}"
        f'<figure><img alt="" src="data:image/webp;base64,{film}">'
        f"<figcaption>Left {names[0]}, right {names[1]}</figcaption></figure></div>"
    )


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
    image, matte = load_picture(picture), load_grey(mask)
    scale = PICTURE_SIDE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    resample = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, size, interpolation=resample)
    share = cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR)[..., None] / 255.0
    image = image * share + (0.45 * image + 0.55 * np.array(CUT_COLOUR)) * (1 - share)
    image = np.ascontiguousarray(image.astype(np.uint8))

    triangles = (fitted.in_picture(row) * scale)[head.faces.numpy()]
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    wire = image.copy()
    cv2.polylines(wire, list(np.round(triangles[front] * 16).astype(np.int32)), True, MESH_COLOUR, 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(wire, 0.4, image, 0.6, 0)


def _image(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def _tile(name: str, value: str, note: str, good: bool = True) -> str:
    return f'<div class="tile{"" if good else " short"}"><b>{value}</b><span>{name}</span><i>{note}</i></div>'


def _curves(series: list[tuple[str, Float[np.ndarray, " T"]]], unit: str = "", marks: float | None = None) -> str:
    """Line chart over the frames as SVG."""
    width, height, left, bottom = 860, 170, 46, 22
    values = np.concatenate([curve for _, curve in series] + ([[0.0, 1.3 * marks]] if marks else []))
    low, high = float(values.min()), float(values.max())
    high = high if high > low else low + 1.0
    count = len(series[0][1])

    def x(index: np.ndarray | float) -> np.ndarray | float:
        return left + (width - left - 8) * index / max(count - 1, 1)

    def y(value: np.ndarray | float) -> np.ndarray | float:
        return 8 + (height - bottom - 8) * (high - value) / (high - low)

    parts = []
    for value in np.linspace(low, high, 4):
        parts.append(f"<line class=grid x1={left} x2={width - 8} y1={y(value):.1f} y2={y(value):.1f} />")
        parts.append(f"<text x={left - 6} y={y(value) + 4:.1f} text-anchor=end>{value:.3g}{unit}</text>")
    for index in np.unique(np.linspace(0, count - 1, 6).astype(int)):
        parts.append(f"<text x={x(index):.1f} y={height - 5} text-anchor=middle>{index}</text>")
    if marks is not None:
        parts.append(f"<line class=mark x1={left} x2={width - 8} y1={y(marks):.1f} y2={y(marks):.1f} />")
    for number, (name, curve) in enumerate(series):
        places = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x(np.arange(count)), y(curve), strict=True))
        parts.append(f'<polyline class="c{number}" points="{places}" />')
        parts.append(f'<text class="c{number}" x={left + 10 + 130 * number} y=18>{html.escape(name)}</text>')
    return f'<svg viewBox="0 0 {width} {height}">{"".join(parts)}</svg>'


def _coverage(head: HeadModel, expression: Float[np.ndarray, "T E"]) -> str:
    """One bar an expression: pale to the largest value seen, dark to that of one frame in ten."""
    names = head.expression_names
    if head.expression_range != "unit":
        # Either way from neutral, in standard deviations: three fill the bar.
        expression = np.abs(expression) / WIDE
    usual, most = np.quantile(expression, 0.9, axis=0), expression.max(axis=0)
    rows = "".join(
        f'<div class=bar><span>{html.escape(names[row])}</span><em><s style="width:{100 * min(most[row], 1):.0f}%"></s>'
        f'<u style="width:{100 * min(usual[row], 1):.0f}%"></u></em><i>{most[row]:.2f}</i></div>'
        for row in np.argsort(-most, kind="stable")
    )
    return f"<div class=bars>{rows}</div>"


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Capture report: {source}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --soft: #8882; --one: #1f7a4d; --two: #b4662b; --bad: #b3372f; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --one: #63c795; --two: #e0a06a; --bad: #ef8379; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.1em; margin: 2em 0 .5em; }}
.tiles {{ display: flex; flex-wrap: wrap; gap: 10px; }}
.tile {{ flex: 1 1 140px; border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }}
.tile b {{ display: block; font-size: 1.35em; color: var(--one); }} .tile.short b {{ color: var(--bad); }}
.tile span, .tile i {{ display: block; font-size: .85em; }} i {{ font-style: normal; opacity: .7; }}
.warn li {{ color: var(--bad); }} .good {{ color: var(--one); }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 12px; }}
figure {{ margin: 0; }} figure img {{ width: 100%; border-radius: 6px; }}
figcaption {{ font-size: .85em; opacity: .8; }}
svg {{ width: 100%; }} svg text {{ font-size: 11px; fill: currentColor; }} .grid {{ stroke: var(--line); }}
.mark {{ stroke: var(--bad); stroke-dasharray: 5 4; }}
polyline {{ fill: none; stroke-width: 1.4; }}
polyline.c0 {{ stroke: var(--one); }} polyline.c1 {{ stroke: var(--two); }}
svg text.c0 {{ fill: var(--one); }} svg text.c1 {{ fill: var(--two); }}
.bars {{ columns: 2; }} .bar {{ display: flex; gap: 8px; align-items: center; font-size: .82em; break-inside: avoid; }}
.bar span {{ width: 11em; }} .bar em {{ flex: 1; height: 9px; position: relative; background: var(--soft); }}
.bar s, .bar u {{ position: absolute; inset: 0 auto 0 0; background: var(--one); opacity: .4; }}
.bar u {{ opacity: 1; }}
.bar i {{ width: 2.4em; text-align: right; }}
</style>
<h1>Capture report: {source}</h1>
<div class=tiles>{tiles}</div>
<h2>What to know before training</h2>
{advice}
{notes}
<h2>Head model on the pictures (what the mask cuts away is dark)</h2>
<div class=pictures>{figures}</div>
{look}
<h2>Fit, frame by frame</h2>
{error}
<h2>Turns of the head</h2>
{turns}
<h2>Expressions: largest value seen (pale), and that of one frame in ten (dark)</h2>
{coverage}
{lids}
</html>
"""
