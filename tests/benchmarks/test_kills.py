"""The kill suite tells what differs and what is left over, and the soak test what grows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import soak
from killing.results import contents, differences


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "subject/images").mkdir(parents=True)
    np.savez(tmp_path / "subject/head.npz", vertices=np.arange(6.0))
    (tmp_path / "subject/transforms.json").write_text(json.dumps({"w": 64, "frames_per_second": 3.0}))
    (tmp_path / "subject/images/00000.png").write_bytes(b"a picture")
    torch.save({"step": 9, "pipeline": {"weight": torch.ones(3)}}, tmp_path / "step-000000009.ckpt")
    return tmp_path


def test_equal_results_are_equal_however_long_they_took(place):
    whole = contents(place)
    (place / "subject/transforms.json").write_text(json.dumps({"w": 64, "frames_per_second": 5.0}))
    torch.save({"step": 9, "pipeline": {"weight": torch.zeros(3)}}, place / "step-000000009.ckpt")
    assert differences(contents(place), whole) == ("", "")


@pytest.mark.parametrize(
    "name, spoil, other, left",
    [
        ("head.npz", lambda p: np.savez(p, vertices=np.arange(6.0) + 1e-7), "head.npz differs at /vertices", ""),
        ("transforms.json", lambda p: p.write_text('{"w": 65, "frames_per_second": 3}'), "differs at /w", ""),
        ("images/00000.png", lambda p: p.unlink(), "images/00000.png is missing", "subject/images/"),
        ("images/.00000.png.part", lambda p: p.write_bytes(b"a"), "", "subject/images/.00000.png.part"),
        (".work", lambda p: p.mkdir(), "", "subject/.work/"),
        ("../step-000000009.ckpt", lambda p: torch.save({"step": 8}, p), "step-000000009.ckpt differs", ""),
    ],
)  # fmt: skip
def test_what_differs_and_what_is_left_over_is_told(place, name, spoil, other, left):
    whole = contents(place)
    spoil(place / "subject" / name)
    found, over = differences(contents(place), whole)
    assert other in found and bool(found) == bool(other) and over == left


def test_growth_is_told_from_noise():
    noise = np.random.default_rng(0).normal(0, 3, 400)
    for grows in (0.0, 90.0):
        minutes = np.linspace(0, 30, 400)
        held = 600 + grows * minutes / 60 + noise
        samples = [soak.Sample(m, mb, 900, 0, 1) for m, mb in zip(minutes, held, strict=True)]
        growth, doubt = soak.slope(samples)
        assert abs(growth - grows) < 3 * doubt < 12


@pytest.mark.slow
def test_kills_of_a_command():
    script = Path(__file__).parents[2] / "benchmarks/kills.py"
    command = [sys.executable, "-W", "ignore", script, "--kills", "3", "--commands", "depth"]
    done = subprocess.run([*map(str, command), "--console", "0"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| 3 | 0 | 0 | 0 | 0 | 0 | 0 |" in done.stdout
