"""mmpose's predictions: of a video in one JSON, or of pictures in a folder with a JSON each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from flame_nerf.runtime.door import read_json


def is_mmpose(document: Any) -> bool:
    """Whether a JSON's content is a prediction of mmpose's."""
    if isinstance(document, dict):
        return "instance_info" in document
    return isinstance(document, list) and all(
        isinstance(one, dict) and ("instances" in one or ("keypoints" in one and "keypoint_scores" in one))
        for one in document
    )


def read_mmpose(path: Path, document: Any, asked: str | None) -> KeypointFile:
    """Understand the predictions of a video.

    Args:
        document: {"meta_info", "instance_info"} as the demos save it, or its list of frames, as the inferencer does.
        asked: the track id to follow.

    Raises:
        TrackingError: predictions of another shape, or of one picture.
    """
    entries = document["instance_info"] if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TrackingError(f'{path}: "instance_info" must be a list of objects, one a frame.')
    if any("instances" not in entry or "frame_id" not in entry for entry in entries):
        raise TrackingError(
            f"{path}: holds the animals of one picture, no frames (frame_id, instances). Give the folder with such a "
            "file for each frame, or the file that mmpose saves of a video."
        )
    listed = [(entry["frame_id"], entry["instances"]) for entry in entries]
    meta = document.get("meta_info") if isinstance(document, dict) else None
    file = _file(path, listed, _names(path, meta), asked)
    # The demos count from 1, the inferencer from 0.
    numbers = [frame for frame in file.frames if isinstance(frame, int)]
    first = int(isinstance(document, dict) and bool(numbers) and min(numbers) > 0)
    return replace(file, first_frame=first)


def read_mmpose_folder(folder: Path, asked: str | None) -> KeypointFile:
    """Read the predictions of pictures: a folder with a JSON each, named by their pictures.

    Args:
        asked: the track id to follow.

    Raises:
        TrackingError: nothing there, or a file that is no such prediction.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.name[0] != ".")
    if not paths:
        raise TrackingError(
            f"{folder}: holds no .json. Give a file of keypoints, or the folder of mmpose's predictions, one a picture."
        )
    listed, meta = [], None
    for path in paths:
        document = read_json(path, TrackingError)
        if isinstance(document, dict) and isinstance(document.get("instance_info"), list):
            meta, document = meta or document.get("meta_info"), document["instance_info"]
        if not is_mmpose(document) or any("instances" in one for one in document):
            raise TrackingError(
                f"{path}: is no prediction of mmpose's for one picture (a list of animals with keypoints and "
                "keypoint_scores). Give the file itself as --keypoints, or take it out of the folder."
            )
        listed.append((path.name, document))
    return _file(folder, listed, _names(folder, meta), asked)


def _names(path: Path, meta: Any) -> tuple[str, ...]:
    """Names of the keypoints, in order; none if the file has none."""
    if not isinstance(meta, Mapping):
        return ()
    named, order = meta.get("keypoint_id2name"), meta.get("keypoint_name2id")
    if not named and isinstance(order, Mapping):
        named = {str(number): name for name, number in order.items()}
    if isinstance(named, list):
        named = {str(number): name for number, name in enumerate(named)}
    if not named:
        return ()
    if not isinstance(named, Mapping) or set(named) != set(map(str, range(len(named)))):
        raise TrackingError(f'{path}: "keypoint_id2name" must name the keypoints by number, from 0 without a gap.')
    return tuple(str(named[str(number)]) for number in range(len(named)))


def _file(path: Path, listed: list[tuple[Any, Any]], names: tuple[str, ...], asked: str | None) -> KeypointFile:
    seen = []
    for row, (label, instances) in enumerate(listed):
        if not isinstance(instances, list) or not all(isinstance(one, dict) for one in instances):
            raise TrackingError(f"{path}: frame {label}: its instances are no list of objects.")
        for number, instance in enumerate(instances):
            where = f"frame {label}, instance {number}"
            points = _points(instance, f"{path}: {where}")
            names = names or tuple(str(k) for k in range(len(points)))
            if len(points) != len(names):
                raise TrackingError(f"{path}: {where} has {len(points)} keypoints, expected {len(names)}.")
            score = instance.get("bbox_score")
            track = instance.get("track_id")
            track = "" if track is None else str(track)
            seen.append(Seen(row, track, points, where, number_of(score, f"{path}: {where}: bbox_score")))
    points, notes = follow(path, len(listed), len(names), seen, asked)
    frames = frames_of([label for label, _ in listed], path)
    return KeypointFile(path, names, frames, points, shift=PIXEL_CENTRES, notes=notes)


def _points(instance: Mapping[str, Any], where: str) -> np.ndarray:
    """K x 3: x, y, score."""
    places, scores = instance.get("keypoints"), instance.get("keypoint_scores")
    if not isinstance(places, list) or not all(isinstance(place, list) and len(place) == 2 for place in places):
        raise TrackingError(f"{where}: keypoints must be a list of [x, y].")
    scores = [1.0] * len(places) if scores is None else scores
    if not isinstance(scores, list) or len(scores) != len(places):
        raise TrackingError(f"{where}: keypoint_scores must be as many as its {len(places)} keypoints.")
    rows = [[number_of(value, where) for value in (*place, score)] for place, score in zip(places, scores, strict=True)]
    return whole(np.array(rows, dtype=np.float64).reshape(-1, 3))
