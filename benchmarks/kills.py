"""Kills commands at random times, runs them again, and compares with a run that nobody killed: a Markdown table.

    python benchmarks/kills.py --kills 200
    python benchmarks/kills.py --kills 30 --commands track depth --seed 7 --console 0

Kills are spread over the time that the command takes. After each, nothing half-written may load as whole; the same
command given again must end well, its result must equal that of an uninterrupted run, and nothing may be left over
that such a run does not leave. What is compared, and how: `killing/results.py`.

Each run is a child that is forked off a process with everything imported, so that a kill costs a few seconds; every
tenth is a console script in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from killing.commands import BEFORE, COMMANDS, Command
from killing.results import contents, differences, half_written

PATIENCE = 20.0
"""A run that takes so many times as long as the uninterrupted one, and a minute, hangs."""
EVERY = 10
"""Of so many kills one is of a console script."""


@dataclass
class Found:
    """What came of the kills of one command."""

    counts: Counter = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of all commands together")
    parser.add_argument("--commands", nargs="*", choices=list(COMMANDS), default=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--console", type=int, default=EVERY, help="one of so many is a console script; 0: none")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="longest time a command")
    parser.add_argument("--keep", type=Path, help="folder for what was left by kills that came to no good")
    options = parser.parse_args(arguments)
    heads = ("seconds", "kills", "of scripts", "wrong status", "hangs", "half-written", "other result", "left over")
    print(f"| command | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}", flush=True)
    bad = 0
    for number, name in enumerate(options.commands):
        share = len(range(number, options.kills, len(options.commands)))
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            found = attack(name, COMMANDS[name], Path(folder), share, options)
        told = ("kills", "console", "status", "hang", "half", "other", "left")
        print(f"| {name} | {found.seconds:.1f} | {' | '.join(str(found.counts[what]) for what in told)} |", flush=True)
        for line in found.lines:
            print(f"    {line}", file=sys.stderr, flush=True)
        bad += len(found.lines)
    return 1 if bad else 0


def attack(name: str, command: Command, folder: Path, kills: int, options: argparse.Namespace) -> Found:
    """Prepare a command's input, run it once in peace, and then kill it so many times."""
    choices, found = random.Random(f"{options.seed}:{name}"), Found()
    given, place = folder / "given", folder / "place"
    given.mkdir()
    _forked(command.prepare, given)
    begun = time.monotonic()
    wholes: dict[bool, tuple[dict[str, object], float]] = {}
    # Moments in any order: cut short by --seconds, they are still spread over all of it.
    moments = choices.sample(range(kills), kills)
    for kill, moment in enumerate(moments):
        if time.monotonic() - begun > options.seconds:
            break
        console = bool(options.console) and kill % options.console == options.console - 1
        if console not in wholes:
            wholes[console] = _in_peace(command, given, place, console)
            found.seconds = found.seconds or wholes[console][1]
        whole, seconds = wholes[console]
        while True:
            _empty(place)
            after = seconds * (moment + choices.random()) / kills
            started = time.monotonic()
            run = _start(command, given, place, console, first=True)
            if _wait(run, after) is None:
                break
            # The machine is less busy now: the next one is killed earlier.
            seconds = min(seconds, time.monotonic() - started)
        # Sometimes what it started goes with it, as when the machine stops; sometimes that is left to end by itself.
        (os.killpg if choices.random() < 0.5 else os.kill)(run, signal.SIGKILL)
        _wait(run, None)
        told = _after(command, given, place, console, whole, seconds)
        found.counts.update({"kills": 1, "console": int(console), **dict.fromkeys(told, 1)})
        for kind, line in told.items():
            found.lines.append(f"{name}, kill {kill} after {after:.2f} of {seconds:.2f} s: {kind}: {line}")
            print(found.lines[-1], file=sys.stderr, flush=True)
        left = (time.monotonic() - begun) / (kill + 1) * (kills - kill - 1)
        print(f"{name}: {kill + 1} of {kills} kills, {left / 60:.1f} minutes left", file=sys.stderr, flush=True)
        if told and options.keep is not None:
            shutil.copytree(place, options.keep / f"{name}-{kill}", dirs_exist_ok=True, symlinks=True)
    return found


def _after(
    command: Command, given: Path, place: Path, console: bool, whole: dict[str, object], seconds: float
) -> dict[str, str]:
    """What is wrong after a kill and after the command was given again; empty: nothing."""
    told = {}
    before = given / BEFORE
    if wrong := half_written(place, whole, contents(before) if before.is_dir() else None):
        told["half"] = wrong
    status = _wait(run := _start(command, given, place, console, first=False), PATIENCE * seconds + 60)
    if status is None:
        os.killpg(run, signal.SIGKILL)
        _wait(run, None)
        return told | {"hang": "given again, it does not end"}
    log = (place.parent / "log").read_text(errors="replace")
    if status != 0 or "Traceback" in log:
        told["status"] = f"{status}: {' '.join(log.split()[-60:])}"
    other, left = differences(contents(place), whole)
    return told | ({"other": other} if other else {}) | ({"left": left} if left else {})


def _in_peace(command: Command, given: Path, place: Path, console: bool) -> tuple[dict[str, object], float]:
    """Contents and duration, seconds, of a run that nobody kills."""
    _empty(place)
    begun = time.monotonic()
    if (status := _wait(_start(command, given, place, console, first=True), None)) != 0:
        sys.exit(f"{command.words(given, place, True)} ends with {status}:\n{(place.parent / 'log').read_text()}")
    return contents(place), time.monotonic() - begun


def _empty(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)


def _start(command: Command, given: Path, place: Path, console: bool, first: bool) -> int:
    """A child that does the command's work, in a session of its own; its number."""
    words = command.words(given, place, first)
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    log = os.open(place.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # What it leaves there is left over, too.
    os.environ["TMPDIR"] = str(place / "tmp")
    vars(tempfile).update(tempdir=None)
    if console:
        script = Path(sys.executable).parent / words[0]
        os.execv(script, [str(script), *words[1:]])
    _end(lambda: command.call(words))
    return 0


def _forked(work, *given) -> None:
    """Do work in a child, so that this process starts no threads of its own: a fork would not have them."""
    child = os.fork()
    if child == 0:
        _end(lambda: work(*given))
    if (status := _wait(child, None)) != 0:
        sys.exit(f"the input cannot be made: status {status}")


def _end(work) -> None:
    """Do work and leave, with its status."""
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 -- it is what is looked for
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, seconds: float | None) -> int | None:
    """Status of a child once it ends; None where it goes on for longer."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], seconds)[0]:
            return None
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main())
