"""Room on a disk: reserved before a file is mapped, and told in words where there is none.

A file that is mapped before it has its blocks ends the process with a bus error on the day the disk fills up.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np

from flame_nerf.runtime.files import NO_ROOM, DiskFull, whole

_AT_ONCE = 1 << 20


def reserve(descriptor: int, size: int, path: Path) -> None:
    """Give an open file its blocks, `size` bytes of them; what it holds stays.

    Args:
        descriptor: of a file open for writing.
        path: for the message; its folder says how much is free.

    Raises:
        DiskFull: there is no room for them.
        OSError: the disk refuses for another reason.
    """
    if size - os.fstat(descriptor).st_size > shutil.disk_usage(path.parent).free:
        # Filling the disk up to find out would be everybody's trouble.
        raise DiskFull(errno.ENOSPC, path, size)
    try:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            _write_zeros(descriptor, size)
        except AttributeError:
            # No such call on this system.
            _write_zeros(descriptor, size)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(error.errno, path, size) from error
        raise


def _write_zeros(descriptor: int, size: int) -> None:
    """Where a file system cannot reserve, what is written has its blocks."""
    begin = os.lseek(descriptor, 0, os.SEEK_END)
    for start in range(begin, size, _AT_ONCE):
        block = bytes(min(_AT_ONCE, size - start))
        while block:
            block = block[os.write(descriptor, block) :]


def mapped_file(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """An array in a .npy file, mapped to be filled: one of that shape that is there is gone on with.

    Raises:
        DiskFull: there is no room for it; no file of that name is left then.
        OSError: the disk refuses for another reason.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not path.is_file():
        with whole(path, alone=True, synced=False) as spare, spare.open("wb") as file:
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            reserve(file.fileno(), file.tell() + size, path)
    return np.lib.format.open_memmap(path, mode="r+")
