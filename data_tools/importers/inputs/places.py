"""Where the files lie that an index names: written on another machine, in another case, or without an ending."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_tools.importers.config import ImportingError
from data_tools.runs.frame_names import PICTURES, stem_of
from flame_nerf.runtime.door import check_name

DRIVE = re.compile(r"[A-Za-z]:/")


class Places:
    """Finds what an index names. Folders are listed once: a recording has tens of thousands of files."""

    def __init__(self, root: Path, also: Sequence[Path] = (), names: Iterable[Any] = ()) -> None:
        """
        Args:
            root: the folder that relative names start from.
            also: further folders that the data may point into.
            names: all names of the index: where it was written elsewhere, one that is here tells where the rest is.
        """
        self._root = root
        self._folders = [Path(os.path.normpath(folder)) for folder in (root, *also)]
        self._names = [name for name in names if isinstance(name, str)]
        self._moved: tuple[tuple[str, ...], Path] | None = None
        """A folder of the other machine, and what it is here."""
        self._listed: dict[Path, dict[str, list[str]]] = {}
        self._pictures: dict[Path, dict[str, list[str]]] = {}

    def path(self, name: Any, where: str) -> Path:
        """The file that data name, if it lies in their folder; it need not be there.

        Absolute names of another machine are found by their ends, names in another case by the only file that they can
        mean.

        Args:
            name: as written, with either kind of slash.
            where: file and field to name in errors.

        Raises:
            ImportingError: no name, one that leads out of the folders, or an absolute one that nothing here ends like.
        """
        plain = check_name(name, ImportingError, where).replace("\\", "/")
        absolute = plain.startswith("/") or DRIVE.match(plain) is not None
        # Lexically: a link inside the folder is its owner's business, `..` in a downloaded file is not.
        path: Path | None = Path(os.path.normpath(self._root / plain))
        if DRIVE.match(plain) or not self._holds(path):
            there, path = path, self._from_elsewhere(plain) if absolute else None
            if path is None and absolute and not there.exists() and ".." not in plain.split("/"):
                raise ImportingError(
                    f"{where} is {name!r}: absolute paths of another machine, and nothing in {self._root} ends like "
                    "this one. Copy the data's folders there, or correct the names."
                )
            if path is None:
                raise ImportingError(
                    f"{where} is {name!r}, which leads out of {self._root}. Refused: data may only name files of their "
                    "own folder. Copy the file into the folder and correct the name."
                )
        return self._in_its_case(path)

    def picture(self, name: Any, where: str) -> Path:
        """The same for a picture, whose ending may be missing or another one.

        Raises:
            ImportingError: as `path`, or two files could be meant.
        """
        path = self.path(name, where)
        return path if path.is_file() else self.picture_in(path.parent, path.name)

    def picture_in(self, folder: Path, name: str) -> Path:
        """The picture of that name in a folder, whatever its ending; where it would be, if it is not there.

        Raises:
            ImportingError: there are two.
        """
        if folder not in self._pictures:
            by_stem: dict[str, list[str]] = {}
            for picture in pictures_in(folder):
                by_stem.setdefault(_folded(stem_of(picture)), []).append(picture)
            self._pictures[folder] = by_stem
        found = self._pictures[folder].get(_folded(stem_of(name)), [])
        if len(found) > 1:
            raise ImportingError(
                f"{folder}: {found[0]} and {found[1]} are both pictures of {stem_of(name)}. Leave the one that was "
                "tracked."
            )
        if found:
            return folder / found[0]
        return folder / (name if name.lower().endswith(PICTURES) else f"{name}{PICTURES[0]}")

    def _holds(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders)

    def _from_elsewhere(self, plain: str) -> Path | None:
        """Where a file of another machine is here: in the folder that this or another name of the index shows."""
        parts = _parts(plain)
        for known in (self._moved, self._learnt(plain), *map(self._learnt, self._names if self._moved is None else ())):
            if known is not None:
                self._moved = known
                start, folder = known
                if parts[: len(start)] == start and ".." not in parts:
                    return folder.joinpath(*parts[len(start) :])
        return None

    def _learnt(self, plain: str) -> tuple[tuple[str, ...], Path] | None:
        """The other machine's folder and what it is here, if a file is here under an end of its name."""
        parts = _parts(plain)
        if ".." in parts:
            return None
        for base in dict.fromkeys((self._folders[0], *(folder.parent for folder in self._folders[1:]))):
            for cut in range(1, len(parts)):
                path = self._in_its_case(base.joinpath(*parts[cut:]))
                if self._holds(path) and (path.is_file() or self.picture_in(path.parent, path.name).is_file()):
                    return parts[:cut], base
        return None

    def _in_its_case(self, path: Path) -> Path:
        """The path as its folders and the file are called here, where they differ in case only."""
        base = next((folder for folder in self._folders if path.is_relative_to(folder)), None)
        if base is None or path.exists():
            return path
        at = base
        for part in path.relative_to(base).parts:
            same = [part] if (at / part).exists() else self._listing(at).get(_folded(part), [])
            if len(same) != 1:
                return path
            at /= same[0]
        return at

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        """All names in a folder, by themselves folded."""
        if folder not in self._listed:
            found = self._listed[folder] = {}
            for name in os.listdir(folder) if folder.is_dir() else ():
                found.setdefault(_folded(name), []).append(name)
        return self._listed[folder]


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _folded(name: str) -> str:
    """The same for names that differ in case only, or in how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def pictures_in(folder: Path) -> list[str]:
    """Names of the pictures in a folder; none if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(PICTURES) and not entry.name.startswith(".") and entry.is_file()
    )


def why_missing(path: Path) -> str:
    """Why a file is not there, as part of a sentence: no folder, an empty one, or one of other names."""
    folder = path.parent
    if not folder.is_dir():
        above = folder
        while not above.parent.is_dir():
            above = above.parent
        return f"there is no folder {above.name}/ in {above.parent}"
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    if not names:
        return f"the folder {folder} is empty"
    alike = [name for name in names if _folded(os.path.splitext(name)[0]) == _folded(os.path.splitext(path.name)[0])]
    if alike:
        return f"{folder} holds {alike[0]}, not {path.name}"
    return f"{folder} holds no {path.name}, but {len(names)} others, such as {names[0]}"
