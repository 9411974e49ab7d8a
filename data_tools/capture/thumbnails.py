"""Small pictures of a subject's head for a page."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from data_tools.capture.frames import seen_in_frame, skull_vertices
from data_tools.capture.measured import PITCH_EDGES, YAW_EDGES, Measured
from flame_nerf.subject import Subject

SMALL, LARGE = 112, 360
"""Sides of a thumbnail and of the portrait, pixels."""
AROUND = 0.12
"""What is seen around the head, as a share of its size."""


def thumbnail(subject: Subject, row: int, side: int = SMALL) -> UInt8[np.ndarray, "side side 3"] | None:
    """The head in one frame, as a square; None if the picture cannot be read or does not show it."""
    seen = seen_in_frame(subject, row, skull_vertices(subject.track))
    if seen is None or not np.isfinite(seen[1]).all():
        return None
    picture, pixels = seen
    height, width = picture.shape[:2]
    low, high = np.clip(pixels.min(axis=0), 0, [width, height]), np.clip(pixels.max(axis=0), 0, [width, height])
    grow = AROUND * float((high - low).max())
    (left, top), (right, bottom) = (low - grow).astype(int), (high + grow).astype(int)
    if min(high - low) < 2:
        return None
    # A square about the box's middle, moved inside the picture where it would stick out.
    size = min(max(right - left, bottom - top), width, height)
    x = int(np.clip((left + right - size) // 2, 0, width - size))
    y = int(np.clip((top + bottom - size) // 2, 0, height - size))
    part = np.ascontiguousarray(picture[y : y + size, x : x + size])
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if size > side else cv2.INTER_CUBIC)


def best_row(measured: Measured) -> int:
    """The frame that shows the person best: looking ahead, sharp, eyes open."""
    shown = {look.row: look.blur for look in measured.looks}
    clear = [row for row in measured.clear.tolist() if row in shown]
    rows = np.array(clear or measured.clear)
    away = np.abs(measured.yaw[rows]) + np.abs(measured.pitch[rows] - np.median(measured.pitch))
    blur = np.array([shown.get(row, 0.0) for row in rows.tolist()])
    closed = np.zeros(len(rows))
    for done in measured.done:
        if done.group.key in ("blink", "mouth"):
            steps = [measured.subject.frames[row].timestep for row in rows.tolist()]
            closed += np.nan_to_num(done.values[steps])
    return int(rows[np.argmin(away / 10 + 10 * blur + 2 * closed)])


def cell_rows(measured: Measured) -> dict[tuple[int, int], tuple[int, int]]:
    """For each cell of yaw (column) and pitch (row) that holds frames: the frame nearest its middle, and how many."""
    cells, clear = measured.cells(), measured.clear
    middle = [np.convolve(edges, [0.5, 0.5], "valid") for edges in (YAW_EDGES, PITCH_EDGES)]
    found = {}
    for column, row in {tuple(cell) for cell in cells[clear].tolist()}:
        inside = clear[(cells[clear] == (column, row)).all(axis=1)]
        off = np.hypot(measured.yaw[inside] - middle[0][column], measured.pitch[inside] - middle[1][row])
        found[column, row] = int(inside[off.argmin()]), len(inside)
    return found
