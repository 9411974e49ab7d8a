"""Bad videos and bad subjects end as they should: a sample of the registers that `benchmarks/bad_inputs.py` tries
whole, and every kind that once did not."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

pytest.importorskip("mediapipe", reason="mediapipe is not installed: pip install 'flame-nerf[track]'")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from spoiling.good import GoodFilms
from spoiling.outcome import Answer, refused, taken
from spoiling.subjects import SUBJECT_GROUPS, GoodSubject, try_subject
from spoiling.videos import VIDEO_GROUPS, try_video

VIDEO_KINDS, SUBJECT_KINDS = (
    {name: kind for kinds in groups.values() for name, kind in kinds.items()}
    for groups in (VIDEO_GROUPS, SUBJECT_GROUPS)
)
EVERY = 13
"""One kind of so many."""
ONCE_WRONG = {
    "a pipe", "a device of zeros", "a list of files", "a folder of copies", "a folder with a pipe in it",
    "a cut too soon", "a dissolve to another person", "marked as HDR, PQ",
    "a moment of somebody closer", "a sheet before the face", "w: a fraction", "background: not there",
    "file_path: too long", "file_path: a device", "transform_matrix: another last row", "expression: a million",
    "identity: a million", "pose: in degrees", "expression_names: twice the same", "picture: a GIF by its name a PNG",
    "depth: cut in half", "depth: the other way round",
}  # fmt: skip


def _sample(kinds: dict) -> list[str]:
    quick = [name for name, kind in kinds.items() if not kind.large]
    return [name for row, name in enumerate(quick) if row % EVERY == 0 or name in ONCE_WRONG]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> GoodFilms:
    return GoodFilms(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> GoodSubject:
    return GoodSubject(tmp_path_factory.mktemp("subject"))


@pytest.mark.parametrize("name", _sample(VIDEO_KINDS))
def test_a_bad_video(films, tmp_path, name):
    assert try_video(VIDEO_KINDS[name], films, tmp_path) == []


@pytest.mark.parametrize("name", _sample(SUBJECT_KINDS))
def test_a_bad_subject(subject, tmp_path, name):
    assert try_subject(SUBJECT_KINDS[name], subject, tmp_path) == []


def test_the_registers_hold_what_was_once_wrong_and_enough_besides():
    assert set(VIDEO_KINDS) | set(SUBJECT_KINDS) >= ONCE_WRONG
    # No name stands for two kinds.
    for kinds, groups in ((VIDEO_KINDS, VIDEO_GROUPS), (SUBJECT_KINDS, SUBJECT_GROUPS)):
        assert len(kinds) == sum(map(len, groups.values()))
    assert len(VIDEO_KINDS) >= 60 and len(SUBJECT_KINDS) >= 130


@pytest.mark.parametrize(
    "kind, answer, wrong",
    [
        (refused("no face", Path), Answer(1, "Error: a.mp4: no face", 0.1), ""),
        (refused("no face", Path), Answer(0, "a.mp4: no face", 0.1), "exit status 0"),
        (refused("no face", Path), Answer(1, "Error: a.mp4: Traceback, no face", 0.1), "a traceback"),
        (refused("no face", Path), Answer(1, "Error: no face", 0.1), "names no file"),
        (refused("no face", Path), Answer(1, "Error: a.mp4: no head", 0.1), "does not say 'no face'"),
        (taken("still", Path), Answer(0, "Warning: still", 0.1), ""),
        (taken("still", Path), Answer(0, "all well", 0.1), "does not say"),
        (taken("", Path), Answer(0, "", 99.0), "took 99 s"),
    ],
)
def test_faults_are_seen(kind, answer, wrong):
    found = answer.faults(kind, Path("a.mp4"))
    assert bool(found) == bool(wrong) and wrong in "".join(found)


def test_what_is_left_over_is_seen(films, tmp_path):
    def litter(good, folder: Path) -> Path:
        (folder.parent / "place" / "leftover").write_text("a")
        return folder / "none.mp4"

    kind = dataclasses.replace(VIDEO_KINDS["not there"], make=litter)
    assert any("leftover" in fault for fault in try_video(kind, films, tmp_path))
