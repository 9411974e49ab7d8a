"""Films of a trained avatar, each by one call: its own performance, expressions swept, another's performance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flame_nerf.film.camera_path import CameraPath
from flame_nerf.film.encoder import Sound
from flame_nerf.film.filming import Take, film_take
from flame_nerf.film.paths import play_times
from flame_nerf.film.rendering import side_by_side
from flame_nerf.motion import Moments
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.film_options import LookConfig

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from flame_nerf.motion import Motion, TransferConfig
    from flame_nerf.subject import Subject

SWEEP_FRAMES = 100
"""Pictures of a sweep unless another number is asked for."""


def film_orbit(
    pipeline: Pipeline,
    path: Path,
    frames: int | None = None,
    *,
    yaw_deg: float | None = None,
    along: CameraPath | None = None,
    look: LookConfig | None = None,
    sound: Sound | None = None,
    made_of: str = "",
) -> None:
    """The subject's own performance at its own rate, seen from a camera that swings around the head.

    Args:
        path: the film to write, or a folder for PNGs; a contact sheet goes beside it.
        frames: pictures; more than the performance has play it there and back. None: all of it, once.
        yaw_deg, along, look, made_of: as for `film_take`.
        sound: what is heard.
    """
    motion = pipeline.model.motion
    frames = motion.num_timesteps if frames is None else frames
    times = play_times(motion.num_timesteps, frames)
    take = Take(Moments(frames, lambda index: motion.at_time(times[index])), motion.fps, sound=sound)
    film_take(pipeline, take, path, look, yaw_deg=yaw_deg, along=along, made_of=made_of)


def film_sweep(
    pipeline: Pipeline,
    names: str | Sequence[str],
    path: Path,
    frames: int | None = None,
    *,
    yaw_deg: float | None = 0.0,
    along: CameraPath | None = None,
    look: LookConfig | None = None,
    sound: Sound | None = None,
    made_of: str = "",
) -> None:
    """Expressions, one after the other, from nothing to their peak and back, posed by the head model, at the subject's
    rate.

    The peak is what the video showed and a quarter more, at least a half: beyond that the look is invented.

    Args:
        names: expressions of the head model.
        path, yaw_deg, along, look, sound, made_of: as for `film_orbit`.
        frames: pictures of each; None: `SWEEP_FRAMES`.
    """
    motion = pipeline.model.motion
    frames = SWEEP_FRAMES if frames is None else frames
    posed = []
    for name in [names] if isinstance(names, str) else names:
        seen = [motion.coefficients(index)[0].get(name, 0.0) for index in range(motion.num_timesteps)]
        peak = min(1.0, max(0.5, 1.25 * max(seen)))
        posed += motion.expression_sweep(name, frames, peak)
    take = Take(Moments(len(posed), lambda index: posed[index]), motion.fps, sound=sound)
    film_take(pipeline, take, path, look, yaw_deg=yaw_deg, along=along, made_of=made_of)


def film_motion(
    pipeline: Pipeline,
    motion: Motion,
    path: Path,
    frames: int | None = None,
    *,
    transfer: TransferConfig | None = None,
    yaw_deg: float | None = 0.0,
    along: CameraPath | None = None,
    look: LookConfig | None = None,
    sound: Sound | None = None,
    beside: Subject | None = None,
    made_of: str = "",
) -> None:
    """Another's performance on this head, at its own rate: expressions, jaw and eyes, and how the head turns.

    Args:
        motion: what the performer did.
        path, yaw_deg, along, look, sound, made_of: as for `film_orbit`.
        frames: pictures, at most; None: the whole of it.
        transfer: how it becomes this person's.
        beside: the performer, whose pictures are shown left of the avatar's.
    """
    from flame_nerf.film.performer_images import PerformerImages
    from flame_nerf.motion import transferred

    own = pipeline.model.motion
    head = pipeline.model.head
    performed = transferred(motion, own, transfer, head_model=head.name if head is not None else "")
    # Cut after the transfer: how a face rests is told by all of the performance.
    count = len(performed) if frames is None else min(frames, len(performed))
    take = Take(
        performed.moments(own).picked(range(count)),
        motion.fps,
        head_movement=performed.head_movement[:count] if performed.head_moves else None,
        sound=sound,
        beside=None if beside is None else PerformerImages(beside, len(motion)),
        held=performed.held[:count],
    )
    film_take(pipeline, take, path, look, yaw_deg=yaw_deg, along=along, made_of=made_of)


def film_path(
    pipeline: Pipeline,
    along: CameraPath,
    path: Path,
    frames: int | None = None,
    *,
    look: LookConfig | None = None,
    sound: Sound | None = None,
    made_of: str = "",
) -> None:
    """A camera path with the faces that its keyframes carried, or with the moments of the avatar's own performance that
    its times name: what the page showed.

    Args:
        along: the path; each of its cameras sees one picture, at the path's rate.
        path, look, sound, made_of: as for `film_orbit`.
        frames: pictures, at most; None: one for each camera.

    Raises:
        FilmError: the path has no times.
        MotionError: its faces are not ones of this avatar's head model.
    """
    if along.times is None:
        raise FilmError(along.without_times)
    motion, times = pipeline.model.motion, along.times
    count = len(along) if frames is None else min(frames, len(along))
    take = Take(Moments(count, lambda index: motion.at_time(float(times[index]))), along.fps, sound=sound)
    motion.play(along.motion)
    try:
        film_take(pipeline, take, path, look, along=replace(along.first(count), timing="stretch"), made_of=made_of)
    finally:
        motion.play(None)


def film_held_out(pipeline: Pipeline, path: Path, count: int = 8) -> None:
    """Frames that training never saw, beside the avatar: a sheet of up to `count` of them, evenly spread, as .png."""
    dataset = pipeline.datamanager.eval_dataset
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    values = side_by_side(pipeline, dataset, rows.tolist(), path)
    print(f"  held-out frames: {sum(values) / len(values):.1f} dB in the matte")
