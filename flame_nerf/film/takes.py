"""Films of a trained avatar, each by one call: its own performance, an expression swept, another's performance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flame_nerf.film.paths import orbit_cameras, play_times
from flame_nerf.film.rendering import render_film, side_by_side

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

FILM_WIDTH = 256
"""Pixels across a film unless another width is asked for; pictures of the subject are seldom larger on machines without
a GPU."""
ORBIT_YAW_DEG = 30.0
"""Swing of an orbit to either side. Few videos show more of a head than this."""
SWEEP_FRAMES = 100
"""Pictures of a sweep unless another number is asked for."""


def film_orbit(
    pipeline: Pipeline,
    path: Path,
    frames: int | None = None,
    *,
    yaw_deg: float = ORBIT_YAW_DEG,
    width: int | None = None,
) -> None:
    """The subject's own performance at its own rate, seen from a camera that swings around the head.

    Args:
        path: the .mp4 to write; a contact sheet goes beside it.
        frames: pictures; more than the performance has play it there and back. None: all of it, once.
        yaw_deg: how far the camera swings; 0: it stays still.
        width: pixels across; None: the training pictures', at most `FILM_WIDTH`.
    """
    motion = pipeline.model.motion
    frames = motion.num_frames if frames is None else frames
    cameras = _cameras(pipeline, frames, yaw_deg, width, play_times(motion.num_frames, frames))
    render_film(pipeline, cameras, None, path, motion.fps, sheet=path.with_suffix(".png"))


def film_sweep(
    pipeline: Pipeline,
    name: str,
    path: Path,
    frames: int | None = None,
    *,
    orbit: bool = False,
    width: int | None = None,
) -> None:
    """One expression from nothing to its peak and back, posed by the head model, at the subject's rate.

    The peak is what the video showed and a quarter more, at least a half: beyond that the look is invented.

    Args:
        name: an expression of the head model.
        path, width: as for `film_orbit`.
        frames: pictures; None: `SWEEP_FRAMES`.
        orbit: the camera swings around the head.
    """
    motion = pipeline.model.motion
    frames = SWEEP_FRAMES if frames is None else frames
    seen = [motion.coefficients(index)[0].get(name, 0.0) for index in range(motion.num_frames)]
    peak = min(1.0, max(0.5, 1.25 * max(seen)))
    posed = motion.expression_sweep(name, frames, peak)
    cameras = _cameras(pipeline, frames if orbit else 1, ORBIT_YAW_DEG if orbit else 0.0, width)
    render_film(pipeline, cameras, posed, path, motion.fps, sheet=path.with_suffix(".png"))


def film_motion(
    pipeline: Pipeline,
    source: Path,
    path: Path,
    frames: int | None = None,
    *,
    orbit: bool = False,
    width: int | None = None,
) -> None:
    """Another subject's expressions, jaw and eyes on this head, at that subject's rate.

    Args:
        source: the other subject's folder.
        path, orbit, width: as for `film_sweep`.
        frames: pictures, at most; None: the whole of it.
    """
    from flame_nerf.motion import SubjectMotion
    from flame_nerf.subject import load_subject

    subject = load_subject(source)
    driver = SubjectMotion(subject.track, fps=subject.fps)
    count = driver.num_frames if frames is None else min(frames, driver.num_frames)
    posed = [pipeline.model.motion.pose(*driver.coefficients(index)) for index in range(count)]
    cameras = _cameras(pipeline, count if orbit else 1, ORBIT_YAW_DEG if orbit else 0.0, width)
    render_film(pipeline, cameras, posed, path, driver.fps, sheet=path.with_suffix(".png"))


def film_held_out(pipeline: Pipeline, path: Path, count: int = 8) -> None:
    """Frames that training never saw, beside the avatar: a sheet of up to `count` of them as .png."""
    dataset = pipeline.datamanager.eval_dataset
    stride = max(1, len(dataset) // count)
    values = side_by_side(pipeline, dataset, range(0, len(dataset), stride)[:count], path)
    print(f"  held-out frames: {sum(values) / len(values):.1f} dB in the matte")


def _cameras(
    pipeline: Pipeline, count: int, yaw_deg: float, width: int | None, times: list[float] | None = None
) -> Cameras:
    cameras = pipeline.datamanager.train_dataset.cameras
    return orbit_cameras(
        cameras,
        pipeline.model.motion.centre,
        count,
        yaw_deg=yaw_deg,
        pitch_deg=8.0 if yaw_deg else 0.0,
        width=width or min(FILM_WIDTH, int(cameras.width.max())),
        times=times,
    )
