"""Cameras on an arc around the head, as the synthetic clips have them."""

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from synthetic import look_at_origin


def ring(yaws=(-0.3, 0.0, 0.3), pitch=0.1, size=64, **changes) -> Cameras:
    poses = np.stack([look_at_origin(yaw, pitch)[:3] for yaw in yaws])
    arguments = {"fx": 1.7 * size, "fy": 1.7 * size, "cx": size / 2, "cy": size / 2, "width": size, "height": size}
    return Cameras(torch.from_numpy(poses).float(), **{**arguments, **changes})
