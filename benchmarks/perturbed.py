"""Whether tracking notices the frames that it gets wrong: a film whose truth is known, spoiled in places. A table.

    python benchmarks/perturbed.py
    python benchmarks/perturbed.py --subject subjects/ada --keep tracked/

Of the synthetic person's film every second stretch of five frames is blurred, shaken, noisy, covered, overexposed, dark
or coarse, each mildly, strongly and beyond recognition.
A frame's error is the mean distance of the face's tracked vertices from the true ones in the picture, as a share of
the face's height. Marked are frames that are left out, and those that the summary names as off the course of the
frames around them. Told as hard to see are others that it names, as followed by their landmarks alone or as covered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from track_clips import pictures_of, steady, write_video

from data_tools.synth import SynthConfig, synthesise
from data_tools.tracking import TrackConfig, track
from flame_nerf.geometry import project
from flame_nerf.subject import Subject, load_subject

FACE = ("skin", "lips", "eyelids")
WRONG = 0.02
"""Share of the face's height from which a frame is wrong."""
Change = Callable[[np.ndarray, tuple[float, float], float], np.ndarray]


def blur(share: float) -> Change:
    """Out of focus, by a Gaussian of this share of the face's height."""
    return lambda picture, middle, height: cv2.GaussianBlur(picture, (0, 0), share * height)


def shake(share: float) -> Change:
    """Moved while the shutter was open, by this share of the face's height to the side."""

    def change(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
        length = max(2, round(share * height))
        return cv2.blur(picture, (length, 1))

    return change


def noise(deviation: float, gain: float = 1.0) -> Change:
    """A sensor's noise, grey levels, at this share of the light."""

    def change(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
        random = np.random.default_rng(int(1000 * middle[0]))
        return np.clip(gain * picture + random.normal(0, deviation, picture.shape), 0, 255).astype(np.uint8)

    return change


def hand(across: float, down: float, wide: float, tall: float, lean: float = 25.0) -> Change:
    """Skin-coloured, its middle so far from the face's and of such half axes, shares of the face's height."""

    def change(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
        covered, at = picture.copy(), (round(middle[0] + across * height), round(middle[1] + down * height))
        axes = (round(wide * height), round(tall * height))
        return cv2.ellipse(covered, at, axes, lean, 0, 360, (205, 155, 125), -1, cv2.LINE_AA)

    return change


def light(gain: float, lift: float = 0.0) -> Change:
    return lambda picture, middle, height: np.clip(gain * picture.astype(float) + lift, 0, 255).astype(np.uint8)


def coarse(share: float) -> Change:
    """In squares of this share of the face's height, as calls over a bad line are."""

    def change(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
        scale = 1 / max(1.0, share * height)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)

    return change


PERTURBED: dict[str, tuple[Change, ...]] = {
    "blur": (blur(0.03), blur(0.06), blur(0.1)),
    "shaken": (shake(0.12), shake(0.25), shake(0.4)),
    "noise": (noise(25), noise(45), noise(80)),
    "hand": (
        hand(0.12, 0.22, 0.22, 0.38),
        hand(-0.1, 0.35, 0.35, 0.2, 0.0),
        hand(0.0, -0.2, 0.45, 0.14, 0.0),
        hand(0.3, 0.0, 0.25, 0.6, 0.0),
    ),
    "overexposed": (light(2.2, 40), light(3.5, 60)),
    "dark": (light(0.12), light(0.05), noise(12, 0.15)),
    "coarse": (coarse(0.05), coarse(0.1)),
}
"""What is done to every second stretch, from mild to strong; in the last one every second frame is dropped."""
DROPPED = "dropped frames"


def face_of(subject: Subject, row: int) -> np.ndarray:
    """Pixels [N, 2] of the face's vertices in a frame."""
    frame = subject.frames[row]
    face = np.unique(subject.track.faces[subject.track.region_faces(*FACE)])
    return project(subject.track.vertices[frame.timestep, face], frame.c2w, subject.intrinsics_of(frame))


def spoiled_film(truth: Subject, film: Path, count: int, path: Path) -> tuple[list[int], list[str]]:
    """Write the spoiled film.

    Returns:
        True frame that each of its frames shows, and what was done to it; empty where nothing was.
    """
    pictures, shown, done, spoiled = pictures_of(film, count), [], [], []
    kinds = [(name, change) for name, changes in PERTURBED.items() for change in changes] + [(DROPPED, None)]
    for row, picture in enumerate(pictures):
        stretch = 2 * len(kinds) * row // count
        name, change = ("", None) if stretch % 2 == 0 else kinds[stretch // 2]
        if name == DROPPED and row % 2:
            continue
        points = face_of(truth, row)
        if change is not None:
            picture = change(picture, tuple(points.mean(axis=0)), float(np.ptp(points[:, 1])))
        shown.append(row)
        done.append(name)
        spoiled.append(picture)
    write_video(path, spoiled, [steady(count)[row] for row in shown])
    return shown, done


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=220, help="length of the film")
    parser.add_argument("--seed", type=int, default=0, help="who is in it")
    parser.add_argument("--subject", type=Path, help="a synthetic subject that is there already, with its film.mp4")
    parser.add_argument("--keep", type=Path, help="folder for the film and its track")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="perturbed-") as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        root = options.subject or place / "truth"
        if options.subject is None:
            synthesise(
                root, SynthConfig(options.frames, seed=options.seed, view_moments=1, novel_frames=6), silent=True
            )
        truth = load_subject(root)
        shown, done = spoiled_film(truth, root / "film.mp4", options.frames, place / "spoiled.mp4")
        summary = track(place / "spoiled.mp4", place / "tracked", TrackConfig(), silent=True)
        tracked = load_subject(place / "tracked")
    numbers = np.arange(len(shown))
    marked = np.isin(numbers, [*summary.dropped, *summary.off_course])
    hard = np.isin(numbers, [*summary.by_landmarks, *summary.covered]) & ~marked
    error = np.full(len(shown), np.inf)
    for row, frame in enumerate(tracked.frames):
        number = int(frame.file_path.stem)
        true = face_of(truth, shown[number])
        off = np.linalg.norm(face_of(tracked, row) - true, axis=1).mean()
        error[number] = off / np.ptp(true[:, 1])
    if options.keep:
        np.savez(place / "errors.npz", error=error, marked=marked, hard=hard, done=np.array(done))
    heads = "wrong | of them marked | good | of them marked | told as hard to see"
    print(f"| frames | all | left out | median error | {heads} |\n|---|{'---:|' * 8}")
    for name in ["", *PERTURBED, DROPPED]:
        _line(name or "untouched", np.array(done) == name, error, marked, hard)
    _line("all", np.ones(len(done), bool), error, marked, hard)
    return 0


def _line(name: str, which: np.ndarray, error: np.ndarray, marked: np.ndarray, hard: np.ndarray) -> None:
    left_out = which & ~np.isfinite(error)
    kept = which & np.isfinite(error)
    wrong, good = kept & (error > WRONG), kept & (error <= WRONG)
    median = f"{100 * np.median(error[kept]):.2f} %" if kept.any() else ""
    cells = [which.sum(), left_out.sum(), median, wrong.sum(), (wrong & marked).sum()]
    cells += [good.sum(), (good & marked).sum(), (good & hard).sum()]
    print(f"| {name} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    sys.exit(main())
