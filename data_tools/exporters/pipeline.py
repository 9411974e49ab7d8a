"""From a subject to another tool's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from data_tools.exporters import insta, vhap
from data_tools.exporters.config import ExportConfig, ExportError, ExportSummary
from data_tools.runs.errors import disk_errors
from data_tools.runs.progress import StageBars
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

    An interrupted export goes on where it stopped when it is called again: files that are there are whole.

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
        _clear(folder, _key(format_name, subject.root), config.overwrite)
        with StageBars(silent) as bars, bars.stage("Writing frames", len(subject.frames)) as advance:
            notes = WRITERS[format_name](subject, folder, config, lambda: advance(1))
        (folder / MARK).unlink(missing_ok=True)
    return ExportSummary(folder, len(subject.frames), notes)


def _key(format_name: str, root: Path) -> str:
    stamp = (root / "transforms.json").stat().st_mtime_ns
    return hashlib.sha256(json.dumps([format_name, str(root.resolve()), stamp]).encode()).hexdigest()


def _clear(folder: Path, key: str, overwrite: bool) -> None:
    """Make way: an empty folder, one in which this very export was interrupted, or one that may be replaced."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"{folder}: is a file. Name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if mark.is_file() and mark.read_text() == key:
        return
    if any(folder.iterdir()):
        if not overwrite:
            raise ExportError(f"{folder}: is not empty. Use --overwrite to replace what an export left there.")
        if not (mark.is_file() or (folder / WHOLE).is_file()):
            raise ExportError(f"{folder}: holds files that no export left there. Name another folder.")
        # Pictures of an older export under the same names would be taken for this one's.
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file() and path.suffix in (".json", ".png", ".obj", ".npz", ".txt"):
                path.unlink()
    mark.write_text(key)
