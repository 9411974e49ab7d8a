"""Does the number of trust follow the true error? On a synthetic person, of whom every view and face is known.

    flame-nerf-data synth SUBJECT
    ns-train flame-nerf-cpu --data SUBJECT
    python benchmarks/trust.py outputs/…/config.yml SUBJECT

Renders the training film's frames, trained and held out, the same moments from cameras beside it, and expressions that
training never showed. Prints the rank correlation (Spearman) of trust with PSNR inside the matte and the mouth's box,
and mean PSNR by trust.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from quality import camera_of
from quality_scores import psnr_scores, read_truth
from scipy.stats import spearmanr

from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.motion import SubjectMotion
from flame_nerf.subject import load_subject
from flame_nerf.subject.stabilised import stabilize_head

FILMS = {".": "filmed", "novel_view": "other views", "novel_expression": "other faces"}
EDGES = (0.0, 0.1, 0.4, 0.7, 0.9, 1.0)
"""Between the lines of the table."""


@torch.no_grad()
def judged(model, folder: Path, downscale: int, every: int) -> list[tuple[float, float, float]]:
    """Trust, and PSNR in dB inside the matte and the mouth's box, of every so-many-th frame of a film."""
    subject = load_subject(folder)
    still = stabilize_head(subject)
    motion, known, rows = SubjectMotion(still.track), model.trust_map(), []
    for filmed, frame in list(zip(subject.frames, still.frames, strict=True))[::every]:
        truth, moment = read_truth(subject, filmed, downscale), motion.at_timestep(frame.timestep)
        camera = camera_of(still, frame, downscale).to(model.device)
        camera.metadata = {"expr": moment.to(model.device)}
        outputs = model.get_outputs_for_camera(camera)
        # On white, whatever the avatar was trained on.
        opacity = outputs["accumulation"].cpu()
        colour = model.get_rgba_image(outputs)[..., :3].cpu() * opacity + 1 - opacity
        found = psnr_scores(colour.numpy(), truth)
        trust = known.at(moment, frame.c2w[:3, 3])
        rows.append((trust.value, found["PSNR matte"], found.get("PSNR mouth", np.nan)))
    return rows


def line(name: str, rows: np.ndarray) -> str:
    """One line of the table of correlations."""
    ranks = [spearmanr(rows[:, 0], rows[:, column], nan_policy="omit").statistic for column in (1, 2)]
    return f"| {name} | {len(rows)} | {ranks[0]:.2f} | {ranks[1]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--downscale", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="judge every so-many-th frame")
    args = parser.parse_args()
    model = load_pipeline(args.config, args.subject).model
    rows = {name: np.array(judged(model, args.subject / folder, args.downscale, args.every))
            for folder, name in FILMS.items()}  # fmt: skip
    everything = np.concatenate(list(rows.values()))
    print("| pictures | number | head | mouth |\n|---|---|---|---|")
    print(line("all", everything))
    for name, some in rows.items():
        print(line(name, some))
    print("\n| trust | pictures | head, dB | mouth, dB |\n|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        inside = everything[(everything[:, 0] >= low) & (everything[:, 0] < high + (high == 1.0))]
        if len(inside):
            print(f"| {low} to {high} | {len(inside)} | {inside[:, 1].mean():.1f} | {np.nanmean(inside[:, 2]):.1f} |")


if __name__ == "__main__":
    main()
