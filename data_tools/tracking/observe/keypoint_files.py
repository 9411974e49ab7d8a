"""Keypoints that another program found: DeepLabCut's CSV and HDF5, SLEAP's CSV and HDF5, COCO's and mmpose's JSON, and
a plain JSON of our own. Every reader gives the same record: a row a frame, a column a point; what is missing is NaN."""

from __future__ import annotations

from pathlib import Path

from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.keypoint_readers.coco import read_coco
from data_tools.tracking.observe.keypoint_readers.deeplabcut import read_deeplabcut_csv
from data_tools.tracking.observe.keypoint_readers.hdf5 import read_h5
from data_tools.tracking.observe.keypoint_readers.mmpose import is_mmpose, read_mmpose, read_mmpose_folder
from data_tools.tracking.observe.keypoint_readers.plain import read_plain
from data_tools.tracking.observe.keypoint_readers.record import KeypointFile
from data_tools.tracking.observe.keypoint_readers.sleap import read_sleap_csv
from flame_nerf.runtime.door import foreign, read_json, read_text, table_of

KNOWN = (
    "DeepLabCut's .csv or .h5, SLEAP's analysis .csv or .h5, COCO's .json, mmpose's .json, or the plain .json of "
    "flame-nerf-data"
)
"""What is read, in words."""
PROJECTS = {
    ".slp": "is SLEAP's project. Export its analysis from SLEAP as CSV or HDF5, and give that.",
    ".pickle": "holds DeepLabCut's raw detections. Give the .csv or .h5 of the analysed video.",
    ".pkl": "is a pickle, which can run code when read. Save the keypoints as JSON or CSV, and give that.",
}
"""Files beside the right ones, and what to do about them."""


def read_keypoint_file(path: Path, individual: str | None = None) -> KeypointFile:
    """Read a file of keypoints (or mmpose's folder of them), its format told from its ending and contents.

    Args:
        individual: the animal to follow: individual, track or category as the file calls it, or "surest" for the
            surest of each frame. None: the only one there is.

    Raises:
        TrackingError: it is missing, of no known format, damaged, or shows several animals; names the line or field.
    """
    if not path.exists():
        raise TrackingError(f"{path}: no such keypoint file. Check --keypoints.")
    with foreign(TrackingError, path, "keypoints", f"Expected {KNOWN}. Export it again."):
        found = _read(path, individual)
    if not found.names or not len(found.frames):
        raise TrackingError(f"{path}: holds no keypoints ({len(found.names)} points, {len(found.frames)} frames).")
    for what, listed in (("frame", found.frames), ("keypoint", found.names)):
        seen: set[int | str] = set()
        for one in listed:
            if one in seen:
                raise TrackingError(f"{path}: {what} {one} is there twice. Keep one of them.")
            seen.add(one)
    return found


def _read(path: Path, individual: str | None) -> KeypointFile:
    if path.is_dir():
        return read_mmpose_folder(path, individual)
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".txt"):
        return _read_csv(path, individual)
    if ending in (".h5", ".hdf5", ".hdf"):
        return read_h5(path, individual)
    if ending == ".json":
        return _read_json(path, individual)
    if ending in PROJECTS:
        raise TrackingError(f"{path}: {PROJECTS[ending]}")
    raise TrackingError(f"{path}: keypoints are read from {KNOWN}, not from {ending or 'a file without ending'}.")


def _read_csv(path: Path, individual: str | None) -> KeypointFile:
    # splitlines takes the line ends of all systems, mixed ones too.
    lines = [line for line in read_text(path, TrackingError).splitlines() if line.strip(" \t,;")]
    separator = max(",;\t", key=(lines[0] if lines else ",").count)
    cells = table_of("\n".join(lines), path, TrackingError, separator=separator)
    table = [[cell.strip() for cell in row] for row in cells]
    if table and "frame_idx" in table[0]:
        return read_sleap_csv(path, table, individual)
    if {"bodyparts", "coords"} <= {row[0].lower() for row in table[:4]}:
        return read_deeplabcut_csv(path, table, individual)
    raise TrackingError(
        f"{path}: is no table of DeepLabCut, whose first lines begin with scorer, bodyparts and coords, nor of SLEAP, "
        "whose first line names track and frame_idx; its lines begin with "
        f"{', '.join(row[0] or 'nothing' for row in table[:3]) or 'nothing'}."
    )


def _read_json(path: Path, individual: str | None) -> KeypointFile:
    document = read_json(path, TrackingError)
    if document and is_mmpose(document):
        return read_mmpose(path, document, individual)
    if isinstance(document, list) or (isinstance(document, dict) and "annotations" in document):
        return read_coco(path, document, individual)
    if isinstance(document, dict) and "frames" in document:
        return read_plain(path, document, individual)
    held = f"an object with {', '.join(list(document)[:6]) or 'nothing'}" if isinstance(document, dict) else "no object"
    raise TrackingError(
        f'{path}: is neither COCO keypoints (with "annotations"), nor predictions of mmpose (with "instance_info"), '
        f'nor a plain keypoint file (with "frames"); it holds {held}.'
    )
