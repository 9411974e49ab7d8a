"""An avatar that takes no time to film, and films read back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from scipy.spatial.transform import Rotation
from synthetic import look_at_origin

from flame_nerf.film import find_ffmpeg
from flame_nerf.motion import Moments, PosedFrame

SIZE = 32
BACKGROUND = 0.25


class DiscModel(torch.nn.Module):
    """A red disc, half covering its rim pixels, before grey; the moment's condition is how red it is."""

    def __init__(self):
        super().__init__()
        self.override, self.device, self.rendered = None, torch.device("cpu"), 0
        self.background = SimpleNamespace(plate=torch.tensor([0.0, 0.0, 1.0]).expand(SIZE, SIZE, 3))
        self.motion = SimpleNamespace(centre=torch.zeros(3), of_head=torch.ones(1, dtype=torch.bool))

    def trust_map(self):
        raise ValueError("no training camera is known")

    def get_outputs_for_camera(self, camera, obb_box=None):
        self.rendered += 1
        height, width = int(camera.height), int(camera.width)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        alpha = ((0.6 - torch.hypot(x, y)) * 20).clamp(0, 1)[..., None]
        colour = torch.tensor([float(self.override.condition[0]), 0.0, 0.0])
        return {"rgb": colour * alpha + BACKGROUND * (1 - alpha), "accumulation": alpha}

    def get_rgba_image(self, outputs):
        alpha = outputs["accumulation"]
        return torch.cat([(outputs["rgb"] - BACKGROUND * (1 - alpha)) / alpha.clamp_min(1e-6), alpha], dim=-1)


def pipeline(roll: float = 0.0, yaws: tuple[float, ...] = (0.1,)) -> SimpleNamespace:
    """What films are made of, trained on cameras at these yaws (radians)."""
    spin = np.eye(4)
    spin[:3, :3] = Rotation.from_rotvec([0, 0, roll]).as_matrix()
    c2w = torch.from_numpy(np.stack([look_at_origin(yaw, 0.05) @ spin for yaw in yaws])[:, :3]).float()
    cameras = Cameras(c2w, fx=50.0, fy=50.0, cx=SIZE / 2, cy=SIZE / 2, width=SIZE, height=SIZE)
    model = DiscModel()
    data = SimpleNamespace(train_dataset=SimpleNamespace(cameras=cameras))
    return SimpleNamespace(model=model, datamanager=data)


def reds(count: int) -> Moments:
    """Moments of ever less red."""
    return Moments(count, lambda index: PosedFrame(torch.zeros(1, 3), torch.tensor([1.0 - 0.5 * index / count])))


def decoded(path: Path, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    """Frames as RGBA, by ffmpeg's own decoders; VP9's alpha only libvpx reads."""
    reader = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = [find_ffmpeg(), "-loglevel", "error", *reader, "-i", path, "-f", "rawvideo", "-pix_fmt", "rgba", "-"]
    found = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(found, np.uint8).reshape(-1, height, width, 4)
