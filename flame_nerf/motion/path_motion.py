"""Camera paths whose keyframes carry faces: the motion that a path's times run through, in a file beside the path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerfstudio.utils.rich_utils import CONSOLE

from flame_nerf.motion.files.motion_file import read_motion
from flame_nerf.motion.performance import Motion
from flame_nerf.runtime.command_line import named_file
from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.errors import MotionError
from flame_nerf.runtime.words import escape

if TYPE_CHECKING:
    from flame_nerf.motion.subject_motion import SubjectMotion

MOTION_KEY = "motion"
"""Entry of a path's JSON: the name of the motion file beside it."""
AVATAR_KEY = "avatar"
"""Another: whose page it was made on, by `avatar_entry`."""
PATH_OPTION = "--camera-path-filename"


def motion_beside(path: Path) -> Path:
    """Where the motion of a camera path lies."""
    return path.with_suffix(".motion.npz")


def avatar_entry(avatar: SubjectMotion, name: str) -> dict[str, Any]:
    """What a camera path says of the avatar that it was made with: its name, and its head's size, metres."""
    return {"name": name, "size": [round(side, 6) for side in avatar.size.tolist()]}


def path_motion(path: Path) -> Motion | None:
    """The motion that a camera path names: times from 0 to 1 run from its first moment to its last.

    Args:
        path: the path's JSON.

    Returns:
        None where it names none, as paths do that were made by other programs, or before faces were carried.

    Raises:
        MotionError: the motion it names is not there, or cannot be read.
    """
    try:
        document = read_json(path, ValueError)
    except ValueError:
        # Whoever reads the path says what is wrong with it.
        return None
    name = document.get(MOTION_KEY) if isinstance(document, dict) else None
    if name is None:
        return None
    file = path.with_name(Path(str(name)).name)
    if not file.is_file():
        raise MotionError(
            f"{path}: the faces of its keyframes are in {file.name}, which is not beside it; copy it there, or press "
            "Generate Command on the page again"
        )
    return read_motion(file)


def filmed_path(avatar: SubjectMotion, arguments: Sequence[str], subject: str = "") -> None:
    """Let an avatar play the motion of the camera path that this process was asked to film, where it names one.

    Nerfstudio's player hands a model the times of a path, not its file.

    Args:
        avatar: what `ns-render` films.
        arguments: of the process, its program first.
        subject: name of the avatar's; one line says it where the path was made with another's.

    Raises:
        SystemExit: the motion is missing or is not one for this avatar; one sentence says what to do.
    """
    asked = Path(arguments[0]).stem == "ns-render" if arguments else False
    path = named_file(arguments, PATH_OPTION) if asked else None
    if path is None:
        return
    try:
        motion = path_motion(path)
        avatar.play(motion)
    except MotionError as error:
        # Nerfstudio shows whatever else is raised with a traceback.
        raise SystemExit(str(error)) from None
    if motion is not None and subject and motion.provenance.source != subject:
        theirs = motion.provenance.source
        CONSOLE.print(
            f"[yellow]{escape(path)}: its faces are those of {escape(repr(theirs))}, shown number by number on "
            f"{escape(repr(subject))}."
        )
