"""The check of a subject: sound ones pass, and each thing that can go wrong is said."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import commands
import cv2
import numpy as np
import pytest
from synthetic import make_subject

from data_tools.check import Finding, check_subject, overlay_iou
from flame_nerf.subject import Subject, SubjectError, load_subject


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("check") / "subject", size=96, count=24)


@pytest.fixture
def own(sound, tmp_path) -> Path:
    """A copy to break."""
    import shutil

    return Path(shutil.copytree(sound.root, tmp_path / "subject"))


def _said(findings: list[Finding], level: str) -> str:
    return " | ".join(f"{finding.topic}: {finding.text}" for finding in findings if finding.level == level)


def _with_cameras(subject: Subject, change) -> Subject:
    frames = tuple(dataclasses.replace(frame, c2w=change(frame.c2w)) for frame in subject.frames)
    return dataclasses.replace(subject, frames=frames)


def _with_track(subject: Subject, **changed) -> Subject:
    return dataclasses.replace(subject, track=dataclasses.replace(subject.track, **changed))


def test_a_sound_subject_has_no_errors(sound):
    findings = check_subject(sound.root)
    assert not _said(findings, "error")
    assert "Only 19 frames" in _said(findings, "warning")
    assert "agrees with the masks" in _said(findings, "note")


def test_the_overlay_is_exact_where_mask_and_mesh_are_one(sound):
    assert all(overlay_iou(sound, frame) > 0.95 for frame in sound.frames[::6])
    bare = dataclasses.replace(sound.frames[0], mask_path=None)
    with pytest.raises(SubjectError, match="no mask"):
        overlay_iou(sound, bare)


def test_missing_and_broken_files_are_all_counted(own):
    for name in ("images/00003.png", "masks/00005.png", "images/00007.png"):
        (own / name).unlink()
    (own / "images/00009.png").write_text("no picture")
    said = _said(check_subject(own), "error")
    assert "3 of 48 pictures and masks are missing" in said and "masks/00005.png" in said and "00009.png" in said


def test_a_picture_cut_short_is_an_error(own):
    data = (own / "images/00004.png").read_bytes()
    (own / "images/00004.png").write_bytes(data[: len(data) // 2])
    assert "00004.png" in _said(check_subject(own), "error")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda meta: meta["frames"][2].update(timestep=99), "timestep is 99"),
        (lambda meta: meta["frames"][2]["transform_matrix"][0].__setitem__(0, 7.0), "not a rotation"),
        (lambda meta: meta.update(fl_x="NaN"), "fl_x"),
        (lambda meta: meta["flame_nerf"].update(version=99), "version 99"),
        (lambda meta: meta.update(frames=[]), "no frames"),
    ],
)
def test_what_does_not_load_is_said(own, change, said):
    meta = json.loads((own / "transforms.json").read_text())
    change(meta)
    (own / "transforms.json").write_text(json.dumps(meta))
    assert said in _said(check_subject(own), "error")


def test_not_a_number_and_another_topology_are_said(own):
    with np.load(own / "head.npz") as archive:
        arrays = dict(archive)
    arrays["vertices"][3, 5] = np.nan
    np.savez(own / "head.npz", **arrays)
    assert "timestep 3 holds NaN" in _said(check_subject(own), "error")
    arrays["vertices"] = np.nan_to_num(arrays["vertices"])[:, :-9]
    np.savez(own / "head.npz", **arrays)
    assert "canonical_vertices has shape" in _said(check_subject(own), "error")
    data = (own / "head.npz").read_bytes()
    (own / "head.npz").write_bytes(data[: len(data) // 2])
    assert "cannot be read as an npz file" in _said(check_subject(own), "error")


def test_no_subject_at_all_is_said(tmp_path):
    assert "no subject" in _said(check_subject(tmp_path / "nothing"), "error")


@pytest.mark.parametrize("value, word, some", [(0, "empty", 2), (255, "full", 2), (0, "empty", 20)])
def test_empty_and_full_masks(own, value, word, some):
    subject = load_subject(own)
    for frame in subject.frames[:some]:
        cv2.imwrite(str(frame.mask_path), np.full((96, 96), value, np.uint8))
    findings = check_subject(own)
    assert f"{some} of 24 are {word}" in _said(findings, "error" if some > 5 else "warning")


def test_no_masks_is_a_warning(sound):
    bare = tuple(dataclasses.replace(frame, mask_path=None) for frame in sound.frames)
    findings = check_subject(dataclasses.replace(sound, frames=bare))
    assert "masks: There are none" in _said(findings, "warning") and not _said(findings, "error")


def test_the_wrong_camera_axes_are_named(sound):
    opencv = np.diag([1.0, -1.0, -1.0, 1.0])
    said = _said(check_subject(_with_cameras(sound, lambda c2w: c2w @ opencv)), "error")
    assert "behind the camera in 24 of 24" in said and "OpenCV" in said and "likely mistake" in said


def test_a_camera_far_off_is_no_overlay(sound):
    def aside(c2w: np.ndarray) -> np.ndarray:
        moved = c2w.copy()
        moved[:3, 3] += 0.06 * c2w[:3, 0] + 0.05 * c2w[:3, 1]
        return moved

    said = _said(check_subject(_with_cameras(sound, aside)), "error")
    assert "does not lie where the pictures show the head" in said


def test_the_wrong_unit_is_named(sound):
    track = sound.track
    large = _with_track(sound, vertices=100 * track.vertices, canonical_vertices=100 * track.canonical_vertices)

    def farther(c2w: np.ndarray) -> np.ndarray:
        moved = c2w.copy()
        moved[:3, 3] *= 100
        return moved

    said = _said(check_subject(_with_cameras(large, farther)), "error")
    assert "its unit is no metre" in said and "1e-2" in said
    findings = check_subject(_with_track(sound, vertices=3 * track.vertices))
    assert "3 to 3.1 times the size of the rest head" in _said(findings, "error")
    assert "that is the likely mistake" in _said(findings, "error") + _said(findings, "warning")


def test_turned_axes_and_an_inside_out_mesh_are_named(sound):
    track = sound.track
    turned = track.canonical_vertices * [1, -1, -1]
    said = _said(check_subject(_with_track(sound, canonical_vertices=turned.astype(np.float32))), "error")
    assert "below its lips" in said
    said = _said(check_subject(_with_track(sound, faces=np.ascontiguousarray(track.faces[:, ::-1]))), "error")
    assert "inside out" in said


def test_a_head_out_of_the_picture_is_said(sound):
    said = _said(check_subject(dataclasses.replace(sound, cx=sound.cx + 300)), "error")
    assert "out of the picture in 24 of 24" in said


def test_weak_material_is_warned_of(own):
    subject = load_subject(own)
    still = [subject.frames[0].file_path.read_bytes(), subject.frames[0].mask_path.read_bytes()]
    for frame in subject.frames[:20]:
        frame.file_path.write_bytes(still[0])
        frame.mask_path.write_bytes(still[1])
    track = subject.track
    motionless = np.repeat(track.vertices[:1], len(track.vertices), axis=0)
    closed = dataclasses.replace(
        track,
        vertices=motionless,
        expression=0 * track.expression,
        pose=0 * track.pose,
        reprojection_error=np.full(len(track.vertices), 9.0, np.float32),
    )
    frames = tuple(dataclasses.replace(frame, c2w=subject.frames[0].c2w) for frame in subject.frames)
    said = _said(check_subject(dataclasses.replace(subject, track=closed, frames=frames)), "warning")
    wanted = "same as the one before", "0° in all", "never changes", "mouth never opens wide", "9.0 pixels off"
    for words in wanted:
        assert words in said, words


def test_a_blurred_frame_and_a_jump_are_named(own):
    subject = load_subject(own)
    picture = cv2.imread(str(subject.frames[5].file_path))
    cv2.imwrite(str(subject.frames[5].file_path), cv2.GaussianBlur(picture, (0, 0), 4))
    frames = list(subject.frames)
    c2w = frames[12].c2w.copy()
    c2w[:3, 3] *= 3
    frames[12] = dataclasses.replace(frames[12], c2w=c2w)
    said = _said(check_subject(dataclasses.replace(subject, frames=tuple(frames))), "warning")
    assert (
        "blurred against the others" in said
        and "At 00005.png" in said
        and "jumps against the camera before 00012.png" in said
    )


def test_frames_that_train_nothing(sound):
    held = tuple(dataclasses.replace(frame, split="test") for frame in sound.frames)
    assert "No frame is for training" in _said(check_subject(dataclasses.replace(sound, frames=held)), "error")
    few = dataclasses.replace(sound, frames=sound.frames[:6])
    assert "at least 10 are needed" in _said(check_subject(few), "warning")


def _command(*arguments: object) -> subprocess.CompletedProcess:
    return commands.run("flame-nerf-data", "check", *arguments)


def test_the_command_tells_by_its_status(own):
    good = _command(own)
    assert good.returncode == 0 and "0 errors" in good.stdout, good.stderr
    (own / "images/00003.png").unlink()
    bad = _command(own)
    assert bad.returncode == 1 and "00003.png" in bad.stdout and "Traceback" not in bad.stderr
