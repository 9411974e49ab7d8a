"""The formats that can be imported, and how each is recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_tools.importers.capture import Capture, Scratch
from data_tools.importers.config import ImportConfig, ImportingError
from data_tools.importers.readers import deca, imavatar, insta, metrical, nerface, nha, vhap
from flame_nerf.runtime.door import said


@dataclass(frozen=True)
class Reader:
    """One format."""

    name: str
    recognise: Callable[[Path], str | None]
    """Says why data are of this format, or None."""
    read: Callable[[Path, ImportConfig, Scratch], Capture]
    tracks: bool = False
    """Whether reading tracks pictures, which shows progress bars of its own."""


READERS = {
    name: Reader(name, module.recognise, module.read, tracks=module is nerface)
    for name, module in {
        "metrical-tracker": metrical,
        "insta": insta,
        "vhap": vhap,
        "nha": nha,
        "imavatar": imavatar,
        "deca": deca,
        "nerface": nerface,
    }.items()
}
"""By name, in the order in which they are tried."""


def read_capture(reader: Reader, source: Path, config: ImportConfig, scratch: Scratch) -> Capture:
    """What a reader makes of data.

    Raises:
        ImportingError: naming the file and field at fault.
        OSError: the disk refuses what a reader writes.
    """
    try:
        return reader.read(source, config, scratch)
    except (ImportingError, OSError):
        raise
    except Exception as problem:
        # A reader says what it looks for and does not find; this is for what nobody thought of.
        raise ImportingError(
            f"{source}: cannot be read as data of {reader.name} ({said(problem)}). Were its files written by a newer "
            "version, or copied badly?"
        ) from problem


def recognise(name: str, source: Path) -> tuple[Reader, str]:
    """The reader to use, and why.

    Args:
        name: a format's name, or auto.

    Raises:
        ImportingError: no such format, or data of none of them.
    """
    if name != "auto":
        if name not in READERS:
            raise ImportingError(f"{name}: unknown format; expected auto or one of {', '.join(READERS)}.")
        return READERS[name], ""
    for reader in READERS.values():
        why = reader.recognise(source)
        if why is not None:
            return reader, why
    seen = ", ".join(sorted(entry.name for entry in source.iterdir())[:12]) if source.is_dir() else "a single file"
    raise ImportingError(
        f"{source}: of none of the known formats ({', '.join(READERS)}). It holds {seen}. Give the folder that holds "
        "the transforms or parameter files, and name the format."
    )
