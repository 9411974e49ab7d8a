"""What the commands share about going wrong: errors as one line, full disks by their name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from flame_nerf.runtime.files import NO_ROOM, DiskFull, cause
from flame_nerf.runtime.words import escape

GO_ON = "Interrupted. Give the same command again to go on from here."


def run_command(
    work: Callable[[], None], known: type[Exception] | tuple[type[Exception], ...], interrupted: str = GO_ON
) -> int:
    """Do a command's work, its own errors as one line on standard error. Returns the exit status.

    Args:
        work: does it, and prints what came of it.
        known: errors whose text is written for users.
        interrupted: what to say when the user interrupts.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        work()
    except known as error:
        console.print(f"[bold red]Error:[/] {escape(error)}")
        return 1
    except KeyboardInterrupt:
        console.print(interrupted)
        return 130
    return 0


@contextmanager
def disk_errors(folder: Path, kind: type[Exception], again: str = "It goes on where it stopped.") -> Iterator[None]:
    """Say in words what the disk refused inside this block.

    Args:
        folder: what was being written.
        kind: the error to raise instead.
        again: what the same command does when it is given again.

    Raises:
        kind: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        where, why = error.filename or folder, error.strerror or error
        if error.errno in NO_ROOM:
            why = why if isinstance(error, DiskFull) else cause(error.errno, Path(where))
            raise kind(f"{where}: {why}. {NO_ROOM[error.errno]} and give the same command again. {again}") from error
        raise kind(f"{where}: {why}. Check the folder, then give the same command again.") from error
