"""What training cannot learn from is refused by training and called an error by the check, in the same words."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic import make_subject

from data_tools.check import check_subject
from flame_nerf.data.dataset import read_matte
from flame_nerf.data.faults import require_trainable
from flame_nerf.data.overlap import overlap
from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.subject import Subject, SubjectError, load_subject


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("faults") / "subject", size=48, count=12)


@pytest.fixture
def own(sound, tmp_path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(sound.root, tmp_path / "subject"))


def _errors(subject: Subject | Path) -> str:
    return " | ".join(finding.text for finding in check_subject(subject) if finding.level == "error")


def _train(root: Path):
    return FlameNerfDataManagerConfig(data=root, dataparser=FlameNerfDataParserConfig()).setup(
        device="cpu", test_mode="val"
    )


def _track(subject: Subject, **changed) -> Subject:
    return dataclasses.replace(subject, track=dataclasses.replace(subject.track, **changed))


def _mesh(factor: float):
    def scaled(subject: Subject) -> Subject:
        with np.errstate(over="ignore"):
            return _track(
                subject,
                vertices=subject.track.vertices * np.float32(factor),
                canonical_vertices=subject.track.canonical_vertices * np.float32(factor),
            )

    return scaled


def _cameras(change):
    def changed(subject: Subject) -> Subject:
        frames = tuple(dataclasses.replace(frame, c2w=change(frame.c2w.copy())) for frame in subject.frames)
        return dataclasses.replace(subject, frames=frames)

    return changed


def _at(place):
    def moved(c2w: np.ndarray) -> np.ndarray:
        c2w[:3, 3] = place(c2w[:3, 3])
        return c2w

    return moved


def _flat(subject: Subject) -> Subject:
    return _track(subject, faces=np.zeros_like(subject.track.faces))


def _no_height(subject: Subject) -> Subject:
    flat = np.array([1, 0, 1], np.float32)
    return _track(
        subject, canonical_vertices=subject.track.canonical_vertices * flat, vertices=subject.track.vertices * flat
    )


def _aside(c2w: np.ndarray) -> np.ndarray:
    """The head slides half its width and half its height, out of its mask and not out of the picture."""
    moved = c2w.copy()
    moved[:3, 3] += 0.07 * c2w[:3, 0] + 0.06 * c2w[:3, 1]
    return moved


def _line(subject: Subject) -> Subject:
    return _track(
        subject,
        canonical_vertices=subject.track.canonical_vertices * np.float32([0, 1, 0]),
        vertices=subject.track.vertices * np.float32([0, 1, 0]),
    )


def _one_triangle(subject: Subject) -> Subject:
    return _track(subject, faces=subject.track.faces[:1], region=subject.track.region[:1])


UNTRAINABLE = {
    "millimetres": (_mesh(1000.0), "its unit is no metre"),
    "micrometres": (_mesh(1e6), "its unit is no metre"),
    "kilometres": (_mesh(1e-3), "its unit is no metre"),
    "beyond all numbers": (_mesh(1e37), "its unit is no metre"),
    "a point": (_mesh(0.0), "its unit is no metre"),
    "no height": (_no_height, "its unit is no metre"),
    "triangles without area": (_flat, "have no area"),
    "cameras in millimetres": (_cameras(_at(lambda place: 1000 * place)), "pixels large"),
    "cameras in kilometres": (_cameras(_at(lambda place: place / 1000)), "inside the head"),
    "a camera at the head's middle": (_cameras(_at(lambda place: 0 * place)), "inside the head"),
    "a mesh beside its masks": (_cameras(_aside), "lies off the masks"),
    "a line": (_line, "have no area"),
    "a single triangle": (_one_triangle, "lies off the masks"),
    "a telescope": (lambda subject: dataclasses.replace(subject, fl_x=1e9, fl_y=1e9), "focal length"),
    "no focal length to speak of": (lambda subject: dataclasses.replace(subject, fl_x=1e-6, fl_y=1e-6), "focal length"),
    "one frame": (lambda subject: dataclasses.replace(subject, frames=subject.frames[:1]), "a single frame"),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_training_refuses_what_the_check_calls_an_error(sound, case):
    change, said = UNTRAINABLE[case]
    broken = change(sound)
    assert said in _errors(broken)
    with pytest.raises(SubjectError) as caught:
        require_trainable(broken)
    assert str(sound.root) in str(caught.value) and "\n" not in str(caught.value)


def test_a_sound_subject_is_trained_on_without_a_word(sound):
    assert require_trainable(sound) == []
    assert not _errors(sound)
    _train(sound.root)


def test_masks_of_zeros_and_ones_are_mended_and_it_is_said(own):
    subject = load_subject(own)
    whole = [read_matte(frame, 48, 48) for frame in subject.frames]
    for frame, matte in zip(subject.frames, whole, strict=True):
        cv2.imwrite(str(frame.mask_path), (matte > 127).astype(np.uint8))
    assert "0 and 1" in require_trainable(subject)[0]
    assert np.array_equal(read_matte(subject.frames[0], 48, 48), 255 * (whole[0] > 127))
    findings = check_subject(own)
    assert any("0 and 1" in finding.text for finding in findings if finding.level == "note")
    assert not [finding for finding in findings if finding.level == "error"]


def test_masks_of_zeros_alone_are_refused(own):
    for frame in load_subject(own).frames:
        cv2.imwrite(str(frame.mask_path), np.zeros((48, 48), np.uint8))
    assert "12 of 12 are empty" in _errors(own)
    with pytest.raises(SubjectError, match=r"masks: 12 of 12 are empty \(00000\.png"):
        _train(own)


def test_held_out_frames_alone_are_refused_and_another_split_is_not(own):
    meta = json.loads((own / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["split"] = "val"
    (own / "transforms.json").write_text(json.dumps(meta))
    assert "every split is val or test" in _errors(own)
    with pytest.raises(SubjectError, match=r"every split is val or test.*dataparser\.split tail"):
        _train(own)
    parser = FlameNerfDataParserConfig(data=own, split="tail").setup()
    assert len(parser.get_dataparser_outputs("train").image_filenames) == 11


def test_a_jpeg_cut_short_is_refused(own):
    meta = json.loads((own / "transforms.json").read_text())
    for frame in meta["frames"]:
        png = own / frame["file_path"]
        frame["file_path"] = str(Path(frame["file_path"]).with_suffix(".jpg"))
        cv2.imwrite(str(own / frame["file_path"]), cv2.imread(str(png)))
    (own / "transforms.json").write_text(json.dumps(meta))
    cut = own / meta["frames"][0]["file_path"]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    assert cut.name in _errors(own)
    with pytest.raises(SubjectError, match=r"00000\.jpg.*cut short"):
        _train(own).next_train(0)


@pytest.mark.parametrize("grey", [0, 128])
def test_pictures_of_one_colour_are_refused(own, grey):
    frames = load_subject(own).frames
    for frame in frames[:-1]:
        cv2.imwrite(str(frame.file_path), np.full((48, 48, 3), grey, np.uint8))
    assert "11 of 12 are of one colour" in _errors(own)
    with pytest.raises(SubjectError, match="pictures: 11 of 12 are of one colour"):
        _train(own)


def test_a_mesh_larger_or_smaller_than_its_mask_may_be_trained_on(sound):
    """Hair, shoulders, and masks of the face alone are no fault of the cameras."""
    frame = sound.frames[0]
    mask = read_matte(frame, 48, 48)
    assert overlap(sound, frame, mask) > 0.95
    for kernel, change in ((9, cv2.dilate), (7, cv2.erode)):
        other = change(mask, np.ones((kernel, kernel), np.uint8))
        assert abs(int((other > 127).sum()) - int((mask > 127).sum())) > 0.3 * (mask > 127).sum()
        assert overlap(sound, frame, other) > 0.75
    assert overlap(sound, frame, 255 - mask) < 0.1


def test_without_kernels_the_mesh_is_not_laid_on_the_masks(sound, monkeypatch):
    aside = _cameras(_aside)(sound)
    assert "lies off the masks" in _errors(aside)
    monkeypatch.setattr("flame_nerf.data.faults.numba_problem", lambda: "numba does not import")
    assert "lies off the masks" not in _errors(aside)
