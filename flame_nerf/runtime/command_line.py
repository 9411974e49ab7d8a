"""What the command line of this process says that Nerfstudio's scripts do not hand on to a method."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import NoReturn

from flame_nerf.runtime.compatibility import mend_tsdf_export
from flame_nerf.runtime.files import NO_ROOM
from flame_nerf.runtime.words import printable

OTHER_EXPORTS = {
    "marching-cubes": "needs a method with a signed distance field",
    "gaussian-splat": "needs a method made of Gaussians, as splatfacto is",
}
"""Sub-commands of ns-export for methods of another kind, where it would end in a bare assertion."""


def prepare_export(arguments: Sequence[str]) -> None:
    """Ready ns-export for a head avatar; does nothing in other programs.

    Args:
        arguments: of the process, its program first.

    Raises:
        SystemExit: it was asked for what no method of this package has; one sentence says what to ask for instead.
    """
    asked = arguments[1] if len(arguments) > 1 and Path(arguments[0]).stem == "ns-export" else None
    if asked in OTHER_EXPORTS:
        raise SystemExit(
            f"ns-export {asked} {OTHER_EXPORTS[asked]}, and a head avatar has none: "
            "use ns-export poisson or tsdf for a mesh, or pointcloud."
        )
    if asked == "tsdf":
        mend_tsdf_export()
    if asked == "poisson":
        sys.excepthook = partial(_no_mesh, sys.excepthook)


def _no_mesh(
    shown: Callable[..., object], kind: type[BaseException], error: BaseException, trace: TracebackType
) -> None:
    """Say in a line why ns-export poisson ends, where it is the mesh's making that fails.

    Of too few points, or of a fog without a surface, open3d and what unwraps the mesh raise errors of many kinds.

    Args:
        shown: how Python shows errors, for all others.
    """
    # The innermost frame is what raises it.
    raised_in = [frame.f_globals.get("__name__", "").split(".")[0] for frame, _ in walk_tb(trace)]
    if not issubclass(kind, Exception) or raised_in[-1:] == ["flame_nerf"] or "nerfstudio" not in raised_in:
        shown(kind, error, trace)
        return
    words = " ".join(str(error).split()) or "no reason given"
    print(
        f"ns-export poisson: no mesh came of this avatar ({kind.__name__}: {words:.200}). One of some hundred steps is "
        "a fog that has no surface: train it on with --load-dir, and give --num-points 100000 or more. Or take "
        "ns-export tsdf, which needs no points.",
        file=sys.stderr,
    )


@contextmanager
def console_command() -> Iterator[None]:
    """What every command of this package is run in: it ends in words, whatever its terminal does.

    Output that nobody reads any more, as with `| head`, ends the process without a word, with the status that a shell
    gives to programs that a broken pipe ends. What the disk refuses, this output too, ends it in a line, with status 1,
    and Ctrl-C in another, with 130, where nothing else has answered it. Without standard output or error there is none.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open until the process ends
    try:
        try:
            yield
        finally:
            # What is still to be written finds out here, and not while the interpreter ends.
            sys.stdout.flush()
    except KeyboardInterrupt:
        _end("Interrupted.", 130)
    except BrokenPipeError:
        if not _unread():
            # Another pipe's, such as an encoder's.
            raise
        _drop_output()
        sys.exit(128 + 13)
    except OSError as error:
        if not error.filename and error.errno not in (*NO_ROOM, errno.EIO):
            raise
        _drop_output()
        # Writing knows no names.
        where = error.filename or "what this command says or writes"
        _end(f"Error: {where}: {error.strerror}. See to it and give the same command again.", 1)


def _end(words: str, status: int) -> NoReturn:
    print(printable(words), file=sys.stderr)
    sys.exit(status)


def _drop_output() -> None:
    """The interpreter flushes once more at its end: into nothing."""
    # A notebook's output has no number.
    with suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unread() -> bool:
    """Whether the output goes into a pipe that nobody reads any more."""
    try:
        number = sys.stdout.fileno()
    except io.UnsupportedOperation:
        # A notebook's, say.
        return False
    output = select.poll()
    output.register(number, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


def loaded_config(arguments: Sequence[str]) -> Path | None:
    """The config.yml that --load-config names; None where nothing does, or nothing is there."""
    return named_file(arguments, "--load-config")


def named_file(arguments: Sequence[str], option: str) -> Path | None:
    """The file that an option names, `--option FILE` or `--option=FILE`; None: nothing, or it is not there.

    Args:
        arguments: of the process.
        option: with its dashes; underscores in the arguments count as dashes.
    """
    for position, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name.replace("_", "-") == option:
            value = value if given else "".join(arguments[position + 1 : position + 2])
            return Path(value) if value and Path(value).is_file() else None
    return None
