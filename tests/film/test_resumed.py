"""Films that were interrupted go on where they were, and only with pictures of the same."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from avatar_fixtures import config_path, project  # noqa: F401
from disc_avatar import decoded, pipeline, reds
from PIL import Image

from flame_nerf.commands.drive import Drive
from flame_nerf.film import FilmError
from flame_nerf.film.filming import Take, film_take
from flame_nerf.model import FlameNerfModel
from flame_nerf.motion import Moments, Motion, PosedFrame, save_motion
from flame_nerf.runtime.contents import named_by_contents
from flame_nerf.runtime.film_options import LookConfig

CLOSE = LookConfig(close=False)
"""A close look would ask for moments before the first picture."""


def cut_short(at: int = 3, count: int = 5) -> Moments:
    def moment(index: int) -> PosedFrame:
        if index == at:
            raise KeyboardInterrupt
        return reds(count)[index]

    return Moments(count, moment)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_of_pictures_is_gone_on_with(tmp_path):
    made, folder = pipeline(), tmp_path / "frames"
    look = LookConfig(background="transparent", close=False)
    with pytest.raises(KeyboardInterrupt):
        film_take(made, Take(cut_short(), 10), folder, look, made_of="ada")
    assert sorted(path.name for path in folder.glob("*.png")) == ["000000.png", "000001.png", "000002.png"]
    made.model.rendered = 0
    film_take(made, Take(reds(5), 10), folder, look, made_of="ada")
    assert made.model.rendered == 2 and len(list(folder.glob("*.png"))) == 5
    assert Image.open(folder / "000004.png").mode == "RGBA"
    film_take(made, Take(reds(4), 10), folder, look, made_of="bob")
    assert made.model.rendered == 6, "another film is made anew"
    assert len(list(folder.glob("*.png"))) == 4
    (folder / ".film.json").unlink()
    with pytest.raises(FilmError, match="something else"):
        film_take(made, Take(reds(4), 10), folder, look, made_of="bob")


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_film_in_one_file_is_gone_on_with_and_is_the_same(tmp_path, suffix):
    made, path = pipeline(), tmp_path / f"film{suffix}"
    look = LookConfig(background="transparent", close=False) if suffix == ".mov" else CLOSE
    film_take(made, Take(reds(5), 10), tmp_path / f"whole{suffix}", look, made_of="ada")
    with pytest.raises(KeyboardInterrupt):
        film_take(made, Take(cut_short(), 10), path, look, made_of="ada")
    waiting = tmp_path / f".film{suffix}.pictures"
    assert not path.exists() and len(list(waiting.glob("*.png"))) == 3
    made.model.rendered = 0
    film_take(made, Take(reds(5), 10), path, look, made_of="ada")
    assert made.model.rendered == 2
    np.testing.assert_array_equal(decoded(path), decoded(tmp_path / f"whole{suffix}"))
    # Nothing but films and their sheets is left.
    assert names(tmp_path) == sorted([path.name, "film.png", f"whole{suffix}", "whole.png"])
    assert (tmp_path / "film.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize(
    "change", ["made_of", "look", "background's picture", "orbit", "length", "a picture cut short", "nothing"]
)
def test_only_pictures_of_the_same_are_used(tmp_path, change):
    made, path, behind = pipeline(), tmp_path / "film.mp4", tmp_path / "behind.png"
    Image.new("RGB", (8, 8), (0, 200, 0)).save(behind)
    look = LookConfig(background=str(behind), close=False)
    with pytest.raises(KeyboardInterrupt):
        film_take(made, Take(cut_short(), 10), path, look, made_of="ada")
    made.model.rendered, count, more = 0, 5, {"made_of": "ada"}
    if change == "made_of":
        more["made_of"] = "bob"
    elif change == "look":
        look = LookConfig(background=str(behind), close=False, upright=False)
    elif change == "background's picture":
        Image.new("RGB", (8, 8), (0, 0, 200)).save(behind)
    elif change == "orbit":
        more["yaw_deg"] = 5.0
    elif change == "length":
        count = 4
    elif change == "a picture cut short":
        picture = tmp_path / ".film.mp4.pictures/000001.png"
        picture.write_bytes(picture.read_bytes()[:-20])
    film_take(made, Take(reds(count), 10), path, look, **more)
    assert made.model.rendered == {"nothing": 2, "a picture cut short": 3}.get(change, count)
    assert len(decoded(path)) == count


def test_a_film_for_which_the_disk_has_no_room_twice_is_made_in_one_go(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9000))
    with pytest.raises(KeyboardInterrupt):
        film_take(pipeline(), Take(cut_short(), 10), tmp_path / "film.mp4", CLOSE, made_of="ada")
    assert "it begins anew" in capsys.readouterr().out and not names(tmp_path)


def test_contents_name_what_is_in_them_and_not_where_it_lies(tmp_path):
    @dataclass
    class Thing:
        values: np.ndarray
        name: str = "a"

    (tmp_path / "a").write_text("same"), (tmp_path / "b").write_text("same")
    ones = np.ones(3)
    assert named_by_contents(tmp_path / "a", Thing(ones)) == named_by_contents(tmp_path / "b", Thing(ones.copy()))
    different = [
        (), (None,), ("",), ("ab",), ("a", "b"), (("a", "b"),), (1,), (1.0,), (True,), ("1",), (ones,),
        (ones[None],), (ones.astype(np.float32),), (ones + 1e-12,), (Thing(ones),), (Thing(ones, "b"),),
        (tmp_path / "a",), ("same",), (str(tmp_path / "a"),),
    ]  # fmt: skip
    assert len({named_by_contents(*things) for things in different}) == len(different)


def performance(path: Path, opened: float) -> Path:
    expression = np.linspace(0, opened, 5)[:, None]
    save_motion(Motion(expression, ("jawOpen",), 10.0), path)
    return path


def test_drive_goes_on_with_the_same_motion_and_avatar_alone(config_path, tmp_path, monkeypatch):  # noqa: F811
    motion, rendered, most = performance(tmp_path / "a.npz", 0.8), [], [3]
    render = FlameNerfModel.get_outputs_for_camera

    def counted(model, camera):
        if len(rendered) == most[0]:
            raise KeyboardInterrupt
        rendered.append(1)
        return render(model, camera)

    monkeypatch.setattr(FlameNerfModel, "get_outputs_for_camera", counted)
    look = LookConfig(width=8)
    drive = Drive(config_path, output=tmp_path / "film.mp4", motion=motion, look=look)
    with pytest.raises(KeyboardInterrupt):
        drive.run()
    most[0] = 99
    # The same content under another name.
    Drive(config_path, output=tmp_path / "film.mp4", motion=performance(tmp_path / "b.npz", 0.8), look=look).run()
    assert len(rendered) == 5 and len(decoded(tmp_path / "film.mp4", 8, 8)) == 5
    rendered.clear()
    most[0] = 2
    with pytest.raises(KeyboardInterrupt):
        drive.run()
    most[0] = 99
    performance(motion, 0.7)
    drive.run()
    assert len(rendered) == 7, "other numbers under the same name are another film"


@pytest.mark.slow
def test_a_killed_drive_goes_on(config_path, tmp_path):  # noqa: F811
    command = [sys.executable, "-m", "flame_nerf.cli", "drive", str(config_path), "--sweep", "jawOpen"]
    command += ["--frames", "24", "--width", "48", "--output", str(tmp_path / "film.mp4")]
    waiting, patience = tmp_path / ".film.mp4.pictures", time.monotonic() + 240
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(list(waiting.glob("*.png"))) < 3 and process.poll() is None and time.monotonic() < patience:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "film.mp4").exists() and waiting.is_dir()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    assert "of 24 pictures are there already" in finished.stdout
    assert len(decoded(tmp_path / "film.mp4", 48, 48)) == 24
    assert names(tmp_path) == ["film.mp4", "film.png", "film.trust.csv"]
