"""Errors that commands show as one line."""

from flame_nerf.runtime.words import printable


class OneLine(Exception):  # noqa: N818 -- of which errors are made
    """An error whose text is one line, whatever a file's own names hold: breaks and escapes are written out."""

    def __str__(self) -> str:
        return printable(super().__str__())


class AvatarError(OneLine, RuntimeError):
    """An avatar that cannot be used as asked. The text names the file, what is wrong and the fix, in one line."""


class FilmError(OneLine, RuntimeError):
    """A film or picture that could not be made or written. The text names the file, the cause and the fix."""


class MotionError(OneLine, ValueError):
    """A moment or a motion that cannot be made or used. The text says what was asked, and what to give instead."""


class UserError(OneLine, RuntimeError):
    """The job cannot be done as asked; the text says why and what to do. Printed without a traceback."""
