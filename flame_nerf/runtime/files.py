"""Files and folders that appear under their name only when they are complete: written beside it, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

NO_ROOM = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Delete files of your own on that disk, or ask for a larger quota,",
    errno.EFBIG: "Raise the limit (ulimit -f unlimited), or name a folder on another disk,",
}
"""Numbers of the errors by which a disk takes no more, and what to do about each."""


_LENGTHENED = 1 << 16


def cause(number: int, path: Path) -> str:
    """Why a disk takes no more for a file, in words.

    Args:
        number: the refusal's, one of `NO_ROOM`.
    """
    if number == errno.EDQUOT:
        return "your quota on this disk is used up"
    if number == errno.EFBIG:
        limit = _largest_file()
        return f"files may not become larger than {in_words(limit)} here (ulimit -f)" if limit else "too large a file"
    return "the disk has no room for another file, however small" if _no_more_files(path) else "the disk is full"


def _largest_file() -> int | None:
    """Bytes that a file of this process may have; None: any number."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _no_more_files(path: Path) -> bool:
    """Whether the file system has used up its numbers for files, of which some count none."""
    if not hasattr(os, "statvfs"):
        return False
    told = os.statvfs(_folder_of(path))
    return told.f_files > 0 and told.f_favail == 0


def _folder_of(path: Path) -> Path:
    """The folder that a file would be in, or the one above that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def refusal_at(path: Path) -> int | None:
    """Number of the error by which the disk refuses to lengthen a file that is there; None: it does not.

    For libraries that keep it to themselves. Lengthens the file where it can.
    """
    try:
        with path.open("ab", buffering=0) as file:
            left = _LENGTHENED
            while left:  # a disk takes what it has room for, and refuses what comes next
                left -= file.write(bytes(left))
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


class DiskFull(OSError):
    """There is no room for a file. `strerror` says why, what the file needs, and what a full disk has free."""

    def __init__(self, number: int, path: Path, size: int | None, written: int = 0) -> None:
        """
        Args:
            number: the refusal's, one of `NO_ROOM`.
            path: of the file.
            size: bytes that it needs; None where that is not known.
            written: bytes that there was room for.
        """
        needs = f"it needs {in_words(size)}" if size is not None else ""
        if size is None and written:
            needs = f"it needs more than {in_words(written)}"
        # What the whole disk has free says nothing of a quota or of a limit.
        free = shutil.disk_usage(_folder_of(path)).free + written if number == errno.ENOSPC else None
        told = [needs] if needs else []
        told += [] if free is None else [f"{in_words(free)} are free"]
        super().__init__(number, ": ".join([cause(number, path), *([", ".join(told)] if told else [])]), str(path))


def in_words(size: int) -> str:
    """A number of bytes as one would say it: 1.2 MB."""
    unit, name = next(((unit, name) for unit, name in ((10**9, "GB"), (10**6, "MB")) if size >= unit), (10**3, "kB"))
    return f"{size / unit:.1f} {name}"


def spare_name(path: Path, alone: bool = False) -> Path:
    """Where a file or folder is written before it takes its name: beside it and hidden.

    Args:
        alone: no other process writes there at the same time. The name then is always the same, so that what a killed
            run left is written over; otherwise it is each process's own.
    """
    return path.with_name(f".{path.name}.part" if alone else f".{path.name}.{_machine()}-{os.getpid()}.part")


def _machine() -> str:
    """Name of this machine, as it can stand in a file's: folders may be shared with others, whose processes have
    numbers of their own."""
    return re.sub(r"[^\w]", "", platform.node())[:20] or "here"


@functools.cache
def forget_killed(folder: Path) -> None:
    """Remove what processes of this machine that are no more left half-written in a folder when they were killed.

    Once in a process: a film of single pictures is many files.
    """
    spares = re.compile(rf"\..+\.{_machine()}-(\d+)\.part")
    for name in os.listdir(folder) if folder.is_dir() else ():
        spare = spares.fullmatch(name)
        if spare is not None and not _runs(int(spare[1])):
            _remove(folder / name)


def _runs(process: int) -> bool:
    if os.name == "nt":
        # To ask there is to end it.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        # Another user's, or no number that one has.
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """This package's folder in the user's cache; it need not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flame_nerf"


@contextlib.contextmanager
def whole(path: Path, *, alone: bool = False, synced: bool = True, size: int | None = None) -> Iterator[Path]:
    """Gives a spare name to write to, in a folder that is made; at the end it becomes `path`, on an error it goes.

    What was there before stays until then. A program that appends an ending to names without one (as `np.savez` does)
    is given an open file.

    Args:
        alone: see `spare_name`.
        synced: wait until the disk has it (some 10 ms), so that even a power cut leaves no empty file under the name.
            Not for the thousands of pictures of a video.
        size: bytes that it will have, where one knows: said if the disk has no room for them.

    Raises:
        DiskFull: there is no room for it.
        OSError: the disk refuses for another reason.

    Example:
        >>> with whole(Path("notes.json")) as spare:
        ...     spare.write_text("{}")
    """
    spare = spare_name(path, alone)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not alone:
            forget_killed(path.parent.absolute())
        yield spare
        if synced:
            to_disk(spare)
        os.replace(spare, path)
    except OSError as error:
        if error.errno in NO_ROOM and not isinstance(error, DiskFull):
            written = spare.stat().st_size if spare.exists() else 0
            raise DiskFull(error.errno, path, size, written) from error
        raise
    finally:
        _remove(spare)


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
        bring_back(folder)
        shutil.rmtree(spare, ignore_errors=True)
        forget_killed(folder.parent.absolute())
        spare.mkdir(parents=True)
        yield spare
        take_place(spare, folder)
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def take_place(spare: Path, folder: Path) -> None:
    """Rename a finished folder to `folder`; one of that name gives way, and stays if that fails."""
    if not folder.exists():
        os.replace(spare, folder)
        return
    exchange(spare, folder)
    shutil.rmtree(spare, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Let two folders of one disk change names: at once where the system can, so that no kill leaves either without.

    Elsewhere in three steps; killed between them, `bring_back` puts `other` in its place again.

    Raises:
        OSError: the disk refuses; both are where they were.
    """
    if _exchanged_at_once(one, other):
        return
    aside = _aside(other)
    os.replace(other, aside)
    try:
        os.replace(one, other)
    except OSError:
        os.replace(aside, other)
        raise
    os.replace(aside, one)


def bring_back(folder: Path) -> None:
    """A folder that was on its way out when `exchange` was killed has its name again."""
    if _aside(folder).is_dir() and not folder.exists():
        os.replace(_aside(folder), folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _exchanged_at_once(one: Path, other: Path) -> bool:
    """Linux's renameat2; False where the system or the disk's file system has no such call."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    at_cwd, both = -100, 2
    if rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), both) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


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
