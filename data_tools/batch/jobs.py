"""One subject's steps as runs of the ordinary commands, each with a log, and done once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flame_nerf.runtime.door import read_json, read_text
from flame_nerf.runtime.files import whole

Status = Literal["done", "done before", "failed", "interrupted"]

POLL_SECONDS = 0.2
"""How often a running command is looked after."""
GRACE_SECONDS = 20.0
"""Time an interrupted command has to put its things in order."""


class Interrupted(Exception):
    """The batch was told to stop."""


@dataclass(frozen=True)
class Step:
    """A command that makes something."""

    title: str
    command: tuple[str, ...]
    folder: Path
    product: str
    """Pattern of a file in the folder that is there once the command is done."""
    log: Path
    resumable_run: Path | None = None
    """Folder of a training run that may hold checkpoints to go on from."""
    source: Path | None = None
    """File whose change makes the product out of date."""

    @property
    def note(self) -> Path:
        """File that says that the step is done, and for which command and source."""
        return self.log.with_suffix(".done.json")

    def key(self) -> str:
        """Changes with the command and with its source."""
        about = self.source.stat() if self.source is not None else None
        parts = [*self.command, *((str(about.st_size), str(about.st_mtime_ns)) if about else ())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def is_there(self) -> bool:
        """Whether what it makes is there."""
        return any(self.folder.glob(self.product))

    def seconds_before(self) -> float | None:
        """How long it took an earlier batch to do this very step; None where it is still to be done."""
        try:
            note = read_json(self.note, ValueError)
            same = note["key"] == self.key()
        except (ValueError, KeyError, TypeError):
            return None
        return float(note["seconds"]) if same and self.is_there() else None


@dataclass(frozen=True)
class Job:
    """All steps of one subject, one after the other."""

    name: str
    steps: tuple[Step, ...]
    subject: Path
    environment: Mapping[str, str]

    def frames(self) -> int | None:
        """Frames of its subject, once there is one."""
        try:
            return len(read_json(self.subject / "transforms.json", ValueError)["frames"])
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class JobResult:
    """How a job went."""

    name: str
    status: Status
    minutes: float
    frames: int | None
    error: str = ""
    """Last line of what the failed command said."""
    log: str = ""
    """File with all of it."""


def run_job(
    job: Job,
    retries: int,
    environment: Mapping[str, str] | None = None,
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda title: None,
) -> JobResult:
    """Do what is still to be done of a job.

    Args:
        retries: how often a step that failed is run again.
        environment: set for the commands besides the job's own.
        stop: asked now and then whether to give up.
        told: told the title of each step that starts.
    """
    seconds, ran = 0.0, False
    for step in job.steps:
        before = step.seconds_before()
        if before is not None:
            seconds += before
            continue
        told(step.title)
        ran, started = True, time.perf_counter()
        try:
            error = _run_step(step, retries, {**job.environment, **(environment or {})}, stop)
        except Interrupted:
            return JobResult(job.name, "interrupted", (seconds + time.perf_counter() - started) / 60, job.frames())
        took = time.perf_counter() - started
        seconds += took
        if error is not None:
            return JobResult(job.name, "failed", seconds / 60, job.frames(), f"{step.title}: {error}", str(step.log))
        _write(step.note, {"key": step.key(), "seconds": took})
    return JobResult(job.name, "done" if ran else "done before", seconds / 60, job.frames())


def _run_step(step: Step, retries: int, environment: Mapping[str, str], stop: Callable[[], bool]) -> str | None:
    """Why the step failed, or None."""
    error = None
    for _ in range(retries + 1):
        error = _run_once(step, environment, stop)
        if error is None:
            return None
    return error


def _run_once(step: Step, environment: Mapping[str, str], stop: Callable[[], bool]) -> str | None:
    command = [*step.command, *_resuming(step.resumable_run)]
    step.log.parent.mkdir(parents=True, exist_ok=True)
    with open(step.log, "ab") as log:
        log.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')}  {shlex.join(command)}\n".encode())
        log.flush()
        begin = log.tell()
        try:
            # A session of its own: Ctrl+C reaches the batch alone, which passes it on once.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            return f"{command[0]} cannot be started ({error})"
        try:
            while True:
                try:
                    code = process.wait(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if stop():
                        raise Interrupted from None
        except BaseException:
            _end(process)
            raise
    if code == 0:
        return None if step.is_there() else f"it ended well but {step.folder / step.product} is not there"
    return last_words(step.log, begin) or f"exit status {code}" + (" (killed: out of memory?)" if code == -9 else "")


def _end(process: subprocess.Popen) -> None:
    """Interrupt a command and all it started; kill what does not end."""
    for how in (signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            os.killpg(process.pid, how) if hasattr(os, "killpg") else process.send_signal(signal.SIGTERM)
            process.wait(timeout=GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def _resuming(run: Path | None) -> list[str]:
    """Options that let a training go on from its last checkpoint to the end it was started for."""
    if run is None or not any(run.glob("nerfstudio_models/step-*.ckpt")):
        return []
    try:
        config = read_text(run / "config.yml", ValueError)
    except ValueError:
        return []
    # Only this package's trainer knows totals; a run of another method starts anew.
    names = ("total_steps", "max_num_iterations")
    found = [re.search(rf"^{name}: (\d+|null)$", config, re.MULTILINE) for name in names]
    if not all(found):
        return []
    total, steps = (match[1] for match in found)
    return ["--load-dir", str(run / "nerfstudio_models"), "--total-steps", steps if total == "null" else total]


def last_words(log: Path, begin: int) -> str:
    """The line that says what was wrong: the last one with an error's name, else the last one with words."""
    with open(log, "rb") as file:
        file.seek(begin)
        lines = [line.strip(" \t\r│─╭╮╰╯") for line in file.read().decode(errors="replace").splitlines()]
    spoken = [line for line in lines if re.search(r"\w", line) and line != "Error"][-20:]
    named = [line for line in spoken if re.search(r"\w*(Error|Exception)\b", line)]
    return (named or spoken or [""])[-1]


def _write(path: Path, content: dict) -> None:
    with whole(path) as spare:
        spare.write_text(json.dumps(content))


def python_module(module: str) -> tuple[str, ...]:
    """Command that runs a module with this very Python."""
    return (sys.executable, "-m", module)
