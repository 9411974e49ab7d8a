"""A folder of pictures taken as the frames of a film."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_tools.runs.frame_names import PICTURES, frame_numbers, natural
from data_tools.runs.picture_files import read_picture
from data_tools.tracking.config import TrackingError
from data_tools.tracking.observe.video_stream import counted, printable_name
from flame_nerf.runtime.door import open_picture, picture_size

MOST_GAPS = 10
"""Numbers that leave out more than this many for each picture are no count of frames (dates, say)."""
ORIENTATION = 0x0112
"""EXIF's tag for how a camera was held."""
_UPRIGHT = {
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.swapaxes(0, 1),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
    8: lambda picture: np.rot90(picture),
}
"""What puts a picture of each EXIF orientation upright."""
_LYING = (5, 6, 7, 8)


@dataclass(frozen=True)
class FrameFolder:
    """The pictures of a folder, in order."""

    folder: Path
    paths: tuple[Path, ...]
    numbers: tuple[int, ...]
    """Frame that each picture is, from 0: what is missing in the numbers of the names is missing here."""
    width: int
    height: int
    notes: tuple[str, ...]
    """What was ignored or is missing, in words."""


def upright_picture(path: Path) -> UInt8[np.ndarray, "H W 3"] | None:
    """A frame's RGB picture, upright and before white; None where the file is damaged."""
    try:
        picture = read_picture(path, TrackingError)
    except TrackingError:
        return None
    rgb = picture.rgb
    if picture.alpha is not None:
        alpha = picture.alpha[..., None].astype(np.uint16)
        rgb = ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    turn = _UPRIGHT.get(_orientation(path))
    return np.ascontiguousarray(rgb if turn is None else turn(rgb))


def open_folder(folder: Path) -> FrameFolder:
    """Look through a folder of pictures, in natural order: img_2 before img_10.

    Raises:
        TrackingError: it holds no pictures, pictures of several sizes, or frames twice.
    """
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = [path for path in entries if path.is_file()]
    paths = sorted((path for path in files if path.suffix.lower() in PICTURES), key=lambda path: natural(path.name))
    if not paths:
        raise TrackingError(_no_pictures(folder, entries))
    twins = next(((one, two) for one, two in itertools.pairwise(paths) if one.stem == two.stem), None)
    if twins is not None:
        raise TrackingError(
            f"{folder}: {twins[0].name} and {twins[1].name} are one frame twice. Put copies of the pictures elsewhere."
        )
    sizes = [(path, _size(path)) for path in paths]
    readable = [(path, size) for path, size in sizes if size is not None]
    if not readable:
        raise TrackingError(f"{folder}: none of its {len(paths)} pictures can be read. Copy or export them again.")
    (first, size), *rest = readable
    other = next(((path, own) for path, own in rest if own != size), None)
    if other is not None:
        path, own = other
        raise TrackingError(
            f"{path}: is {own[0]}x{own[1]}, but {first.name} is {size[0]}x{size[1]}. Frames must be of one size: put "
            "pictures of another film, and previews, elsewhere."
        )
    numbers, notes = numbers_of(paths)
    taken = set(paths)
    ignored = sorted(printable_name(path) for path in entries if path not in taken)
    if ignored:
        shown = ", ".join(ignored[:3]) + (", …" if len(ignored) > 3 else "")
        notes = (*notes, f"Ignored, being no pictures ({len(ignored)}): {shown}.")
    return FrameFolder(folder, tuple(paths), numbers, *size, notes=notes)


def numbers_of(paths: list[Path]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Frame that each picture is, the first being 0, and what is to be said of it.

    Where names hold no number that counts frames, pictures are counted off. Every second frame, say, counts as all.
    """
    in_order = tuple(range(len(paths)))
    try:
        found = frame_numbers([path.name for path in paths], what=str(paths[0].parent), error=TrackingError)
    except TrackingError:
        found = None
    if found is None or len(found) < 2:
        return in_order, ()
    steps = np.diff(found)
    if (steps <= 0).any():
        return in_order, ()
    stride = int(np.gcd.reduce(steps))
    numbers = tuple((number - found[0]) // stride for number in found)
    missing = numbers[-1] + 1 - len(numbers)
    if missing == 0:
        return numbers, ()
    if missing > MOST_GAPS * len(numbers):
        return in_order, ("The numbers in the pictures' names are no count of frames; taken one after the other.",)
    at = int(np.argmax(steps > stride))
    absent = counted(missing, "frame")
    after = paths[at].stem
    return numbers, (f"Missing in the pictures' numbering: {absent}, the first after {after}; time passes there.",)


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height as displayed; None if the file is damaged."""
    try:
        width, height = picture_size(path, TrackingError)
    except TrackingError:
        return None
    return (height, width) if _orientation(path) in _LYING else (width, height)


def _orientation(path: Path) -> int:
    try:
        with open_picture(path, TrackingError) as picture:
            return int(picture.getexif().get(ORIENTATION, 1))
    except TrackingError:
        return 1


def _no_pictures(folder: Path, entries: list[Path]) -> str:
    wanted = f"{folder}: is a folder without pictures ({', '.join(ending[1:] for ending in PICTURES)})."
    if (folder / "transforms.json").is_file():
        return f"{wanted} It holds tracked data already: train on it, or see `flame-nerf-data import --help`."
    inside = [path.name for path in sorted(entries) if path.is_dir()]
    if inside:
        return f"{wanted} Give the folder inside it that holds the frames: {', '.join(inside[:3])}?"
    if any(path.is_file() for path in entries):
        return f"{wanted} Give a video file, or for all videos of a folder use `flame-nerf-data batch`."
    return f"{wanted} Give a video, or a folder with one picture for each frame."
