"""Where a film goes: one file, or a folder of numbered PNGs that an interrupted run goes on with."""

from __future__ import annotations

import json
import re
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
            if made_of != self._made_of or int(path.stem) >= self._count:
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
        write_png(self.picture(index), picture)

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
    """A film as one file, which is there when all of it is."""

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)


def is_film(path: Path) -> bool:
    """Whether a name is a film's; otherwise it is a folder's."""
    return path.suffix.lower() in CONTAINERS


def sheet_beside(path: Path) -> Path:
    """Where a film's contact sheet goes: beside the file or the folder."""
    return path.with_suffix(".png") if is_film(path) else path.with_name(f"{path.name}.png")
