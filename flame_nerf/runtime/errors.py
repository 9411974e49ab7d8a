"""Errors that commands show as one line."""


class AvatarError(RuntimeError):
    """An avatar that cannot be used as asked. The text names the file, what is wrong and the fix, in one line."""
