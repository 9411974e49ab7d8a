"""Making a result anew where one is already: the old one stays until the new one is whole, then they change places.

The new one grows in a hidden folder beside the old one, and is gone on with there when the command is given again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from data_tools.runs.one_at_a_time import alone_in
from flame_nerf.runtime.files import bring_back, exchange, in_words

MARK = ".replacing"
"""File in the new folder: in the hidden one it says that this is not the old one, in its place that something of the
old one may still have to go."""
Owns = Callable[[PurePath], bool]
"""Whether a file or folder, by its path in the result's folder, is of what the command makes: what else lies there is
somebody's own, and moves over."""


def beside(folder: Path) -> Path:
    """Where the new result grows while the old one is still there."""
    place = folder.resolve()
    return place.with_name(f".{place.name}.new")


@contextlib.contextmanager
def replacing(
    folder: Path, old_is_there: bool, owns: Owns, error: type[Exception], begun_with: Sequence[str] = ()
) -> Iterator[Path]:
    """Gives the folder to write a result to, made if it is not there; at the end of the block it is `folder`.

    Args:
        old_is_there: the folder holds a result, which must stay until the new one is whole. Otherwise the result is
            written in its place.
        error: kind of error to raise.
        begun_with: folders of the old result that the new one begins with, as links; the last one says what is in the
            others.

    Raises:
        error: the disk has no room for both, the two could not change places, or another command is at work.
        OSError: the disk refuses.

    An error in the block leaves the old one as it was, and the new one as far as it came.
    """
    place, spare = folder.resolve(), beside(folder)
    if not old_is_there and not spare.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder, error):
            try:
                yield folder
            finally:
                if not any(folder.iterdir()):
                    folder.rmdir()
        return
    if not (spare / MARK).exists():
        clear_away(folder, owns)
    _check_room(place, spare, owns, error)
    spare.mkdir(parents=True, exist_ok=True)
    with alone_in(spare, error):
        if not (spare / MARK).exists():
            (spare / MARK).touch()
            _begin_with(place, spare, begun_with)
        try:
            yield spare
        finally:
            if [path.name for path in spare.iterdir()] == [MARK]:
                shutil.rmtree(spare)
        try:
            if place.exists():
                exchange(spare, place)
            else:
                os.replace(spare, place)
        except OSError as refusal:
            raise error(
                f"{folder}: the new result is whole, but cannot take this one's place "
                f"({refusal.strerror or refusal}). It is in {spare}: move it where you want it."
            ) from refusal
        clear_away(folder, owns)


def _begin_with(place: Path, spare: Path, names: Sequence[str]) -> None:
    for name in names:
        if (place / name).is_dir():
            part = spare / f".{name}.part"
            shutil.copytree(place / name, part, copy_function=_linked)
            # Whole or not at all, also if this is killed.
            os.replace(part, spare / name)


def _linked(source: str, target: str) -> str:
    """Another name for a file, or a copy where the disk knows no such thing. Parts are replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def just_replaced(folder: Path) -> bool:
    """Whether a run was killed when its result had taken the old one's place, and only tidying up was left."""
    return (folder / MARK).exists()


def clear_away(folder: Path, owns: Owns) -> None:
    """Remove what a replacement that was killed or given up left beside a result, after what is not the command's."""
    place, spare = folder.resolve(), beside(folder)
    bring_back(place)
    if spare.is_dir():
        _keep_strangers(spare, spare, place, owns)
        shutil.rmtree(spare, ignore_errors=True)
    # Last of all: until then the next run knows that there is something to do.
    (place / MARK).unlink(missing_ok=True)


def _keep_strangers(folder: Path, old: Path, new: Path, owns: Owns) -> None:
    for path in list(folder.iterdir()):
        name = path.relative_to(old)
        if name == PurePath(MARK) or owns(name):
            continue
        target = new / name
        if path.is_dir() and not path.is_symlink() and (target.is_dir() or _holds_own(path, old, owns)):
            _keep_strangers(path, old, new, owns)
        elif not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def _holds_own(folder: Path, old: Path, owns: Owns) -> bool:
    return any(owns(path.relative_to(old)) for path in folder.rglob("*"))


def _check_room(place: Path, spare: Path, owns: Owns, error: type[Exception]) -> None:
    """Before anything is done: both lie on the disk for a while, and they must be able to change places.

    The old one's size is taken for the new one's.
    """
    if place.is_dir() and Path.cwd().is_relative_to(place):
        raise error(f"{place}: is the folder that you are in, and is to change places. Go up (cd ..) first.")
    if os.path.ismount(place):
        raise error(f"{place}: is a disk of its own, and cannot change places. Name a folder in it.")
    if place.parent.is_dir() and not os.access(place.parent, os.W_OK):
        raise error(f"{place.parent}: may not be written to, and the new result is made there. Name another folder.")
    if not place.is_dir():
        return
    needed = _size(place, owns) - (_size(spare, owns) if spare.is_dir() else 0)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise error(
            f"{place}: the old result stays until the new one is whole, which takes about {in_words(needed)} more, and "
            f"{in_words(free)} are free. Free some space, or delete the old one first."
        )


def _size(folder: Path, owns: Owns) -> int:
    """Bytes of what a command made in a folder."""
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and any(owns(part) for part in _upwards(path.relative_to(folder)))
    )


def _upwards(name: PurePath) -> list[PurePath]:
    return [name, *list(name.parents)[:-1]]
