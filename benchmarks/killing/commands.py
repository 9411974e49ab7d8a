"""The commands that are killed: small inputs, and the words that are given."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))

import nerfstudio.scripts.train
import torch  # noqa: F401 -- loaded once, for all children

import data_tools.cli
import data_tools.depth.pipeline
import data_tools.importers.pipeline
import data_tools.synth.films
import data_tools.tracking.pipeline
import flame_nerf.avatar.training
import flame_nerf.cli
import flame_nerf.film
import flame_nerf.methods  # noqa: F401
from flame_nerf.training.checkpoints import checkpoints_in

STEPS = 20
BEFORE = "before"
"""Folder in a command's input with what is there already and is to be replaced."""
PROGRAMS: dict[str, Callable[[], object]] = {
    "flame-nerf-data": data_tools.cli.main,
    "flame-nerf": flame_nerf.cli.main,
    "ns-train": nerfstudio.scripts.train.entrypoint,
}


@dataclass(frozen=True)
class Command:
    """A command to kill."""

    prepare: Callable[[Path], object]
    """Makes its input in a folder."""
    words: Callable[[Path, Path, bool], list[str]]
    """Program and arguments, given the input's folder, the one to write to, and whether it is the first time."""

    def call(self, words: list[str]) -> None:
        """Do in this process what the console script would do."""
        sys.argv = words
        PROGRAMS[words[0]]()


def synthetic_film(folder: Path) -> None:
    """A film of 64x64 in which a face is found, 12 pictures."""
    from data_tools.synth import SynthConfig, synthesise

    synthesise(folder / "synth", SynthConfig(frames=12, size=64, view_moments=1, novel_frames=6), silent=True)


def importable(folder: Path) -> None:
    """Data of a foreign tracker."""
    from import_truth import make_truth
    from import_writers import write_insta

    write_insta(folder / "insta", make_truth("still", 70))


def subject(folder: Path) -> None:
    """A subject of 60 pictures of 64x64."""
    from synthetic import make_subject

    make_subject(folder / "subject", size=64, count=60)


def small_subject(folder: Path) -> None:
    """A subject with its head model."""
    from avatar_runs import subject_with_head

    subject_with_head(folder / "subject", count=12)


def _depth(given: Path, place: Path, first: bool) -> list[str]:
    """It writes into its subject: a copy."""
    if first:
        shutil.copytree(given / "subject", place / "subject")
    return ["flame-nerf-data", "depth", str(place / "subject"), "--prior", "mesh"]


def _train(given: Path, place: Path, first: bool) -> list[str]:
    """Given again, it goes on from its checkpoints, as its users are told."""
    folder = place / "out/e/flame-nerf-cpu/t/nerfstudio_models"
    model = "--pipeline.model"
    words = ["ns-train", "flame-nerf-cpu", "--data", str(given / "subject"), "--output-dir", str(place / "out")]
    words += ["--experiment-name", "e", "--timestamp", "t", "--vis", "tensorboard", "--total-steps", str(STEPS)]
    words += ["--max-num-iterations", str(STEPS), "--steps-per-save", "4"]
    words += [f"{model}.field.log2-hashmap-size", "10", f"{model}.field.n-levels", "2"]
    words += [f"{model}.sampling.occupancy.resolution", "16", "--cpu-rays-per-batch", "64"]
    return words + (["--load-dir", str(folder)] if not first and checkpoints_in(folder) else [])


def _replacing(name: str, made: Callable[[Path], list[str]]) -> Command:
    """A command that replaces what another call of it made.

    Args:
        name: of the command whose input it has.
        made: its words but the last, given the input's folder; the last is the folder to write to.
    """

    def prepare(folder: Path) -> None:
        COMMANDS[name].prepare(folder)
        words = [*made(folder), str(folder / BEFORE / "subject")]
        COMMANDS[name].call(words + ["--fps", "24"] * (name != "export"))
        (folder / BEFORE / "subject" / "notes.txt").write_text("somebody's own")

    def words(given: Path, place: Path, first: bool) -> list[str]:
        if first:
            shutil.copytree(given / BEFORE, place, dirs_exist_ok=True)
        return [*made(given), str(place / "subject"), "--overwrite"]

    return Command(prepare, words)


COMMANDS = {
    "track": Command(
        synthetic_film,
        lambda given, place, _: ["flame-nerf-data", "track", str(given / "synth/film.mp4"), str(place / "subject")],
    ),
    "import": Command(
        importable,
        lambda given, place, _: ["flame-nerf-data", "import", "insta", str(given / "insta"), str(place / "subject")],
    ),
    "depth": Command(subject, _depth),
    "synth": Command(
        lambda _: None,
        lambda _, place, __: (
            ["flame-nerf-data", "synth", str(place / "subject"), *"--size 32 --frames 8".split()]
            + "--view-moments 1 --novel-frames 6".split()
        ),
    ),
    "train": Command(small_subject, _train),
    "demo": Command(
        synthetic_film,
        lambda given, place, _: (
            ["flame-nerf", "demo", "--video", str(given / "synth/film.mp4"), "--output"]
            + [str(place / "demo"), "--steps", "24", "--frames", "3"]
        ),
    ),
    "export": Command(
        subject,
        lambda given, place, _: ["flame-nerf-data", "export", "insta", str(given / "subject"), str(place / "subject")],
    ),
}
"""By the name in the report."""
COMMANDS |= {
    "track anew": _replacing("track", lambda given: ["flame-nerf-data", "track", str(given / "synth/film.mp4")]),
    "import anew": _replacing("import", lambda given: ["flame-nerf-data", "import", "insta", str(given / "insta")]),
    "export anew": _replacing("export", lambda given: ["flame-nerf-data", "export", "insta", str(given / "subject")]),
}
