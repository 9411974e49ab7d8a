"""transforms_{train,val,test}.json: which frames they list, each once, and where the files lie that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.importers.config import ImportingError
from data_tools.importers.inputs.files import field, frames_of, read_json
from data_tools.importers.inputs.places import Places

SPLIT_FILES = {"train": "transforms_train.json", "val": "transforms_val.json", "test": "transforms_test.json"}
WHOLE = "transforms.json"
"""Read where there are no split files."""


@dataclass(frozen=True)
class Listed:
    """One frame of a transforms file."""

    content: dict[str, Any]
    """The file's own fields under the frame's."""
    frame: dict[str, Any]
    split: str
    """train, val or test; empty where the data do not say."""
    where: str
    """File and frame, for errors."""
    picture: Path


def why_transforms(source: Path, key: str, means: str) -> str | None:
    """Why a folder's transforms files are of a format: their frames have a field; None if they do not."""
    for name in (*SPLIT_FILES.values(), WHOLE):
        if (source / name).is_file():
            frames = read_json(source / name).get("frames")
            if isinstance(frames, list) and frames and isinstance(frames[0], dict) and key in frames[0]:
                return f"{name} {means}"
    return None


def listed_frames(source: Path, also: Sequence[Path] = ()) -> tuple[list[Listed], Places]:
    """All frames, each once, and what finds the files that they name.

    A picture that several files list counts as the last one's: what is tested on is not trained on (INSTA's val is part
    of its test).

    Args:
        also: further folders that the data may point into.

    Raises:
        ImportingError: no file, no frames, or two frames that say different things of one picture.
    """
    files = {split: source / name for split, name in SPLIT_FILES.items() if (source / name).is_file()}
    contents = {split: (path, read_json(path)) for split, path in (files or {"": source / WHOLE}).items()}
    every = [(split, path, content, frames_of(content, path)) for split, (path, content) in contents.items()]
    places = Places(source, also, _names(frame for *_, frames in every for frame in frames))
    found: dict[Path, Listed] = {}
    for split, path, content, frames in every:
        shared = {name: value for name, value in content.items() if name != "frames"}
        for index, frame in enumerate(frames):
            where = f"{path}: frame {index}"
            picture = places.picture(field(frame, "file_path", where), f"{where}: file_path")
            one = Listed(shared | frame, frame, split, where, picture)
            if picture in found:
                _agree(found[picture], one)
            found[picture] = one
    if not found:
        raise ImportingError(f"{source}: its transforms files list no frames.")
    return list(found.values()), places


def _names(frames: Iterator[dict[str, Any]]) -> list[Any]:
    return [value for frame in frames for name, value in frame.items() if name.endswith("_path")]


def _agree(first: Listed, second: Listed) -> None:
    """Raises ImportingError if two entries of one picture do not show the same."""
    for name in ("transform_matrix", "mesh_path", "flame_param_path", "timestep_index", "camera_index", "expression"):
        one, other = first.frame.get(name), second.frame.get(name)
        if one is not None and other is not None and not _same(one, other):
            raise ImportingError(
                f"{first.where} and {second.where} both name {first.picture.name}, with another {name}. One picture "
                "shows one moment from one camera: correct its name, or take one of them out."
            )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return os.path.normpath(one.replace("\\", "/")) == os.path.normpath(other.replace("\\", "/"))
    try:
        return bool(np.allclose(np.array(one, dtype=float), np.array(other, dtype=float), atol=1e-5))
    except (TypeError, ValueError, OverflowError):
        return False
