"""Two commands on one folder: the second is told so, however the first one ends."""

import subprocess
import sys

import pytest

from data_tools.runs.one_at_a_time import alone_in
from data_tools.tracking import TrackingError

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def busy(tmp_path):
    """A folder in which another process is at work, and that process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        yield tmp_path, other
        other.kill()


def test_a_second_command_is_told_and_a_killed_one_keeps_nobody_out(busy):
    folder, other = busy
    with pytest.raises(TrackingError, match=f"{folder}: another command is writing"), alone_in(folder, TrackingError):
        raise AssertionError("it came in")
    other.kill()
    other.wait()
    with alone_in(folder, TrackingError), alone_in(folder, TrackingError):
        # Its own parts may come in again.
        pass
    assert not list(folder.iterdir())


def test_a_folder_that_is_not_there_is_nobody_s(tmp_path):
    with alone_in(tmp_path / "new", TrackingError):
        assert not (tmp_path / "new").exists()
