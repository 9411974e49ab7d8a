"""The `flame-nerf` command, as a user calls it."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import commands
import pytest
from track_clips import carphone, pictures_of, steady, write_video

from flame_nerf import cli

run = partial(commands.run, "flame-nerf")


@pytest.mark.parametrize(
    "name, argument, status", [("flame-nerf", "--help", 0), ("flame-nerf-data", "no-such-command", 2)]
)
def test_the_installed_program_says_what_its_fork_says(name, argument, status):
    """As a shell starts it; the other tests fork theirs."""
    program = Path(sys.executable).with_name(name)
    started = subprocess.run([program, argument], capture_output=True, text=True, timeout=300)
    forked = commands.run(name, argument)
    assert started.returncode == forked.returncode == status
    assert name in started.stdout + started.stderr
    assert (started.stdout, started.stderr) == (forked.stdout, forked.stderr)


def test_help_names_the_commands_and_teaches():
    finished = run("--help")
    assert finished.returncode == 0
    for word in ("demo", "drive", "motion", "pack", "unpack", "move", "export", "export-track", "info"):
        assert word in finished.stdout
    assert "--video" in run("demo", "--help").stdout


def test_info_reports_versions_and_what_is_missing():
    finished = run("info", "--packages", "torch", "no-such-package-anywhere")
    assert finished.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in finished.stdout.splitlines())
    assert lines["torch"][0].isdigit()
    assert lines["no-such-package-anywhere"] == "not installed"
    assert "CUDA" in lines and "ffmpeg" in lines


def test_drive_without_a_config_ends_with_one_line(tmp_path):
    finished = run("drive", tmp_path / "nowhere.yml")
    assert finished.returncode == 1
    assert "nowhere.yml" in finished.stderr and "config.yml" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_drive_refuses_two_answers_to_one_question(tmp_path):
    with pytest.raises(cli.UserError, match="--sweep and --motion"):
        cli.Drive(tmp_path / "config.yml", sweep=("jawOpen",), motion=tmp_path).run()


def test_films_are_named_after_what_they_show_so_that_none_overwrites_another(tmp_path):
    drive = partial(cli.Drive, tmp_path / "config.yml")
    (tmp_path / "kept.d").mkdir()
    assert drive().film == Path("outputs/films/performance.mp4")
    assert drive(sweep=("jawOpen",), orbit=True).film == Path("outputs/films/jawOpen-orbit.mp4")
    assert (
        drive(motion=tmp_path / "ada" / "..", output=tmp_path / "new").film == tmp_path / "new" / f"{tmp_path.name}.mp4"
    )
    assert drive(output=tmp_path / "kept.d").film == tmp_path / "kept.d" / "performance.mp4"
    assert drive(sweep=("jawOpen",), output=tmp_path / "mine.mp4").film == tmp_path / "mine.mp4"


def test_demo_says_where_its_clip_comes_from(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(cli.UserError, match=r"flame-nerf\[demo\]"):
        cli.find_demo_clip()


def test_demo_with_a_missing_video_ends_with_one_line(tmp_path):
    pytest.importorskip("mediapipe", reason="tracking needs the extra `track`")
    finished = run("demo", "--video", tmp_path / "gone.mp4", "--output", tmp_path / "out")
    assert finished.returncode == 1
    assert "gone.mp4" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_demo_from_clip_to_films_and_again_without_redoing(tmp_path, capsys):
    pytest.importorskip("mediapipe", reason="tracking needs the extra `track`")
    assert cli.find_demo_clip() == carphone()
    clip = write_video(tmp_path / "clip.mp4", pictures_of(carphone(), 24), steady(24))
    place = tmp_path / "my films"
    arguments = ["demo", "--video", clip, "--output", place, "--steps", "60", "--frames", "5"]
    first = run(*arguments, timeout=400)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    films = place / "films"
    for name in ("orbit.mp4", "orbit.png", "jawOpen.mp4", "jawOpen.png", "held_out.png"):
        assert (films / name).stat().st_size > 1000, name
    assert (place / "subject" / "report.html").exists()
    # Commands can be pasted from any folder's name.
    command = shlex.split(next(line for line in first.stdout.splitlines() if "ns-viewer" in line).split("face:")[1])
    assert Path(command[2]).is_file(), command

    (films / "orbit.mp4").unlink()
    (tmp_path / "made").mkdir()
    for part in ("subject", "avatar", "films"):
        shutil.move(place / part, tmp_path / "made" / part)
    cli.Demo(clip, tmp_path / "made", steps=60, frames=5).run()
    again = capsys.readouterr().out
    assert "already trained" in again, "also from a folder that was renamed"
    assert (tmp_path / "made/films/orbit.mp4").exists()
    assert again.count("already filmed") == 2


COMMANDS = [("flame_nerf.cli", name) for name in ("demo", "drive", "motion", "pack", "unpack", "move", "info")]
COMMANDS += [("flame_nerf.cli", name) for name in ("export-track", "export")]
COMMANDS += [("data_tools.cli", name) for name in ("track", "batch", "import", "export", "check", "convert-head")]
COMMANDS += [("data_tools.cli", name) for name in ("depth", "synth", "synth-animal")]


@pytest.mark.parametrize(("module", "command"), COMMANDS)
def test_no_two_arguments_have_one_name(module, command, monkeypatch, capsys):
    """The usage line tells positional arguments apart by their names alone."""
    monkeypatch.setattr(sys, "argv", ["program", command, "--help"])
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as finished:
        importlib.import_module(module).main()
    assert finished.value.code == 0
    usage = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("usage:"))
    positional = [word for word in usage.split(command, 1)[1].split(" [--")[0].split() if word != "[-h]"]
    assert len(positional) == len(set(positional)), usage
    assert not {"PATH", "STR", "INT", "FLOAT"} & set(positional), usage
