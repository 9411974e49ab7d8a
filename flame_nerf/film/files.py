"""Files of a film, and what is said where one cannot be made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flame_nerf.runtime.files import whole


class FilmError(RuntimeError):
    """A film or picture that could not be made or written. The text names the file, the cause and the fix."""


@contextlib.contextmanager
def complete_file(path: Path, what: str) -> Iterator[Path]:
    """`whole`, with the disk's refusal in words.

    Args:
        what: what the file is, for the message.

    Raises:
        FilmError: it cannot be written there (no right to, a full disk).
    """
    try:
        with whole(path) as spare:
            yield spare
    except OSError as error:
        raise FilmError(f"{path}: the {what} cannot be written ({error.strerror or error})") from error
