"""Files and folders that appear under their name only when they are complete: written beside it, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def spare_name(path: Path, alone: bool = False) -> Path:
    """Where a file or folder is written before it takes its name: beside it and hidden.

    Args:
        alone: no other process writes there at the same time. The name then is always the same, so that what a killed
            run left is written over; otherwise it is each process's own.
    """
    return path.with_name(f".{path.name}.part" if alone else f".{path.name}.{os.getpid()}.part")


def cache_folder() -> Path:
    """This package's folder in the user's cache; it need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flame_nerf"


@contextlib.contextmanager
def whole(path: Path, *, alone: bool = False, synced: bool = True) -> Iterator[Path]:
    """Gives a spare name to write to, in a folder that is made; at the end it becomes `path`, on an error it goes.

    What was there before stays until then. A program that appends an ending to names without one (as `np.savez` does)
    is given an open file.

    Args:
        alone: see `spare_name`.
        synced: wait until the disk has it (some 10 ms), so that even a power cut leaves no empty file under the name.
            Not for the thousands of pictures of a video.

    Raises:
        OSError: the disk refuses.

    Example:
        >>> with whole(Path("notes.json")) as spare:
        ...     spare.write_text("{}")
    """
    spare = spare_name(path, alone)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield spare
        if synced:
            to_disk(spare)
        os.replace(spare, path)
    finally:
        with contextlib.suppress(OSError):
            spare.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    # Windows syncs only what is open for writing.
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_folder(folder: Path, *, alone: bool = False) -> Iterator[Path]:
    """Gives an empty folder beside `folder`; at the end it takes its name and its place, on an error it goes.

    Args:
        alone: see `spare_name`.

    Raises:
        OSError: the disk refuses; what was there before stays.
    """
    spare = spare_name(folder, alone)
    try:
        shutil.rmtree(spare, ignore_errors=True)
        spare.mkdir(parents=True)
        yield spare
        take_place(spare, folder)
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def take_place(spare: Path, folder: Path) -> None:
    """Rename a finished folder to `folder`; one of that name gives way, and comes back if that fails."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(spare, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def complete_file(path: Path, what: str, error: type[Exception], *, synced: bool = True) -> Iterator[Path]:
    """`whole`, with the disk's refusal in words.

    Args:
        what: what the file is, for the message.
        error: what is raised where it cannot be written (no right to, a full disk).
        synced: see `whole`.
    """
    try:
        with whole(path, synced=synced) as spare:
            yield spare
    except OSError as refusal:
        raise error(f"{path}: the {what} cannot be written ({refusal.strerror or refusal})") from refusal
