"""Keypoints that another program found: DeepLabCut's CSV and HDF5, COCO's JSON, and a plain JSON of our own.

Every reader gives the same record: a row a frame, a column a point. What is missing is NaN. The plain JSON:

    {"units": "pixels",                     or "normalised" (0..1 of the picture); optional
     "size": [1920, 1080],                  of the pictures that pixels refer to; optional
     "frames": {"0": {"nose_tip": [812.5, 400.0, 0.98], "left_ear_tip": [700, 120]}, "1": {...}}}

Points are x (right), y (down) from the picture's upper left corner and, optionally, how sure they are, 0..1. With a
list of names under "keypoints", a frame may be a list of points in that order; "frames" may be a list of objects with
"frame" and "points".
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_tools.tracking.config import TrackingError

PIXEL_CENTRES = 0.5
"""What to add to coordinates whose whole numbers are pixel centres (DeepLabCut's, COCO's): ours count from the edge."""
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Endings of pictures' names."""
HEADER = ("scorer", "individuals", "bodyparts", "coords")
"""First cells of DeepLabCut's lines of header; individuals is there with several animals only."""
LABELLED_HIDDEN = 0.6
"""Likelihood of a COCO point that was labelled though hidden."""


@dataclass(frozen=True)
class KeypointFile:
    """Points of one animal as a file gives them: N frames, K points."""

    path: Path
    names: tuple[str, ...]
    frames: tuple[int | str, ...]
    """Number of each frame, or the name of its picture."""
    points: Float[np.ndarray, "N K 3"]
    """x, y and likelihood (1 where the file has none); NaN where a point is missing."""
    shift: float = 0.0
    """To be added to pixel coordinates so that 0 is the picture's edge."""
    units: str | None = None
    """pixels or normalised, if the file says so."""
    size: tuple[float, float] | None = None
    """Width and height of the pictures that pixel coordinates refer to, if the file says so."""
    notes: tuple[str, ...] = ()
    """What was chosen or left out, in words."""


def read_keypoint_file(path: Path) -> KeypointFile:
    """Read a file of keypoints, its format told from its ending and contents.

    Raises:
        TrackingError: it is missing, of no known format, or damaged; names the line or field.
    """
    if not path.is_file():
        raise TrackingError(f"{path}: no such keypoint file. Check --keypoints.")
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".txt": _read_csv, ".json": _read_json}
    readers |= dict.fromkeys((".h5", ".hdf5", ".hdf"), _read_h5)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TrackingError(
            f"{path}: keypoints are read from DeepLabCut's .csv or .h5, COCO's .json or the plain .json of "
            f"flame-nerf-data, not from {path.suffix or 'a file without ending'}."
        )
    found = reader(path)
    if not found.names or not len(found.frames):
        raise TrackingError(f"{path}: holds no keypoints ({len(found.names)} points, {len(found.frames)} frames).")
    seen: set[int | str] = set()
    for frame in found.frames:
        if frame in seen:
            raise TrackingError(f"{path}: frame {frame} is there twice. Keep one of them.")
        seen.add(frame)
    return found


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
    except (TypeError, ValueError):
        raise TrackingError(
            f"{where}: {value!r} is not a number. Correct the file, or leave the place empty."
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TrackingError(f"{path}: is no plain text in UTF-8. Export it again as CSV or JSON.") from None


# DeepLabCut.


def _read_csv(path: Path) -> KeypointFile:
    # splitlines takes the line ends of all systems, mixed ones too.
    lines = [line for line in _text(path).splitlines() if line.strip(" \t,;")]
    separator = max(",;\t", key=(lines[0] if lines else ",").count)
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]
    header = {row[0].lower(): row for row in table[: len(HEADER)]}
    if not {"bodyparts", "coords"} <= header.keys():
        raise TrackingError(
            f"{path}: is no table of DeepLabCut: its first lines must begin with scorer, bodyparts and coords, they "
            f"begin with {', '.join(row[0] or 'nothing' for row in table[:3]) or 'nothing'}."
        )
    body = table[
        len([row for row in table[:4] if row[0].lower() in ("scorer", "individuals", "bodyparts", "coords")]) :
    ]
    parts, coords = header["bodyparts"], header["coords"]
    first = next((column for column, name in enumerate(coords) if name.lower() in ("x", "y", "likelihood")), 0)
    columns = [
        (*([header["individuals"][c]] if "individuals" in header else [""]), parts[c], coords[c].lower())
        for c in range(first, len(coords))
    ]
    values = np.full((len(body), len(columns)), np.nan)
    for row, cells in enumerate(body):
        if len(cells) != len(coords):
            raise TrackingError(
                f"{path}: frame {cells[0]} has {len(cells)} cells, the header has {len(coords)}. Is the file cut short?"
            )
        for column, cell in enumerate(cells[first:]):
            values[row, column] = number_of(cell, f"{path}: frame {cells[0]}, {columns[column][1]}")
    # Labelled pictures are named by folder, video and picture; analysed videos by the frame's number.
    return _deeplabcut(path, columns, [_frame_of(cells[first - 1]) for cells in body], values)


def _read_h5(path: Path) -> KeypointFile:
    try:
        import h5py
    except ImportError:
        raise TrackingError(
            f"{path}: reading HDF5 needs h5py: pip install h5py; or save the table as CSV "
            "(deeplabcut.analyze_videos(..., save_as_csv=True)) and give that."
        ) from None
    from flame_nerf.heads.plain_pickle import PlainPickleError

    try:
        with h5py.File(path, "r") as file:
            groups = [
                group for group in file.values() if isinstance(group, h5py.Group) and "pandas_type" in group.attrs
            ]
            if len(groups) != 1:
                raise TrackingError(
                    f"{path}: holds {len(groups)} tables of pandas, expected one, as DeepLabCut writes."
                )
            columns, frames, values = _pandas_table(groups[0])
    except (OSError, KeyError, IndexError, ValueError, TypeError, PlainPickleError) as error:
        raise TrackingError(
            f"{path}: cannot be read as DeepLabCut's HDF5 ({error}). Export the table as CSV and give that."
        ) from error
    columns = [((column[-3] if len(column) > 3 else ""), column[-2], column[-1].lower()) for column in columns]
    return _deeplabcut(path, columns, [_frame_of(frame) for frame in frames], values)


def _pandas_table(group: Any) -> tuple[list[tuple[str, ...]], list[Any], Float[np.ndarray, "N C"]]:
    """Column names, index and values of a frame that pandas stored, in either of its two layouts.

    pandas itself would unpickle column names from attributes; here they are read without running anything.
    """
    from flame_nerf.heads.plain_pickle import read_plain_pickle

    if "table" in group:
        table = group["table"]
        names = read_plain_pickle(io.BytesIO(bytes(table.attrs["values_block_0_kind"])))
        values = np.asarray(table["values_block_0"], dtype=np.float64)
        return [tuple(map(str, name)) for name in names], table["index"].tolist(), values.reshape(len(table), -1)

    def levels(axis: str) -> list[tuple[Any, ...]]:
        if f"{axis}_nlevels" not in group.attrs:
            return [(_plain(value),) for value in group[axis][:].tolist()]
        count = int(group.attrs[f"{axis}_nlevels"])
        columns = [group[f"{axis}_level{i}"][:][group[f"{axis}_label{i}"][:]].tolist() for i in range(count)]
        return [tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)]

    order = levels("axis0")
    place = {name: column for column, name in enumerate(order)}
    frames = [row[-1] for row in levels("axis1")]
    values = np.full((len(frames), len(order)), np.nan)
    for block in range(int(group.attrs["nblocks"])):
        stored = np.asarray(group[f"block{block}_values"], dtype=np.float64)
        for column, name in enumerate(levels(f"block{block}_items")):
            values[:, place[name]] = stored[:, column]
    return [tuple(map(str, name)) for name in order], frames, values


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _deeplabcut(
    path: Path, columns: list[tuple[str, str, str]], frames: list[int | str], values: Float[np.ndarray, "N C"]
) -> KeypointFile:
    """Points from columns named (individual, point, x or y or likelihood)."""
    animals = list(dict.fromkeys(animal for animal, _, _ in columns))
    grouped = {}
    for animal in animals:
        names = list(dict.fromkeys(name for one, name, _ in columns if one == animal))
        points = np.full((len(frames), len(names), 3), np.nan)
        points[..., 2] = 1.0
        for column, (one, name, coordinate) in enumerate(columns):
            if one == animal:
                if coordinate not in ("x", "y", "likelihood"):
                    raise TrackingError(f"{path}: column {name} {coordinate!r}: expected x, y or likelihood.")
                points[:, names.index(name), ("x", "y", "likelihood").index(coordinate)] = values[:, column]
        grouped[animal] = (tuple(names), _whole(points))
    animal, note = _most_complete(animals, lambda one: grouped[one][1])
    names, points = grouped[animal]
    return KeypointFile(path, names, tuple(frames), points, shift=PIXEL_CENTRES, notes=note)


def _most_complete(animals: list[Any], points_of: Callable[[Any], np.ndarray]) -> tuple[Any, tuple[str, ...]]:
    if len(animals) == 1:
        return animals[0], ()
    chosen = max(animals, key=lambda one: float(np.nansum(points_of(one)[..., 2])))
    return chosen, (f"The keypoint file holds {len(animals)} animals; {chosen} is seen most and was followed.",)


# JSON.


def _read_json(path: Path) -> KeypointFile:
    try:
        document = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise TrackingError(f"{path}: is no valid JSON: line {error.lineno}, {error.msg}.") from None
    if isinstance(document, list) or (isinstance(document, dict) and "annotations" in document):
        return _coco(path, document)
    if isinstance(document, dict) and "frames" in document:
        return _plain_json(path, document)
    raise TrackingError(
        f'{path}: is neither COCO keypoints (with "annotations") nor a plain keypoint file (with "frames").'
    )


def _coco(path: Path, document: Any) -> KeypointFile:
    results = isinstance(document, list)
    annotations = document if results else document["annotations"]
    images = {} if results else {image["id"]: image for image in document.get("images", []) if "id" in image}
    names: tuple[str, ...] = ()
    for category in [] if results else document.get("categories", []):
        names = names or tuple(map(str, category.get("keypoints", ())))
    best: dict[int | str, tuple[float, np.ndarray]] = {}
    crowded = 0
    for row, annotation in enumerate(annotations):
        where = f"{path}: annotation {row}"
        if not isinstance(annotation, dict) or "image_id" not in annotation:
            raise TrackingError(f"{where} has no image_id. Is this a COCO keypoint file?")
        flat = annotation.get("keypoints")
        if not flat:
            continue
        names = names or tuple(str(number) for number in range(len(flat) // 3))
        if len(flat) != 3 * len(names):
            raise TrackingError(
                f"{where} has {len(flat)} keypoint numbers, expected {3 * len(names)}: x, y, v a point."
            )
        points = np.array([number_of(value, where) for value in flat]).reshape(-1, 3)
        if not results:
            points[:, 2] = np.select([points[:, 2] == 1, points[:, 2] >= 2], [LABELLED_HIDDEN, 1.0], points[:, 2])
        points[points[:, 2] <= 0] = np.nan
        points = _whole(points)
        image = images.get(annotation["image_id"], {})
        frame = _frame_of(image.get("frame_id", image.get("file_name", annotation["image_id"])))
        score = number_of(annotation.get("score"), where)
        score = float(np.nansum(points[:, 2])) if math.isnan(score) else score
        crowded += frame in best
        if frame not in best or score > best[frame][0]:
            best[frame] = (score, points)
    sizes = {(image["width"], image["height"]) for image in images.values() if {"width", "height"} <= image.keys()}
    if len(sizes) > 1:
        raise TrackingError(f"{path}: the images have {len(sizes)} sizes. Give keypoints of one video.")
    note = (f"{crowded} frames of the keypoint file show several animals; the surest was followed.",) if crowded else ()
    size = tuple(float(side) for side in sizes.pop()) if sizes else None
    points = np.stack([points for _, points in best.values()]) if best else np.zeros((0, 0, 3))
    return KeypointFile(path, names, tuple(best), points, PIXEL_CENTRES, size=size, notes=note)


def _plain_json(path: Path, document: dict[str, Any]) -> KeypointFile:
    units, size, listed = document.get("units"), document.get("size"), document.get("keypoints")
    if units not in (None, "pixels", "normalised", "normalized"):
        raise TrackingError(f'{path}: "units" is {units!r}, expected "pixels" or "normalised".')
    if size is not None and (not isinstance(size, list) or len(size) != 2):
        raise TrackingError(f'{path}: "size" is {size!r}, expected [width, height].')
    entries = document["frames"]
    if isinstance(entries, dict):
        entries = list(entries.items())
    elif isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        entries = [
            (entry.get("frame", row), entry.get("points", entry.get("keypoints"))) for row, entry in enumerate(entries)
        ]
    else:
        raise TrackingError(f'{path}: "frames" must be an object of frames by number, or a list of objects.')
    by_frame: list[tuple[int | str, dict[str, Any]]] = []
    for frame, points in entries:
        if isinstance(points, list):
            if not isinstance(listed, list) or len(listed) != len(points):
                raise TrackingError(
                    f'{path}: frame {frame} is a list of {len(points)} points, but "keypoints" names '
                    f"{len(listed) if isinstance(listed, list) else 'none'}. Name each point, in order."
                )
            points = dict(zip(map(str, listed), points, strict=True))
        if not isinstance(points, dict):
            raise TrackingError(f"{path}: frame {frame} is {points!r}, expected its points by name.")
        by_frame.append((_frame_of(frame), points))
    names = tuple(dict.fromkeys([*map(str, listed or ()), *(name for _, points in by_frame for name in points)]))
    values = np.full((len(by_frame), len(names), 3), np.nan)
    for row, (frame, points) in enumerate(by_frame):
        for name, point in points.items():
            where = f"{path}: frame {frame}, {name}"
            if point is None:
                continue
            if not isinstance(point, list) or len(point) not in (2, 3):
                raise TrackingError(f"{where}: is {point!r}, expected [x, y] or [x, y, likelihood].")
            values[row, names.index(name)] = [number_of(value, where) for value in [*point, 1.0][:3]]
    size = None if size is None else (number_of(size[0], f"{path}: size"), number_of(size[1], f"{path}: size"))
    units = "normalised" if units == "normalized" else units
    return KeypointFile(path, names, tuple(frame for frame, _ in by_frame), _whole(values), units=units, size=size)


def _whole(points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    """Points of which any number is missing or not finite are missing altogether."""
    return np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, np.nan)


def _frame_of(label: Any) -> int | str:
    """A frame's number, from a number, its text, or the last digits in a picture's name; else the name."""
    if isinstance(label, int | np.integer) and not isinstance(label, bool):
        return int(label)
    if isinstance(label, float) and label.is_integer():
        return int(label)
    return frame_number(str(label))


def frame_number(name: str) -> int | str:
    """The last digits in a picture's name (frame_00012.png: 12); the name's stem where there are none."""
    stem = Path(name).stem if Path(name).suffix.lower() in PICTURES else name
    digits = re.findall(r"\d+", stem)
    return int(digits[-1]) if digits else stem.strip()
