"""The face held still as several tracks of one clip have it, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from data_tools.capture.held_still import FILM_FRAMES, SIDE, FrontView, film_of, spread
from data_tools.runs.pictures import load_picture
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.fit.outline import head_part
from flame_nerf.heads import HeadModel


@dataclass(frozen=True)
class Stabilised:
    """The face held still by several tracks of one clip."""

    means: tuple[UInt8[np.ndarray, "h w 3"], ...]
    """Mean of the frames, by each track."""
    count: int
    """Frames in it."""
    film: bytes
    """The frames of all tracks side by side, as an animated WebP."""


def stabilised_pictures(
    head: HeadModel, tracks: tuple[Fitted, ...], pictures: list[Path], rows: Int[np.ndarray, " K"]
) -> Stabilised:
    """Draw frames on the canonical mesh as each track has them.

    Args:
        pictures: of all rows of the tracks.
        rows: those that may be shown.
    """
    views = [FrontView(track.canonical, head.faces.numpy(), head_part(head)) for track in tracks]
    chosen = spread(rows)
    sums = [np.zeros((SIDE, SIDE, 3)) for _ in views]
    for row in chosen.tolist():
        picture = load_picture(pictures[row])
        for total, view, track in zip(sums, views, tracks, strict=True):
            total += view.draw(track.in_picture(row), picture)
    film = []
    for row in rows[:FILM_FRAMES].tolist():
        picture = load_picture(pictures[row])
        drawn = [view.draw(track.in_picture(row), picture) for view, track in zip(views, tracks, strict=True)]
        film.append(np.concatenate(drawn, axis=1))
    means = tuple(np.round(total / len(chosen)).astype(np.uint8) for total in sums)
    return Stabilised(means, len(chosen), film_of(film))
