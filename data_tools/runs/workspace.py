"""Intermediate results on disk, so that an interrupted run goes on where it stopped.

Each stage has a key made of the video, the stage before it and the options it depends on. A stage is finished when its
marker file, written last, holds that key; results under another key are never reused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.runs.progress import StageBars
from flame_nerf.runtime.door import read_json, read_npz
from flame_nerf.runtime.files import whole
from flame_nerf.runtime.heap import give_back

VERSION = 3
"""Raised when a stage's results change meaning, so that older ones are not reused."""
FOLDER = ".work"
DONE = ".done.json"
"""Ending of the file that says of a stage that it is finished."""
KEY = ".key"
"""File in a folder of parts that says of which stage they are."""


class Workspace:
    """The folder of intermediate results inside a subject."""

    def __init__(self, subject: Path) -> None:
        self.folder = subject / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)

    def finished(self, stage: str, key: str) -> dict[str, Any] | None:
        """What a finished stage noted, or None if it must run."""
        try:
            marker = read_json(self._marker(stage), ValueError)
            return marker["note"] if marker["key"] == key else None
        except (ValueError, KeyError, TypeError):
            return None

    def begin(self, stage: str, key: str) -> Path:
        """Folder for a stage's parts. Parts of a run with the same key are kept, others deleted."""
        self._marker(stage).unlink(missing_ok=True)
        folder = self.folder / stage
        begin_parts(folder, key)
        return folder

    def finish(self, stage: str, key: str, note: dict[str, Any]) -> None:
        """Mark a stage as finished."""
        with whole(self._marker(stage), alone=True, synced=False) as spare:
            spare.write_text(json.dumps({"key": key, "note": note}))

    def run(
        self,
        bars: StageBars,
        stage: str,
        title: str,
        key: str,
        total: int | None,
        work: Callable[[Callable[..., None]], dict[str, Any]],
    ) -> dict[str, Any]:
        """Run a stage behind a bar, unless an earlier run finished it; returns what it noted.

        Args:
            bars: where the bar goes.
            stage: name, for the files.
            title: name, for the bar.
            key: of the stage; see `stage_key`.
            total: steps that it is expected to take.
            work: does it; it is given the function that moves the bar on, and returns what to note.
        """
        note = self.finished(stage, key)
        if note is not None:
            bars.reused(title)
            return note
        self.begin(stage, key)
        with bars.stage(title, total) as advance:
            note = work(advance)
        # What a stage's threads freed, the C library would keep for them beside what the next one takes.
        give_back()
        self.finish(stage, key, note)
        return note

    def save(self, stage: str, name: str, **arrays: np.ndarray) -> None:
        """Store arrays among a stage's parts, whole or not at all."""
        target = self.folder / stage / f"{name}.npz"
        size = sum(array.nbytes for array in map(np.asarray, arrays.values()))
        with whole(target, alone=True, synced=False, size=size) as spare, spare.open("wb") as file:
            np.savez(file, **arrays)

    def load(self, stage: str, name: str) -> dict[str, np.ndarray] | None:
        """Arrays of a stage's part, or None if it is not there."""
        target = self.folder / stage / f"{name}.npz"
        if not target.is_file():
            return None
        return read_npz(target, OSError, remedy="Give the same command again with --overwrite.")

    def stages(self) -> list[str]:
        """Names of the stages that are finished, of whatever run."""
        return [path.name.removesuffix(DONE) for path in self.folder.glob(f"*{DONE}")]

    def remove(self) -> None:
        """Delete all intermediate results."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _marker(self, stage: str) -> Path:
        return self.folder / f"{stage}{DONE}"


def begin_parts(folder: Path, key: str) -> bool:
    """Ready a folder for what a stage writes one by one: what a run with another key left there goes.

    Returns:
        Whether it is empty now; otherwise it holds parts of this very stage.

    Raises:
        OSError: the disk refuses.
    """
    begun = folder / KEY
    if begun.is_file() and begun.read_text(errors="replace") == key:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(begun, alone=True, synced=False) as spare:
        spare.write_text(key)
    return True


def end_parts(folder: Path) -> None:
    """A folder that `begin_parts` readied is complete: it says no more what it was begun for."""
    (folder / KEY).unlink(missing_ok=True)


def tidy(subject: Path, dropped: Iterable[int] = ()) -> None:
    """Remove what a finished run needs no more: intermediate results, and the pictures that it does not use.

    Args:
        dropped: numbers of those pictures.
    """
    images, masks = subject / "images", subject / "masks"
    if (images / KEY).exists():
        for number in dropped:
            for path in (images / f"{number:05d}.png", images / f"{number:05d}.jpg", masks / f"{number:05d}.png"):
                path.unlink(missing_ok=True)
    shutil.rmtree(subject / FOLDER, ignore_errors=True)
    end_parts(masks)
    # Last of all: until then the next run knows that there is something to remove.
    end_parts(images)


def video_key(video: Path) -> str:
    """Key of a video file, or of a folder of pictures: changes when a file is replaced or edited.

    Raises:
        OSError: if it is not there.
    """
    if video.is_dir():
        return path_key(video)
    status = video.stat()
    return stage_key("", {"path": str(video.resolve()), "size": status.st_size, "time": status.st_mtime_ns})


def path_key(path: Path | None) -> str:
    """Key of a file, or of the files in a folder; the same for whatever is not there.

    Raises:
        OSError: it cannot be looked at.
    """
    if path is None or not path.exists():
        return ""
    if path.is_file():
        return stage_key("", {"files": video_key(path)})
    return stage_key("", {"files": [video_key(one) for one in sorted(path.iterdir()) if one.is_file()]})


def stage_key(before: str, options: dict[str, Any]) -> str:
    """Key of a stage: of the stage before it and the options it depends on."""
    text = json.dumps([VERSION, before, options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
