"""Films of an avatar that does something: any moments, a head that turns, any look, one file or many pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from flame_nerf import __version__
from flame_nerf.film.camera_path import CameraPath
from flame_nerf.film.destinations import destination, is_film, sheet_beside
from flame_nerf.film.encoder import CONTAINERS, Sound
from flame_nerf.film.framing import close_up, upright
from flame_nerf.film.painter import MOST_PIXELS, is_picture, painter
from flame_nerf.film.paths import observed_yaws, orbit_cameras
from flame_nerf.film.pictures import contact_sheet, write_png
from flame_nerf.film.rendering import SHEET_IMAGES, render_images
from flame_nerf.film.trust import write_trust
from flame_nerf.motion import Moments
from flame_nerf.runtime.contents import named_by_contents
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.film_options import LookConfig

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

FILM_WIDTH = 256
"""Pixels across a film unless another width is asked for; pictures of the subject are seldom larger on machines without
a GPU."""
ORBIT_YAW_DEG = 30.0
"""How far an orbit swings to either side at most, unless it is told to. Few videos show more of a head than this."""
ORBIT_BEYOND_DEG = 10.0
"""How far it goes beyond what the training frames saw: farther, ghosts of the far eye and cheek come into view."""
ORBIT_PITCH_DEG = 8.0
"""How far it goes up and down."""


@dataclass(frozen=True, eq=False)
class Take:
    """What a film shows."""

    moments: Moments
    """The head in each picture."""
    fps: float
    head_movement: Float[np.ndarray, "T 4 4"] | None = None
    """Rigid movement of the head before the camera, in its own frame; None: it stands still."""
    sound: Sound | None = None
    beside: Callable[[int], UInt8[np.ndarray, "H W 3"]] | None = None
    """A picture that is shown left of each one, such as the performer's; None: none is."""
    held: Bool[np.ndarray, " T"] | None = None
    """Moments in which nobody saw the performer, which are marked; None: there are none."""


def film_take(
    pipeline: Pipeline,
    take: Take,
    path: Path,
    look: LookConfig | None = None,
    *,
    yaw_deg: float | None = 0.0,
    along: CameraPath | None = None,
    made_of: str = "",
) -> None:
    """Films a take.

    Args:
        path: a .mp4, .webm or .mov, or a folder for numbered PNGs; a contact sheet goes beside it.
        look: size, background, and how the camera is held.
        yaw_deg: how far the camera swings around the head; 0: it stays still; None: as far as training saw it, and
            `ORBIT_BEYOND_DEG` more.
        along: the camera goes along this path instead.
        made_of: names what is shown, so that an interrupted film is gone on with where it shows the same; empty: a
            film in one file begins anew.

    Raises:
        FilmError: the look or the path cannot be had, no encoder, a full disk. No half film is left; finished PNGs are.
    """
    look, count = look or LookConfig(), len(take.moments)
    _check(take, path, look, yaw_deg, along)
    yaws = (0.0, 0.0) if along is not None else orbit_yaws(pipeline, yaw_deg)
    cameras = take_cameras(pipeline, take, look, yaws, along)
    width, height = (int(side.reshape(-1)[0]) // look.supersample for side in (cameras.width, cameras.height))
    if width * height * look.supersample**2 > MOST_PIXELS:
        raise FilmError(f"{width}x{height} at {look.supersample} rays along a pixel's side is too large; give less")
    paint = painter(pipeline, look, width, height)
    shown = set(np.linspace(0, count - 1, min(SHEET_IMAGES, count)).round().astype(int).tolist())
    kept: dict[int, np.ndarray] = {}
    behind = Path(look.background).expanduser() if is_picture(look.background) else None
    key = named_by_contents(made_of, __version__, count, width, height, look, behind, yaws, along)
    picture_bytes = width * height * (4 if look.transparent else 3) * (1 if take.beside is None else 2)
    with destination(path, count, take.fps, take.sound, key, picture_bytes, resumed=bool(made_of)) as film:
        missing = film.missing()
        if len(missing) < count:
            print(f"{count - len(missing)} of {count} pictures are there already: {path}")
        if missing:
            wanted = cameras if len(cameras) == 1 else cameras[torch.tensor(missing)]
            pictures = render_images(pipeline, wanted, take.moments.picked(missing), path.name, paint)
            with closing(pictures):
                for index, picture in zip(missing, pictures, strict=True):
                    if take.beside is not None:
                        picture = _beside(take.beside(index), picture)
                    film.add(index, picture)
                    if index in shown:
                        kept[index] = picture
        for index in shown - kept.keys():
            kept[index] = film.made(index)
    write_png(sheet_beside(path), contact_sheet([_on_paper(kept[index]) for index in sorted(kept)], columns=4))
    print(write_trust(pipeline.model, cameras, take.moments, take.fps, path, take.held))


def orbit_yaws(pipeline: Pipeline, yaw_deg: float | None) -> tuple[float, float]:
    """How far an orbit swings to the left and to the right, degrees, said in one line: `yaw_deg`, or unless that is
    given `ORBIT_BEYOND_DEG` beyond what training saw, at most `ORBIT_YAW_DEG`; 0 stays still."""
    if yaw_deg == 0:
        return 0.0, 0.0
    seen = observed_yaws(pipeline.datamanager.train_dataset.cameras, pipeline.model.motion.centre)
    left, right = (min(ORBIT_YAW_DEG, side + ORBIT_BEYOND_DEG) if yaw_deg is None else yaw_deg for side in seen)
    saw = f"training saw {seen[0]:.0f} and {seen[1]:.0f} degrees"
    print(f"orbit: {left:.0f} degrees to the left, {right:.0f} to the right; {saw}")
    return left, right


def take_cameras(
    pipeline: Pipeline,
    take: Take,
    look: LookConfig,
    yaw_deg: float | tuple[float, float] = 0.0,
    along: CameraPath | None = None,
) -> Cameras:
    """Cameras of a film, in the head frame: one for all of its pictures, or one for each where anything moves.

    A head that moves before a still camera is, seen from the head, a camera that moves the other way.
    """
    carry = _as_it_is if take.head_movement is None else partial(_carried, take.head_movement)
    if along is not None:
        cameras = _path_cameras(along, take, look)
        cameras.camera_to_worlds = carry(cameras.camera_to_worlds.double()).float()
        return cameras
    training, motion = pipeline.datamanager.train_dataset.cameras, pipeline.model.motion
    held = look.background == "plate"
    close = look.close and not held
    width, height = look.width, look.height
    if width is None and height is None:
        longest = training.width.max() if not close else max(int(training.width.max()), int(training.height.max()))
        width = min(FILM_WIDTH, int(longest))
    if close:
        width, height = width or height, height or width
    swings = any(yaw_deg) if isinstance(yaw_deg, tuple) else bool(yaw_deg)
    moving = swings or take.head_movement is not None
    cameras = orbit_cameras(
        training,
        motion.centre,
        len(take.moments) if moving else 1,
        yaw_deg=yaw_deg,
        pitch_deg=ORBIT_PITCH_DEG if swings else 0.0,
        width=width,
        height=height,
    )
    hold = upright if look.upright and not held else _as_it_is
    c2w = hold(cameras.camera_to_worlds.double())
    if close:
        size = int(cameras.width[0]), int(cameras.height[0])
        c2w, focal = close_up(c2w, take.moments, motion.of_head, size, hold, carry)
        cameras.fx, cameras.fy = torch.full_like(cameras.fx, focal), torch.full_like(cameras.fy, focal)
    cameras.camera_to_worlds = carry(c2w).float()
    if look.supersample > 1:
        cameras.rescale_output_resolution(float(look.supersample))
    return cameras


def _path_cameras(along: CameraPath, take: Take, look: LookConfig) -> Cameras:
    """A path's own cameras for a take, which nothing holds upright or close."""
    width, height = look.width, look.height
    if width is None and height is None:
        width, height = (max(1, round(FILM_WIDTH * side)) for side in _longest_is_one(along.aspect))
    elif width is None:
        width = max(1, round(height * along.aspect))
    elif height is None:
        height = max(1, round(width / along.aspect))
    cameras = along.cameras(along.positions(len(take.moments), take.fps), width, height)
    if look.supersample > 1:
        cameras.rescale_output_resolution(float(look.supersample))
    return cameras


def _longest_is_one(aspect: float) -> tuple[float, float]:
    return (1.0, 1.0 / aspect) if aspect > 1 else (aspect, 1.0)


def _as_it_is(c2w: Float[torch.Tensor, "N 3 4"]) -> Float[torch.Tensor, "N 3 4"]:
    return c2w


def _carried(
    head_movement: Float[np.ndarray, "T 4 4"], c2w: Float[torch.Tensor, "N 3 4"]
) -> Float[torch.Tensor, "T 3 4"]:
    """Cameras as a head sees them that moves before them."""
    back = torch.from_numpy(np.linalg.inv(head_movement))
    return back[:, :3, :3] @ c2w + torch.cat([torch.zeros(len(back), 3, 3), back[:, :3, 3:]], dim=-1)


def _check(take: Take, path: Path, look: LookConfig, yaw_deg: float | None, along: CameraPath | None) -> None:
    look.check()
    if not is_film(path) and path.suffix and not path.is_dir():
        raise FilmError(f"{path}: a film's name ends in {', '.join(CONTAINERS)}; PNGs go into a folder")
    if look.transparent and is_film(path) and CONTAINERS[path.suffix.lower()].transparent is None:
        raise FilmError(f"{path}: {path.suffix} films are opaque; name it .webm or .mov, or ask for --format png")
    if look.background == "plate" and (yaw_deg != 0 or along is not None):
        raise FilmError(
            "--background plate is what a still camera saw; leave --orbit and --camera-path out, or give another "
            "background"
        )
    if take.sound is not None and not is_film(path):
        raise FilmError(f"{path}: pictures have no sound; leave --sound out, or name a film")


def _beside(left: UInt8[np.ndarray, "H2 W2 3"], picture: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W3 C"]:
    """A picture with another one left of it, as high."""
    height = len(picture)
    width = max(1, round(left.shape[1] * height / len(left)))
    left = cv2.resize(left, (width, height), interpolation=cv2.INTER_AREA)
    if picture.shape[2] == 4:
        left = np.concatenate([left, np.full((height, width, 1), 255, np.uint8)], axis=2)
    return np.concatenate([left, picture], axis=1)


def _on_paper(picture: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W 3"]:
    """A picture for a sheet: transparent ones on white."""
    if picture.shape[2] == 3:
        return picture
    colour, alpha = picture[..., :3].astype(np.float32), picture[..., 3:].astype(np.float32) / 255
    return (colour * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
