"""A folder of films, of which those that are there already are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import complete_file

RECORD = ".films.json"


class FilmFolder:
    """Makes films where they are missing. What each was made of is noted beside them; made of something else, it is
    made anew."""

    def __init__(self, folder: Path, made_of: str) -> None:
        """
        Args:
            folder: where the films go; made when the first is.
            made_of: names what they show, such as the run and their length.
        """
        self.folder = folder
        self._made_of = made_of

    def provide(self, name: str, make: Callable[[Path], object]) -> Path:
        """The film `name`, made by `make(path)` unless it is there and was made of the same."""
        path = self.folder / name
        record = self._record()
        if record.get(name) == self._made_of and path.exists():
            print(f"already filmed: {path}")
            return path
        make(path)
        with complete_file(self.folder / RECORD, "list of films", FilmError) as spare:
            spare.write_text(json.dumps(record | {name: self._made_of}, indent=1), encoding="utf-8")
        return path

    def _record(self) -> dict[str, str]:
        try:
            found = read_json(self.folder / RECORD, ValueError)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
