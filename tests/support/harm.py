"""What a file from a stranger may hold."""

from collections.abc import Callable


class Calls:
    """An object whose pickle, read with `pickle.load`, calls this function with these arguments."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call
