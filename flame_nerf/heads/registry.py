"""Head models that a person keeps outside the package, FLAME above all, remembered by name in one small file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from flame_nerf.runtime.door import read_json
from flame_nerf.runtime.files import whole


def remembered_heads() -> dict[str, Path]:
    """Names and files of the heads that were remembered; empty where there are none or the list is unreadable."""
    try:
        entries = read_json(_list_file(), ValueError)
    except ValueError:
        return {}
    if not isinstance(entries, dict):
        return {}
    return {str(name): Path(path) for name, path in entries.items() if isinstance(path, str)}


def remember_head(name: str, path: Path | str) -> Path:
    """Note that `load_head(name)` shall read `path` from now on.

    Returns:
        The file in which it is noted.

    Raises:
        OSError: it cannot be written.
    """
    listing = _list_file()
    entries = {known: str(file) for known, file in remembered_heads().items()} | {name: str(Path(path).absolute())}
    with whole(listing) as spare:
        spare.write_text(json.dumps(entries, indent=2), encoding="utf-8")
    return listing


def _list_file() -> Path:
    """heads.json in the place where the platform keeps settings."""
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "flame-nerf" / "heads.json"
