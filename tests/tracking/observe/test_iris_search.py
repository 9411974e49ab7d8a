"""Irises in pictures: on drawn eyes whose irises move by known distances, while the face mesh sees a part of it."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_tools.runs.pictures import save_picture
from data_tools.tracking.observe.eyes.irises import find_irises, learn_irises, with_irises
from data_tools.tracking.observe.eyes.stage import gaze_notes

FRAMES, SHUT = 40, 17
EYES = {"left": (473, (263, 362), (466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382)),
        "right": (468, (33, 133), (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155))}  # fmt: skip
"""The mesh's numbers: middle of the iris, outer and inner corner, upper and lower lid from the outer corner."""
MESH_SEES = np.array([0.75, 0.35])
IRIS, PUPIL = 5.9, 2.0
ZOOM = 4


@dataclass
class Drawn:
    pictures: list[Path]
    landmarks: np.ndarray
    truth: np.ndarray
    """How far each iris is from the middle of its eye, millimetres, [T 2 2]."""
    per_mm: float


def draw(folder: Path, per_mm: float, colour: float, frames: int = FRAMES, glasses: bool = False) -> Drawn:
    """A face's eyes in small pictures: lids, lashes' shadow, whites that darken to the corners, a glint, noise.

    Args:
        per_mm: pixels a millimetre.
        colour: grey of the irises.
    """
    random, time = np.random.default_rng(4), np.arange(frames)
    look = np.stack([2.2 * np.sin(time / 5.0), 1.1 * np.sin(time / 3.0 + 1)], axis=1)
    truth = np.repeat(look[:, None], 2, axis=1)
    width, height = round(100 * per_mm), round(26 * per_mm)
    pictures, landmarks = [], np.zeros((frames, 478, 3))
    for frame in time:
        # Seen from the subject's front, their left is to the right; the head drifts through the picture.
        middle = np.array([width, height]) / 2 + per_mm * np.array([2 * np.sin(frame / 8), np.cos(frame / 7)])
        opening = 0.3 if frame == SHUT else 5.5 + 0.8 * np.sin(frame / 4)
        fine = np.full((height * ZOOM, width * ZOOM), 0.62, np.float32)
        y, x = (axis.astype(np.float32) for axis in np.mgrid[: height * ZOOM, : width * ZOOM])
        points = landmarks[frame]
        points[10, :2], points[152, :2] = middle + per_mm * np.array([0, -60]), middle + per_mm * np.array([0, 60])
        for eye, (iris, corners, upper, lower) in enumerate(EYES.values()):
            side = 1 if eye == 0 else -1
            centre = middle + per_mm * np.array([side * 31.0, 0])
            ahead = [(14 - 3.5 * n) * side for n in range(1, 8)]
            arc = [1 - (a / 14) ** 2 for a in ahead]
            for number, a in zip(corners, (14, -14), strict=True):
                points[number, :2] = centre + per_mm * np.array([a * side, 0])
            for number, a, high in zip(upper, ahead, arc, strict=True):
                points[number, :2] = centre + per_mm * np.array([a, -opening * high])
            for number, a, high in zip(lower, ahead, arc, strict=True):
                points[number, :2] = centre + per_mm * np.array([a, 0.8 * opening * high])
            points[iris : iris + 5, :2] = centre + per_mm * (MESH_SEES * truth[frame, eye] + random.normal(0, 0.15, 2))
            across, down = (x / ZOOM - centre[0]) / per_mm, (y / ZOOM - centre[1]) / per_mm
            room = 1 - (across / 14) ** 2
            inside = (down > -opening * room) & (down < 0.8 * opening * room) & (np.abs(across) < 14)
            drawn = 0.92 - 0.25 * (across / 14) ** 2
            far = np.hypot(across - truth[frame, eye, 0], down - truth[frame, eye, 1])
            drawn = np.where(far < IRIS, colour, drawn)
            drawn = np.where(far < PUPIL, 0.06, drawn)
            drawn = np.where(np.hypot(across - 1.5, down + 1) < 0.8, 1.0, drawn)
            drawn = drawn * np.clip(0.45 + 0.5 * (down + opening * room), 0.45, 1)
            fine = np.where(inside, 0.1 if glasses else drawn, 0.1 if glasses else fine)
        small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
        grey = np.clip(255 * (small + random.normal(0, 0.01, small.shape)), 0, 255).astype(np.uint8)
        pictures.append(folder / f"{frame:03d}.png")
        save_picture(pictures[-1], np.repeat(grey[..., None], 3, axis=2))
    return Drawn(pictures, landmarks, truth, per_mm)


@pytest.mark.parametrize("per_mm, colour", [(0.7, 0.35), (1.6, 0.5)])
def test_irises_are_found_where_they_are(tmp_path, per_mm, colour):
    """In eyes of 20 pixels and of 45, by what moves them, not by where the mesh draws them."""
    drawn = draw(tmp_path, per_mm, colour)
    look = learn_irises(drawn.pictures, drawn.landmarks)
    shift, found = find_irises(drawn.pictures, drawn.landmarks, look)
    opened = np.arange(FRAMES) != SHUT
    assert found[opened].mean() > 0.95 and not found[SHUT].any() and not shift[SHUT].any()
    moved = with_irises(drawn.landmarks, shift)
    others = np.setdiff1d(np.arange(478), np.arange(468, 478))
    np.testing.assert_array_equal(moved[:, others], drawn.landmarks[:, others])
    for eye, (iris, corners, *_) in enumerate(EYES.values()):
        rows = opened & found[:, eye]
        at = (moved[:, iris, :2] - moved[:, corners, :2].mean(axis=1)) / per_mm
        for axis in (0, 1):
            true, seen = drawn.truth[rows, eye, axis], at[rows, axis]
            assert 0.9 < np.polyfit(true, seen, 1)[0] < 1.1
            assert np.corrcoef(true, seen)[0, 1] > 0.97
            # On average they stay where the mesh has them, which the head's landmarks were made for.
            marked = (drawn.landmarks[:, iris, :2] - moved[:, corners, :2].mean(axis=1))[rows, axis] / per_mm
            assert abs(np.median(seen) - np.median(marked)) < 0.25
        # All of an iris goes as one.
        ring = moved[:, iris : iris + 5] - drawn.landmarks[:, iris : iris + 5]
        np.testing.assert_allclose(ring, np.broadcast_to(ring[:, :1], ring.shape), atol=1e-9)


def test_irises_behind_dark_glasses_are_not_told(tmp_path):
    drawn = draw(tmp_path, 0.7, 0.35, frames=15, glasses=True)
    assert learn_irises(drawn.pictures, drawn.landmarks) is None


def test_a_clip_of_shut_eyes_has_no_irises(tmp_path):
    drawn = draw(tmp_path, 0.7, 0.35, frames=SHUT + 1)
    shut = [SHUT] * 12
    assert learn_irises([drawn.pictures[n] for n in shut], drawn.landmarks[shut]) is None


def test_gaze_that_is_a_guess_is_said():
    found = np.ones((40, 2), dtype=bool)
    found[:3] = found[5:20, 0] = False
    assert gaze_notes(found) == ()
    found[:8] = False
    assert "8 of 40 frames" in gaze_notes(found)[0] and "face mesh" in gaze_notes(None)[0]
