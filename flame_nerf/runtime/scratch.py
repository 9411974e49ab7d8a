"""Large arrays that live in an unnamed temporary file, so that a long video needs disk and not memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from flame_nerf.runtime.files import in_words
from flame_nerf.runtime.space import reserve


class ScratchError(OSError):
    """There is no room for a temporary file. The text names the folder, the size, and what to do."""


def scratch_folder() -> Path:
    """Where large temporary files go: TMPDIR if it is set, else /var/tmp, else the system's temporary folder.

    /tmp lies in memory on many systems, where a file would cost just what it is to save.
    """
    own, on_disk = os.environ.get("TMPDIR"), Path("/var/tmp")
    if not own and on_disk.is_dir() and os.access(on_disk, os.W_OK):
        return on_disk
    return Path(tempfile.gettempdir())


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike, memory_limit: int) -> np.ndarray:
    """An array to be filled: in memory up to `memory_limit` bytes, beyond that in a mapped temporary file.

    The file's blocks are reserved at once: a disk that filled up later would end the process with a bus error.

    Raises:
        ScratchError: the disk has no room for it.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= memory_limit:
        return np.empty(shape, dtype=dtype)
    folder = scratch_folder()
    try:
        # The file has no name from the start on: it is gone when the process ends, however it ends.
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), size, folder / "temporary file")
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise ScratchError(
            f"{folder}: no room for a temporary file of {in_words(size)} ({error.strerror or error}). Free some "
            "space, name a folder on a larger disk in the environment variable TMPDIR, or shrink the pictures with "
            "--pipeline.datamanager.dataparser.downscale-factor 2."
        ) from error
