"""SLEAP's analysis files: a CSV with a row an animal and frame, and HDF5 with dense arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.record import (
    PIXEL_CENTRES,
    KeypointFile,
    Seen,
    follow,
    frames_of,
    number_of,
    whole,
)
from flame_nerf.runtime.door import parse_json
from flame_nerf.runtime.door.hdf5 import Hdf5Array

AXES = ("frame", "track", "node", "xy")
"""Names of the axes of `tracks`, as newer versions write them beside it."""
MATLAB, PLAIN = ("track", "xy", "node", "frame"), ("frame", "track", "node", "xy")
"""The orders of axes that SLEAP writes."""


def read_sleap_csv(path: Path, table: list[list[str]], asked: str | None) -> KeypointFile:
    """Read a table's cells: track, frame_idx, instance.score, then x, y and score of each node.

    Args:
        asked: the track to follow.

    Raises:
        TrackingError: a line that is cut short, or a cell that is no number.
    """
    header = table[0]
    column = {name: at for at, name in enumerate(header)}
    names = [name[:-2] for name in header if name.endswith(".x") and f"{name[:-2]}.y" in column]
    labels, seen = [], []
    row_of: dict[str, int] = {}
    for line, cells in enumerate(table[1:], start=2):
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            raise TrackingError(f"{where} has {len(cells)} cells, the header has {len(header)}. Is the file cut short?")
        label = cells[column["frame_idx"]]
        if label not in row_of:
            row_of[label] = len(labels)
            labels.append(label)
        points = np.ones((len(names), 3))
        for k, name in enumerate(names):
            points[k, :2] = [number_of(cells[column[f"{name}.{axis}"]], f"{where}, {name}") for axis in "xy"]
            if f"{name}.score" in column:
                points[k, 2] = number_of(cells[column[f"{name}.score"]], f"{where}, {name}")
        # A point that a person placed has no score.
        points[np.isnan(points[:, 2]) & np.isfinite(points[:, :2]).all(axis=1), 2] = 1.0
        score = number_of(cells[column["instance.score"]], where) if "instance.score" in column else np.nan
        track = cells[column["track"]] if "track" in column else ""
        seen.append(Seen(row_of[label], track, whole(points), f"line {line} (frame {label})", score))
    points, notes = follow(path, len(labels), len(names), seen, asked)
    return KeypointFile(
        path, tuple(names), frames_of(labels, path), points, shift=PIXEL_CENTRES, first_frame=0, notes=notes
    )


def read_sleap_arrays(path: Path, arrays: Mapping[str, Hdf5Array], asked: str | None) -> KeypointFile:
    """Read the arrays of an analysis file.

    Args:
        arrays: its datasets.
        asked: the track to follow.

    Raises:
        TrackingError: tracks of another shape than nodes and tracks have names.
    """
    names = [_text(name) for name in arrays["node_names"].read().tolist()]
    tracks = [_text(name) for name in arrays["track_names"].read().tolist()] if "track_names" in arrays else []
    stored = arrays["tracks"]
    order = _order(stored, len(names), len(tracks))
    shape = dict(zip(order, stored.shape, strict=False))
    if not order or (shape["xy"], shape["node"]) != (2, len(names)) or len(tracks) not in (0, shape["track"]):
        raise TrackingError(
            f"{path}: tracks has shape {stored.shape}, which does not fit {len(names)} node_names and {len(tracks)} "
            "track_names. Export it again from SLEAP, as Analysis CSV."
        )
    xy = np.transpose(stored.read().astype(np.float64), [order.index(axis) for axis in AXES])
    tracks = tracks or [""] * xy.shape[1]
    points = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
    scores = arrays.get("point_scores")
    flat = [axis for axis in order if axis != "xy"]
    if scores is not None and 0 not in scores.shape:
        likelihood = np.transpose(scores.read().astype(np.float64), [flat.index(axis) for axis in AXES[:3]])
        # A point that a person placed has no score.
        points[..., 2] = np.where(np.isnan(likelihood), 1.0, likelihood)
    points = whole(points)
    seen = [
        Seen(frame, track, points[frame, at], f"{track or f'track {at}'} in frame {frame}")
        for at, track in enumerate(tracks)
        for frame in range(len(points))
    ]
    followed, notes = follow(path, len(points), len(names), seen, asked)
    if np.isfinite(points[0]).any():
        # Empty frames before the first animal may have been left out, and the file does not say.
        notes += ("SLEAP's HDF5 does not number its frames: its first was taken for the video's first.",)
    return KeypointFile(
        path, tuple(names), tuple(range(len(points))), followed, shift=PIXEL_CENTRES, first_frame=0, notes=notes
    )


def _order(stored: Hdf5Array, nodes: int, tracks: int) -> tuple[str, ...]:
    """Order of the axes of `tracks`: as written beside it, else the one that fits the names; empty if none does."""
    if "dims" in stored.attributes:
        written = stored.attributes["dims"]
        if isinstance(written, str | bytes):
            written = parse_json(_text(written).encode(), "dims", ValueError)
        dims = tuple(_text(axis) for axis in written)
        if sorted(dims) == sorted(AXES) and len(stored.shape) == 4:
            return dims
    for order in (MATLAB, PLAIN) if len(stored.shape) == 4 else ():
        shape = dict(zip(order, stored.shape, strict=True))
        if (shape["xy"], shape["node"]) == (2, nodes) and tracks in (0, shape["track"]):
            return order
    return ()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
