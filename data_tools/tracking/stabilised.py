"""The face held still as several tracks of one clip have it, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from data_tools.capture.held_still import FILM_FRAMES, SIDE, FrontView, film_of, spread
from data_tools.runs.blocks import blocks_of, run_blocks
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
    head: HeadModel, tracks: tuple[Fitted, ...], pictures: list[Path], rows: Int[np.ndarray, " K"], workers: int = 1
) -> Stabilised:
    """Draw frames on the canonical mesh as each track has them.

    Args:
        pictures: of all rows of the tracks.
        rows: those that may be shown.
    """
    views = [FrontView(track.canonical, head.faces.numpy(), head_part(head)) for track in tracks]
    chosen, filmed = spread(rows), rows[:FILM_FRAMES]
    every = np.union1d(chosen, filmed).tolist()
    drawn: dict[int, UInt8[np.ndarray, "h w 3"]] = {}

    def draw(block: range) -> None:
        for row in every[block.start : block.stop]:
            picture = load_picture(pictures[row])
            sides = [view.draw(track.in_picture(row), picture) for view, track in zip(views, tracks, strict=True)]
            drawn[row] = np.concatenate(sides, axis=1)

    run_blocks(blocks_of(len(every), workers), draw, workers)
    total = np.zeros((SIDE, SIDE * len(tracks), 3))
    for row in chosen.tolist():
        total += drawn[row]
    means = np.split(np.round(total / len(chosen)).astype(np.uint8), len(tracks), axis=1)
    return Stabilised(tuple(map(np.ascontiguousarray, means)), len(chosen), film_of([drawn[row] for row in filmed]))
