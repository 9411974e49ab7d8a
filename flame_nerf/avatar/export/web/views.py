"""Pictures that an avatar makes of itself, which textures are fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from flame_nerf.film.rendering import render_images
from flame_nerf.motion import PosedFrame
from flame_nerf.motion.arkit import BLINKS

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.pipelines.base_pipeline import Pipeline

_NEAR_SHARE, _SIDE_SHARE = 0.55, 0.25
"""Of the views: those from where the video was filmed or nearly, and those from up to the profile; the rest is from
anywhere around."""
_NEAR_DEG, _SIDE_DEG, _PITCH_DEG = 30.0, 90.0, 15.0
_TRACK_SHARE = 0.5
"""Of the faces: moments of the track; the others are set by the names of expressions."""
_BLINK_SHARE, _OPEN_SHARE = 0.3, 0.3
"""Of those faces: with both eyes shut, and with an open mouth, which few sliders show."""
_CLOSER = 0.3
"""Cameras come nearer by up to this share of the distance."""


@dataclass(frozen=True, eq=False)
class View:
    """A moment from a camera in the head frame, and the avatar's own picture of it."""

    vertices: Float[np.ndarray, "V 3"]
    """Metres."""
    condition: Float[np.ndarray, " C"]
    c2w: Float[np.ndarray, "3 4"]
    """OpenGL axes."""
    focal: float
    """Pixels; the principal point is the picture's middle."""
    picture: Float[np.ndarray, "S S 4"]
    """Colour, premultiplied, and opacity."""


def orbited(
    c2w: Float[np.ndarray, "3 4"], centre: Float[np.ndarray, " 3"], yaw: float, pitch: float, nearer: float
) -> Float[np.ndarray, "3 4"]:
    """A camera turned about the head, left and right about its up axis, up and down about its x axis.

    Args:
        c2w: head frame. centre: turned about, metres.
        yaw, pitch: radians; positive to the person's left, and up.
        nearer: share of the distance that it comes nearer.
    """
    (cy, sy), (cp, sp) = (np.cos(yaw), np.sin(yaw)), (np.cos(-pitch), np.sin(-pitch))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    place = centre + (1 - nearer) * turn @ (c2w[:, 3] - centre)
    return np.concatenate([turn @ c2w[:, :3], place[:, None]], axis=1)


def own_views(
    pipeline: Pipeline, c2w: Float[np.ndarray, "3 4"], focal: float, size: int, count: int, seed: int = 0
) -> list[View]:
    """Pictures of the avatar from all sides, doing what its track did and what sliders make it do; with a progress bar.

    Args:
        c2w: the first view's camera, head frame. focal: its focal length, as a share of the picture's shorter side.
        size: pixels along a picture's side.
        count: how many.
    """
    model, random = pipeline.model, np.random.default_rng(seed)
    moments = [_moment(model, random, index) for index in range(count)]
    centre = model.motion.centre.cpu().double().numpy()
    poses = []
    for index in range(count):
        share = (index + 0.5) / count
        widest = _NEAR_DEG if share < _NEAR_SHARE else _SIDE_DEG if share < _NEAR_SHARE + _SIDE_SHARE else 180.0
        yaw, pitch = (np.radians(random.uniform(-limit, limit)) for limit in (widest, _PITCH_DEG))
        poses.append(orbited(c2w, centre, yaw, pitch, random.uniform(0.0, _CLOSER)))
    pictures = render_images(
        pipeline,
        _cameras(np.stack(poses), focal * size, size),
        moments,
        "The avatar's own pictures",
        _premultiplied(model),
    )
    return [
        View(
            moment.vertices.double().cpu().numpy(), moment.condition.cpu().double().numpy(), pose, focal * size, picture
        )
        for moment, pose, picture in zip(moments, poses, pictures, strict=True)
    ]


def _premultiplied(model: Any) -> Callable[[dict[str, torch.Tensor]], np.ndarray]:
    def paint(outputs: dict[str, torch.Tensor]) -> Float[np.ndarray, "S S 4"]:
        rgba = model.get_rgba_image(outputs)
        return torch.cat([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], dim=-1).float().cpu().numpy()

    return paint


def _moment(model: Any, random: np.random.Generator, index: int) -> PosedFrame:
    """A moment of the track as the head model poses it, or a face made of one to three expressions."""
    motion, live = model.motion, model.motion.live
    if random.random() < _TRACK_SHARE:
        expression, joints = motion.coefficients(int(random.choice(model.train_timesteps.numpy())))
        return motion.pose({name: value for name, value in expression.items() if value}, joints)
    names = list(motion.pose_names)
    known = dict(zip(motion.expression_names, np.abs(motion.stored_expression.numpy()).max(axis=0), strict=True))
    chance = np.array([0.1 + min(known.get(name, 1.0), 1.0) for name in names])
    chosen = random.choice(
        len(names), size=min(len(names), int(random.integers(1, 4))), replace=False, p=chance / chance.sum()
    )
    blinks = [name for name in BLINKS if name in names]
    spread = 1.0 if live.head.expression_range == "unit" else 2.0
    face = {names[row]: float(random.uniform(0.3, 1.0) * spread) for row in chosen}
    if spread > 1.0:
        face = {
            name: value * random.choice([-1.0, 1.0]) if name in live.expression_names else value / spread
            for name, value in face.items()
        }
    if random.random() < _BLINK_SHARE:
        face |= dict.fromkeys(blinks, 1.0)
    if random.random() < _OPEN_SHARE and "jawOpen" in names:
        face["jawOpen"] = float(random.uniform(0.3, 1.0))
    return motion.pose(face)


def _cameras(poses: Float[np.ndarray, "N 3 4"], focal: float, size: int) -> Cameras:
    from nerfstudio.cameras.cameras import Cameras

    return Cameras(torch.from_numpy(poses).float(), focal, focal, size / 2, size / 2, width=size, height=size)
