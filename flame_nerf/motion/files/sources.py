"""Motions from whatever holds one, and to whatever takes one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flame_nerf.motion.files.head_angles import AngleUnits
from flame_nerf.motion.files.motion_file import read_motion, write_motion
from flame_nerf.motion.files.tables import read_table, write_table
from flame_nerf.motion.files.weights_json import read_weights, write_weights
from flame_nerf.motion.performance import CameraTrack, Motion, Provenance, interpolated
from flame_nerf.runtime.errors import MotionError
from flame_nerf.subject.stabilised import stabilize_head

if TYPE_CHECKING:
    from flame_nerf.subject import Subject

FILES = (".npz", ".csv", ".json")
"""Suffixes of files that hold a motion."""
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
"""Suffixes of videos, which are tracked before there is a motion."""


def load_motion(source: Path | str, fps: float | None = None, head_units: AngleUnits | None = None) -> Motion:
    """The motion in a subject's folder, a motion file, a CSV or LAM's JSON.

    Args:
        source: the folder or file.
        fps: moments a second of a table or JSON that does not say so, or is wrong; others are resampled to it.
        head_units: of a table's angles; None: what their range says.

    Raises:
        MotionError, SubjectError: naming the file and the fix.
    """
    source = Path(source).expanduser()
    if not source.exists():
        raise MotionError(f"{source}: no such file or folder")
    suffix = source.suffix.lower()
    if source.is_dir() or source.name == "transforms.json":
        from flame_nerf.subject import load_subject

        motion = motion_of_subject(load_subject(source))
    elif suffix == ".npz":
        motion = read_motion(source)
    elif suffix == ".csv":
        return read_table(source, fps, head_units)
    elif suffix == ".json":
        return read_weights(source, fps)
    else:
        raise MotionError(
            f"{source}: no motion: give a subject's folder, a video, or a file that ends in {', '.join(FILES)}"
        )
    return motion if fps is None else motion.resampled(fps)


def save_motion(motion: Motion, path: Path | str) -> tuple[str, ...]:
    """Writes a motion as its own file, a CSV, or LAM's JSON, by the name's suffix.

    Returns:
        what that format has no place for, one sentence each.

    Raises:
        MotionError: another suffix, or it cannot be written there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return write_table(motion, path)
    if suffix == ".json":
        return write_weights(motion, path)
    if suffix != ".npz":
        raise MotionError(f"{path}: a motion's name ends in {', '.join(FILES)}")
    write_motion(motion, path)
    return ()


def motion_of_subject(subject: Subject) -> Motion:
    """A tracked subject's performance, its head moving before a camera that stands still.

    Pictures that tracking left out come back as held moments between their neighbours, where their numbers tell.
    """
    subject = stabilize_head(subject)
    track, assumed = subject.track, []
    seen = {frame.timestep: frame for frame in reversed(subject.frames)}
    several = len(seen) != len(subject.frames) or any(frame.intrinsics for frame in subject.frames)
    head_to_world = camera = None
    if several:
        assumed.append("the head's movement is not known: several cameras filmed it")
    elif len(seen) == track.num_timesteps:
        # The world is the camera's own frame: x to the picture's right, y up, z towards the viewer.
        head_to_world = np.linalg.inv(np.stack([seen[row].c2w for row in range(track.num_timesteps)]).astype(float))
        camera = CameraTrack(
            np.tile(np.eye(4), (len(head_to_world), 1, 1)),
            np.array([subject.fl_x, subject.fl_y, subject.cx, subject.cy], float),
            (subject.width, subject.height),
        )
        assumed.append("the camera stood still, so that all movement is the head's")
    motion = Motion(
        expression=track.expression,
        expression_names=track.expression_names,
        fps=subject.fps,
        joints=track.pose,
        joint_names=track.joint_names,
        head_to_world=head_to_world,
        camera=camera,
        provenance=Provenance(
            source=subject.root.name,
            head_model=_head_name(subject),
            assumed=tuple(assumed),
            sound=Path(subject.source).name if subject.source else "",
        ),
    )
    numbers = picture_numbers(subject)
    if numbers is None:
        return motion
    first, last = numbers[0], numbers[-1]
    motion = replace(motion, provenance=replace(motion.provenance, sound_start=float(first / subject.fps)))
    if last - first + 1 == len(numbers):
        return motion
    moments = np.arange(first, last + 1)
    filled = interpolated(motion, np.interp(moments, numbers, np.arange(len(numbers))))
    filled.held[~np.isin(moments, numbers)] = True
    return filled.assuming(f"{int(filled.held.sum())} pictures in which no face was found lie between their neighbours")


def _head_name(subject: Subject) -> str:
    from flame_nerf.heads import load_head

    try:
        return load_head(subject.head_model_source).name
    except (OSError, ValueError):
        # The performance needs no head model: what the subject calls it has to do.
        return Path(subject.head_model).stem


def picture_numbers(subject: Subject) -> np.ndarray | None:
    """Number in the video of the picture that each timestep shows, rising, where tracking named the pictures so."""
    if "tracking" not in subject.extra or len(subject.frames) != subject.track.num_timesteps:
        return None
    stems = [frame.file_path.stem for frame in sorted(subject.frames, key=lambda frame: frame.timestep)]
    if not all(stem.isdecimal() for stem in stems):
        return None
    numbers = np.array([int(stem) for stem in stems])
    # A folder of pictures may be numbered in any steps.
    return numbers if len(numbers) and (np.diff(numbers) > 0).all() and numbers[-1] < 20 * len(numbers) else None


def find_sound(motion: Motion, near: Path) -> Path | None:
    """The video or sound file that a motion names, beside `near` or in its folder; None where it is not there."""
    name = Path(motion.provenance.sound).name
    for folder in (near.parent, near) if name else ():
        if (folder / name).is_file():
            return folder / name
    return None
