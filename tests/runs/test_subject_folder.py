"""What a run that came to nothing leaves in a subject's folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from data_tools.runs.subject_folder import leave, would_go
from data_tools.runs.workspace import Workspace
from data_tools.tracking import TrackConfig, TrackingError, pipeline, track
from data_tools.tracking.config import UnusableVideo


def begun(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "images/00000.png").write_bytes(bytes(2_000_000))
    (folder / ".work").mkdir()
    (folder / "notes.txt").write_text("mine")


def test_rubbish_goes_and_what_is_somebodys_own_stays(tmp_path):
    begun(tmp_path)
    assert leave(tmp_path, kept=False) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_helps_another_try_stays_and_is_named(tmp_path):
    begun(tmp_path)
    assert f"2.0 MB in {tmp_path};" in leave(tmp_path, kept=True) and (tmp_path / ".work").is_dir()


@pytest.mark.parametrize(
    "name, goes", [("images", True), ("images/00000.png", True), (".", True), ("notes.txt", False), ("../a", False)]
)
def test_a_source_among_what_is_replaced_is_known(tmp_path, name, goes):
    assert would_go(tmp_path / "s" / name, tmp_path / "s") == goes


@pytest.mark.parametrize(
    "stages, refusal, stays",
    [
        ((), TrackingError("no."), False),
        (("face",), TrackingError("no."), False),
        (("face", "frames"), TrackingError("no."), True),
        (("face", "frames"), UnusableVideo("no."), False),
    ],
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_refusal_by_tracking_keeps_what_took_long(tmp_path, monkeypatch, stages, refusal, stays, replaced):
    video, subject = tmp_path / "a.mp4", tmp_path / "s"
    video.write_bytes(b"a")
    if replaced:
        subject.mkdir()
        (subject / "transforms.json").write_text(json.dumps({"old": 1}))

    def stages_done(run, *_):
        for stage in stages:
            Workspace(run.subject).begin(stage, "key")
            run.workspace.finish(stage, "key", {})
        raise refusal

    monkeypatch.setattr(pipeline, "probe", lambda *_: None)
    monkeypatch.setattr(pipeline, "load_models", lambda: None)
    monkeypatch.setattr(pipeline, "_run_stages", stages_done)
    place = tmp_path / ".s.new" if replaced else subject
    with pytest.raises(TrackingError) as caught:
        track(video, subject, dataclasses.replace(TrackConfig(), overwrite=replaced), silent=True)
    assert (f"stays for another try, 0.1 kB in {place}" in str(caught.value)) == stays
    assert place.exists() == stays and (subject / "transforms.json").exists() == replaced


def test_a_video_among_what_would_be_replaced_is_refused(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"a")
    monkeypatch.setattr(pipeline, "probe", lambda *_: None)
    with pytest.raises(TrackingError, match="written over the video"):
        track(tmp_path / "images", tmp_path, dataclasses.replace(TrackConfig(), overwrite=True), silent=True)
    assert (tmp_path / "images" / "1.png").exists()
