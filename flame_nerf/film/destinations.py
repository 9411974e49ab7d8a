"""Where a film goes: one file, or a folder of numbered PNGs. An interrupted run goes on with either."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from flame_nerf.film.encoder import CONTAINERS, FilmWriter, Sound
from flame_nerf.film.pictures import write_png
from flame_nerf.runtime.door import open_picture, read_json
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import complete_file

RECORD = ".film.json"
"""What the PNGs of a folder were made of."""
_NUMBERED = re.compile(r"\d{6,}\.png")
_PNG_END = b"IEND\xaeB`\x82"
PNG_SHARE = 0.5
"""Bytes of a PNG for each byte of the picture, at most, of what avatars look like."""


class PictureFolder:
    """A film as numbered PNGs. Pictures that are there already, made of the same, are not made again."""

    def __init__(self, folder: Path, count: int, made_of: str) -> None:
        """
        Args:
            folder: where they go; made if it is not there.
            count: pictures of the film.
            made_of: names what they show: other words, other pictures.

        Raises:
            FilmError: the folder holds numbered pictures that are no film of this program, or cannot be written.
        """
        self.folder = folder
        self._count = count
        self._made_of = made_of

    def __enter__(self) -> PictureFolder:
        there = [path for path in self.folder.glob("*.png") if _NUMBERED.fullmatch(path.name)]
        made_of = self._recorded()
        if there and made_of is None:
            raise FilmError(f"{self.folder}: it holds numbered pictures of something else; give a new folder")
        for path in there:
            if made_of != self._made_of or int(path.stem) >= self._count or not _ends(path):
                path.unlink()
        with complete_file(self.folder / RECORD, "film's record", FilmError) as spare:
            spare.write_text(json.dumps({"made_of": self._made_of}), encoding="utf-8")
        return self

    def missing(self) -> list[int]:
        """Numbers of the pictures that are still to be made, in order."""
        return [index for index in range(self._count) if not self.picture(index).exists()]

    def picture(self, index: int) -> Path:
        """File of one picture."""
        return self.folder / f"{index:06d}.png"

    def add(self, index: int, picture: UInt8[np.ndarray, "H W C"]) -> None:
        # A power cut may leave one without its end, which is then made anew.
        write_png(self.picture(index), picture, synced=False)

    def made(self, index: int) -> UInt8[np.ndarray, "H W C"]:
        """A picture that is there.

        Raises:
            FilmError: it cannot be read; removed, it is made anew.
        """
        with open_picture(self.picture(index), FilmError, remedy="Remove it, and film again.") as picture:
            return np.asarray(picture)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """What is finished is kept, whatever ended the run."""

    def _recorded(self) -> str | None:
        try:
            return str(read_json(self.folder / RECORD, ValueError)["made_of"])
        except (ValueError, KeyError, TypeError):
            return None


class FilmFile:
    """A film as one file, which is there when all of it is; an interrupted one begins anew."""

    def __init__(self, path: Path, count: int, fps: float, sound: Sound | None) -> None:
        self._count = count
        sound = None if sound is None else replace(sound, seconds=count / fps)
        self._writer = FilmWriter(path, fps, sound=sound)

    def __enter__(self) -> FilmFile:
        self._writer.__enter__()
        return self

    def missing(self) -> list[int]:
        """Numbers of the pictures that are still to be made: all."""
        return list(range(self._count))

    def add(self, index: int, picture: UInt8[np.ndarray, "H W C"]) -> None:
        self._writer.add(picture)

    def made(self, index: int) -> UInt8[np.ndarray, "H W C"]:
        """A picture of an earlier run: there is none."""
        raise IndexError(index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


class ResumedFile(FilmFile):
    """The same, gone on with where it was interrupted: until it is whole, its pictures lie in a hidden folder beside
    it."""

    def __init__(self, path: Path, count: int, fps: float, sound: Sound | None, made_of: str) -> None:
        super().__init__(path, count, fps, sound)
        self._pictures = PictureFolder(waiting_beside(path), count, made_of)
        self._encoded = 0

    def __enter__(self) -> ResumedFile:
        # First, as it says at once what hinders: a film that cannot be put there, no encoder.
        super().__enter__()
        try:
            self._pictures.__enter__()
        except BaseException as error:
            super().__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def missing(self) -> list[int]:
        """Numbers of the pictures that are still to be made, in order."""
        return self._pictures.missing()

    def add(self, index: int, picture: UInt8[np.ndarray, "H W C"]) -> None:
        self._pictures.add(index, picture)
        self._encode(index)
        super().add(index, picture)
        self._encoded += 1

    def made(self, index: int) -> UInt8[np.ndarray, "H W C"]:
        """A picture that is there; FilmError where it cannot be read."""
        return self._pictures.made(index)

    def _encode(self, end: int) -> None:
        """Into the film, those of an earlier run up to this number."""
        while self._encoded < end:
            super().add(self._encoded, self.made(self._encoded))
            self._encoded += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            super().__exit__(kind, error, trace)
            return
        try:
            self._encode(self._count)
        except BaseException as late:
            super().__exit__(type(late), late, late.__traceback__)
            raise
        super().__exit__(None, None, None)
        shutil.rmtree(self._pictures.folder, ignore_errors=True)


def destination(
    path: Path, count: int, fps: float, sound: Sound | None, made_of: str, picture_bytes: int, *, resumed: bool
) -> PictureFolder | FilmFile:
    """Where a film of `count` pictures goes.

    Args:
        path: a film's name, or a folder's.
        sound: of a film.
        made_of: names what it shows.
        picture_bytes: of each picture in memory.
        resumed: go on with an interrupted film, which takes room on the disk while it is made.
    """
    if not is_film(path):
        return PictureFolder(path, count, made_of)
    if not resumed:
        return FilmFile(path, count, fps, sound)
    there = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
    needed, free = count * picture_bytes * PNG_SHARE, shutil.disk_usage(there).free
    if needed > free / 2:
        print(
            f"{path}: its pictures may take {needed / 1e9:.1f} GB of the {free / 1e9:.1f} GB that are free; they are "
            "not kept, and if it is interrupted it begins anew"
        )
        return FilmFile(path, count, fps, sound)
    return ResumedFile(path, count, fps, sound, made_of)


def waiting_beside(path: Path) -> Path:
    """Folder of the pictures of a film that is not whole yet."""
    return path.with_name(f".{path.name}.pictures")


def _ends(path: Path) -> bool:
    """Whether a PNG has its end."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - len(_PNG_END)))
        return file.read() == _PNG_END


def is_film(path: Path) -> bool:
    """Whether a name is a film's; otherwise it is a folder's."""
    return path.suffix.lower() in CONTAINERS


def sheet_beside(path: Path) -> Path:
    """Where a film's contact sheet goes: beside the file or the folder."""
    return path.with_suffix(".png") if is_film(path) else path.with_name(f"{path.name}.png")
