"""What is measured of footage, what is said of it, and the page and JSON that a person and a script read."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import shutil

import cv2
import numpy as np
import pytest
from synthetic import make_subject

from data_tools.capture.expressions import expressions_done
from data_tools.capture.looks import blur_of, flicker_of
from data_tools.capture.measured import Measured, doubtful_frames, measure
from data_tools.capture.page import write_capture_page
from data_tools.capture.shortfall import GRAVE
from data_tools.capture.shortfalls import shortfalls_of, shots_of, verdict
from data_tools.capture.thumbnails import best_row, cell_rows
from data_tools.check.command import check
from flame_nerf.subject import Subject, load_subject


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Subject:
    return make_subject(tmp_path_factory.mktemp("capture") / "subject", size=64, count=16)


@pytest.fixture(scope="module")
def seen(small) -> Measured:
    return measure(small)


def _good(seen: Measured) -> Measured:
    """The same as if it had been filmed well: a minute, turned to both sides, large and sharp."""
    rows = np.arange(len(seen.yaw))
    frames = tuple(dataclasses.replace(seen.subject.frames[row % 16], split="train") for row in range(1500))
    return dataclasses.replace(
        seen,
        subject=dataclasses.replace(seen.subject, frames=frames),
        yaw=np.linspace(-45, 45, 1500),
        pitch=np.tile([-15.0, 0.0, 15.0], 500),
        face_px=200.0,
        seconds=60.0,
        done=tuple(dataclasses.replace(done, most=1.0) for done in seen.done),
        looks=tuple(dataclasses.replace(look, row=int(rows[0])) for look in seen.looks),
        doubtful=np.zeros(1500, dtype=bool),
    )


def _topics(measured: Measured) -> set[str]:
    return {shortfall.topic for shortfall in shortfalls_of(measured)}


def test_turns_are_named_from_the_persons_own_side(seen):
    # The camera swings 0.4 rad to the side of the subject's left ear first: the head is turned to its right then.
    assert np.degrees(-0.4) == pytest.approx(seen.yaw[4], abs=0.5)
    assert np.degrees(0.4) == pytest.approx(seen.yaw[12], abs=0.5)
    # A camera that looks from above sees a head that looks down.
    assert np.degrees(-0.1) == pytest.approx(seen.pitch[0], abs=0.5)


def test_a_frame_is_found_where_the_footage_shows_it_though_others_were_left_out(small, seen):
    kept = tuple(
        dataclasses.replace(frame, file_path=frame.file_path.with_name(f"{40 + 2 * row:05d}.jpg"))
        for row, frame in enumerate(small.frames)
    )
    tracked = dataclasses.replace(small, frames=kept, fps=12.5, extra={"tracking": {}})
    assert dataclasses.replace(seen, subject=tracked).time_of(3) == pytest.approx(46 / 12.5)
    assert seen.time_of(3) == pytest.approx(3 / small.fps)


def test_a_turning_head_is_measured_as_a_circling_camera(small, seen, tmp_path):
    turning = measure(make_subject(tmp_path / "moving", size=64, count=16, moving_head=True))
    assert np.allclose(turning.yaw, seen.yaw, atol=0.5) and np.allclose(turning.pitch, seen.pitch, atol=0.5)


def test_what_the_face_never_did_is_said_in_words(small):
    states = {done.group.key: (done.state, done.times) for done in expressions_done(small.track, np.arange(16))}
    assert states["mouth"] == ("well", 3)
    track = dataclasses.replace(small.track, expression=0.2 * small.track.expression, pose=0 * small.track.pose)
    mouth = next(done for done in expressions_done(track, np.arange(16)) if done.group.key == "mouth")
    assert mouth.state == "a little" and "Only a little" in mouth.words()
    track = dataclasses.replace(small.track, expression=0 * small.track.expression, pose=0 * small.track.pose)
    mouth = next(done for done in expressions_done(track, np.arange(16)) if done.group.key == "mouth")
    assert mouth.words() == "The mouth never opens wide."


def test_lids_are_measured_from_landmarks_where_no_coefficient_tells(small):
    points = np.random.default_rng(0).normal(size=(1, 478, 2)).repeat(16, axis=0).astype(np.float32) * 100
    for upper, lower in ((386, 374), (159, 145)):
        points[5:7, upper] = points[5:7, lower]
    track = dataclasses.replace(small.track, landmarks2d=points)
    blink = next(done for done in expressions_done(track, np.arange(16)) if done.group.key == "blink")
    assert blink.state == "well" and blink.times == 1 and blink.row == 5 and blink.share == pytest.approx(2 / 16)


def test_blur_grows_with_smearing_and_not_with_size():
    face = np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8)
    face = cv2.resize(face, (200, 200), interpolation=cv2.INTER_CUBIC)
    blurs = [blur_of(face), *(blur_of(cv2.GaussianBlur(face, (0, 0), sigma)) for sigma in (2, 4, 8))]
    assert blurs == sorted(blurs) and blurs[-1] > blurs[0] + 0.2
    large = cv2.resize(face, (800, 800), interpolation=cv2.INTER_CUBIC)
    assert blur_of(large) == pytest.approx(blurs[0], abs=0.03)
    assert blur_of(np.full((40, 40), 90, np.uint8)) == 1.0


def test_a_lamp_that_beats_is_flicker_and_a_sunset_is_none(small, tmp_path):
    def lit(levels) -> Subject:
        frames = []
        for row, (frame, level) in enumerate(zip(small.frames, levels, strict=True)):
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
            cv2.imwrite(str(path), np.full((64, 64, 3), level, np.uint8))
            frames.append(dataclasses.replace(frame, file_path=path, timestep=row))
        return dataclasses.replace(small, frames=tuple(frames))

    assert flicker_of(lit(100 + 10 * (np.arange(16) % 2))) > 0.04
    assert flicker_of(lit(160 - 4 * np.arange(16))) < 0.005


def test_short_frontal_small_footage_is_complained_about_and_good_is_not(seen):
    short = dataclasses.replace(seen, yaw=seen.yaw * 0.4)
    assert verdict(shortfalls_of(short)) == "film again"
    assert {"length", "turns of the head", "size of the face"} <= _topics(short)
    assert verdict(shortfalls_of(_good(seen))) == "good" and not shortfalls_of(_good(seen))
    assert shots_of(()) == ()


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("exposure", {"brightness": 30.0}),
        ("exposure", {"burnt": 0.3}),
        ("sharpness", {"blur": 0.7}),
        ("framing", {"at_edge": True}),
    ],
)
def test_each_fault_of_the_pictures_is_named_with_a_cost_and_a_shot(seen, topic, change):
    good = _good(seen)
    bad = dataclasses.replace(good, looks=tuple(dataclasses.replace(look, **change) for look in good.looks))
    (found,) = shortfalls_of(bad)
    assert found.topic == topic and found.cost and found.shot in shots_of((found,)) and found.gravity >= 0.5


def test_one_side_that_is_missing_is_asked_for_alone(seen):
    good = _good(seen)
    (found,) = shortfalls_of(dataclasses.replace(good, yaw=np.maximum(good.yaw, -5)))
    assert "5 degrees to its right" in found.found and "left cheek" in found.cost and "to your right" in found.shot


def test_what_tracking_doubts_counts_for_nothing_and_is_asked_for_again(small, seen):
    # The widest turn to the right and the widest mouth are in frames that tracking names.
    mouth = next(done for done in seen.done if done.group.key == "mouth")
    summary = {"off_course": [4], "covered": [mouth.row]}
    tracked = dataclasses.replace(small, extra=small.extra | {"tracking": {"summary": summary}})
    told = measure(tracked)
    assert np.flatnonzero(told.doubtful).tolist() == sorted({4, mouth.row})
    assert next(done for done in told.done if done.group.key == "mouth").row != mouth.row
    assert seen.yaw[seen.clear].min() < told.yaw[told.clear].min()
    assert best_row(told) not in (4, mouth.row) and 4 not in [row for row, _ in cell_rows(told).values()]
    (found,) = [one for one in shortfalls_of(told) if one.topic == "hidden face"]
    assert set(found.frames) == {4, mouth.row} and found.shot in shots_of((found,))
    assert "hidden face" not in _topics(seen)
    assert "wrong place" in found.cost and "left out" not in found.cost
    frames = tuple(
        dataclasses.replace(one, split="unused") if row == 4 else one for row, one in enumerate(small.frames)
    )
    told = measure(dataclasses.replace(tracked, frames=frames))
    (found,) = [one for one in shortfalls_of(told) if one.topic == "hidden face"]
    assert found.cost.startswith("1 of them are left out of training")


def test_the_page_says_how_the_subject_was_made(small, tmp_path):
    def page(**extra) -> str:
        write_capture_page(tmp_path / "a.html", measure(dataclasses.replace(small, extra=extra)))
        return (tmp_path / "a.html").read_text("utf-8")

    assert "INSTA<td>" not in page() and "<th>settings" not in page()
    assert "<th>imported from<td>INSTA" in page(**{"import": {"summary": {"format": "INSTA"}}})
    assert "<th>settings<td>as usual" in page(tracking={"options": {}})
    assert "<th>settings<td>fps 10, person 2" in page(tracking={"options": {"fps": 10, "person": 2}})
    assert "<th>settings" not in page(tracking=3, **{"import": ["x"]})


@pytest.mark.parametrize("note", [None, 3, [], {"summary": 3}, {"summary": {"off_course": "4"}}, {"summary": {}}])
def test_notes_of_no_tracking_of_ours_say_nothing(small, note):
    assert not doubtful_frames(dataclasses.replace(small, extra={"tracking": note})).any()


def test_a_nod_that_is_nearly_enough_is_not_said_to_be_enough(seen):
    good = _good(seen)
    (found,) = shortfalls_of(dataclasses.replace(good, pitch=np.tile([-7.8, 0.0, 15.0], 500)))
    assert "only 7° down" in found.found and "top of the head" in found.cost
    assert found.shot.startswith("Lower the chin") and "ceiling" not in found.shot


def test_blur_and_darkness_weigh_by_degree(seen):
    good = _good(seen)

    def gravity(**change: float) -> float:
        looks = tuple(dataclasses.replace(look, **change) for look in good.looks)
        return max((one.gravity for one in shortfalls_of(dataclasses.replace(good, looks=looks))), default=0.0)

    weights = [gravity(blur=blur) for blur in (0.5, 0.53, 0.6, 0.66, 0.9)]
    assert weights == sorted(weights) and weights[0] == 0 and weights[1] < GRAVE <= weights[3]
    weights = [gravity(brightness=level) for level in (80, 74, 65, 50)]
    assert weights == sorted(weights) and weights[0] == 0 and weights[1] < GRAVE <= weights[3]


def test_the_page_and_its_json_say_the_same(small, tmp_path, capsys):
    page = tmp_path / "reports" / "me.html"
    assert check(small.root, report=page) == 0 and check(small.root, strict=True) == 1
    assert "me.json beside it" in capsys.readouterr().out
    text, record = html.unescape(page.read_text("utf-8")), json.loads(page.with_suffix(".json").read_text("utf-8"))
    assert record["verdict"] == "film again" and record["frames"] == 16
    assert record["expressions"]["mouth"]["seen"] == "well" and record["expressions"]["mouth"]["times"] == 3
    assert sum(map(sum, record["coverage"]["frames"])) == 16
    for said in [*record["shots"], *(one["found"] for one in record["shortfalls"])]:
        # What was seen a little stands there in one sentence.
        name, found, _ = said.partition(": only a little.")
        assert (f"{name.lower()} (most at" if found else said) in text, said
    assert "not filmed" in text and "<script" not in text and 'src="http' not in text
    assert text.count("data:image/webp") == 1


def test_a_report_that_cannot_be_written_is_one_line(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "me.json", "ends in .html"), (tmp_path / "file" / "me.html", "cannot be written")):
        assert check(small.root, report=path) == 1
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error


def test_pictures_that_cannot_be_read_are_passed_over(small, tmp_path):
    gone = tuple(dataclasses.replace(frame, file_path=tmp_path / "gone.png") for frame in small.frames)
    measured = measure(dataclasses.replace(small, frames=gone))
    assert measured.looks == () and measured.flicker == 0.0 and "turns of the head" in _topics(measured)


def test_a_folder_whose_name_is_no_utf8_is_reported_on(small, tmp_path):
    root = tmp_path / os.fsdecode(b"caf\xe9 <b>")
    shutil.copytree(small.root, root)
    subject = dataclasses.replace(load_subject(root), source="")
    measured = measure(subject)
    assert len(measured.looks) == 16
    write_capture_page(root / "report.html", measured)
    text = (root / "report.html").read_text("utf-8")
    assert "<title>Capture report: caf\\udce9 &lt;b&gt;</title>" in text
    assert json.loads((root / "report.json").read_text("utf-8"))["frames"] == 16
