"""All kinds of bad subject, and how the check and training are tried with one."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from functools import cached_property
from pathlib import Path

import torch

from spoiling.outcome import Answer, Kind, answer_of, files_in
from spoiling.subject_files import DEPTH, SEEN, TRACK
from spoiling.subject_text import CAMERAS, FILE, FRAMES, NUMBERS

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from synthetic import make_subject
from synthetic_head import make_head

from data_tools.check.command import check
from data_tools.depth.config import MESH, DepthConfig
from data_tools.depth.pipeline import write_depth
from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.heads import save_head
from flame_nerf.subject import SubjectError, write_subject

SUBJECT_GROUPS: dict[str, dict[str, Kind]] = {
    "transforms.json": FILE,
    "its fields": NUMBERS,
    "its frames": FRAMES,
    "its cameras": CAMERAS,
    "head.npz": TRACK,
    "pictures and masks": SEEN,
    "depth maps": DEPTH,
}


class GoodSubject:
    """A sound subject of 12 frames of 48x48 with its head model and depth maps, made when it is first copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def root(self) -> Path:
        root = self.folder / "good"
        made = make_subject(root, size=48, count=12)
        save_head(make_head(), root / "head_model.npz")
        write_subject(dataclasses.replace(made, head_model="head_model.npz"))
        write_depth(root, DepthConfig(prior=MESH), True)
        return root

    def make(self) -> None:
        """Make it now."""
        self.copy(self.folder / "copy")

    @property
    def film(self) -> Path:
        """A file that is no subject."""
        path = self.folder / "film.mp4"
        path.write_bytes(b"\0\0\0\x18ftypmp42")
        return path

    def copy(self, folder: Path) -> Path:
        """A copy to break."""
        return Path(shutil.copytree(self.root, folder))


def train(root: Path) -> int:
    """What training does before its first step, depth maps included. Says an error as its command would."""
    try:
        parser = FlameNerfDataParserConfig(data=root)
        manager = FlameNerfDataManagerConfig(data=root, dataparser=parser).setup(device="cpu", test_mode="val")
        manager.next_train(0)
        cache = next(manager.iter_train_image_dataloader)["cache"]
        cache.depth_prior(*torch.zeros(3, 1, dtype=torch.long))
    except SubjectError as error:
        print(f"Error: {error}")
        return 1
    return 0


def try_subject(kind: Kind, good: GoodSubject, folder: Path) -> list[str]:
    """Check a bad subject, and begin training on it.

    Args:
        good: what it is made from.
        folder: an empty folder.

    Returns:
        What is wrong with what came of it; empty if it is as expected.
    """
    root = kind.make(good, folder)
    before = files_in(folder)
    # The check's errors are findings.
    checked = answer_of(lambda: check(root))
    found = [f"check: {fault}" for fault in checked.faults(kind, root)]
    begun = answer_of(lambda: train(root))
    # Training says what it stops at; the check says everything.
    without_words = Kind(kind.make, kind.refused)
    found += [f"train: {fault}" for fault in begun.faults(without_words, root)]
    if kind.refused and not _one_line(begun):
        found.append(f"train: an error of several lines: {begun.said[-600:]}")
    if files_in(folder) != before:
        found.append("the subject is another")
    return found


def _one_line(answer: Answer) -> bool:
    lines = [line for line in answer.said.splitlines() if line.strip()]
    return bool(lines) and lines[-1].startswith("Error: ")
