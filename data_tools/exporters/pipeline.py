"""From a subject to another tool's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath

from data_tools.exporters import insta, vhap
from data_tools.exporters.config import ExportConfig, ExportError, ExportSummary
from data_tools.runs.errors import disk_errors
from data_tools.runs.progress import StageBars
from data_tools.runs.replacing import replacing
from flame_nerf.subject import SubjectError, load_subject

WRITERS = {"insta": insta.export, "vhap": vhap.export}
MARK = ".export"
"""Names the export that is under way in a folder; gone when it is whole."""
WHOLE = "transforms.json"
"""Written last by every format."""


def export_subject(
    format_name: str,
    subject_dir: str | Path,
    folder: str | Path,
    config: ExportConfig | None = None,
    silent: bool = False,
) -> ExportSummary:
    """Write a subject in another tool's layout.

    An interrupted export goes on where it stopped when it is called again: files that are there are whole. One that is
    replaced stays until the new one is whole.

    Args:
        format_name: insta or vhap (GaussianAvatars reads the same).
        folder: folder to write; made if it is not there.
        silent: show no progress bars.

    Raises:
        ExportError: the subject cannot be written so, the folder holds something else, or the disk is full.
    """
    config, folder = config or ExportConfig(), Path(folder).expanduser()
    if format_name not in WRITERS:
        raise ExportError(f"{format_name}: unknown format; expected one of {', '.join(WRITERS)}.")
    try:
        subject = load_subject(subject_dir)
    except SubjectError as error:
        raise ExportError(str(error)) from error
    if folder.resolve().is_relative_to(subject.root.resolve()):
        raise ExportError(f"{folder}: lies in the subject. Name a folder of its own.")
    with disk_errors(folder, ExportError):
        key = _key(format_name, subject.root)
        old = _old_is_there(folder, key, config.overwrite)
        with replacing(folder, old, _owns, ExportError) as place:
            _begin(place, key)
            with StageBars(silent) as bars, bars.stage("Writing frames", len(subject.frames)) as advance:
                notes = WRITERS[format_name](subject, place, config, lambda: advance(1))
            (place / MARK).unlink(missing_ok=True)
    return ExportSummary(folder, len(subject.frames), notes)


def _key(format_name: str, root: Path) -> str:
    stamp = (root / "transforms.json").stat().st_mtime_ns
    return hashlib.sha256(json.dumps([format_name, str(root.resolve()), stamp]).encode()).hexdigest()


def _old_is_there(folder: Path, key: str, overwrite: bool) -> bool:
    """Whether the folder holds an export to replace; not if it is empty, or this very export was interrupted in it."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file. Name a folder.")
    mark = folder / MARK
    if not folder.is_dir() or not any(folder.iterdir()) or (mark.is_file() and mark.read_text() == key):
        return False
    if not overwrite:
        raise ExportError(f"{folder}: is not empty. Use --overwrite to replace what an export left there.")
    if not (mark.is_file() or (folder / WHOLE).is_file()):
        raise ExportError(f"{folder}: holds files that no export left there. Name another folder.")
    return True


def _begin(place: Path, key: str) -> None:
    """Ready a folder: pictures of another export under the same names would be taken for this one's."""
    mark = place / MARK
    if not (mark.is_file() and mark.read_text() == key):
        for path in place.rglob("*"):
            if path.is_file() and _owns(path.relative_to(place)):
                path.unlink()
    mark.write_text(key)


def _owns(name: PurePath) -> bool:
    """Whether a file is of those that exports write."""
    return name.suffix in (".json", ".png", ".obj", ".npz", ".txt") or name == PurePath(MARK)
