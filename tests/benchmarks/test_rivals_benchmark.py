"""Methods beside each other, judged where a blink and an open mouth are."""

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import make_subject

from flame_nerf.subject import load_subject, write_subject

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import rivals  # noqa: E402
from quality_scores import LIPS  # noqa: E402

SHUT, WIDE = 4, 8
"""Timesteps with shut eyes and with a wide mouth."""


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Eight pixels of an eye's width, two of its height; a mouth of eight, one of them open."""
    root = tmp_path_factory.mktemp("rivals") / "subject"
    made = make_subject(root, size=64, count=12)
    points = np.zeros((12, 478, 2), np.float32)
    for left, (across, along) in (
        (20, (rivals.LIDS[0], rivals.EYE_CORNERS[0])),
        (36, (rivals.LIDS[1], rivals.EYE_CORNERS[1])),
    ):
        points[:, along[0]], points[:, along[1]] = (left, 24), (left + 8, 24)
        points[:, across[0]], points[:, across[1]] = (left + 4, 23), (left + 4, 25)
        points[SHUT, across[0]] = points[SHUT, across[1]]
    for index in rivals.LIPS[0]:
        points[:, index] = (32, 40)
    points[:, rivals.LIP_CORNERS[0][0]], points[:, rivals.LIP_CORNERS[0][1]] = (28, 40), (36, 40)
    points[WIDE, rivals.LIPS[0][1]] = (32, 44)
    # The mouth's box is made of more landmarks than its opening.
    points[:, [0, 17]] = (32, 36), (32, 44)
    points[:, [index for index in LIPS if not points[0, index].any()]] = (32, 40)
    track = dataclasses.replace(made.track, landmarks2d=points)
    write_subject(dataclasses.replace(made, track=track))
    return load_subject(root)


def test_shut_eyes_and_open_mouths_are_found(subject):
    frames = list(subject.frames)
    chosen = rivals.chosen_frames(subject, frames, 3)
    assert chosen["shut"] == [SHUT] and chosen["open"] == [WIDE]
    assert chosen["even"] == [0, 4, 8]
    assert chosen["sheet"][0] == SHUT and chosen["sheet"][-1] == WIDE
    assert rivals.opening(subject, frames[WIDE], rivals.LIPS, rivals.LIP_CORNERS) == pytest.approx(0.5)


def test_the_face_alone_is_rendered_as_in_the_whole_picture(subject):
    truth = rivals.read_truth(subject, subject.frames[0], 1)
    part = rivals.face_square(truth)
    small = rivals.cropped(truth, part)
    for name in ("eyes", "mouth"):
        assert small.regions[name].sum() == truth.regions[name].sum() > 0
        noisy = np.clip(truth.picture + 0.1, 0, 1)
        assert rivals.judged(noisy[part], small)[f"PSNR {name}"] == rivals.judged(noisy, truth)[f"PSNR {name}"]


@pytest.mark.slow
def test_table_and_sheet(subject, tmp_path, monkeypatch, capsys):
    command = ["rivals.py", str(subject.root), "--methods", "flame-nerf-cpu", "--steps", "flame-nerf-cpu=20"]
    monkeypatch.setattr(sys, "argv", [*command, "--split", "stored", "--frames", "2", "--output", str(tmp_path)])
    rivals.main()
    table = capsys.readouterr().out
    assert "| flame-nerf-cpu | " in table and "| nearest training frame | " in table
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    # Two frames are held out, so there are no more to find shut eyes in.
    assert sheet.shape[:2] == (2 * rivals.TILE, (2 + rivals.MOUTHS) * rivals.TILE)
    rivals.main()
    assert "Reading pictures" not in capsys.readouterr().out
