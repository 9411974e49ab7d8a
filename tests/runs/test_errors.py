"""What a disk refuses is one line: the file, why, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from data_tools.runs.errors import disk_errors
from data_tools.synth import SynthError
from flame_nerf.runtime.files import NO_ROOM, DiskFull


@pytest.mark.parametrize(
    "error, words",
    [
        (PermissionError(errno.EACCES, "Permission denied", "/s/images/1.png"), "/s/images/1.png: Permission denied."),
        (OSError(errno.EROFS, "Read-only file system", "/s/.work"), "/s/.work: Read-only file system. Check"),
        (OSError(errno.ENOSPC, "No space left on device"), "/s: the disk is full. Free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/s/a"), "/s/a: your quota on this disk is used up. Delete"),
        (DiskFull(errno.EDQUOT, Path("/s/a"), 7_000_000), "/s/a: your quota on this disk is used up: it needs 7.0 MB."),
        (OSError(errno.EFBIG, "File too large", "/s/a"), "/s/a: too large a file. Raise the limit (ulimit -f"),
        (DiskFull(errno.ENOSPC, Path("/s/a.npz"), 7_000_000), "/s/a.npz: the disk is full: it needs 7.0 MB, "),
        (OSError("cut short"), "/s: cut short. Check the folder"),
    ],
)
def test_every_refusal_names_the_file_and_the_remedy(error, words):
    with pytest.raises(SynthError) as caught, disk_errors(Path("/s"), SynthError, "And so on."):
        raise error
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)
    assert ("And so on." in str(caught.value)) == (error.errno in NO_ROOM)
    # What is free on the whole disk is no reason but where the disk is full.
    assert ("are free" in str(caught.value)) == (error.errno == errno.ENOSPC and isinstance(error, DiskFull))
