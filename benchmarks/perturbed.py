"""Whether tracking notices the frames that it gets wrong: a film whose truth is known, spoiled in places. A table.

    python benchmarks/perturbed.py
    python benchmarks/perturbed.py --subject subjects/ada --keep tracked/

Of the synthetic person's film every second stretch of frames is blurred, noisy, covered, overexposed, dark or frozen.
A frame's error is the mean distance of the face's tracked vertices from the true ones in the picture, as a share of
the face's height. Marked are frames that are left out, and those that the summary names as followed by their landmarks
alone, or as covered.
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


def blur(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), 0.06 * height)


def noise(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
    random = np.random.default_rng(int(1000 * middle[0]))
    return np.clip(picture + random.normal(0, 45, picture.shape), 0, 255).astype(np.uint8)


def hand(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
    """Skin-coloured, over the mouth and one cheek."""
    covered, at = picture.copy(), (round(middle[0] + 0.12 * height), round(middle[1] + 0.22 * height))
    cv2.ellipse(covered, at, (round(0.22 * height), round(0.38 * height)), 25, 0, 360, (205, 155, 125), -1, cv2.LINE_AA)
    return covered


def glare(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
    return np.clip(2.2 * picture.astype(float) + 40, 0, 255).astype(np.uint8)


def dusk(picture: np.ndarray, middle: tuple[float, float], height: float) -> np.ndarray:
    return (0.12 * picture).astype(np.uint8)


PERTURBED: dict[str, Change] = {"blur": blur, "noise": noise, "hand": hand, "overexposed": glare, "dark": dusk}
"""What is done to every second stretch; in the last one every second frame is dropped."""
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
    names = [*PERTURBED, DROPPED]
    for row, picture in enumerate(pictures):
        stretch = 2 * len(names) * row // count
        name = "" if stretch % 2 == 0 else names[stretch // 2]
        if name == DROPPED and row % 2:
            continue
        points = face_of(truth, row)
        if name in PERTURBED:
            picture = PERTURBED[name](picture, tuple(points.mean(axis=0)), float(np.ptp(points[:, 1])))
        shown.append(row)
        done.append(name)
        spoiled.append(picture)
    write_video(path, spoiled, [steady(count)[row] for row in shown])
    return shown, done


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=60, help="length of the film")
    parser.add_argument("--subject", type=Path, help="a synthetic subject that is there already, with its film.mp4")
    parser.add_argument("--keep", type=Path, help="folder for the film and its track")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="perturbed-") as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        root = options.subject or place / "truth"
        if options.subject is None:
            synthesise(root, SynthConfig(frames=options.frames, view_moments=1, novel_frames=6), silent=True)
        truth = load_subject(root)
        shown, done = spoiled_film(truth, root / "film.mp4", options.frames, place / "spoiled.mp4")
        summary = track(place / "spoiled.mp4", place / "tracked", TrackConfig(), silent=True)
        tracked = load_subject(place / "tracked")
    marked = np.isin(np.arange(len(shown)), [*summary.dropped, *summary.by_landmarks, *summary.covered])
    error = np.full(len(shown), np.inf)
    for row, frame in enumerate(tracked.frames):
        number = int(frame.file_path.stem)
        true = face_of(truth, shown[number])
        off = np.linalg.norm(face_of(tracked, row) - true, axis=1).mean()
        error[number] = off / np.ptp(true[:, 1])
    if options.keep:
        np.savez(place / "errors.npz", error=error, marked=marked, done=np.array(done), dropped=summary.dropped)
    print("| frames | all | left out | median error | wrong | of them marked | good | of them marked |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in ["", *PERTURBED, DROPPED]:
        _line(name or "untouched", np.array(done) == name, error, marked)
    _line("all", np.ones(len(done), bool), error, marked)
    return 0


def _line(name: str, which: np.ndarray, error: np.ndarray, marked: np.ndarray) -> None:
    left_out = which & ~np.isfinite(error)
    kept = which & np.isfinite(error)
    wrong, good = kept & (error > WRONG), kept & (error <= WRONG)
    median = f"{100 * np.median(error[kept]):.2f} %" if kept.any() else ""
    cells = [which.sum(), left_out.sum(), median, wrong.sum(), (wrong & marked).sum()]
    cells += [good.sum(), (good & marked).sum()]
    print(f"| {name} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    sys.exit(main())
