"""Quality of avatars against exact truth: subject x variant x seed, at equal training time.

    flame-nerf-data synth SUBJECT
    flame-nerf-data depth SUBJECT --prior mesh
    python benchmarks/quality.py SUBJECT --variants color ranking semantic --seeds 0 1 2 --minutes 3

Trains every variant on the subject's training film for the same processor time, and renders the held-out end of that
film, the same moments from cameras beside it (by angle), and expressions that training never showed. Subjects without
`novel_view` and `novel_expression`, such as tracked videos, are judged on their held-out frames alone. Each finished
run is kept in OUTPUT/runs, so that an interrupted benchmark goes on where it was. Writes table.md and sheet.png to
OUTPUT.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from quality_scores import Truth, depth_scores, perceptual_distance, psnr_scores, read_truth, ssim_score

from flame_nerf.subject import Frame, Subject, load_subject

PROBE_START, PROBE_STEPS = 320, 120
"""A short run tells what a step costs, once skipping of empty space is at work."""
SHEET_COLUMNS = 10
"""Pictures of a run that its sheet shows."""

COLOR = {"depth_loss": 0.0, "semantic_loss": 0.0, "unseen_loss": 0.0, "sampling.falloff": 0.0}
SEMANTIC = {"semantic_loss": 3e-4, "semantic.encoder.encoder": "efficientnet_lite0", "semantic.encoder.input_size": 128}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("flame-nerf-cpu", {}),
    "color": ("flame-nerf-cpu", COLOR),
    "falloff": ("flame-nerf-cpu", COLOR | {"sampling.falloff": 4.0}),
    "ranking": ("flame-nerf-cpu", COLOR | {"depth_loss": 1e-3}),
    "hinge": ("flame-nerf-cpu", COLOR | {"depth_loss": 0.3, "depth.kind": "hinge"}),
    "smoothness": ("flame-nerf-cpu", COLOR | {"depth_loss": 0.1, "depth.kind": "smoothness"}),
    "unseen": ("flame-nerf-cpu", COLOR | {"unseen_loss": 0.1}),
    "semantic": ("flame-nerf-cpu", COLOR | SEMANTIC),
    "all": ("flame-nerf-cpu", {"depth_loss": 1e-3, "unseen_loss": 0.1} | SEMANTIC),
    "insta": ("flame-nerf-insta", {}),
    "nerface": ("nerface", {}),
    "nha": ("nha", {}),
}
"""Method and settings of each variant. Bare names are loss weights, dotted ones fields of the model's config."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--variants", nargs="+", default=["color", "ranking", "semantic"], help=", ".join(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of each training run")
    parser.add_argument("--steps", type=int, help="steps of each run, instead of --minutes: for noisy machines")
    parser.add_argument("--moments", type=int, default=5, help="moments shown from each new camera")
    parser.add_argument("--downscale", type=int, default=1)
    parser.add_argument("--split", default="stored", choices=["stored", "tail", "spread"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings for all variants")
    parser.add_argument("--output", type=Path, default=Path("outputs/quality"))
    args = parser.parse_args()

    (args.output / "runs").mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for variant in args.variants:
            path = args.output / "runs" / f"{variant}_{seed}.json"
            if not path.exists():
                result = run(args, variant, seed)
                path.write_text(json.dumps(result, indent=1))
    found = {
        variant: [json.loads((args.output / "runs" / f"{variant}_{seed}.json").read_text()) for seed in args.seeds]
        for variant in args.variants
    }
    table = as_table(found)
    (args.output / "table.md").write_text(table)
    print(table)
    sheets = [cv2.imread(str(args.output / "runs" / f"{variant}_{args.seeds[0]}.png")) for variant in args.variants]
    cv2.imwrite(str(args.output / "sheet.png"), np.vstack([sheets[0][: sheets[0].shape[0] // 2]] + [
        sheet[sheet.shape[0] // 2 :] for sheet in sheets]))  # fmt: skip


def make_config(args: argparse.Namespace, variant: str, seed: int, steps: int):
    """The method's config for a run of so many steps, with the variant's settings."""
    method, settings = VARIANTS[variant]
    given = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in args.set)}
    config = configured(method, {**settings, **given}, args.subject, seed, steps)
    data = config.pipeline.datamanager.dataparser
    data.split, data.downscale_factor = args.split, args.downscale
    config.output_dir, config.experiment_name, config.timestamp = args.output / "training", variant, str(seed)
    return config


def configured(method: str, settings: dict[str, Any], subject: Path, seed: int, steps: int):
    """A method's config for a silent run of so many steps, everything seeded. Settings as in `VARIANTS`."""
    from nerfstudio.configs.method_configs import all_methods

    from flame_nerf.methods import with_steps

    config = with_steps(copy.deepcopy(all_methods[method]), steps)
    config.machine.device_type = "cuda" if torch.cuda.is_available() else "cpu"
    config.data = config.pipeline.datamanager.data = subject.resolve()
    config.pipeline.datamanager.dataparser.split = "stored"
    config.pipeline.datamanager.dataparser.background_color = "white"
    config.vis = "tensorboard"
    config.steps_per_eval_image = config.steps_per_eval_batch = config.steps_per_save = 10**9
    config.logging.local_writer.enable = False
    config.machine.seed = seed
    for name, value in settings.items():
        owner: Any = config.pipeline.model
        *path, last = name.split(".") if "." in name else ["loss_coefficients", name]
        for part in path:
            owner = getattr(owner, part)
        if not hasattr(owner, last):
            raise SystemExit(f"{name}: the model's config has no such field")
        setattr(owner, last, value)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return config


def train(config, steps: int, first: int = PROBE_START) -> tuple[Any, float]:
    """Nerfstudio's training loop without saving and evaluating; returns the trainer and processor seconds a step,
    counted from step `first` on."""
    from nerfstudio.utils import writer

    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    writer.GLOBAL_BUFFER["steps_per_log"] = config.logging.steps_per_log
    start, first = time.process_time(), min(first, steps - 1)
    for step in range(steps):
        if step == first:
            start = time.process_time()
        trainer.pipeline.train()
        for where in ("BEFORE_TRAIN_ITERATION", "AFTER_TRAIN_ITERATION"):
            if where.startswith("AFTER"):
                trainer.train_iteration(step)
            for callback in trainer.callbacks:
                if any(place.name == where for place in callback.where_to_run):
                    callback.run_callback(step)
    return trainer, (time.process_time() - start) / (steps - first)


def run(args: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """Train one variant and score it on every film."""
    steps = args.steps
    if not steps:
        probe = PROBE_START + PROBE_STEPS
        _, cost = train(make_config(args, variant, seed, probe), probe)
        steps = max(probe, int(60 * args.minutes / cost))
    trainer, cost = train(make_config(args, variant, seed, steps), steps)
    pipeline = trainer.pipeline.eval()
    films: dict[str, list[dict[str, Any]]] = {}
    sheet: list[np.ndarray] = []
    for name in ("novel_view", "novel_expression"):
        if (args.subject / name / "transforms.json").exists():
            films[name] = score_film(pipeline, load_subject(args.subject / name), args, sheet)
    films["held out"] = score_held_out(pipeline, args.downscale, sheet)
    cv2.imwrite(str(args.output / "runs" / f"{variant}_{seed}.png"), beside_each_other(sheet))
    print(f"{variant}, seed {seed}: {steps} steps, {1000 * cost:.0f} ms of processor time each", flush=True)
    return {"steps": steps, "seconds per step": cost, "films": films}


def score(outputs: dict[str, torch.Tensor], camera, truth: Truth) -> dict[str, float]:
    """All scores of one picture."""
    picture = outputs["rgb"].float().cpu().numpy()
    row = psnr_scores(picture, truth) | {"SSIM": ssim_score(picture, truth)}
    row["perceptual"] = perceptual_distance(picture, truth)
    if truth.depth is not None:
        norm = camera.generate_rays(camera_indices=0, keep_shape=True).metadata["directions_norm"]
        along_axis = (outputs["depth"].cpu() / norm.cpu())[..., 0].numpy()
        row |= depth_scores(along_axis, outputs["accumulation"].cpu().numpy()[..., 0], truth)
    return row


@torch.no_grad()
def score_held_out(pipeline, downscale: int, sheet: list) -> list[dict[str, Any]]:
    """Scores of about twelve frames of the evaluation split; of a subject without other films the sheet shows these."""
    dataset, subject = pipeline.datamanager.eval_dataset, pipeline.datamanager.eval_dataset.metadata["subject"]
    by_path = {frame.file_path.resolve(): frame for frame in subject.frames}
    rows = []
    for index in range(0, len(dataset), max(1, len(dataset) // 12)):
        camera = dataset.cameras[index : index + 1].to(pipeline.device)
        truth = read_truth(subject, by_path[Path(dataset.image_filenames[index]).resolve()], downscale)
        outputs = pipeline.model.get_outputs_for_camera(camera)
        rows.append(score(outputs, camera, truth))
        add_to_sheet(sheet, truth, outputs)
    return rows


@torch.no_grad()
def score_film(pipeline, subject: Subject, args: argparse.Namespace, sheet: list) -> list[dict[str, Any]]:
    """Scores of a film with meshes, expressions and cameras of its own: some moments, every fourth new expression."""
    from flame_nerf.motion import SubjectMotion

    motion = SubjectMotion(subject.track)
    entries = subject.extra["synth"]["frames"]
    rows = []
    moments = sorted({entry["moment"] for entry in entries if entry["moment"] is not None})
    moments = moments[:: max(1, len(moments) // args.moments)]
    for index, (frame, entry) in enumerate(zip(subject.frames, entries, strict=True)):
        if entry["moment"] not in moments and (entry["moment"] is not None or index % 4):
            continue
        camera = camera_of(subject, frame, args.downscale).to(pipeline.device)
        camera.metadata = {"expr": motion.at_timestep(frame.timestep)}
        truth = read_truth(subject, frame, args.downscale)
        outputs = pipeline.model.get_outputs_for_camera(camera)
        row = score(outputs, camera, truth)
        rows.append(row | {"yaw": entry["yaw_deg"], "pitch": entry["pitch_deg"], "expression": entry["expression"]})
        if entry["expression"] or entry["yaw_deg"] in (-60.0, -30.0, 30.0, 60.0):
            add_to_sheet(sheet, truth, outputs)
    return rows


def add_to_sheet(sheet: list[np.ndarray], truth: Truth, outputs: dict[str, torch.Tensor]) -> None:
    """Truth above the picture, as the sheet's next column while there is room."""
    if len(sheet) < SHEET_COLUMNS:
        sheet.append(np.vstack([truth.picture, outputs["rgb"].cpu().numpy()]))


def camera_of(subject: Subject, frame: Frame, downscale: int):
    """A frame's camera at the size that is judged."""
    from nerfstudio.cameras.cameras import Cameras

    fl_x, fl_y, cx, cy = (value / downscale for value in subject.intrinsics_of(frame))
    c2w = torch.from_numpy(frame.c2w[None, :3]).float()
    width, height = subject.width // downscale, subject.height // downscale
    return Cameras(camera_to_worlds=c2w, fx=fl_x, fy=fl_y, cx=cx, cy=cy, width=width, height=height)


def beside_each_other(columns: list[np.ndarray]) -> np.ndarray:
    """RGB pictures in 0..1, side by side, as OpenCV writes them."""
    return np.clip(np.hstack(columns)[..., ::-1] * 255, 0, 255).astype(np.uint8)


GROUPS = {
    "held out": lambda row: "yaw" not in row,
    "yaw 15": lambda row: _turned(row) == 15,
    "yaw 30-60": lambda row: _turned(row) in (30, 45, 60),
    "yaw 75": lambda row: _turned(row) == 75,
    "pitch 20": lambda row: row.get("expression") is None and abs(row.get("pitch", 0)) == 20,
    "new expression": lambda row: row.get("expression") is not None,
}
"""Which pictures a column of the table is the mean of."""


def _turned(row: dict[str, Any]) -> int | None:
    """Whole degrees that a novel view's camera stands beside the middle, at the middle's height."""
    if "yaw" not in row or row["expression"] is not None or row["pitch"] != 0:
        return None
    return round(abs(row["yaw"]))


def as_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: medians over the seeds, one line for each variant, group and score that there is."""
    metrics = ["PSNR matte", "PSNR mouth", "PSNR eyes", "SSIM", "perceptual", "order %", "depth mm"]
    lines = ["| variant | pictures | " + " | ".join(metrics) + " |", "|---|---|" + "---|" * len(metrics)]
    for variant, runs in found.items():
        for group, belongs in GROUPS.items():
            cells = []
            for metric in metrics:
                means = []
                for result in runs:
                    rows = [row for film in result["films"].values() for row in film if belongs(row) and metric in row]
                    if rows:
                        means.append(statistics.fmean(row[metric] for row in rows))
                cells.append(f"{statistics.median(means):.{4 if metric == 'perceptual' else 2}f}" if means else "")
            if any(cells):
                lines.append(f"| {variant} | {group} | " + " | ".join(cells) + " |")
    steps = ", ".join(f"{name}: {'/'.join(str(result['steps']) for result in runs)}" for name, runs in found.items())
    return "\n".join(lines) + f"\n\nSteps: {steps}.\n"


if __name__ == "__main__":
    main()
