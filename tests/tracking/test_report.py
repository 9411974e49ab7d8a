"""The capture report as a browser finds it."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from data_tools.capture.measured import measure
from data_tools.runs.pictures import save_picture
from data_tools.tracking.camera import camera_to_head
from data_tools.tracking.config import TrackSummary
from data_tools.tracking.fit.fit_result import Fitted
from data_tools.tracking.report import write_report
from data_tools.tracking.result import Quality
from flame_nerf.heads import load_head
from flame_nerf.subject import Frame, HeadTrack, Subject

NASTY = "<script>x</script> & {brace} {{ 7 * 7 }}.mp4"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder, frames = tmp_path_factory.mktemp("report"), 5
    head = load_head()
    template = head.template.numpy().astype(np.float32)
    ramp = np.linspace(0, 1, frames)
    fitted = Fitted(
        vertices=np.tile(template, (frames, 1, 1)),
        canonical=template,
        expression=ramp[:, None] * np.linspace(0.2, 1.0, len(head.expression_names)),
        pose=np.zeros((frames, len(head.joint_names), 3)),
        identity=np.zeros(head.shapedirs.shape[-1]),
        rotation=np.tile(np.diag([1.0, -1.0, -1.0]), (frames, 1, 1)),
        translation=np.tile([0.0, 0.0, 0.6], (frames, 1)),
        focal=60.0,
        centre=np.array([24.0, 32.0]),
        mouth_open=ramp,
    )
    angles = np.stack([30 * ramp, -10 * ramp, 0 * ramp], axis=1)
    quality = Quality(2 * ramp, 0.02 * ramp, np.full(frames, 100.0), angles, (0,), np.array([0.9]))
    summary = TrackSummary(
        folder,
        folder / "report.html",
        frames,
        (3,),
        1.0,
        0.01,
        0.9,
        (0.0, 30.0),
        (-10.0, 0.0),
        2.0,
        warnings=(NASTY,),
        notes=("note",),
    )  # fmt: skip
    pictures, masks = ([folder / f"{kind}{row}.png" for row in range(frames)] for kind in ("picture", "mask"))
    for picture, mask in zip(pictures, masks, strict=True):
        save_picture(picture, np.full((64, 48, 3), 90, dtype=np.uint8))
        save_picture(mask, np.full((64, 48), 255, dtype=np.uint8))
    measured = measure(_subject(folder, head, fitted, pictures))
    write_report(summary, head, fitted, quality, pictures, masks, measured, target=0.015)
    return summary.report.read_text(encoding="utf-8"), head


def _subject(folder, head, fitted, pictures) -> Subject:
    """What tracking writes of the fit, as far as the page shows it."""
    cameras = camera_to_head(fitted.rotation, fitted.translation)
    return Subject(
        root=folder,
        fl_x=fitted.focal,
        fl_y=fitted.focal,
        cx=24.0,
        cy=32.0,
        width=48,
        height=64,
        frames=tuple(Frame(p, None, None, cameras[row], row, "train") for row, p in enumerate(pictures)),
        track=HeadTrack(
            faces=head.faces.numpy(),
            canonical_vertices=fitted.canonical,
            vertices=fitted.vertices,
            expression=fitted.expression,
            expression_names=tuple(head.expression_names),
            pose=fitted.pose,
            joint_names=tuple(head.joint_names),
            identity=fitted.identity,
            region=head.region.numpy(),
            region_names=tuple(head.region_names),
        ),
        source=NASTY,
    )


def test_names_and_messages_stand_there_as_text(page):
    text, _ = page
    assert "<script" not in text and 'src="http' not in text
    # The title twice, among the facts and as a warning.
    assert html.unescape(text).count(NASTY) == 4


def test_numbers_pictures_and_charts_are_there(page):
    text, _head = page
    assert text.count("<figcaption>") > 6 and text.count("<svg") == 4 and text.count("class=mark") == 2
    short = re.findall(r'class="tile short"><b>([^<]*)</b><span>([^<]*)', text)
    assert ("0.900", "outline and matte") in short and ("0 s", "length") in short
    assert "1.00 %" in text and "<li>Note</li>" in text


def test_expressions_stand_by_their_largest_value(page):
    text, head = page
    found = re.findall(r'class=bar><span>([^<]*)</span><em><s style="width:(\d+)%"></s><u\s+style="width:(\d+)%"', text)
    assert [name for name, _, _ in found] == list(head.expression_names)[::-1]
    assert found[0][1:] == ("100", "90")
