"""Both command lines where whatever reads their output has gone, as `| head` does."""

import os
import sys
from contextlib import contextmanager

import pytest

import data_tools.cli
import flame_nerf.cli
from flame_nerf.runtime.command_line import quiet_when_unread


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
    with nobody_reads(monkeypatch), pytest.raises(SystemExit), quiet_when_unread():
        for number in range(100):
            print("x" * 1000)
            printed.append(number)
    assert len(printed) < 100


def test_another_pipes_end_is_not_hidden(capsys):
    with pytest.raises(BrokenPipeError), quiet_when_unread():
        raise BrokenPipeError("an encoder's")
