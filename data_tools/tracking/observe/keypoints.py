"""Keypoints from a file, brought onto a head model and onto the frames of a video.

This is what stands in for the face detector where there is none: animals, and heads with points of their own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from data_tools.runs.frame_names import natural
from data_tools.tracking.config import TrackConfig, TrackingError
from data_tools.tracking.observe.keypoint_files import read_keypoint_file
from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.video import Sampled
from flame_nerf.heads import HeadModel, HeadModelError, LandmarkEmbedding, load_head
from flame_nerf.runtime.door import read_json

FEWEST_POINTS = 4
"""Points by which a head's place can be told at all."""
NORMALISED_UP_TO = 1.5
"""Coordinates that nowhere exceed this are fractions of the picture: no video is two pixels wide."""
SIZES = (0.05, 1.0)
"""Smallest and largest extent of a head's keypoints, metres. One camera cannot tell a large head from a near one, so
every head is fitted at the size of its model, and training expects about a human head's."""
LIKENESS = 0.75
"""How alike two names must be for one to be taken as a misspelling of the other."""


@dataclass(frozen=True)
class _Place:
    """Where a keypoint is on the mesh."""

    face: int
    barycentric: tuple[float, float, float]
    weight: float = 1.0


def read_keypoint_map(path: Path) -> dict[str, Any]:
    """A keypoint map: each name of the keypoint file with its place on the head, or null to leave it out.

    A place is a vertex number, the name (or mediapipe number) of one of the head model's own landmarks, or an object:
    {"vertex": 12}, {"landmark": "nose_tip"}, {"face": 7, "barycentric": [0.2, 0.3, 0.5]}; each may have a "weight"
    (0..1: how exactly the point can be told).

    Raises:
        TrackingError: it is missing or no such map.
    """
    if not path.is_file():
        raise TrackingError(f"{path}: no such keypoint map. Check --keypoint-map.")
    document = read_json(path, TrackingError)
    if not isinstance(document, dict) or not document:
        raise TrackingError(f'{path}: must be an object such as {{"nose": 1412, "left_ear": {{"vertex": 88}}}}.')
    return document


def head_and_keypoints(config: TrackConfig) -> tuple[HeadModel, KeypointFile | None]:
    """The head model, with the landmarks that are to be fitted, and the file that they come from if one is given.

    Raises:
        TrackingError: a head, keypoint file or map that cannot be used.
    """
    try:
        head = load_head(config.head)
    except (HeadModelError, OSError) as error:
        raise TrackingError(f"--head {config.head}: {error}") from error
    if config.keypoints is None:
        if head.landmarks is None:
            raise TrackingError(
                f"--head {config.head}: {head.name} has no face landmarks to track by. Convert it again with "
                "`flame-nerf-data convert-head … --landmarks build`, or give --keypoints of your own."
            )
        if head.landmarks.names:
            raise TrackingError(
                f"--head {config.head}: {head.name} has keypoints of its own "
                f"({', '.join(head.landmarks.names[:3])}, …), which no face detector finds: give them with --keypoints."
            )
        return head, None
    mapping = None if config.keypoint_map is None else read_keypoint_map(config.keypoint_map)
    file = read_keypoint_file(config.keypoints, config.individual)
    where = str(config.head if config.keypoint_map is None else config.keypoint_map)
    return head_with_keypoints(head, file, mapping, where)


def head_with_keypoints(
    head: HeadModel, file: KeypointFile, mapping: dict[str, Any] | None, where: str
) -> tuple[HeadModel, KeypointFile]:
    """The head with a file's keypoints for landmarks, in one order with the file's columns.

    Args:
        mapping: from `read_keypoint_map`; None: the file uses the head model's own names.
        where: the map's or the head's name, for errors.

    Returns:
        the head, and the file with the columns that are used; its notes say what was left out.

    Raises:
        TrackingError: a name that is neither the head's nor the map's, named with those that are like it; a place that
            is not on the mesh; too few points.
    """
    if mapping is None:
        mapping, left_out = _by_own_names(head, file)
    else:
        for name in mapping:
            _column(name, file.names, f"{where}: names the keypoint {name!r}, which {file.path} does not have")
        mapping = {file.names[_column(name, file.names, "")]: place for name, place in mapping.items()}
        left_out = [name for name in file.names if name not in mapping]
    left_out += [name for name, place in mapping.items() if place is None]
    chosen = {name: _place(head, name, place, where) for name, place in mapping.items() if place is not None}
    if len(chosen) < FEWEST_POINTS:
        raise TrackingError(
            f"{file.path}: {len(chosen)} of its keypoints ({', '.join(chosen) or 'none'}) have a place on the head "
            f"model, at least {FEWEST_POINTS} are needed, and a dozen to fit well. Its points: "
            f"{', '.join(file.names)}. Give a --keypoint-map."
        )
    columns = [file.names.index(name) for name in chosen]
    embedding = LandmarkEmbedding(
        index=torch.arange(len(chosen)),
        face=torch.tensor([place.face for place in chosen.values()]),
        barycentric=torch.tensor([place.barycentric for place in chosen.values()], dtype=torch.float32),
        weight=torch.tensor([place.weight for place in chosen.values()], dtype=torch.float32),
        names=tuple(chosen),
    )
    notes = (f"Keypoints without a place on the head were left out: {', '.join(left_out)}.",) if left_out else ()
    used = replace(file, names=tuple(chosen), points=file.points[:, columns], notes=file.notes + notes)
    head = replace(head, landmarks=embedding)
    points = head.landmark_points(head.template)
    extent = float((points.max(dim=0).values - points.min(dim=0).values).max())
    if not SIZES[0] <= extent <= SIZES[1]:
        raise TrackingError(
            f"the keypoints on the head model {head.name} are {extent:.3g} m apart, expected {SIZES[0]} to {SIZES[1]}. "
            "Scale the model to metres, or to about a human head's size: one camera cannot tell it anyway."
        )
    return head, used


def _by_own_names(head: HeadModel, file: KeypointFile) -> tuple[dict[str, Any], list[str]]:
    own = head.landmarks.names if head.landmarks is not None else ()
    if not own:
        raise TrackingError(
            f"the head model {head.name} has no named keypoints of its own: say with --keypoint-map where "
            f"{', '.join(file.names[:4])}{' …' if len(file.names) > 4 else ''} lie on it."
        )
    plain = {_plain(name): name for name in own}
    mapping, left_out = {}, []
    for name in file.names:
        if _plain(name) in plain:
            mapping[name] = plain[_plain(name)]
            continue
        like = difflib.get_close_matches(_plain(name), list(plain), n=3, cutoff=LIKENESS)
        if like:
            raise TrackingError(
                f"{file.path}: the head model {head.name} has no keypoint {name!r}; it has "
                f"{', '.join(plain[one] for one in like)}. Rename it, or give a --keypoint-map (null leaves it out)."
            )
        left_out.append(name)
    return mapping, left_out


def _column(name: str, names: Sequence[str], problem: str) -> int:
    plain = [_plain(one) for one in names]
    if name in names:
        return list(names).index(name)
    if _plain(name) in plain:
        return plain.index(_plain(name))
    like = difflib.get_close_matches(_plain(name), plain, n=3, cutoff=0.5)
    known = [names[plain.index(one)] for one in like] or list(names)
    raise TrackingError(f"{problem}; it has {', '.join(known)}.")


def _plain(name: str) -> str:
    """A name without what people spell differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _place(head: HeadModel, name: str, place: Any, where: str) -> _Place:
    where = f"{where}: keypoint {name}"
    entry = place if isinstance(place, dict) else {"landmark" if isinstance(place, str) else "vertex": place}
    kinds = [kind for kind in ("vertex", "landmark", "face") if kind in entry]
    if len(kinds) != 1:
        raise TrackingError(
            f"{where}: {place!r} names no place; give a vertex, a landmark, or a face with barycentric."
        )
    weight = entry.get("weight", 1.0)
    if not isinstance(weight, int | float) or not 0 < weight <= 1:
        raise TrackingError(f"{where}: weight is {weight!r}, expected more than 0 and at most 1.")
    if kinds == ["landmark"]:
        return _at_landmark(head, entry["landmark"], float(weight), where)
    if kinds == ["vertex"]:
        vertex = _row(entry["vertex"], len(head.template), f"{where}: vertex")
        owners = (head.faces == vertex).any(dim=1).nonzero()
        if not len(owners):
            raise TrackingError(f"{where}: vertex {vertex} belongs to no face of the head model.")
        face = int(owners[0])
        return _Place(face, tuple((head.faces[face] == vertex).float().tolist()), float(weight))
    face = _row(entry["face"], len(head.faces), f"{where}: face")
    blend = entry.get("barycentric", [1 / 3] * 3)
    numbers = isinstance(blend, list) and len(blend) == 3 and all(isinstance(value, int | float) for value in blend)
    if not numbers or abs(sum(blend) - 1) > 1e-3:
        raise TrackingError(f"{where}: barycentric is {blend!r}, expected three numbers that sum to 1.")
    return _Place(face, tuple(map(float, blend)), float(weight))


def _at_landmark(head: HeadModel, landmark: Any, weight: float, where: str) -> _Place:
    own = head.landmarks
    if own is None:
        raise TrackingError(f"{where}: names the landmark {landmark!r}, but the head model has none. Give a vertex.")
    if own.names:
        row = _column(str(landmark), own.names, f"{where}: the head model has no landmark {landmark!r}")
    else:
        rows = [row for row, number in enumerate(own.index.tolist()) if str(number) == str(landmark)]
        if not rows:
            raise TrackingError(f"{where}: the head model has no landmark number {landmark!r}. Give a vertex.")
        row = rows[0]
    return _Place(int(own.face[row]), tuple(own.barycentric[row].tolist()), weight * float(own.weight[row]))


def _row(value: Any, count: int, where: str) -> int:
    number = int(value) if isinstance(value, str) and value.strip().isdigit() else value
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
        raise TrackingError(f"{where} is {value!r}, expected a whole number from 0 to {count - 1}.")
    return number


def on_video(
    file: KeypointFile, sampled: Sampled, units: str, first_frame: int | None, least_likelihood: float
) -> tuple[Float[np.ndarray, "T K 3"], tuple[str, ...]]:
    """Keypoints at the sampled pictures, in their pixels.

    Args:
        units: auto, pixels or normalised.
        first_frame: number that the file gives to the video's first frame; None: what its format says, else told from
            the numbers.
        least_likelihood: points below it are left out.

    Returns:
        x, y in pixels of the stored pictures with 0 at the edge, and likelihood; NaN where a point was not found.
        And notes on how the file was understood.

    Raises:
        TrackingError: frames beyond the video, or that may be numbered from 0 or 1, or coordinates outside of its
            pictures.
    """
    first_frame = file.first_frame if first_frame is None else first_frame
    rows, note = rows_of_frames(file.frames, sampled, first_frame, f"{file.path}")
    likelihood = file.points[..., 2]
    sure = likelihood >= least_likelihood
    if not sure.any():
        raise TrackingError(
            f"{file.path}: no point reaches a likelihood of {least_likelihood:g} (the highest is "
            f"{np.nanmax(likelihood, initial=0):g}). Lower --min-likelihood."
        )
    film, extent = sampled.framing.film, _reach(file, sure)
    if units == "normalised" and extent > NORMALISED_UP_TO:
        raise TrackingError(
            f"{file.path}: coordinates are said to be normalised (0 to 1), but reach {extent:g}. "
            "Use --keypoint-units pixels."
        )
    in_film, units = in_film_pixels(file, film, units, sure)
    inside = ((in_film >= -0.5 * np.array(film)) & (in_film <= 1.5 * np.array(film))).all(axis=-1)
    if np.mean(inside[sure]) < 0.5:
        raise TrackingError(
            f"{file.path}: most keypoints lie outside the {film[0]}x{film[1]} pictures (they reach "
            f"{extent:g}). Were they found on a larger copy of the video? Track that copy, or scale them."
        )
    placed = sampled.framing.to_stored(in_film)
    result = np.full((len(sampled.slots), len(file.names), 3), np.nan)
    known = rows >= 0
    kept = np.where((sure & inside)[..., None], np.concatenate([placed, likelihood[..., None]], axis=-1), np.nan)
    result[known] = kept[rows[known]]
    return result, (f"Keypoints: {len(file.names)} points in {units}, {note}.",)


def in_film_pixels(
    file: KeypointFile, film: tuple[int, int], units: str, sure: Bool[np.ndarray, "N K"]
) -> tuple[Float[np.ndarray, "N K 2"], str]:
    """Keypoints of all frames of a file in pixels of the film with 0 at the edge, and what their units were.

    Args:
        film: width and height of its pictures.
        units: auto, pixels or normalised.
        sure: the points by which units are told.
    """
    size, xy = np.array(film, dtype=np.float64), file.points[..., :2]
    if units == "auto":
        units = file.units or ("normalised" if _reach(file, sure) <= NORMALISED_UP_TO else "pixels")
    if units == "normalised":
        return xy * size, units
    return (xy + file.shift) * (1.0 if file.size is None else size / np.array(file.size)), units


def _reach(file: KeypointFile, sure: Bool[np.ndarray, "N K"]) -> float:
    return float(np.abs(file.points[..., :2][sure]).max())


def rows_of_frames(
    frames: Sequence[int | str], sampled: Sampled, first_frame: int | None, where: str
) -> tuple[Int[np.ndarray, " T"], str]:
    """Which entry of a list of numbered frames belongs to each sampled picture; -1 where there is none.

    Names without numbers count in natural order, and must be as many as the video has frames.

    Returns:
        rows, and how the numbers were understood, in words.

    Raises:
        TrackingError: numbers beyond the video, or that fit it from 0 as well as from 1, or names that cannot be
            counted.
    """
    total = sampled.total
    if any(isinstance(frame, str) for frame in frames):
        if total is not None and len(frames) != total:
            named = next(frame for frame in frames if isinstance(frame, str))
            raise TrackingError(
                f"{where}: {named!r} has no frame number in its name, and {len(frames)} names cannot be counted off "
                f"against {total} frames of the video. Number them from 0, as 00000.png."
            )
        order = sorted(range(len(frames)), key=lambda row: natural(str(frames[row])))
        numbers, words = np.argsort(order), "frames counted off by name"
    else:
        numbers = np.array(frames, dtype=np.int64)
        if first_frame is None:
            first_frame = 1 if total is not None and numbers.min() >= 1 and numbers.max() == total else 0
            if first_frame == 0 and numbers.min() == 1 and numbers.max() < (total or np.inf):
                raise TrackingError(
                    f"{where}: frames are numbered from 1 to {numbers.max()}, and the video has "
                    f"{'more' if total is None else total}: whether its first frame is 0 or 1 cannot be told. Say with "
                    "--first-frame 0 or --first-frame 1."
                )
        words = f"frames numbered from {first_frame}"
        numbers = numbers - first_frame
        wrong = numbers[(numbers < 0) | (numbers >= (total or np.inf))]
        if len(wrong):
            raise TrackingError(
                f"{where}: has frame {int(wrong.max()) + first_frame}, but the video's {total} frames are numbered "
                f"{first_frame} to {(total or 0) - 1 + first_frame}. Do they belong together? Say with --first-frame "
                "what number its first frame has."
            )
    row_of = {int(number): row for row, number in enumerate(numbers)}
    return np.array([row_of.get(source, -1) for source in sampled.sources]), words
