"""What a subject's folder holds before a run and after one that came to nothing."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePath

from data_tools.runs.workspace import FOLDER
from flame_nerf.runtime.files import in_words
from flame_nerf.subject.types import TRACK_FILE, TRANSFORMS_FILE

PICTURES = ("images", "masks")
OWN = (TRANSFORMS_FILE, TRACK_FILE, "report.html", "report.json", *PICTURES, "depths", "depths.part", FOLDER)
"""What tracking, imports and depth make in a subject's folder."""


def owns(name: PurePath) -> bool:
    """Whether a file, by its path in a subject, is made by these commands."""
    return name.parts[0] in OWN or (name.parts[0].startswith(".") and name.suffix == ".part")


def holds_pictures(subject: Path) -> bool:
    """Whether a folder holds pictures or masks that no unfinished run left there."""
    return not (subject / FOLDER).exists() and any((subject / name).exists() for name in PICTURES)


def kept_work(subject: Path) -> tuple[str, ...]:
    """Folders of a subject that another run with its own options may go on from (`--keep-work`)."""
    return (*PICTURES, FOLDER) if (subject / FOLDER).is_dir() else ()


def would_go(path: Path, subject: Path) -> bool:
    """Whether a file or folder lies among what these commands replace in a subject."""
    place, root = path.resolve(), subject.resolve()
    return place == root or (place.is_relative_to(root) and owns(place.relative_to(root)))


def leave(place: Path, kept: bool) -> str:
    """Tidy up behind a run that was refused.

    Args:
        place: where it wrote; not a finished subject.
        kept: what it made helps another try. Otherwise it goes, and the folder with it if nothing else is there.

    Returns:
        The sentence that says what stays, to go behind the refusal's; empty if nothing does.
    """
    if kept:
        made = [path for name in OWN for path in (place / name, *(place / name).rglob("*")) if path.is_file()]
        size = in_words(sum(path.stat().st_size for path in made))
        return f" What was made so far stays for another try, {size} in {place}; delete it otherwise."
    for path in place.iterdir() if place.is_dir() else ():
        if owns(PurePath(path.name)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return ""
