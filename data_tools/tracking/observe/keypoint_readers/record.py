"""What every reader of keypoints gives, and how one animal is chosen by what the file says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_tools.runs.frame_names import frame_numbers, stem_of
from data_tools.tracking.config import TrackingError

PIXEL_CENTRES = 0.5
"""What to add to coordinates whose whole numbers are pixel centres (all programs' but ours): we count from the edge."""
SUREST = "surest"
"""In place of an individual's name: whichever animal is surest in each frame."""


@dataclass(frozen=True)
class KeypointFile:
    """Points of one animal as a file gives them: N frames, K points."""

    path: Path
    names: tuple[str, ...]
    frames: tuple[int | str, ...]
    """Number of each frame; of all frames the name of their pictures, where these hold no numbers."""
    points: Float[np.ndarray, "N K 3"]
    """x, y and likelihood (1 where the file has none); NaN where a point is missing."""
    shift: float = 0.0
    """To be added to pixel coordinates so that 0 is the picture's edge."""
    units: str | None = None
    """pixels or normalised, if the file says so."""
    size: tuple[float, float] | None = None
    """Width and height of the pictures that pixel coordinates refer to, if the file says so."""
    first_frame: int | None = None
    """Number that the format gives to a video's first frame, if that is known of it."""
    notes: tuple[str, ...] = ()
    """What was chosen or left out, in words."""


@dataclass(frozen=True)
class Seen:
    """One animal in one frame."""

    row: int
    """Of the file's frames."""
    individual: str
    """What the file calls the animal; empty where it does not say."""
    points: Float[np.ndarray, "K 3"]
    """x, y, likelihood; NaN where missing."""
    where: str
    """The place in the file, for errors."""
    score: float = math.nan
    """How sure the animal is; NaN: the sum of its points' likelihoods."""


def follow(
    path: Path, count: int, points: int, seen: Sequence[Seen], asked: str | None
) -> tuple[Float[np.ndarray, "N K 3"], tuple[str, ...]]:
    """The points of one animal in every frame.

    Args:
        count: frames of the file.
        points: keypoints of an animal.
        asked: the individual to follow, or `SUREST`; None: the only one there is.

    Returns:
        x, y, likelihood, NaN in frames that do not show it; and notes.

    Raises:
        TrackingError: several animals and no word on which, or none of that name; names two of them.
    """
    seen = [one for one in seen if np.isfinite(one.points).any()]
    individuals = list(dict.fromkeys(one.individual for one in seen))
    notes: tuple[str, ...] = ()
    if asked == SUREST:
        seen, notes = _surest(seen)
    elif asked is not None:
        if asked not in individuals:
            raise TrackingError(
                f"{path}: shows no animal called {asked!r}; {_listed(individuals)}. Correct --individual."
            )
        seen = [one for one in seen if one.individual == asked]
    elif len(individuals) > 1:
        raise TrackingError(
            f"{path}: shows {len(individuals)} animals, {_listed(individuals)}. Say with --individual which one to "
            f"follow, or --individual {SUREST} for the surest of each frame."
        )
    result = np.full((count, points, 3), np.nan)
    first: dict[int, Seen] = {}
    for one in seen:
        if one.row in first:
            raise TrackingError(
                f"{path}: {first[one.row].where} and {one.where} are two animals in one frame, and nothing says which "
                f"is which. Give them individuals or track ids, or follow the surest of each frame: --individual "
                f"{SUREST}."
            )
        first[one.row] = one
        result[one.row] = one.points
    return result, notes


def _listed(individuals: Sequence[str]) -> str:
    names = [one or "one without a name" for one in individuals]
    if not names:
        return "it shows none at all"
    return f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}"


def _surest(seen: Sequence[Seen]) -> tuple[list[Seen], tuple[str, ...]]:
    best: dict[int, tuple[float, Seen]] = {}
    crowded = set()
    for one in seen:
        score = float(np.nansum(one.points[:, 2])) if math.isnan(one.score) else one.score
        if one.row in best:
            crowded.add(one.row)
        if one.row not in best or score > best[one.row][0]:
            best[one.row] = (score, one)
    notes = (f"{len(crowded)} frames of the keypoint file show several animals; the surest was followed.",)
    return [one for _, one in best.values()], notes if crowded else ()


def frames_of(labels: Sequence[Any], path: Path) -> tuple[int | str, ...]:
    """What frames are called, as numbers: of whole numbers as they are, of pictures' names the number that varies.

    Returns:
        numbers; or all names without endings, if none holds a number.

    Raises:
        TrackingError: neither, or two labels of one frame.
    """
    numbers = [_whole_number(label) for label in labels]
    if None not in numbers:
        return tuple(numbers)
    for label in labels:
        if isinstance(label, bool) or not isinstance(label, str | int | float):
            raise TrackingError(f"{path}: a frame is called {label!r}, expected its number or its picture's name.")
    names = [str(label) for label in labels]
    found = frame_numbers(names, what=str(path), error=TrackingError)
    return tuple(map(stem_of, names)) if found is None else tuple(found)


def _whole_number(label: Any) -> int | None:
    if isinstance(label, bool):
        return None
    if isinstance(label, int | np.integer):
        return int(label)
    if isinstance(label, float) and label.is_integer():
        return int(label)
    text = label.strip() if isinstance(label, str) else ""
    whole, point, rest = text.partition(".")
    plain = text.isascii() and whole.isdigit() and len(whole) < 19 and (not point or set(rest) == {"0"})
    return int(whole) if plain else None


def number_of(value: Any, where: str) -> float:
    """A number that may have been written as text; NaN for what is empty.

    Raises:
        TrackingError: it is neither; `where` names the place.
    """
    if value is None:
        return math.nan
    if isinstance(value, str) and value.strip().lower() in ("", "nan", "na", "none", "null"):
        return math.nan
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TrackingError(
            f"{where}: {value!r:.60} is not a number. Correct the file, or leave the place empty."
        ) from None


def whole(points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Points of which any number is missing or not finite are missing altogether."""
    return np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, np.nan)
