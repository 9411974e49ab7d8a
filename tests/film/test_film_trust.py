"""The table of trust beside a film."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from disc_avatar import pipeline, reds
from nerfstudio.cameras.cameras import Cameras
from synthetic import look_at_origin

from flame_nerf.film.filming import Take, film_take
from flame_nerf.film.trust import AWAY, trust_beside, write_trust
from flame_nerf.motion import Moments, PosedFrame
from flame_nerf.render.observed.trust_map import TrustMap
from flame_nerf.runtime.errors import FilmError

FPS = 10.0


def model():
    """It was filmed from straight ahead, its mouth shut to half open."""
    filmed = np.linspace(0, 0.5, 5)[:, None], np.stack([look_at_origin(0.0, 0.0)] * 5)
    return SimpleNamespace(trust_map=lambda: TrustMap(*filmed, np.zeros(3), ["jawOpen"]))


def cameras(*yaws: float) -> Cameras:
    c2w = torch.from_numpy(np.stack([look_at_origin(yaw, 0.0)[:3] for yaw in yaws])).float()
    return Cameras(c2w, 50.0, 50.0, 16.0, 16.0, width=32, height=32)


def opening(*values: float) -> Moments:
    return Moments(len(values), lambda index: PosedFrame(torch.zeros(1, 3), torch.tensor([values[index]])))


def table(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("film", "beside"), [("a.b.mp4", "a.b.trust.csv"), ("take.1", "take.1.trust.csv")])
def test_each_frame_has_its_row_beside_the_film(tmp_path, film, beside):
    line = write_trust(model(), cameras(0.0, 0.0, 0.7), opening(0.2, 0.5, 0.5), FPS, tmp_path / film)
    rows = table(tmp_path / beside)
    assert trust_beside(tmp_path / film) == tmp_path / beside and len(list(tmp_path.iterdir())) == 1
    assert list(rows[0]) == [
        "frame", "seconds", "trust", "view", "expression", "yaw_deg", "pitch_deg", "marked", "missing",
    ]  # fmt: skip
    assert [row["frame"] for row in rows] == ["0", "1", "2"] and [row["marked"] for row in rows] == ["0", "0", "1"]
    assert [float(row["seconds"]) for row in rows] == pytest.approx([0, 0.1, 0.2])
    assert float(rows[1]["trust"]) > 0.99 and float(rows[2]["trust"]) < 0.01 and not rows[1]["missing"]
    assert float(rows[2]["yaw_deg"]) == pytest.approx(40.1, abs=0.1)
    assert "1 of 3 frames" in line and beside in line and "\n" not in line
    assert line.endswith("the worst, at 0.2 s (0.00): seen from 40° to the person's left (filmed up to straight ahead)")


def test_a_performer_whose_face_is_away_is_marked(tmp_path):
    held = np.array([False, True, True])
    line = write_trust(model(), cameras(0.0, 0.0, 0.7), opening(0.2, 0.5, 0.5), FPS, tmp_path / "a.mp4", held)
    rows = table(tmp_path / "a.trust.csv")
    assert [row["marked"] for row in rows] == ["0", "1", "1"] and rows[1]["missing"] == AWAY
    assert rows[2]["missing"].startswith(f"{AWAY}; seen from 40") and "1 of 3 frames show" in line
    assert "in 2 the performer's face was away" in line and "\n" not in line


def test_a_camera_that_stands_still_serves_all_frames(tmp_path):
    line = write_trust(model(), cameras(0.0), opening(0.0, 0.5, 1.5, 0.9), FPS, tmp_path / "f.webm")
    rows = table(tmp_path / "f.trust.csv")
    assert len(rows) == 4 and float(rows[2]["trust"]) < float(rows[3]["trust"]) < float(rows[1]["trust"])
    assert "at 0.2 s" in line and "mouth wider open than filmed (1.50, at most 0.50)" in line
    assert write_trust(model(), cameras(0.0), opening(0.1), FPS, tmp_path / "g.mp4").count(";") == 0


def test_a_film_has_its_table(tmp_path, capsys):
    scene = pipeline()
    film_take(scene, Take(reds(3), FPS), tmp_path / "none")
    assert "trust: not known (no training camera is known)" in capsys.readouterr().out
    scene.model.trust_map = model().trust_map
    film_take(scene, Take(reds(3), FPS), tmp_path / "turned", yaw_deg=30.0)
    assert len(table(tmp_path / "turned.trust.csv")) == 3 and len(list(tmp_path.glob("*.csv"))) == 1
    assert "of 3 frames" in capsys.readouterr().out


def test_what_cannot_be_told_or_written_is_one_line(tmp_path):
    def unknown():
        raise ValueError("no training camera is known")

    line = write_trust(SimpleNamespace(trust_map=unknown), cameras(0.0), opening(0.1), FPS, tmp_path / "f.mp4")
    assert line == "trust: not known (no training camera is known)" and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(FilmError, match="table of trust cannot be written") as caught:
        write_trust(model(), cameras(0.0), opening(0.1), FPS, tmp_path / "file/f.mp4")
    assert "\n" not in str(caught.value)
