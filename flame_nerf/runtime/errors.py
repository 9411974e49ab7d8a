"""Errors that commands show as one line."""


class AvatarError(RuntimeError):
    """An avatar that cannot be used as asked. The text names the file, what is wrong and the fix, in one line."""


class FilmError(RuntimeError):
    """A film or picture that could not be made or written. The text names the file, the cause and the fix."""


class MotionError(ValueError):
    """A moment or a motion that cannot be made or used. The text says what was asked, and what to give instead."""


class UserError(RuntimeError):
    """The job cannot be done as asked; the text says why and what to do. Printed without a traceback."""
