"""Opening a file that others made: a regular one, of a size that can be, and what it really is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

LARGEST = 1 << 30
"""Bytes that one file may take in memory when it is read; everything at the door is held against it."""
LARGEST_FILE = 1 << 40
"""Bytes of a file of which little is read at a time."""
LOOKED_AT = 4096
"""Bytes of a file that tell its kind."""
SAID = 160
"""Letters of another program's complaint that are repeated."""
LONGEST_NAME, LONGEST_PATH = 255, 3000
"""Bytes of a file's name, and of one with its folders: a little less than disks allow."""
COPY = "Copy it again."
PAGES = (b"<!doctype html", b"<html", b"<?xml")
_ODD = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextmanager
def open_file(
    path: Path, error: type[Exception], wanted: str = "a file", *, largest: int = LARGEST_FILE, missing: str = ""
) -> Iterator[BinaryIO]:
    """A regular file, opened for reading. Nothing is waited for, whatever the path turns out to be.

    Args:
        error: kind of error to raise.
        wanted: what it should be, for errors.
        largest: bytes that it may have.
        missing: what to say where it does not exist; a plain sentence if not given.

    Raises:
        error: it is missing, no regular file, too large, or cannot be opened; says which.
    """
    try:
        # Without waiting: opening a pipe would, for somebody who writes into it.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise error(missing or f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError) as problem:
        raise error(_cannot_open(path, wanted, problem)) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise error(f"{path} is {_kind(status.st_mode)}, expected {wanted}. Give the path of a regular file.")
    with os.fdopen(descriptor, "rb") as stream:
        if status.st_size > largest:
            raise error(
                f"{path} has {status.st_size / 1e6:.0f} MB; {wanted} has {largest / 1e6:.0f} MB at most. Is it the "
                "right file?"
            )
        yield stream


def _kind(mode: int) -> str:
    return next((word for test, word in _ODD.items() if test(mode)), "no regular file")


def _cannot_open(path: Path, wanted: str, problem: Exception) -> str:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        # Windows opens no folder; nobody opens a socket.
        return f"{path} is {_kind(mode)}, expected {wanted}. Give the path of a regular file."
    return f"{path} cannot be opened ({getattr(problem, 'strerror', None) or problem}). Check its name and rights."


def read_bytes(
    path: Path, error: type[Exception], wanted: str = "a file", *, largest: int = LARGEST, missing: str = ""
) -> bytes:
    """A whole file; arguments and errors as for `open_file`."""
    with open_file(path, error, wanted, largest=largest, missing=missing) as stream:
        try:
            return stream.read()
        except (OSError, MemoryError) as problem:
            raise error(f"{path} cannot be read ({said(problem)}). {COPY}") from None


@contextmanager
def foreign(
    error: type[Exception], path: Path | str, wanted: str = "what it should be", remedy: str = COPY
) -> Iterator[None]:
    """Turns whatever a library or a careless file raises inside this block into one line of the caller's kind.

    Args:
        error: kind of error to raise; one of that kind passes as it is.
        path: the file, or the file and the field, that is being read.
        wanted: what it should be.
        remedy: what to do about it.

    Raises:
        error: in place of every other exception.
    """
    try:
        yield
    except Exception as problem:
        # Of a kind of Python's own, only an error that names the file is its reader's.
        if isinstance(problem, error) and (error.__module__ != "builtins" or str(problem).startswith(str(path))):
            raise
        reason = said(problem)
        if isinstance(problem, MemoryError):
            reason = "it wants more memory than there is: damaged, or made to harm"
        raise error(f"{path}: cannot be read as {wanted} ({reason}). {remedy}") from problem


def said(problem: BaseException) -> str:
    """An exception's first words, with its kind where they would not be understood alone."""
    words = " ".join(str(problem).split())
    words = words if len(words) <= SAID else f"{words[:SAID]}…"
    if isinstance(problem, LookupError | TypeError | AttributeError | ArithmeticError | AssertionError) or not words:
        return f"{type(problem).__name__}: {words}".removesuffix(": ")
    return words


def check_name(name: Any, error: type[Exception], where: str) -> str:
    """The name of a file that data give, if the disk could have one of it.

    Args:
        error: kind of error to raise.
        where: file and field, for errors.

    Raises:
        error: it is no text, empty, or has letters or a length that no file's name has.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise error(f"{where} is {str(name)[:80]!r}, expected the name of a file.")
    try:
        stored = os.fsencode(name)
    except UnicodeEncodeError:
        raise error(f"{where} is {name[:80]!r}, which has letters that no file's name has. Correct it.") from None
    parts = stored.replace(b"\\", b"/").split(b"/")
    if max(map(len, parts)) > LONGEST_NAME or len(stored) > LONGEST_PATH:
        raise error(f"{where} is {name[:80]!r}…, longer than any file's name. Correct it.")
    return name


def is_zip(path: Path) -> bool:
    """Whether a path is a regular file that begins as a zip does; nothing is raised and nothing waited for."""
    try:
        with open_file(path, OSError) as stream:
            return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def check_kind(path: Path, error: type[Exception], wanted: str, starts: tuple[bytes, ...] = ()) -> None:
    """Refuse what no reader need look at: empty files, pointers, web pages, zero bytes, other kinds.

    Args:
        error: kind of error to raise.
        wanted: what it should be, for errors.
        starts: how such files begin; none where that varies.

    Raises:
        error: it is missing, cannot be opened, or something else; says what.
    """
    with open_file(path, error, wanted) as file:
        data = file.read(LOOKED_AT)
    if not data:
        raise error(f"{path} is empty, expected {wanted}. {COPY}")
    if data.startswith(b"version https://git-lfs"):
        raise error(f"{path} is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`.")
    if data.lstrip().lower().startswith(PAGES):
        raise error(f"{path} is a web page, expected {wanted}: the download failed. Get it again.")
    if not any(data):
        raise error(f"{path} holds nothing but zero bytes, expected {wanted}. {COPY}")
    if starts and not data.startswith(starts):
        raise error(f"{path} does not begin as {wanted} does. Is it another kind of file under this name?")
