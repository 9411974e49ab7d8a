"""Held-out quality of an avatar: how well does it show frames of the video that it never trained on?

    python benchmarks/held_out.py SUBJECT --split tail
    python benchmarks/held_out.py SUBJECT --split spread --ablate-expression
    python benchmarks/held_out.py SUBJECT --protocol insta

Trains a method on the subject's training frames, renders the held-out ones with their tracked poses and expressions,
and compares with the pictures on white: the whole picture, the matte above the chin, a box around the lips, and a band
along the outline above the chin. *Speck* says how ragged opacity is in that band; the truth's own is that of the
mattes.
Beside it stands what showing the training frame with the nearest landmarks would have scored, what the frames' poses
score without any correction, and (--refine-pose) with the pose alone refined on the held-out frame itself. Writes
``result.json`` and ``sheet.png`` (truth | avatar | nearest training frame) to the output folder and prints a Markdown
table.

``--protocol insta`` measures what papers on INSTA's clips print: the last 350 frames, of short clips the last tenth,
held out, the stored size, and LPIPS (where its weights can be had) beside the figures above. In the whole picture the
background counts, which is exact, and so the figure is about 10 log10(1 / share of the matte) higher. Their trackers
saw the held-out frames, and so does ours.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torchmetrics.functional.image import structural_similarity_index_measure

from flame_nerf.subject import Frame, Subject, load_subject
from flame_nerf.training.metrics import LazyLPIPS

INSTA_HELD_OUT = 350
"""Frames that INSTA and those who compare with it hold out at the end of a clip; of shorter clips a tenth."""
# Indices in mediapipe's 478-point scheme.
CHIN = 152
LIPS = [61, 291, 0, 17, 37, 267, 84, 314, 39, 269, 181, 405]
LIP_MARGIN = 0.25
"""The mouth box is the lips' bounding box grown by this fraction of its size on every side."""


BAND = 4
"""Pixels to either side of the outline that belong to its band."""


@dataclass(frozen=True)
class Truth:
    """One frame's picture on white and the regions it is judged in, at the size that the method was trained at."""

    picture: Float[ndarray, "h w 3"]
    matte: Float[ndarray, "h w"]
    regions: dict[str, Bool[ndarray, "h w"]]


def read_truth(subject: Subject, frame: Frame, downscale: int) -> Truth:
    """A frame on white by its matte, area-filtered, with the regions ``head`` (matte above the chin), ``mouth`` and
    ``band`` (outline above the chin)."""
    size = (subject.width // downscale, subject.height // downscale)
    picture = cv2.imread(str(frame.file_path))[..., ::-1].astype(np.float32) / 255
    matte = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE).astype(np.float32)[..., None] / 255
    on_white = cv2.resize(picture * matte + 1 - matte, size, interpolation=cv2.INTER_AREA)
    small_matte = cv2.resize(matte, size, interpolation=cv2.INTER_AREA)

    points = subject.track.landmarks2d[frame.timestep] / downscale
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]] + 0.5
    low, high = points[LIPS].min(0), points[LIPS].max(0)
    margin = (high - low) * LIP_MARGIN
    (left, top), (right, bottom) = low - margin, high + margin
    inside, disc = (
        (small_matte > 0.5).astype(np.uint8),
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1,) * 2),
    )
    # The picture's border is no outline.
    band = cv2.dilate(inside, disc) > cv2.erode(inside, disc, borderValue=1)
    return Truth(
        on_white,
        small_matte,
        {
            "band": band & (rows < points[CHIN, 1]),
            "head": (small_matte > 0.5) & (rows < points[CHIN, 1]),
            "mouth": (columns > left) & (columns < right) & (rows > top) & (rows < bottom),
            "whole": np.ones_like(band),
        },
    )


def scores(picture: Float[ndarray, "h w 3"], truth: Truth) -> dict[str, float]:
    """PSNR in dB and mean SSIM inside every region of ``truth``."""
    _, ssim = structural_similarity_index_measure(
        torch.from_numpy(picture).permute(2, 0, 1)[None],
        torch.from_numpy(truth.picture).permute(2, 0, 1)[None],
        data_range=1.0,
        return_full_image=True,
    )
    ssim_map = ssim[0].mean(0).numpy()
    squared = ((picture - truth.picture) ** 2).mean(-1)
    result = {}
    for name, region in truth.regions.items():
        result[f"{name} PSNR"] = float(-10 * np.log10(squared[region].mean()))
        result[f"{name} SSIM"] = float(ssim_map[region].mean())
    return result


def speck(opacity: Float[ndarray, "h w"], truth: Truth) -> float:
    """Mean difference of opacity from its median over 3x3 pixels, in the band along the outline, of 255."""
    opacity = np.ascontiguousarray(opacity, np.float32)
    return float(255 * np.abs(opacity - cv2.medianBlur(opacity, 3))[truth.regions["band"]].mean())


def perceptual_scores(picture: Float[ndarray, "h w 3"], truth: Truth, lpips: LazyLPIPS) -> dict[str, float]:
    """LPIPS over the whole picture on white; nothing where its network cannot be had."""
    found = lpips(torch.from_numpy(picture), torch.from_numpy(truth.picture))
    return {f"whole {name.upper()}": value for name, value in found.items()}


def mean_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every score over frames."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def nearest_training_frame(subject: Subject, frame: Frame, train: list[Frame]) -> Frame:
    """The training frame whose 2D landmarks lie nearest to those of ``frame`` (mean distance in pixels)."""
    points = subject.track.landmarks2d
    distances = [np.linalg.norm(points[other.timestep] - points[frame.timestep], axis=-1).mean() for other in train]
    return train[int(np.argmin(distances))]


def train_method(args: argparse.Namespace, use_expression: bool, output: Path):
    """Train with Nerfstudio's own trainer; returns the pipeline and the seconds that the training loop took."""
    from nerfstudio.configs.method_configs import all_methods

    from flame_nerf.methods import with_steps

    config = copy.deepcopy(all_methods[args.method])
    config.data = Path(args.subject).resolve()
    config.pipeline.datamanager.data = config.data
    config.pipeline.datamanager.dataparser.split = args.split
    config.pipeline.datamanager.dataparser.tail_fraction = args.tail_fraction
    config.pipeline.datamanager.dataparser.downscale_factor = args.downscale
    # What it is judged on, also where the method would have the subject's own background.
    config.pipeline.datamanager.dataparser.background_color = "white"
    config.pipeline.model.field.use_expression = use_expression
    pose = config.pipeline.model.refinement.pose
    if args.with_refinement or args.without_refinement:
        pose.calibrate = args.with_refinement
    pose.over_time = args.over_time
    config.pipeline.model.refinement.light = args.with_light
    config.output_dir, config.vis = output, "tensorboard"
    config.experiment_name, config.timestamp = "held_out", "with" if use_expression else "without"
    config.machine.seed = args.seed
    if args.steps:
        config = with_steps(config, args.steps)
    config.viewer.quit_on_train_completion = True
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    start = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - start
    trainer.pipeline.eval()
    return trainer.pipeline, seconds


@torch.no_grad()
def as_tracked(model, camera) -> Float[ndarray, "h w 3"]:
    """A held-out frame with the tracker's pose and expression, nothing of what training learned about the track."""
    camera.metadata["as_tracked"] = True
    picture = model.get_outputs_for_camera(camera)["rgb"].float().cpu().numpy()
    del camera.metadata["as_tracked"]
    return picture


def refined(model, camera, truth: Truth) -> Float[ndarray, "h w 3"]:
    """A held-out frame after its pose alone was refined on its picture, head and a rim around it."""
    from on_frame import refine_pose_on_frame

    rim = cv2.dilate(truth.regions["head"].astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    more = refine_pose_on_frame(model, camera, torch.from_numpy(truth.picture), torch.from_numpy(rim))
    camera.metadata["pose_correction"] = more
    with torch.no_grad():
        picture = model.get_outputs_for_camera(camera)["rgb"].float().cpu().numpy()
    del camera.metadata["pose_correction"]
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path, help="a subject folder made by `flame-nerf-data track`")
    parser.add_argument("--protocol", choices=["strict", "insta"], default="strict", help="what is measured, see above")
    parser.add_argument("--split", choices=["tail", "spread"], default="tail", help="which frames are held out")
    parser.add_argument("--method", default="flame-nerf-cpu")
    parser.add_argument("--downscale", type=int, help="train and judge at 1/N of the stored size; strict: 2, insta: 1")
    parser.add_argument("--steps", type=int, help="training steps (the method's default unless given)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--ablate-expression", action="store_true", help="train again with the expression input zeroed")
    calibrated = parser.add_mutually_exclusive_group()
    calibrated.add_argument("--without-refinement", action="store_true", help="train on the track as it is")
    calibrated.add_argument("--with-refinement", action="store_true", help="calibrate the poses of any track")
    parser.add_argument("--over-time", action="store_true", help="also refine the poses over the video")
    parser.add_argument("--with-light", action="store_true", help="also learn a gain of each colour over time")
    parser.add_argument("--refine-pose", action="store_true", help="also refine each held-out frame's pose on itself")
    parser.add_argument("--output", type=Path, default=Path("outputs/held_out"))
    args = parser.parse_args()
    insta = args.protocol == "insta"
    if insta and args.split != "tail":
        parser.error("--protocol insta holds out the end of the clip; leave --split out")
    args.downscale = args.downscale or (1 if insta else 2)
    moments = len({frame.timestep for frame in load_subject(args.subject).frames})
    args.tail_fraction = min(0.1, INSTA_HELD_OUT / moments) if insta else 0.1
    lpips = LazyLPIPS()

    def judged(picture: Float[ndarray, "h w 3"], truth: Truth) -> dict[str, float]:
        return scores(picture, truth) | (perceptual_scores(picture, truth, lpips) if insta else {})

    output = args.output / (args.protocol if insta else args.split)
    output.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, float]] = {}
    sheet: list[list[ndarray]] = []
    for use_expression in (True, False) if args.ablate_expression else (True,):
        pipeline, seconds = train_method(args, use_expression, output)
        subject = load_subject(args.subject)
        by_path = {frame.file_path.resolve(): frame for frame in subject.frames}
        data = pipeline.datamanager
        held_out = [by_path[Path(name).resolve()] for name in data.eval_dataset.image_filenames]
        train = [by_path[Path(name).resolve()] for name in data.train_dataset.image_filenames]
        assert not {f.timestep for f in train} & {f.timestep for f in held_out}, "a held-out frame was trained on"

        rows, nearest_rows, specks = [], [], []
        by_pose: dict[str, list[dict[str, float]]] = {"as tracked": [], "pose refined on the frame": []}
        for index, frame in enumerate(held_out):
            truth = read_truth(subject, frame, args.downscale)
            camera = data.eval_dataset.cameras[index : index + 1].to(pipeline.device)
            with torch.no_grad():
                outputs = pipeline.model.get_outputs_for_camera(camera)
            picture, opacity = (outputs[key].float().cpu().numpy() for key in ("rgb", "accumulation"))
            rows.append(judged(picture, truth))
            specks.append((speck(opacity[..., 0], truth), speck(truth.matte, truth)))
            by_pose["as tracked"].append(judged(as_tracked(pipeline.model, camera), truth))
            if args.refine_pose:
                by_pose["pose refined on the frame"].append(judged(refined(pipeline.model, camera, truth), truth))
            if use_expression:
                nearest = read_truth(subject, nearest_training_frame(subject, frame, train), args.downscale).picture
                nearest_rows.append(judged(nearest, truth))
                sheet.append([truth.picture, picture, nearest])
        name = args.method if use_expression else f"{args.method}, expression zeroed"
        ragged, ragged_truth = np.mean(specks, axis=0)
        table[name] = mean_scores(rows) | {"speck": ragged, "speck of the truth": ragged_truth, "minutes": seconds / 60}
        for how, pose_rows in by_pose.items():
            if pose_rows:
                table[f"{name}, {how}"] = mean_scores(pose_rows)
        if nearest_rows:
            table["nearest training frame"] = mean_scores(nearest_rows)

    shown = sheet[:: max(1, len(sheet) // 8)][:8]
    cv2.imwrite(str(output / "sheet.png"), np.vstack([np.hstack(row) for row in shown])[..., ::-1] * 255)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (output / "result.json").write_text(json.dumps({"scores": table, "peak memory GiB": peak_gib}, indent=1))

    columns = list(mean_scores(rows)) + ["speck", "speck of the truth", "minutes"]
    print(
        f"\n{output.name}: {len(held_out)} frames held out, {len(train)} trained on, peak memory {peak_gib:.1f} GiB\n"
    )
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, values in table.items():
        decimals = {c: 3 if c.endswith(("SSIM", "LPIPS")) else 2 if "speck" in c else 1 for c in columns}
        cells = [f"{values[c]:.{decimals[c]}f}" if c in values else "" for c in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
