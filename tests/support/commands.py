"""This environment's commands as processes of their own, without the seconds that their imports take.

One process a test session imports what the commands import, and forks for each command: the child has its own working
directory, environment, output and end, as if started from a shell. `tests/test_cli.py` starts the real programs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
"""Threads that spin while they wait slow each other down where tests run side by side."""
IMPORTED = (
    "flame_nerf.cli", "data_tools.cli", "flame_nerf.methods", "nerfstudio.scripts.train", "nerfstudio.scripts.eval",
    "nerfstudio.scripts.render", "nerfstudio.scripts.exporter", "nerfstudio.scripts.viewer.run_viewer",
)  # fmt: skip
LONGEST = 1 << 20
"""Bytes of an order: arguments and environment."""


class Command:
    """A command that runs; has what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, answer: socket.socket) -> None:
        self.pid, self.returncode = pid, None
        self._answer = answer

    def poll(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._answer.settimeout(timeout or (None if timeout is None else 1e-3))
            try:
                self.returncode = int(self._answer.recv(64) or -9)
            except TimeoutError:
                return None
        return self.returncode


def start(
    words: Sequence[object], stdout: int, stderr: int, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Command:
    """Start a command by its console script's name.

    Args:
        words: Name of the console script and its arguments.
        stdout: File descriptor for what it prints.
        stderr: File descriptor for what it complains of.
        cwd: Its working directory; this process's by default.
        env: Its whole environment; this process's, on one thread, by default.
    """
    order = {
        "words": [str(word) for word in words],
        "cwd": str(cwd or Path.cwd()),
        "env": dict(os.environ | QUIET if env is None else env),
    }
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(_server(), [json.dumps(order).encode()], [theirs.fileno(), stdout, stderr])
    return Command(int(ours.recv(64)), ours)


def run(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` with captured text does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        command = start(words, out.fileno(), err.fileno(), cwd, env)
        try:
            status = command.wait(timeout)
        finally:
            command.kill()
        said = [stream.seek(0) or stream.read().decode(errors="replace") for stream in (out, err)]
    return subprocess.CompletedProcess(list(words), status, *said)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=os.environ | QUIET
        )

    def end() -> None:
        # It ends when nobody can order any more.
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(orders: socket.socket) -> None:
    for name in IMPORTED:
        __import__(name)
    running: dict[int, socket.socket] = {}

    def reap(*_: object) -> None:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                # Whoever ordered it may have gone.
                with running.pop(pid) as answer, contextlib.suppress(OSError):
                    answer.send(str(os.waitstatus_to_exitcode(status)).encode())

    signal.signal(signal.SIGCHLD, reap)
    while True:
        words, descriptors, *_ = socket.recv_fds(orders, LONGEST, 3)
        if not words:
            return
        answer = socket.socket(fileno=descriptors[0])
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            orders.close()
            answer.close()
            _become(json.loads(words), *descriptors[1:])
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        answer.send(str(pid).encode())
        running[pid] = answer
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def _become(order: dict, stdout: int, stderr: int) -> NoReturn:
    """What an interpreter does from its start to its end, in a child of this process."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["words"]
    status = 1
    try:
        (script,) = entry_points(group="console_scripts", name=sys.argv[0])
        sys.exit(script.load()())
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        else:
            status = end.code or 0
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    finally:
        # What `os._exit` leaves out: threads come to their end, then what was to be done at the end.
        threading._shutdown()  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
