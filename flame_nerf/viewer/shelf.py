"""Motion files of the page: those beside the checkpoint, and those that a browser sends."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from flame_nerf.motion import Motion, MotionError, SubjectMotion, load_motion, own_motion, save_motion
from flame_nerf.motion.files.sources import FILES

MOST_BYTES = 256 << 20
"""Bytes of a file that a browser may send."""
_UNUSUAL = re.compile(r"[^\w .()+-]+")


class Shelf:
    """Where an avatar's motions lie.

    Attributes:
        folder: beside config.yml.
    """

    def __init__(self, folder: Path, avatar: SubjectMotion, subject: str, head_model: str) -> None:
        """
        Args:
            folder: of the motion files; made when the first one is saved.
            avatar: whose numbers motions are brought into.
            subject: name of its subject.
            head_model: name of its head model.
        """
        self.folder = folder
        self._avatar, self._subject, self._head_model = avatar, subject, head_model

    def names(self) -> tuple[str, ...]:
        """Files that lie there."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.iterdir() if path.suffix.lower() in FILES))

    def load(self, name: str) -> Motion:
        """A motion that lies there, in the avatar's own numbers.

        Raises:
            MotionError: naming the file and the fix.
        """
        return self._own(load_motion(self.folder / Path(name).name))

    def received(self, name: str, content: bytes) -> Motion:
        """A motion that a browser sent, in the avatar's own numbers.

        Args:
            name: of the file, by which its kind is known.
            content: of the file.

        Raises:
            MotionError: in one line, naming the file as the person who sent it knows it.
        """
        name = Path(name).name
        if Path(name).suffix.lower() not in FILES:
            raise MotionError(f"{name}: no motion file: give one that ends in {', '.join(FILES)}")
        if len(content) > MOST_BYTES:
            raise MotionError(f"{name}: larger than {MOST_BYTES >> 20} MiB; cut it with `flame-nerf motion --end`")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"sent{Path(name).suffix.lower()}"
            path.write_bytes(content)
            try:
                return self._own(load_motion(path))
            except MotionError as error:
                text = str(error).replace(str(path), name).replace(path.name, name)
                raise MotionError(text) from None

    def save(self, motion: Motion, name: str) -> Path:
        """Keep a motion under a name; the suffix says in which format, `.npz` where there is none.

        Raises:
            MotionError: it cannot be written there.
        """
        path = self.folder / file_name(name)
        save_motion(motion, path)
        return path

    def _own(self, motion: Motion) -> Motion:
        return own_motion(motion, self._avatar, self._subject, self._head_model)


def file_name(name: str) -> str:
    """A person's words as the name of a motion file: no folder, nothing that a disk refuses."""
    name = _UNUSUAL.sub("-", name).strip(" .-") or "take"
    return name if Path(name).suffix.lower() in FILES else f"{name[:80]}.npz"
