"""DeepLabCut's tables, of analysed videos and of labelled pictures, with one animal or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

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

HEADER = ("scorer", "individuals", "bodyparts", "coords")
"""First cells of the lines of header; individuals is there with several animals only."""
COORDINATES = ("x", "y", "likelihood")
NOBODY = "single"
"""Individual of body parts that are not an animal's (a cage's corners)."""


def read_deeplabcut_csv(path: Path, table: list[list[str]], asked: str | None) -> KeypointFile:
    """Read a table's cells.

    Args:
        asked: the individual to follow.

    Raises:
        TrackingError: it is no such table, or damaged; names the frame and the body part.
    """
    header: dict[str, list[str]] = {}
    for row in table[: len(HEADER)]:
        if row[0].lower() in HEADER:
            header[row[0].lower()] = row
    body = table[len(header) :]
    coords = header["coords"]
    for name, row in header.items():
        if len(row) != len(coords):
            raise TrackingError(f"{path}: the line {name} has {len(row)} cells, the line coords {len(coords)}.")
    first = next((column for column, name in enumerate(coords) if name.lower() in COORDINATES), len(coords))
    if first in (0, len(coords)):
        raise TrackingError(f"{path}: the line coords names no x, y and likelihood.")
    columns = [tuple(header[name][c] if name in header else "" for name in HEADER) for c in range(first, len(coords))]
    values = np.full((len(body), len(columns)), np.nan)
    for row, cells in enumerate(body):
        if len(cells) != len(coords):
            raise TrackingError(
                f"{path}: frame {cells[0]} has {len(cells)} cells, the header has {len(coords)}. Is the file cut short?"
            )
        for column, cell in enumerate(cells[first:]):
            values[row, column] = number_of(cell, f"{path}: frame {cells[0]}, {columns[column][2]}")
    # Labelled pictures are named by folder, video and picture; analysed videos by the frame's number.
    return _file(path, columns, ["/".join(filter(None, cells[:first])) for cells in body], values, asked)


def read_deeplabcut_table(
    path: Path, columns: list[tuple[str, ...]], index: list[Any], values: Float[np.ndarray, "N C"], asked: str | None
) -> KeypointFile:
    """Understand a table that pandas stored.

    Args:
        columns: names of each column, from the outermost: scorer, perhaps individual, body part, coordinate.
        index: label of each row; a tuple of folder, video and picture where pictures were labelled.
        asked: the individual to follow.

    Raises:
        TrackingError: columns of another kind.
    """
    levels = {len(column) for column in columns}
    if not levels <= {3, 4} or len(levels) > 1:
        raise TrackingError(
            f"{path}: its columns have {', '.join(map(str, sorted(levels)))} names each, expected DeepLabCut's scorer, "
            "bodyparts and coords, and individuals where there are several."
        )
    named = [(column[0], column[1] if len(column) == 4 else "", *column[-2:]) for column in columns]
    labels = ["/".join(map(str, row)) if isinstance(row, tuple) else row for row in index]
    return _file(path, named, labels, values, asked)


def _file(
    path: Path,
    columns: list[tuple[str, ...]],
    labels: list[Any],
    values: Float[np.ndarray, "N C"],
    asked: str | None,
) -> KeypointFile:
    """Points from columns named (scorer, individual, body part, coordinate)."""
    scorers = list(dict.fromkeys(column[0] for column in columns))
    if len(scorers) > 1:
        raise TrackingError(
            f"{path}: holds the points of two scorers, {scorers[0]} and {scorers[1]}. Give a file of one of them."
        )
    names = list(dict.fromkeys(part for _, _, part, _ in columns))
    individuals = list(dict.fromkeys(individual for _, individual, _, _ in columns))
    points = np.full((len(individuals), len(values), len(names), 3), np.nan)
    points[..., 2] = 1.0
    taken = set()
    for column, (_, individual, part, coordinate) in enumerate(columns):
        if coordinate.lower() not in COORDINATES:
            raise TrackingError(f"{path}: column {part} {coordinate!r}: expected x, y or likelihood.")
        place = (individuals.index(individual), names.index(part), COORDINATES.index(coordinate.lower()))
        if place in taken:
            raise TrackingError(f"{path}: {' '.join(filter(None, (individual, part, coordinate)))} is there twice.")
        taken.add(place)
        points[place[0], :, place[1], place[2]] = values[:, column]
    points = whole(points)
    folders = {str(label).replace("\\", "/").rpartition("/")[0]: label for label in labels}
    if len(folders) > 1:
        one, other = list(folders.values())[:2]
        raise TrackingError(f"{path}: {one} and {other} are of two videos. Give the keypoints of one.")
    frames = frames_of(labels, path)
    aside = NOBODY if len(individuals) > 1 and asked != NOBODY else None
    seen = [
        Seen(row, individual, points[animal, row], f"{individual or 'the animal'} in frame {frames[row]}")
        for animal, individual in enumerate(individuals)
        if individual != aside
        for row in range(len(frames))
    ]
    followed, notes = follow(path, len(frames), len(names), seen, asked)
    own = {part for _, individual, part, _ in columns if individual != aside}
    kept = [k for k, name in enumerate(names) if name in own]
    return KeypointFile(
        path, tuple(names[k] for k in kept), frames, followed[:, kept], shift=PIXEL_CENTRES, notes=notes
    )
