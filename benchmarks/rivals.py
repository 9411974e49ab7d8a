"""flame-nerf beside the methods that its patent names, at equal time: blinks, mouths that open, and the whole picture.

    python benchmarks/rivals.py SUBJECT --minutes 20
    python benchmarks/rivals.py SUBJECT --steps flame-nerf-cpu=24000 flame-nerf-insta=5000 nerface=1770 nha=4000

Trains each method on the same frames for the same processor time, 20 minutes being ten of two cores, and shows the
held-out ones: PSNR of the whole picture on white, of the matte, the mouth and the eyes; of the eyes where they are
shut, and of the mouth where it is open. Beside them stands what the training frame with the nearest landmarks would
have scored.

Each finished method is kept in OUTPUT, so that an interrupted benchmark goes on where it was. Writes table.md and
sheet.png: a blink and a mouth as it opens, truth first, then a row for each method.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from held_out import mean_scores, nearest_training_frame
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from numpy import ndarray
from quality import beside_each_other, configured, train
from quality_scores import Truth, perceptual_distance, psnr_scores, read_truth

from flame_nerf.subject import Frame, Subject, load_subject

METHODS = ("flame-nerf-cpu", "flame-nerf-insta", "nerface", "nha")
NEAREST = "nearest training frame"
PROBE = {"nerface": (5, 25), "nha": (20, 80)}
"""First step and number of steps of the short run that tells what a step costs; of the others, once skipping of empty
space is at work."""
LIDS, EYE_CORNERS = ((159, 145), (386, 374)), ((33, 133), (263, 362))
LIPS, LIP_CORNERS = ((13, 14),), ((61, 291),)
"""Landmarks in mediapipe's scheme, a pair for each eye, and of the mouth."""
SHUT = 0.6
"""Share of the film's usual opening of the eyes, below which they are shut."""
OPEN = 0.15
"""Opening of the lips by the mouth's width, above which it is open."""
BLINKS, MOUTHS = 3, 4
"""Pictures of the sheet."""
SQUARE, TILE = 1.3, 192
"""Side of a face's square by the extent of eyes and mouth, and as it is shown, pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--minutes", type=float, default=20.0, help="processor time of each training run")
    parser.add_argument("--steps", nargs="*", default=[], metavar="METHOD=N", help="steps of a method, instead of time")
    parser.add_argument("--split", default="spread", choices=["stored", "tail", "spread"])
    parser.add_argument("--interval", type=int, default=12, help="the spread split holds out every n-th frame")
    parser.add_argument("--downscale", type=int, default=1, help="train and judge at 1/N of the stored size")
    parser.add_argument("--frames", type=int, default=12, help="held-out frames judged, beside blinks and open mouths")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default=Path("outputs/rivals"))
    args = parser.parse_args()
    if load_subject(args.subject).track.landmarks2d is None:
        parser.error(f"{args.subject} has no landmarks, which say where eyes and mouth are: track it")
    args.output.mkdir(parents=True, exist_ok=True)
    steps = {name: int(number) for name, number in (pair.split("=", 1) for pair in args.steps)}
    for method in args.methods:
        if not (args.output / f"{method}.json").exists():
            run(args, method, steps.get(method))
    found = {name: json.loads((args.output / f"{name}.json").read_text()) for name in [*args.methods, NEAREST]}
    table = as_table(found)
    (args.output / "table.md").write_text(table)
    print(table)
    sheets = [cv2.imread(str(args.output / f"{name}.png")) for name in ["truth", *args.methods]]
    cv2.imwrite(str(args.output / "sheet.png"), np.vstack(sheets))


def opening(subject: Subject, frame: Frame, across: Any, along: Any) -> float:
    """Mean distance of pairs of landmarks, as a share of that of other pairs."""
    points = subject.track.landmarks2d[frame.timestep]
    width, length = (np.mean([np.linalg.norm(points[a] - points[b]) for a, b in pairs]) for pairs in (across, along))
    return float(width / length)


def chosen_frames(subject: Subject, held_out: list[Frame], count: int) -> dict[str, list[int]]:
    """Places in `held_out` of frames to judge: `even` over time, `shut` eyes, an `open` mouth, those of the `sheet`."""
    eyes = [opening(subject, frame, LIDS, EYE_CORNERS) for frame in held_out]
    lips = [opening(subject, frame, LIPS, LIP_CORNERS) for frame in held_out]
    usual = float(np.median([opening(subject, frame, LIDS, EYE_CORNERS) for frame in subject.frames]))
    by_eyes, by_lips = np.argsort(eyes).tolist(), np.argsort(lips).tolist()
    # From closed to as wide as it gets, evenly over the frames' openings.
    wanted = np.linspace(min(lips), max(lips), MOUTHS)
    return {
        "even": list(range(0, len(held_out), max(1, len(held_out) // count))),
        "shut": [index for index in by_eyes[:count] if eyes[index] < SHUT * usual],
        "open": [index for index in by_lips[-count:] if lips[index] > OPEN],
        "sheet": by_eyes[:BLINKS] + [int(np.abs(np.array(lips) - value).argmin()) for value in wanted],
    }


def run(args: argparse.Namespace, method: str, steps: int | None) -> None:
    """Train a method, judge it, and keep scores and pictures in the output folder."""
    torch.manual_seed(args.seed)
    if steps is None:
        first, probe = PROBE.get(method, (320, 400))
        _, cost = train(config_of(args, method, probe), probe, first)
        steps = max(probe, int(60 * args.minutes / cost))
    start = time.process_time()
    trainer, cost = train(config_of(args, method, steps), steps)
    seconds = time.process_time() - start
    pipeline = trainer.pipeline.eval()

    data, subject = pipeline.datamanager, load_subject(args.subject)
    by_path = {frame.file_path.resolve(): frame for frame in subject.frames}
    held_out = [by_path[Path(name).resolve()] for name in data.eval_dataset.image_filenames]
    trained = [by_path[Path(name).resolve()] for name in data.train_dataset.image_filenames]
    chosen = chosen_frames(subject, held_out, args.frames)
    rows: dict[str, dict[int, dict[str, float]]] = {method: {}, NEAREST: {}}
    pictures: dict[int, ndarray] = {}
    truths: dict[int, Truth] = {}
    for index in sorted({index for group in chosen.values() for index in group}):
        frame = held_out[index]
        truth = read_truth(subject, frame, args.downscale)
        nearest = read_truth(subject, nearest_training_frame(subject, frame, trained), args.downscale).picture
        # A picture of nerface's takes minutes: where the face alone counts, the rest is left out.
        part = whole_picture(truth) if index in chosen["even"] else face_square(truth)
        camera = part_of(data.eval_dataset.cameras[index : index + 1], part).to(pipeline.device)
        with torch.no_grad():
            pictures[index] = pipeline.model.get_outputs_for_camera(camera)["rgb"].float().cpu().numpy()
        truths[index] = cropped(truth, part)
        rows[method][index] = judged(pictures[index], truths[index])
        rows[NEAREST][index] = judged(nearest[part], truths[index])
    cv2.imwrite(str(args.output / "truth.png"), face_row([(truths[i].picture, truths[i]) for i in chosen["sheet"]]))
    cv2.imwrite(str(args.output / f"{method}.png"), face_row([(pictures[i], truths[i]) for i in chosen["sheet"]]))
    costs = {method: {"steps": steps, "processor minutes": seconds / 60}, NEAREST: {}}
    for name, judgements in rows.items():
        result = summary(judgements, chosen) | costs[name]
        (args.output / f"{name}.json").write_text(json.dumps(result, indent=1))


def config_of(args: argparse.Namespace, method: str, steps: int) -> Any:
    """A method's config for a run of so many steps."""
    config = configured(method, {}, args.subject, args.seed, steps)
    data = config.pipeline.datamanager.dataparser
    data.split, data.spread_interval, data.downscale_factor = args.split, args.interval, args.downscale
    config.output_dir, config.experiment_name, config.timestamp = args.output / "training", method, str(steps)
    return config


def judged(picture: Float[ndarray, "h w 3"], truth: Truth) -> dict[str, float]:
    """PSNR in dB of the whole picture and of each region, and the perceptual distance."""
    everywhere = np.ones(picture.shape[:2], dtype=bool)
    whole = Truth(truth.picture, {"whole": everywhere, **truth.regions}, None)
    return psnr_scores(picture, whole) | {"perceptual": perceptual_distance(picture, truth)}


def summary(rows: dict[int, dict[str, float]], chosen: dict[str, list[int]]) -> dict[str, float]:
    """Means over the even frames, of the eyes over shut ones, of the mouth over open ones."""
    result = mean_scores([rows[index] for index in chosen["even"]])
    for group, region in (("shut", "eyes"), ("open", "mouth")):
        values = [rows[index][f"PSNR {region}"] for index in chosen[group]]
        if values:
            result[f"PSNR {region}, {group}"] = float(np.mean(values))
        result[f"frames {group}"] = len(values)
    return result


Part = tuple[slice, slice]
"""Rows and columns of a picture."""


def whole_picture(truth: Truth) -> Part:
    height, width = truth.picture.shape[:2]
    return slice(0, height), slice(0, width)


def face_square(truth: Truth) -> Part:
    """A square around eyes and mouth."""
    rows, columns = np.nonzero(sum(truth.regions[name] for name in ("eyes", "mouth") if name in truth.regions))
    side = int(SQUARE * max(np.ptp(rows), np.ptp(columns)))
    top, left = (max(0, int((values.min() + values.max() - side) / 2)) for values in (rows, columns))
    return slice(top, top + side), slice(left, left + side)


def cropped(truth: Truth, part: Part) -> Truth:
    return Truth(truth.picture[part], {name: region[part] for name, region in truth.regions.items()}, None)


def part_of(camera: Cameras, part: Part) -> Cameras:
    """The camera that sees a part of the picture of one camera."""
    (top, bottom), (left, right) = ((side.start, side.stop) for side in part)
    return Cameras(
        camera_to_worlds=camera.camera_to_worlds, fx=camera.fx, fy=camera.fy, cx=camera.cx - left, cy=camera.cy - top,
        width=right - left, height=bottom - top, times=camera.times, metadata=camera.metadata,
    )  # fmt: skip


def face_row(pictures: list[tuple[Float[ndarray, "h w 3"], Truth]]) -> Float[ndarray, "h w 3"]:
    """The faces beside each other, as OpenCV writes them."""
    faces = [picture[face_square(truth)] for picture, truth in pictures]
    return beside_each_other([cv2.resize(face, (TILE, TILE), interpolation=cv2.INTER_CUBIC) for face in faces])


def as_table(found: dict[str, dict[str, float]]) -> str:
    """Markdown: a row for each method."""
    names = {
        "whole": "PSNR whole", "matte": "PSNR matte", "mouth": "PSNR mouth", "mouth open": "PSNR mouth, open",
        "eyes": "PSNR eyes", "eyes shut": "PSNR eyes, shut", "perceptual": "perceptual",
    }  # fmt: skip
    lines = ["| | " + " | ".join(names) + " | steps |", "|---" * (len(names) + 2) + "|"]
    for method, scores in found.items():
        cells = [
            f"{scores[key]:.{3 if key == 'perceptual' else 1}f}" if key in scores else "" for key in names.values()
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {scores.get('steps', '')} |")
    some = next(iter(found.values()))
    return "\n".join(lines) + f"\n\n{some['frames shut']} frames of shut eyes, {some['frames open']} of open mouths.\n"


if __name__ == "__main__":
    main()
