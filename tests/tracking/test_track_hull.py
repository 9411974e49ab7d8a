"""What all mattes of a clip agree on: hair stays, wisps of background go."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from track_heads import egg_head

from data_tools.runs.pictures import load_grey, save_picture
from data_tools.tracking.camera import FLIP
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.fit.neck import neck_pose
from data_tools.tracking.fit.stages import Observations
from data_tools.tracking.masks.hull import choose_voters
from data_tools.tracking.observe.framing import Framing
from data_tools.tracking.result import write_masks
from flame_nerf.data.overlap import cover
from flame_nerf.geometry import axis_angle_to_matrix, perspective

SIDE, FOCAL, AWAY = 192, 400.0, 0.75
BUN, BUN_RADIUS = (0.06, 0.09, -0.02), 0.025
"""Hair beside the crown, in the head frame, metres."""
HEAD = egg_head()


def _fit(yaw_deg: np.ndarray) -> Fitted:
    """The egg at `AWAY` metres, turned by some angles about its axis."""
    turn = np.zeros((len(yaw_deg), 3))
    turn[:, 1] = np.radians(yaw_deg)
    rotation = FLIP @ axis_angle_to_matrix(torch.from_numpy(turn)).numpy()
    pose = neck_pose(HEAD, torch.from_numpy(rotation), np.arange(len(yaw_deg)) / 25).float()
    expression, identity = torch.zeros(len(yaw_deg), len(HEAD.expression_names)), torch.zeros(6)
    return Fitted(
        vertices=HEAD.vertices(identity, expression, pose).numpy(),
        canonical=HEAD.template.numpy(),
        expression=expression.numpy(),
        pose=pose.numpy(),
        identity=identity.numpy(),
        rotation=rotation,
        translation=np.tile([0.0, -0.02, AWAY], (len(yaw_deg), 1)),
        focal=FOCAL,
        centre=np.full(2, SIDE / 2),
    )


def _disc(fitted: Fitted, frame: int, place: np.ndarray, radius: float) -> np.ndarray:
    """Which pixels a ball at `place` of the head frame covers."""
    pixel = perspective(fitted.rotation[frame] @ place + fitted.translation[frame], FOCAL, fitted.centre)
    drawn = np.zeros((SIDE, SIDE), dtype=np.uint8)
    cv2.circle(drawn, tuple(np.round(pixel).astype(int).tolist()), round(radius * FOCAL / AWAY), 1, -1)
    return drawn > 0


def _masks(tmp_path: Path, fitted: Fitted, mattes: list[np.ndarray]) -> list[np.ndarray]:
    frames = len(mattes)
    paths = [tmp_path / f"matte{k}.png" for k in range(frames)]
    for path, matte in zip(paths, mattes, strict=True):
        save_picture(path, matte)
    seen = Observations(
        kept=np.arange(frames),
        slots=np.arange(frames, dtype=float),
        seconds=np.arange(frames) / 25,
        landmarks=np.zeros((frames, 0, 3)),
        mattes=paths,
        framing=Framing((SIDE, SIDE), 0, 0, SIDE, SIDE, (SIDE, SIDE)),
    )
    targets = [tmp_path / f"mask{k}.png" for k in range(frames)]
    write_masks(HEAD, fitted, seen, targets, False, None, 2, lambda: None)
    return [load_grey(path) for path in targets]


def _person(fitted: Fitted, frame: int, hair: bool = True) -> np.ndarray:
    camera = fitted.in_camera(frame)
    covered = cover(perspective(camera, FOCAL, fitted.centre), HEAD.faces.numpy(), (SIDE, SIDE))
    return covered | _disc(fitted, frame, np.array(BUN), BUN_RADIUS) if hair else covered


YAW = 15 * np.sin(np.linspace(0, 5, 14))


def test_wisps_that_come_and_go_are_background_and_hair_stays(tmp_path):
    fitted, random = _fit(YAW), np.random.default_rng(0)
    person = [_person(fitted, frame) for frame in range(len(YAW))]
    mattes, wisps = [], []
    for frame, own in enumerate(person):
        # A window behind the neck, not the same piece of it in any two frames; within reach of the scalp.
        side, height = (-1) ** frame, random.uniform(-0.1, 0.06)
        place = fitted.rotation[frame].T @ [side * 0.115, -height, 0.0]
        wisp = _disc(fitted, frame, place, 0.016) & ~cv2.dilate(own.astype(np.uint8), np.ones((17, 17))).astype(bool)
        assert wisp.sum() > 20
        wisps.append(wisp)
        mattes.append(np.where(own, 255, np.where(wisp, 180, 0)).astype(np.uint8))
    masks = _masks(tmp_path, fitted, mattes)
    head = [_disc(fitted, frame, np.array([0.0, 0.02, 0.0]), 0.15) for frame in range(len(YAW))]
    for mask, own, wisp, near in zip(masks, person, wisps, head, strict=True):
        assert mask[wisp].mean() < 2
        assert mask[own & near].mean() > 254


@pytest.mark.parametrize(("frames", "missed"), [(1, None), (2, 1), (4, 0)])
def test_short_clips_lose_no_hair_even_if_a_matte_misses_it(tmp_path, frames, missed):
    fitted = _fit(np.linspace(0, 5, frames))
    person = [_person(fitted, frame, frame != missed) for frame in range(frames)]
    masks = _masks(tmp_path, fitted, [np.where(own, 255, 0).astype(np.uint8) for own in person])
    for frame, (mask, own) in enumerate(zip(masks, person, strict=True)):
        hair = own & ~_person(fitted, frame, hair=False)
        assert frame == missed or (hair.sum() > 40 and mask[hair].min() == 255)


def test_hair_that_a_seventh_of_the_mattes_miss_stays_in_the_others(tmp_path):
    fitted = _fit(YAW)
    missed = np.arange(len(YAW)) % 7 == 0
    person = [_person(fitted, frame, not gone) for frame, gone in enumerate(missed)]
    masks = _masks(tmp_path, fitted, [np.where(own, 255, 0).astype(np.uint8) for own in person])
    for frame in np.flatnonzero(~missed):
        hair = person[frame] & ~_person(fitted, frame, hair=False)
        assert masks[frame][hair].min() == 255


def test_a_seldom_seen_side_has_a_say_and_a_few_bad_frames_have_no_majority():
    yaw = np.concatenate([np.random.default_rng(0).normal(0, 1, 290), np.linspace(30, 60, 10)])
    rows, votes = choose_voters(_fit(yaw).rotation)
    assert (np.diff(rows) > 0).all()
    side = votes[rows >= 290].sum() / votes.sum()
    assert 0.1 < side < 0.45
    # All of a short clip vote, and equally if equally turned.
    rows, votes = choose_voters(_fit(np.zeros(8)).rotation)
    assert rows.tolist() == list(range(8)) and np.ptp(votes) == 0
