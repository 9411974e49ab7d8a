"""An avatar driven by performances that it was never trained on, against truth that is exactly known.

    flame-nerf-data synth SUBJECT --frames 120
    ns-train flame-nerf-cpu --data SUBJECT --max-num-iterations 2500
    flame-nerf-data synth ANOTHER --take 1 --frames 125
    python benchmarks/driving.py outputs/…/config.yml ANOTHER
    python benchmarks/driving.py --people

The first form plays another take of the same synthetic person through `drive --motion`'s own way, the transfer on, and
compares its pictures with the true ones. `--people` lets one synthetic person drive another, where both are known to
make equal expressions: landmarks of the driven head against those of that person's own true mesh, and how far the face
that it makes while the performer rests is from the person's own neutral one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from quality import camera_of
from quality_scores import psnr_scores, read_truth

from flame_nerf.motion import Motion, SubjectMotion, TransferConfig, load_motion, transferred
from flame_nerf.subject import HeadTrack, load_subject

PERFORMER, DRIVEN = 0, 5
"""Seeds of two people."""
FRAMES = 250
"""Moments that either performs."""
SPILLED = {"mouthSmileLeft": 0.2, "mouthSmileRight": 0.2, "browInnerUp": 0.2, "jawOpen": 0.1}
"""What a tracker takes for expression though it is how a face is made: in all of the performer's moments."""
TOP_AND_CHIN = (10, 152)
"""Landmarks of mediapipe's scheme between which a face's height is measured."""


@torch.no_grad()
def film_scores(config: Path, another: Path, every: int, strength: float) -> np.ndarray:
    """PSNR in dB inside the matte and the boxes of mouth and eyes, of every so-many-th picture of the driven avatar."""
    from flame_nerf.avatar.loading import load_pipeline

    model, truth = load_pipeline(config).model, load_subject(another)
    performed = transferred(load_motion(another), model.motion, TransferConfig(strength), model.head.name)
    moments, rows = performed.moments(model.motion), []
    for row in range(0, len(truth.frames), every):
        # The film's one camera stands where the performer's did at the first moment, and the head moves before it.
        camera = camera_of(truth, truth.frames[0], 1)
        seen = np.linalg.inv(performed.head_movement[row]) @ truth.frames[0].c2w
        camera.camera_to_worlds = torch.from_numpy(seen[None, :3]).float()
        camera = camera.to(model.device)
        camera.metadata = {"expr": moments[row]}
        outputs = model.get_outputs_for_camera(camera)
        # On white, whatever the avatar was trained on.
        opacity = outputs["accumulation"].cpu()
        colour = model.get_rgba_image(outputs)[..., :3].cpu() * opacity + 1 - opacity
        scores = psnr_scores(colour.numpy(), read_truth(truth, truth.frames[row], 1))
        rows.append([scores[f"PSNR {region}"] for region in ("matte", "mouth", "eyes")])
    return np.array(rows)


def person(head, seed: int, take: int) -> HeadTrack:
    """A synthetic person's track, without pictures."""
    from data_tools.synth.config import SynthConfig
    from data_tools.synth.performance import draw_identity, generators, training_performance

    who, _, does, *_ = generators(SynthConfig(seed=seed, take=take))
    identity = draw_identity(head, who)
    played = training_performance(head, identity, FRAMES, does, shuffled=take > 0)
    apart = head.expression_vector({"jawOpen": 0.3})
    with torch.no_grad():
        canonical = head.vertices(identity, apart, torch.zeros(len(head.joint_names), 3)).numpy()
    return HeadTrack(
        faces=head.faces.numpy().astype(np.int32),
        canonical_vertices=canonical,
        vertices=played.vertices,
        expression=played.expression,
        expression_names=tuple(head.expression_names),
        pose=played.pose,
        joint_names=tuple(head.joint_names),
        identity=identity.numpy(),
        region=head.region.numpy().astype(np.int8),
        region_names=tuple(head.region_names),
    )


@torch.no_grad()
def people_scores(spilled: dict[str, float], strength: float) -> tuple[float, float, float]:
    """Mean and worst moment's landmark error, percent of the face's height, and the farthest that a vertex of the
    driven person's resting face is from their own neutral one, millimetres."""
    from flame_nerf.heads import load_head

    head = load_head()
    track = person(head, PERFORMER, 0)
    avatar = SubjectMotion(person(head, DRIVEN, 1), head)
    # The last moment of the performance: nothing at all, the neck as it is carried.
    expression = np.concatenate([track.expression, np.zeros((1, track.expression.shape[1]), np.float32)])
    joints = np.concatenate([track.pose, track.pose.mean(axis=0, keepdims=True)])
    found = expression.copy()
    for name, amount in spilled.items():
        column = track.expression_names.index(name)
        found[:, column] = np.minimum(found[:, column] + amount, 1.0)
    motion = Motion(found, track.expression_names, 25.0, joints, track.joint_names)
    moments = transferred(motion, avatar, TransferConfig(strength), head.name).moments(avatar)
    driven = torch.stack([moment.vertices for moment in moments])
    truth = avatar.live.vertices(torch.from_numpy(expression), torch.from_numpy(joints))
    points, true_points = (head.landmark_points(vertices) for vertices in (driven, truth))
    top, chin = (int((head.landmarks.index == landmark).nonzero()[0, 0]) for landmark in TOP_AND_CHIN)
    height = (true_points[-1, top] - true_points[-1, chin]).norm()
    error = (points - true_points).norm(dim=-1).mean(dim=1) / height * 100
    apart = (driven[-1] - avatar.neutral().vertices).norm(dim=-1)[avatar.of_head]
    return float(error.mean()), float(error.max()), 1000 * float(apart.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?")
    parser.add_argument("another", type=Path, nargs="?")
    parser.add_argument("--people", action="store_true", help="one synthetic person drives another; geometry alone")
    parser.add_argument("--every", type=int, default=5, help="judge every so-many-th picture")
    parser.add_argument("--strength", type=float, default=TransferConfig.strength, help="as drive's")
    args = parser.parse_args()
    if args.people:
        print("| performer's coefficients | landmarks, mean, % | worst moment, % | neutral, mm |\n|---|---|---|---|")
        for name, spilled in (("exact", {}), ("with how the face is made in them", SPILLED)):
            mean, worst, apart = people_scores(spilled, args.strength)
            print(f"| {name} | {mean:.2f} | {worst:.2f} | {apart:.2f} |")
        return
    if args.config is None or args.another is None:
        parser.error("give CONFIG and ANOTHER, or --people")
    rows = film_scores(args.config, args.another, args.every, args.strength)
    print("| pictures | head, dB | mouth | eyes | worst head | worst mouth |\n|---|---|---|---|---|---|")
    print(f"| {len(rows)} | {' | '.join(f'{value:.1f}' for value in [*rows.mean(axis=0), *rows.min(axis=0)[:2]])} |")


if __name__ == "__main__":
    main()
