"""Camera paths around the head."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from flame_nerf.geometry import axis_angle_to_matrix, mean_rotation, rotation_between
from flame_nerf.runtime.errors import FilmError
from flame_nerf.runtime.files import complete_file

OBSERVED = 0.95
"""Share of the training frames whose views count as seen."""


def mean_camera(cameras: Cameras) -> Cameras:
    """One camera that stands for all of `cameras`: mean position, mean rotation (chordal), mean field of view.

    A principal point off the centre, which a camera path cannot carry, becomes a turn of the camera: what was in the
    middle of the picture stays there.

    Args:
        cameras: N perspective cameras, N ≥ 1.

    Returns:
        a batch of one camera on the CPU, square pixels, principal point centred, size of the first camera's picture.
    """
    c2w = cameras.camera_to_worlds.reshape(-1, 3, 4).double().cpu()
    width, height = int(cameras.image_width.reshape(-1)[0]), int(cameras.image_height.reshape(-1)[0])
    fx, fy, cx, cy = (float(values.double().mean()) for values in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
    middle = torch.tensor([(width / 2 - cx) / fx, -(height / 2 - cy) / fy, -1.0], dtype=torch.float64)
    forward = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    rotation = mean_rotation(c2w[:, :, :3]) @ rotation_between(forward, middle / middle.norm())
    pose = torch.cat([rotation, c2w[:, :, 3].mean(0)[:, None]], dim=-1)
    return _perspective(pose[None], fy, width, height)


def orbit_cameras(
    cameras: Cameras,
    centre: Float[Tensor, " 3"],
    count: int,
    *,
    yaw_deg: float | tuple[float, float] = 40.0,
    pitch_deg: float = 8.0,
    width: int | None = None,
    height: int | None = None,
    times: Sequence[float] | None = None,
) -> Cameras:
    """A looping flight around the head that starts at the mean of `cameras`.

    The whole camera turns rigidly about `centre`: right and left about the head's up axis by `yaw_deg`, once a loop,
    and up and down by ±`pitch_deg`, twice a loop. The framing of the training pictures is kept.

    Args:
        cameras: the subject's training cameras (head frame, metres, OpenGL axes).
        centre: the point turned about, metres.
        count: number of cameras; the one after the last would be the first again.
        yaw_deg: how far to either side, or to the camera's left and to its right, neither more than three times the
            other.
        width, height: picture size in pixels, default that of `cameras`; a given one alone keeps the aspect.
        times: `times` of each camera, 0 to 1, length `count`.

    Returns:
        `count` cameras on the CPU, principal point centred.
    """
    if count < 1:
        raise FilmError(f"a camera path of {count} frames; give at least 1")
    start = mean_camera(cameras)
    pose = start.camera_to_worlds[0].double()
    centre = centre.detach().double().cpu()
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    offset = pose[:, 3] - centre
    # At a camera straight above the head there is no such axis; no video has one.
    right = torch.linalg.cross(up, offset)
    right = right / right.norm().clamp_min(1e-9)
    least, most = yaw_deg if isinstance(yaw_deg, tuple) else (yaw_deg, yaw_deg)
    poses = []
    for step in range(count):
        phase = 2.0 * math.pi * step / count
        # The second term makes one side's swing the wider one, without a jolt in the middle.
        wave = (most + least) / 2 * math.sin(phase) + (most - least) / 2 * math.sin(phase) ** 2
        yaw = math.radians(wave)
        pitch = math.radians(pitch_deg) * math.sin(2.0 * phase)
        turn = axis_angle_to_matrix(up * yaw) @ axis_angle_to_matrix(right * -pitch)
        poses.append(torch.cat([turn @ pose[:, :3], (centre + turn @ offset)[:, None]], dim=-1))
    old_width, old_height = int(start.width[0]), int(start.height[0])
    if width is None:
        width = old_width if height is None else round(height * old_width / old_height)
    if height is None:
        height = round(width * old_height / old_width)
    # The shorter side keeps its field of view, so that another aspect never cuts into the head.
    focal_px = float(start.fy[0]) * min(width / old_width, height / old_height)
    return _perspective(torch.stack(poses), focal_px, width, height, times)


def observed_yaws(cameras: Cameras, centre: Float[Tensor, " 3"]) -> tuple[float, float]:
    """How far to the left and to the right of their mean `cameras` saw a head, degrees, neither below 0.

    A few frames count for nothing: `OBSERVED` of all lie between the two.

    Args:
        cameras: the subject's training cameras (head frame, metres, OpenGL axes).
        centre: of the head, metres.
    """
    centre = centre.detach().double().cpu()
    mean = mean_camera(cameras).camera_to_worlds[:, :, 3].double() - centre
    seen = cameras.camera_to_worlds.reshape(-1, 3, 4)[:, :, 3].double().cpu() - centre
    yaw = torch.rad2deg(torch.atan2(seen[:, 0], seen[:, 2]) - torch.atan2(mean[:, 0], mean[:, 2]))
    yaw = torch.remainder(yaw + 180.0, 360.0) - 180.0
    rest = (1 - OBSERVED) / 2
    low, high = torch.quantile(yaw, torch.tensor([rest, 1 - rest], dtype=yaw.dtype)).tolist()
    return max(0.0, -low), max(0.0, high)


def play_times(num_frames: int, count: int) -> list[float]:
    """Times of `count` film frames that play a clip of `num_frames` at its own speed, there and back again."""
    if num_frames < 2:
        return [0.0] * count
    last = num_frames - 1
    return [1.0 - abs(1.0 - (step % (2 * last)) / last) for step in range(count)]


def write_camera_path(cameras: Cameras, path: Path | str, fps: float) -> Path:
    """Writes a camera path that `ns-render camera-path --camera-path-filename` films.

    Args:
        cameras: perspective cameras with centred principal point; `times`, where set, become `render_time`.
        path: the .json to write.
        fps: frames a second of the film.
    """
    path = Path(path)
    width, height = int(cameras.width.reshape(-1)[0]), int(cameras.height.reshape(-1)[0])
    matrices = cameras.camera_to_worlds.reshape(-1, 3, 4).double().cpu()
    focal_px = cameras.fy.double().reshape(-1).cpu().expand(len(matrices))
    entries = []
    for index, matrix in enumerate(matrices):
        entry = {
            "camera_to_world": [*matrix.reshape(-1).tolist(), 0.0, 0.0, 0.0, 1.0],
            "fov": math.degrees(2.0 * math.atan(0.5 * height / float(focal_px[index]))),
            "aspect": width / height,
        }
        if cameras.times is not None:
            # Nerfstudio's spline may overshoot, and so may a caller.
            entry["render_time"] = min(max(float(cameras.times.reshape(-1)[index]), 0.0), 1.0)
        entries.append(entry)
    document = {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": fps,
        "seconds": len(entries) / fps,
        "is_cycle": True,
        "keyframes": [],
        "camera_path": entries,
    }
    with complete_file(path, "camera path", FilmError) as spare:
        spare.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def _perspective(
    poses: Float[Tensor, "N 3 4"], focal_px: float, width: int, height: int, times: Sequence[float] | None = None
) -> Cameras:
    if times is not None and len(times) != len(poses):
        raise FilmError(f"{len(times)} times for a camera path of {len(poses)} frames")
    return Cameras(
        camera_to_worlds=poses.float(),
        fx=focal_px,
        fy=focal_px,
        cx=width / 2,
        cy=height / 2,
        width=width,
        height=height,
        camera_type=CameraType.PERSPECTIVE,
        times=None if times is None else torch.tensor(times, dtype=torch.float32)[:, None],
    )
