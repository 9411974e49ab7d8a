"""One short training of the synthetic head by `ns-train`, for all tests that want what training leaves."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import commands
import pytest
from filelock import FileLock
from synthetic import make_subject
from synthetic_head import make_head

from flame_nerf.heads import save_head
from flame_nerf.subject import write_subject

STEPS = 200
OPEN_FRAME = 7
"""The mouth is shut in frame 0 and wide open in this one."""
RUN = Path("outputs/subject/flame-nerf-cpu/t")
"""Folder of the run, in the folder that it was started from."""


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory) -> Path:
    """Folder in which `ns-train flame-nerf-cpu --data subject` ran, the data's path relative. Not to be written to."""
    place = tmp_path_factory.getbasetemp()
    # Test processes that run beside each other share what one of them has made.
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder = place / "trained"
    with FileLock(place / "trained.lock"):
        if not (folder / "whole").exists():
            _train(folder)
            (folder / "whole").touch()
    return folder


def _train(folder: Path) -> None:
    subject = make_subject(folder / "subject", size=48, count=15)
    save_head(make_head(), folder / "subject/head_model.npz")
    write_subject(dataclasses.replace(subject, head_model="head_model.npz"))
    done = commands.run(
        "ns-train", "flame-nerf-cpu", "--data", "subject", "--max-num-iterations", STEPS,
        "--timestamp", "t", "--pipeline.datamanager.train-num-rays-per-batch", 512, "--vis", "tensorboard",
        "--pipeline.model.refinement.pose.calibration-start-step", 100, "--steps-per-eval-image", 150, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
