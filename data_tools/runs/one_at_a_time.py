"""One command at a time in a folder: two that write into one would mix their pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

_held: set[tuple[int, int]] = set()
"""Device and number of the folders that this process has to itself."""


@contextmanager
def alone_in(folder: Path, error: type[Exception]) -> Iterator[None]:
    """Keep other commands that write out of a folder as long as the block runs.

    The system lets go of it when the process ends, however it ends; nothing is left in the folder. Where the folder is
    not there yet, or the file system knows no locks, nobody is kept out. Of a folder that this process has already,
    the first block counts.

    Args:
        error: kind of error to raise.

    Raises:
        error: another command is writing there.
        OSError: the folder cannot be opened.
    """
    if fcntl is None or not folder.is_dir():
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        status = os.fstat(place)
        which = (status.st_dev, status.st_ino)
        if which in _held:
            yield
            return
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(
                f"{folder}: another command is writing into this folder. Wait until it has finished, or end it; or "
                "name another folder."
            ) from None
        except OSError:
            # No locks here: better two at a time than none.
            pass
        _held.add(which)
        try:
            yield
        finally:
            _held.discard(which)
    finally:
        os.close(place)
