"""Where do depth ranking and the semantic loss help? Synthetic clips x priors, against exact truth.

    python benchmarks/priors.py --output outputs/priors
    python benchmarks/priors.py --clips 5x40 --variants base mesh estimator --seeds 0 1 2
    python benchmarks/priors.py --tiny                                # moments of it all: only that it works

Makes a synthetic person's film for each clip, `5x40` being 40 frames within 5 degrees of yaw, trains every variant on
it for as many steps, and shows the held-out end of the film, moments of it from 30 to 75 degrees beside, and
expressions that it never showed. Depth comes from the tracked mesh, from a simulated monocular estimator (true depth on
another scale, bent, blurred, other in each frame), or is true, which no estimator's is. *Flicker*: mean difference of
the change from one frame to the next from what it should be, grey levels.

The semantic loss's encoders: EfficientNet-Lite0 (meaning, ImageNet), the same with random weights as a control, and,
with --face-api, three networks that were trained on faces: who it is, what expression, where the landmarks are. They
are in the npm package @vladmandic/face-api (MIT licence): `npm pack @vladmandic/face-api` and unpack it.

Each finished run is kept in OUTPUT/runs, so that an interrupted benchmark goes on where it was. Writes table.md and,
for each clip, a sheet of the sides to OUTPUT.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from quality import camera_of, configured, score, train
from quality_scores import read_truth

from data_tools.depth import DepthConfig
from data_tools.depth.pipeline import write_depth
from data_tools.synth import SynthConfig, load_depth, synthesise
from flame_nerf.data.depth_maps import spread
from flame_nerf.losses.encoders import ImageEncoder, ImageEncoderConfig
from flame_nerf.runtime.files import whole, whole_folder
from flame_nerf.subject import Frame, Subject, load_subject, write_subject

TURNED_SHARE = 0.9
"""Of a clip's yaw the head turns so much; the swaying body does the rest."""
BEND, GAMMA, BLUR = 0.15, 1.4, 0.02
"""The simulated estimator's errors: a smooth field of so much of the head's depth, a power of at most so much, and a
blur of so much of the picture."""
SIDES = (30, 45, 60)
SHEET_YAWS = (-30, 30, -60, 60)


def random_encoder(config: ImageEncoderConfig, device: torch.device) -> ImageEncoder:
    """EfficientNet-Lite0 as it is before anything is learned: what an encoder's form alone does."""
    from efficientnet_lite_pytorch import EfficientNet

    from flame_nerf.losses.encoders.efficientnet_encoder import MEAN, MODEL, STD
    from flame_nerf.losses.encoders.image_encoder import NetworkEncoder

    size = config.input_size or 128
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EfficientNet.from_name(MODEL, image_size=size)
    features = torch.nn.Sequential(_Features(network), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return NetworkEncoder("random", features, size, MEAN, STD, device)


class _Features(torch.nn.Module):
    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.network.extract_features(pictures)


RANKING, STRONG = {"depth_loss": 1e-3}, {"depth_loss": 1e-2}
SEMANTIC = {"semantic_loss": 1e-3, "semantic.every": 10, "loss_starts.semantic_loss": 400}
Variant = tuple[str, dict[str, Any]]
"""Where the subject's depth comes from, and the settings of the model, as in `quality.VARIANTS`."""


def _semantic(encoder: str, input_size: int | None = None) -> dict[str, Any]:
    return SEMANTIC | {"semantic.encoder.encoder": encoder, "semantic.encoder.input_size": input_size}


VARIANTS: dict[str, Variant] = {
    "base": ("none", {"depth_loss": 0.0, "semantic_loss": 0.0}),
    "mesh": ("mesh", RANKING),
    "estimator": ("estimator", RANKING),
    "truth": ("truth", RANKING),
    "mesh10": ("mesh", STRONG),
    "estimator10": ("estimator", STRONG),
    "truth10": ("truth", STRONG),
    "truth hinge": ("truth", {"depth_loss": 0.3, "depth.kind": "hinge"}),
    "imagenet": ("none", _semantic("efficientnet_lite0", 128)),
    "imagenet60": ("none", _semantic("efficientnet_lite0", 128) | {"semantic.max_angle_deg": 60.0}),
    "random": ("none", _semantic(f"priors:{random_encoder.__name__}", 128)),
    "identity": ("none", _semantic("face_api_encoders:identity")),
    "expression": ("none", _semantic("face_api_encoders:expression")),
    "landmarks": ("none", _semantic("face_api_encoders:landmarks")),
    "whole": ("mesh", RANKING | _semantic("efficientnet_lite0", 128) | {"semantic_loss": 1e-5, "semantic.every": 20}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="+", default=["5x40", "5x100", "10x100", "30x100"], help="YAWxFRAMES")
    parser.add_argument("--variants", nargs="+", help=f"of {', '.join(VARIANTS)}; default: all there is data for")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, pixels")
    parser.add_argument("--face-api", type=Path, help="the unpacked npm package @vladmandic/face-api")
    parser.add_argument("--output", type=Path, default=Path("outputs/priors"))
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.tiny:
        args.clips, args.size, args.steps = ["5x8"], 32, 30
    names = args.variants or [
        name for name, (_, settings) in VARIANTS.items() if args.face_api or "face_api" not in str(settings)
    ]
    unknown = sorted(set(names) - set(VARIANTS))
    if unknown:
        parser.error(f"--variants {' '.join(unknown)}: not known; there are {', '.join(VARIANTS)}")
    (args.output / "runs").mkdir(parents=True, exist_ok=True)
    todo = [(clip, name, seed) for seed in args.seeds for clip in args.clips for name in names]
    waiting = [run for run in todo if not _kept(args.output, run).exists()]
    took: list[float] = []
    for number, (clip, name, seed) in enumerate(waiting, 1):
        start = time.monotonic()
        found = run(args, clip, VARIANTS[name], seed, _kept(args.output, (clip, name, seed)).with_suffix(".npz"))
        with whole(_kept(args.output, (clip, name, seed)), alone=True) as spare:
            spare.write_text(json.dumps(found, indent=1))
        took.append(time.monotonic() - start)
        left = (len(waiting) - number) * statistics.fmean(took) / 60
        print(
            f"{number} of {len(waiting)}: {clip} {name} {seed}, {took[-1]:.0f} s; {left:.0f} minutes left", flush=True
        )
    table = as_table(args.output, args.clips, names, args.seeds)
    (args.output / "table.md").write_text(table)
    print(table)
    for clip in args.clips:
        cv2.imwrite(str(args.output / f"{clip}.png"), sheet(args.output, clip, names, args.seeds[0]))


def _kept(output: Path, run: tuple[str, str, int]) -> Path:
    clip, name, seed = run
    return output / "runs" / f"{clip}_{name}_{seed}.json"


# --------------------------------------------------------------------------- subjects


def subject_of(args: argparse.Namespace, clip: str, depth: str) -> Path:
    """The folder of a clip with depth maps of one kind, made where it is not there yet."""
    yaw, frames = (int(part) for part in clip.split("x"))
    plain = args.output / "subjects" / f"{clip}_none"
    if not plain.exists():
        tiny = {"view_moments": 1, "novel_frames": 6} if args.tiny else {"view_moments": 4, "novel_frames": 24}
        synthesise(plain, SynthConfig(frames=frames, size=args.size, turn_deg=TURNED_SHARE * yaw, **tiny), silent=True)
    folder = plain.with_name(f"{clip}_{depth}")
    if not folder.exists():
        with whole_folder(folder, alone=True) as spare:
            shutil.copytree(plain, spare, dirs_exist_ok=True)
            DEPTHS[depth](spare)
    return folder


def write_truth(folder: Path, estimate: Callable[[ndarray, np.random.Generator], ndarray] | None = None) -> None:
    """Give a synthetic subject depth maps made of its true depth, nearness in 1 / metres."""
    subject = load_subject(folder)
    (folder / "depths").mkdir()
    frames = []
    for number, (frame, entry) in enumerate(zip(subject.frames, subject.extra["synth"]["frames"], strict=True)):
        nearness = 1 / load_depth(folder / entry["depth"])
        if estimate is not None:
            nearness = estimate(nearness, np.random.default_rng(number))
        path = Path(f"depths/{number:05d}.png")
        cv2.imwrite(str(folder / path), spread(nearness))
        frames.append(dataclasses.replace(frame, depth_path=path))
    write_subject(dataclasses.replace(subject, frames=tuple(frames)))


def estimated(nearness: Float[ndarray, "H W"], random: np.random.Generator) -> Float[ndarray, "H W"]:
    """What a monocular estimator makes of true nearness (NaN beside the head): right in the large, smooth, another
    scale, and bent differently in each frame."""
    known = np.isfinite(nearness)
    low, high = nearness[known].min(), nearness[known].max()
    share = np.where(known, (nearness - low) / (high - low), 0.0) ** (GAMMA ** random.uniform(-1, 1))
    field = cv2.resize(random.normal(size=(4, 4)), nearness.shape[::-1], interpolation=cv2.INTER_CUBIC)
    sigma = BLUR * nearness.shape[0]
    weight = cv2.GaussianBlur(known.astype(np.float64), (0, 0), sigma)
    blurred = cv2.GaussianBlur(share * known, (0, 0), sigma) / np.maximum(weight, 1e-6)
    return np.where(known, blurred + BEND * field, np.nan)


DEPTHS: dict[str, Callable[[Path], object]] = {
    "mesh": lambda folder: write_depth(folder, DepthConfig(prior="mesh")),
    "estimator": lambda folder: write_truth(folder, estimated),
    "truth": write_truth,
}


# --------------------------------------------------------------------------- runs


def run(args: argparse.Namespace, clip: str, variant: Variant, seed: int, pictures: Path) -> dict[str, Any]:
    """Train a variant on a clip; the scores of every picture, which are kept as 8 bits in `pictures`."""
    depth, settings = variant
    folder = subject_of(args, clip, depth)
    if args.face_api is not None:
        settings = settings | {"semantic.encoder.weights": str(args.face_api / "model")}
    config = configured("flame-nerf-cpu", settings, folder, seed, args.steps)
    config.output_dir, config.experiment_name, config.timestamp = args.output / "training", clip, str(seed)
    trainer, cost = train(config, args.steps)
    pipeline = trainer.pipeline.eval()
    shown: list[ndarray] = []
    film = load_subject(folder)
    held_out = [frame for frame in film.frames if frame.split == "test"]
    films = {
        "held out": show(pipeline, film, held_out, shown),
        "novel_view": show(pipeline, *_aside(folder / "novel_view"), shown),
        "novel_expression": show(pipeline, *_whole(folder / "novel_expression"), shown),
    }
    np.savez_compressed(pictures, shown=np.stack(shown))
    return {"seconds per step": cost, "steps": args.steps, "films": films}


def _whole(folder: Path) -> tuple[Subject, Sequence[Frame]]:
    subject = load_subject(folder)
    return subject, subject.frames


def _aside(folder: Path) -> tuple[Subject, Sequence[Frame]]:
    """The pictures from 30 to 75 degrees beside."""
    subject = load_subject(folder)
    entries = subject.extra["synth"]["frames"]
    pairs = zip(subject.frames, entries, strict=True)
    return subject, [frame for frame, entry in pairs if abs(entry["yaw_deg"]) > SIDES[0] - 1]


@torch.no_grad()
def show(pipeline: Any, film: Subject, frames: Sequence[Frame], shown: list[ndarray]) -> list[dict[str, Any]]:
    """Scores of a film's frames, with mesh, expression and camera as they were filmed; pictures go to `shown`."""
    from flame_nerf.motion import SubjectMotion

    motion = SubjectMotion(film.track)
    rows, before = [], None
    for frame in frames:
        entry = film.extra["synth"]["frames"][film.frames.index(frame)]
        camera = camera_of(film, frame, 1).to(pipeline.device)
        camera.metadata = {"expr": motion.at_timestep(frame.timestep)}
        truth = read_truth(film, frame, 1)
        outputs = pipeline.model.get_outputs_for_camera(camera)
        row = score(outputs, camera, truth) | {"yaw": round(entry["yaw_deg"]), "expression": entry["expression"]}
        picture = outputs["rgb"].cpu().numpy()
        if before is not None:
            changed = (picture - before[0]) - (truth.picture - before[1])
            row["flicker"] = float(255 * np.abs(changed)[truth.regions["matte"]].mean())
        before = picture, truth.picture
        rows.append(row)
        shown.append(np.rint(255 * picture.clip(0, 1)).astype(np.uint8))
    return rows


# --------------------------------------------------------------------------- what is shown

Rows = dict[str, list[dict[str, Any]]]


def _sides(films: Rows) -> list[dict[str, Any]]:
    return [row for row in films["novel_view"] if abs(row["yaw"]) in SIDES]


def _profile(films: Rows) -> list[dict[str, Any]]:
    return [row for row in films["novel_view"] if abs(row["yaw"]) == 75]


COLUMNS: dict[str, tuple[Callable[[Rows], list[dict[str, Any]]], str, int]] = {
    "front dB": (lambda films: films["held out"], "PSNR matte", 2),
    "yaw 30–60 dB": (_sides, "PSNR matte", 2),
    "perceptual": (_sides, "perceptual", 4),
    "order %": (_sides, "order %", 1),
    "yaw 75 dB": (_profile, "PSNR matte", 2),
    "new expressions dB": (lambda films: films["novel_expression"], "PSNR matte", 2),
    "their perceptual": (lambda films: films["novel_expression"], "perceptual", 4),
    "flicker": (lambda films: films["novel_expression"][1:], "flicker", 2),
}
"""Of the table: which pictures, which score, how many decimals."""


def as_table(output: Path, clips: Sequence[str], names: Sequence[str], seeds: Sequence[int]) -> str:
    """Markdown: a line for each clip and variant, means over pictures and over the seeds that are there."""
    lines = ["| clip | variant | " + " | ".join(COLUMNS) + " | ms a step |", "|---|---|" + "---|" * (len(COLUMNS) + 1)]
    for clip in clips:
        for name in names:
            kept = [path for seed in seeds if (path := _kept(output, (clip, name, seed))).exists()]
            found = [json.loads(path.read_text()) for path in kept]
            if not found:
                continue
            cells = [
                f"{statistics.fmean(row[key] for run in found for row in choose(run['films'])):.{decimals}f}"
                for choose, key, decimals in COLUMNS.values()
            ]
            cost = 1000 * statistics.fmean(run["seconds per step"] for run in found)
            lines.append(f"| {clip} | {name} | " + " | ".join(cells) + f" | {cost:.0f} |")
    return "\n".join(lines) + "\n"


def sheet(output: Path, clip: str, names: Sequence[str], seed: int) -> ndarray:
    """A row for the truth and for each variant, from the sides, as OpenCV writes it."""
    film, frames = _aside(output / "subjects" / f"{clip}_none" / "novel_view")
    entries = film.extra["synth"]["frames"]
    yaws = [round(entries[film.frames.index(frame)]["yaw_deg"]) for frame in frames]
    last = {yaw: place for place, yaw in enumerate(yaws) if yaw in SHEET_YAWS}
    rows = [np.hstack([255 * read_truth(film, frames[last[yaw]], 1).picture for yaw in SHEET_YAWS])]
    for name in names:
        path = _kept(output, (clip, name, seed))
        if path.exists():
            held_out = len(json.loads(path.read_text())["films"]["held out"])
            shown = np.load(path.with_suffix(".npz"))["shown"]
            rows.append(np.hstack([shown[held_out + last[yaw]] for yaw in SHEET_YAWS]))
    return np.vstack(rows)[..., ::-1].round().astype(np.uint8)


if __name__ == "__main__":
    main()
