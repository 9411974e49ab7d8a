"""Is an avatar closed? How much passes through its head, from all around and with its mouth open.

    flame-nerf-data synth SUBJECT
    ns-train flame-nerf-cpu --data SUBJECT
    python benchmarks/see_through.py outputs/…/config.yml

Every pixel that the posed mesh covers by a margin should be opaque, whatever the video showed: where the person is not
cut off, and three pixels inside of the outline. Prints the mean of 1 - opacity there, the share of pixels that let
more than a tenth through, and the worst of the views. `--without` leaves out the mesh behind the field.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras

from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.canonical import make_search
from flame_nerf.film.framing import upright
from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.model import FlameNerfModel
from flame_nerf.motion import PosedFrame

YAWS = tuple(range(-180, 180, 30))
OPENINGS = (0.0, 0.25, 0.5, 0.75, 1.0)
TURNS = (-30, 0, 30)
"""Degrees by which the head is seen from beside with its mouth open."""
INSET = 3
"""Pixels inside of the outline from which on a head is to be opaque."""
HOLE = 0.1
"""Transparency that counts as a hole."""


def views(model: FlameNerfModel) -> list[tuple[str, float, PosedFrame]]:
    """What is looked at: name, turn in degrees, and face."""
    neutral = model.motion.neutral()
    found = [(f"turned {yaw}", float(yaw), neutral) for yaw in YAWS]
    if "jawOpen" not in model.motion.pose_names:
        return found
    opened = {opening: model.motion.pose({"jawOpen": opening}) for opening in OPENINGS}
    return found + [
        (f"jawOpen {opening:g}, turned {yaw}", float(yaw), face) for opening, face in opened.items() for yaw in TURNS
    ]


def camera_around(model: FlameNerfModel, yaw_deg: float, size: int) -> Cameras:
    """The middle training frame's camera, carried around the head and aimed at it; a square picture of `size` pixels.

    A head that was cropped out of large frames lies beside its camera's optical axis.
    """
    origin = model.train_c2w[len(model.train_c2w) // 2].cpu()[:, 3]
    centre = model.motion.centre.cpu()
    turn = axis_angle_to_matrix(torch.tensor([0.0, np.radians(yaw_deg), 0.0], dtype=origin.dtype))
    away = turn @ (origin - centre)
    held = torch.zeros(1, 3, 4, dtype=origin.dtype)
    held[0, :, 2], held[0, :, 3] = away / away.norm(), centre + away
    # The head fills most of the picture.
    focal = 0.8 * size * float(away.norm() / model.motion.size.max())
    return Cameras(upright(held), focal, focal, size / 2, size / 2, size, size)


def covered(model: FlameNerfModel, camera: Cameras, face: PosedFrame) -> Bool[np.ndarray, "H W"]:
    """Pixels that surely show the head, and none of what the mattes cut off."""
    faces = torch.from_numpy(model.subject.track.faces).long()
    vertices = face.vertices.cpu().float().contiguous()
    bundle = camera.generate_rays(0)
    directions = torch.nn.functional.normalize(bundle.directions.reshape(-1, 3), dim=1).contiguous()
    search = make_search(faces, vertices, "auto")
    which = torch.zeros(len(directions), dtype=torch.long)
    origins = bundle.origins.reshape(-1, 3).contiguous()
    _, met = search.first_hit([search.build(vertices)], which, origins, directions)
    solid = model.renderer.backing.surface[:, 3].cpu() > 0
    there = solid[faces].all(dim=1) if solid.any() else torch.ones(len(faces), dtype=torch.bool)
    shown = ((met >= 0) & there[met.clamp_min(0)]).view(int(camera.height), int(camera.width))
    window = np.ones((2 * INSET + 1, 2 * INSET + 1), np.uint8)
    return cv2.erode(shown.numpy().astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0


@torch.no_grad()
def transparency(model: FlameNerfModel, yaw_deg: float, face: PosedFrame, size: int) -> Float[np.ndarray, " P"]:
    """1 - opacity of the pixels that should have none."""
    camera = camera_around(model, yaw_deg, size)
    inside = covered(model, camera, face)
    shown = camera.to(model.device)
    shown.metadata = {"expr": face.to(model.device)}
    return 1 - model.get_outputs_for_camera(shown)["accumulation"][..., 0].cpu().numpy()[inside]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--size", type=int, default=192, help="pixels along the side of a picture")
    parser.add_argument("--without", action="store_true", help="leave out the mesh behind the field")
    args = parser.parse_args()
    model = load_pipeline(args.config).model
    seen = []
    if args.without:
        model.renderer.backing.behind = lambda rendered, *rest: rendered
    print("| view | mean | holes |\n|---|---|---|")
    for name, yaw, face in views(model):
        through = transparency(model, yaw, face, args.size)
        seen.append((float(through.mean()), name))
        print(f"| {name} | {through.mean():.4f} | {100 * (through > HOLE).mean():.1f} % |", flush=True)
    print(f"worst: {max(seen)[0]:.4f}, {max(seen)[1]}")


if __name__ == "__main__":
    main()
