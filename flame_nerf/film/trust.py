"""A table beside a film: how far each of its frames is to be trusted, and why not."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from flame_nerf.film.destinations import is_film
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import complete_file

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from flame_nerf.motion import Moments

COLUMNS = ("frame", "seconds", "trust", "view", "expression", "yaw_deg", "pitch_deg", "marked", "missing")
"""Of the table; `trust`, `view` and `expression` from 0 to 1, `marked` 1 below the mark or where nobody saw the
performer."""
AWAY = "the performer's face was away"


def trust_beside(path: Path) -> Path:
    """Where a film's table goes: beside the file or the folder."""
    return path.with_suffix(".trust.csv") if is_film(path) else path.with_name(f"{path.name}.trust.csv")


def write_trust(
    model: Any,
    cameras: Cameras,
    moments: Moments,
    fps: float,
    path: Path,
    held: Bool[np.ndarray, " T"] | None = None,
) -> str:
    """Write how well training saw what each frame of a film shows.

    Args:
        model: has a `trust_map`.
        cameras: in the head's frame; one for all moments, or one for each.
        moments: the head in each frame.
        fps: frames a second.
        path: the film, or the folder of its pictures.
        held: frames in which nobody saw the performer, which are marked too; None: there are none.

    Returns:
        One line: how many frames are below the mark, and the worst of them.

    Raises:
        FilmError: the table cannot be written.
    """
    try:
        known = model.trust_map()
    except ValueError as error:
        return f"trust: not known ({error})"
    places = cameras.camera_to_worlds.reshape(-1, 3, 4)[:, :, 3].double().cpu().numpy()
    held = np.zeros(len(moments), bool) if held is None else held
    found = [known.at(moment, places[index if len(places) > 1 else 0]) for index, moment in enumerate(moments)]
    target = trust_beside(path)
    with complete_file(target, "table of trust", FilmError) as spare:
        _write_table(spare, found, fps, held)
    marked = sum(trust.marked for trust in found)
    worst = min(range(len(found)), key=lambda index: found[index].value)
    line = f"trust: {marked} of {len(found)} frames show what was hardly filmed ({target})"
    if found[worst].missing:
        line += f"; the worst, at {worst / fps:.1f} s ({found[worst].value:.2f}): {found[worst].missing}"
    if held.any():
        line += f"; in {int(held.sum())} the performer's face was away, and what it did there is a guess"
    return line


def _write_table(path: Path, found: Sequence[Any], fps: float, held: Bool[np.ndarray, " T"]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for index, trust in enumerate(found):
            numbers = [f"{value:.3f}" for value in (index / fps, trust.value, trust.view, trust.expression)]
            angles = [f"{value:.1f}" for value in (trust.yaw_deg, trust.pitch_deg)]
            missing = "; ".join(filter(None, (AWAY if held[index] else "", trust.missing)))
            table.writerow([index, *numbers, *angles, int(trust.marked or held[index]), missing])
