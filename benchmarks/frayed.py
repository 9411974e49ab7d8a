"""Does an avatar end cleanly below its chin? How much of the outline there is rags, all around.

    ns-train flame-nerf-cpu --data SUBJECT
    python benchmarks/frayed.py outputs/…/config.yml

The sum of opacity's slopes, its total variation, is the length of the outline, however soft that is. A blur leaves a
line's as it is, and takes that of rags, scraps and holes smaller than itself. Prints for each turn how many millimetres
of outline there are below the lowest place of the face, and how many of them a blur of 2 mm takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from see_through import camera_around

from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.canonical.shell import NECK_REGIONS
from flame_nerf.geometry import perspective, world_to_camera
from flame_nerf.model import FlameNerfModel
from flame_nerf.motion import PosedFrame

YAWS = tuple(range(-180, 180, 15))
BLUR = 0.002
"""Standard deviation, metres."""
MARGIN = 3.0
"""Standard deviations below the chin from which on slopes count: not the chin's own, blurred."""


def outline(opacity: Float[np.ndarray, "H W"], sigma: float, top: int = 0) -> tuple[float, float]:
    """Length of a picture's outline, and how much of that a blur takes, pixels.

    Args:
        opacity: 0..1.
        sigma: standard deviation of the blur, pixels.
        top: row from which on slopes count.
    """
    blurred = cv2.GaussianBlur(opacity, (0, 0), sigma)
    whole, left = (float(np.hypot(*np.gradient(values))[top:].sum()) for values in (opacity, blurred))
    return whole, whole - left


def chin_row(model: FlameNerfModel, camera: Cameras, face: PosedFrame) -> tuple[int, float]:
    """Row of the picture below which there is no face, and how many pixels a metre there has."""
    neck = torch.from_numpy(model.subject.track.region_vertices(*NECK_REGIONS))
    places = world_to_camera(face.vertices.cpu().float()[~neck], camera.camera_to_worlds[0].float())
    lens = (float(camera.fx), float(camera.fy)), (float(camera.cx), float(camera.cy))
    row = perspective(places, *lens)[:, 1].max()
    return int(row), lens[0][0] / float(places[:, 2].mean())


@torch.no_grad()
def rags(model: FlameNerfModel, yaw_deg: float, face: PosedFrame, size: int) -> tuple[float, float]:
    """Outline and rags below the chin in a picture from beside, millimetres."""
    camera = camera_around(model, yaw_deg, size)
    row, scale = chin_row(model, camera, face)
    shown = camera.to(model.device)
    shown.metadata = {"expr": face.to(model.device)}
    opacity = model.get_outputs_for_camera(shown)["accumulation"][..., 0].cpu().numpy()
    whole, taken = outline(opacity, BLUR * scale, row + round(MARGIN * BLUR * scale))
    return 1e3 * whole / scale, 1e3 * taken / scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--size", type=int, default=384, help="pixels along the side of a picture")
    args = parser.parse_args()
    model = load_pipeline(args.config).model
    face, seen = model.motion.neutral(), []
    print("| turn | outline, mm | rags, mm |\n|---|---|---|")
    for yaw in YAWS:
        seen.append(rags(model, float(yaw), face, args.size))
        print(f"| {yaw} | {seen[-1][0]:.0f} | {seen[-1][1]:.1f} |", flush=True)
    whole, taken = np.mean(seen, axis=0)
    print(f"mean: {taken:.1f} mm of {whole:.0f} mm")


if __name__ == "__main__":
    main()
