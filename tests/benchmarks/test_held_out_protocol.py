"""Figures over the whole picture, as papers on INSTA's clips print them, beside those over the head."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def held_out(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return pytest.importorskip("held_out")


def test_an_exact_background_lifts_the_figure_by_the_share_of_the_head(held_out):
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (40, 40, 3)).astype(np.float32)
    head = np.zeros((40, 40), dtype=bool)
    head[10:30, 10:30] = True
    picture = truth + 0.1 * head[..., None].astype(np.float32)
    regions = {"head": head, "whole": np.ones_like(head)}
    judged = held_out.Truth(truth, head.astype(np.float32), regions)
    found = held_out.scores(picture, judged)
    assert found["head PSNR"] == pytest.approx(20, abs=1e-3)
    assert found["whole PSNR"] == pytest.approx(20 + 10 * np.log10(4), abs=1e-3)
    assert found["head SSIM"] < found["whole SSIM"] < 1
    perceived = held_out.perceptual_scores(
        picture, judged, lambda rgb, truth: {"lpips": float(rgb.shape == truth.shape)}
    )
    assert perceived == {"whole LPIPS": 1.0}
    assert held_out.perceptual_scores(picture, judged, lambda rgb, truth: {}) == {}


def test_the_protocol_says_which_frames_are_held_out():
    command = [sys.executable, str(FOLDER / "held_out.py"), "none", "--protocol", "insta", "--split", "spread"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "leave --split out" in done.stderr
