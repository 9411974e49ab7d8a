"""What a file really is that is not what its name says."""

from __future__ import annotations

from pathlib import Path

LOOKED_AT = 4096
"""Bytes of a file that are looked at."""
ZIP, PICKLE = b"PK", b"\x80"
"""How torch's and numpy's files begin."""
PAGES = (b"<!doctype html", b"<html", b"<?xml")


def check_kind(path: Path, error: type[Exception], wanted: str, starts: tuple[bytes, ...] = ()) -> None:
    """Refuse what no reader need look at: empty files, pointers, web pages, zero bytes, other kinds.

    Args:
        error: kind of error to raise.
        wanted: what it should be, for errors.
        starts: how such files begin; none where that varies.

    Raises:
        error: it is missing, cannot be opened, or something else; says what.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LOOKED_AT)
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder, expected {wanted}.") from None
    except OSError as problem:
        raise error(f"{path} cannot be opened ({problem.strerror}).") from None
    if not data:
        raise error(f"{path} is empty, expected {wanted}. Copy it again.")
    if data.startswith(b"version https://git-lfs"):
        raise error(f"{path} is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`.")
    if data.lstrip().lower().startswith(PAGES):
        raise error(f"{path} is a web page, expected {wanted}: the download failed. Get it again.")
    if not any(data):
        raise error(f"{path} holds nothing but zero bytes, expected {wanted}. Copy it again.")
    if starts and not data.startswith(starts):
        raise error(f"{path} does not begin as {wanted} does. Is it another kind of file under this name?")
