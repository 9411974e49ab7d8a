"""What can be wrong with a motion."""


class MotionError(ValueError):
    """A moment or a motion that cannot be made or used. The text says what was asked, and what to give instead."""
