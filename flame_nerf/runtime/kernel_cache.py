"""Where numba keeps compiled kernels if neither the package nor the user's cache may be written to.

In a container whose packages and home are read-only numba ends the import of every cached kernel with an error.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

from flame_nerf.runtime.files import cache_folder

VARIABLE = "NUMBA_CACHE_DIR"


def settle_kernel_cache() -> None:
    """Name a folder for numba where it would find none itself: this user's own, in the system's temporary folder."""
    if os.environ.get(VARIABLE) or any(map(_may_be_made, (Path(__file__).parent, cache_folder()))):
        return
    try:
        folder = _own_folder()
    except OSError:
        # Nothing may be written anywhere: numba says so itself.
        return
    os.environ[VARIABLE] = str(folder)
    if "numba" in sys.modules:
        vars(sys.modules["numba"].config)["CACHE_DIR"] = str(folder)


def _may_be_made(folder: Path) -> bool:
    """Whether files may be written in a folder, or in the one above in which it would have to be made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """The same for each process of a user; what lies in it is run, so nobody else may have made it or write there."""
    if not hasattr(os, "getuid"):
        return Path(tempfile.mkdtemp(prefix="flame_nerf-"))
    folder = Path(tempfile.gettempdir()) / f"flame_nerf-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return Path(tempfile.mkdtemp(prefix="flame_nerf-"))
    return folder
