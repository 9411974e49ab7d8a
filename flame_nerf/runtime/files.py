"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class FilmError(RuntimeError):
    """A film or picture that could not be made or written. The text names the file, the cause and the fix."""


def cache_folder() -> Path:
    """This package's folder in the user's cache; it need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flame_nerf"


def spare_name(path: Path) -> Path:
    """Where a file is written before it takes its name: beside it, hidden, with its suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextlib.contextmanager
def complete_file(path: Path, what: str) -> Iterator[Path]:
    """Gives a spare name to write to, in a folder that is made; takes it to `path` at the end, removes it on an error.

    Args:
        path: the file's name.
        what: what it is, for the message.

    Raises:
        FilmError: it cannot be written there (no right to, a full disk).
    """
    spare = spare_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield spare
        os.replace(spare, path)
    except OSError as error:
        raise FilmError(f"{path}: the {what} cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            spare.unlink(missing_ok=True)
