"""Both command lines where their output goes nowhere, and where they are interrupted."""

import errno
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import data_tools.cli
import flame_nerf.cli
from flame_nerf.runtime.command_line import console_command


@contextmanager
def nobody_reads(monkeypatch):
    """Standard output into a pipe whose other end is closed."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (data_tools.cli.main, ["flame-nerf-data", "track", "--help"]),
        (data_tools.cli.main, ["flame-nerf-data", "--help"]),
        (flame_nerf.cli.main, ["flame-nerf", "drive", "--help"]),
    ],
)
def test_commands_end_quietly_where_nobody_reads(monkeypatch, capfd, main, arguments):
    monkeypatch.setattr(sys, "argv", arguments)
    with nobody_reads(monkeypatch), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 141
    assert capfd.readouterr().err == ""


def test_lines_that_nobody_reads_end_the_work(monkeypatch):
    printed = []
    with nobody_reads(monkeypatch), pytest.raises(SystemExit), console_command():
        for number in range(100):
            print("x" * 1000)
            printed.append(number)
    assert len(printed) < 100


def test_another_pipes_end_is_not_hidden(capsys):
    with pytest.raises(BrokenPipeError), console_command():
        raise BrokenPipeError("an encoder's")


@pytest.mark.parametrize("flushed", [True, False])
def test_output_that_cannot_be_written_is_a_line(monkeypatch, capfd, flushed):
    with open("/dev/full", "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended, console_command():
            print("a line", flush=flushed)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "No space left" in line


def test_a_full_disk_that_nothing_else_told_of_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended, console_command():
        raise OSError(errno.ENOSPC, "No space left on device", "film.mp4")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and "film.mp4: No space left" in line
    with pytest.raises(SystemExit), console_command():
        Path("/proc/no").mkdir()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: /proc/no: ")
    with pytest.raises(OSError, match="of no file"), console_command():
        raise OSError(errno.EINVAL, "of no file")


def test_without_output_there_is_none(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        patch.setattr(sys, "stderr", None)
        with console_command():
            sys.stderr.write("unheard")


def test_an_interrupt_that_nothing_answers_is_a_word(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flame-nerf-data", "check", "nowhere"])
    monkeypatch.setattr("data_tools.runs.progress.StageBars.__enter__", lambda bars: _interrupt())
    with pytest.raises(SystemExit) as ended:
        data_tools.cli.main()
    assert ended.value.code == 130 and capsys.readouterr().err == "Interrupted.\n"


def _interrupt():
    raise KeyboardInterrupt
