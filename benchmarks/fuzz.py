"""Damages files of every kind that is read, and counts what comes of it that should not: a Markdown table.

    python benchmarks/fuzz.py --cases 2000
    python benchmarks/fuzz.py --only keypoints subject --cases 100000 --seed 7
    python benchmarks/fuzz.py --only keypoints --cases 100000 --guided          (where atheris is installed)

Each case damages one file of a real-shaped sample (bits, JSON values, cells, arrays, members) and reads it. It must be
read, or be refused by the reader's own kind of error. A case is named by reader, seed and number, and comes again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzzing.mutations import mutated
from fuzzing.samples import READERS, Target

SLOW_SECONDS, LARGEST_MB = 5.0, 1500
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- a folder of its own is made there
"""Where samples lie: each case writes a file twice, which takes a hundred times as long on a disk."""
_TIMERS = ((signal.SIGPROF, signal.ITIMER_PROF, SLOW_SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, 12 * SLOW_SECONDS))
PATIENCE = 40.0
"""Seconds after which a process that is at the same case still, twice, is ended: libraries of C hear no signal."""
PROGRAMMING = ("NameError", "AttributeError", "UnboundLocalError")
"""Kinds that no file should lead to, even where the reader tells them in its own words."""


class Hang(BaseException):
    """A case that takes too long; nothing catches it on the way."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="cases a reader")
    parser.add_argument("--only", nargs="*", choices=list(READERS), default=list(READERS), metavar="READER")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="longest time a reader")
    parser.add_argument("--guided", action="store_true", help="let atheris choose by the lines that are reached")
    options = parser.parse_args(arguments)
    print("| reader | cases | read | refused | foreign exceptions | crashes | over 5 s | peak MB |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    bad = 0
    if not options.guided:
        # Watched modules are loaded under atheris' eyes.
        load()
    for name in options.only:
        result = in_child(name, options)
        told = [result[key] for key in ("cases", "read", "refused", "foreign", "crashes", "hangs", "peak")]
        print(f"| {name} | {' | '.join(map(str, told))} |", flush=True)
        for line, count in result["kinds"].most_common():
            print(f"    {count} x {line}", file=sys.stderr, flush=True)
        bad += result["foreign"] + result["crashes"] + result["hangs"] + (result["peak"] > LARGEST_MB)
    return 1 if bad else 0


def load() -> None:
    """What takes long to load, once for all readers."""
    import flame_nerf.dataparser
    import flame_nerf.methods  # noqa: F401


def in_child(name: str, options: argparse.Namespace) -> Counter:
    """The counts of one reader, in a process of its own: one that dies is counted, and another goes on behind it."""
    context = multiprocessing.get_context("fork")
    total: Counter = Counter(kinds=Counter())
    first, end = options.first, options.first + options.cases
    while first < end:
        reached, (ours, theirs) = context.Value("q", first), context.Pipe(duplex=False)
        before = -1
        child = context.Process(target=_work, args=(name, options, first, end, reached, theirs))
        child.start()
        theirs.close()
        try:
            stuck = False
            while not ours.poll(PATIENCE):
                stuck, before = reached.value == before, reached.value
                if stuck:
                    child.kill()
            told = ours.recv()
            if isinstance(told, str):
                sys.exit(f"the sample of {name} cannot be made:\n{told}")
            total.update(told)
            first = end
        except EOFError:
            total["kinds"][f"the process {'stays' if stuck else 'dies'} in case {reached.value}"] += 1
            total["hangs" if stuck else "crashes"] += 1
            total["cases"] += reached.value - first + 1
            first = reached.value + 1
        child.join()
        ours.close()
    return total


def _work(name: str, options: argparse.Namespace, first: int, end: int, reached: Any, pipe: Any) -> None:
    warnings.simplefilter("ignore")
    # What is asked for beyond this is refused at once, so that no case takes the machine with it.
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, resource.RLIM_INFINITY))
    # Libraries of C complain on the descriptors themselves.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        if options.guided:
            _work_guided(name, options, Path(folder), reached, pipe)
        try:
            target = READERS[name](Path(folder))
        except Exception:  # noqa: BLE001 -- told where it can be seen
            pipe.send(traceback.format_exc())
            return
        pipe.send(run(target, name, options.seed, range(first, end), options.seconds, reached))


def _work_guided(name: str, options: argparse.Namespace, folder: Path, reached: Any, pipe: Any) -> None:
    """The counts of one reader, cases chosen by atheris, which never returns."""
    from fuzzing.guided import run_guided

    found: Counter = Counter(kinds=Counter())
    begun = time.monotonic()

    def make() -> Callable[[random.Random], None]:
        load()
        (folder / "sample").mkdir()
        target = READERS[name](folder / "sample")

        def one(choices: random.Random) -> None:
            reached.value += 1
            count(found, *case(target, choices), reached.value)
            if found["cases"] >= options.cases or time.monotonic() - begun > options.seconds:
                found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                pipe.send(found)
                pipe.close()
                shutil.rmtree(folder, ignore_errors=True)
                os._exit(0)

        return one

    run_guided(make, options.cases, options.seed, folder / "corpus")


def count(found: Counter, outcome: str, line: str, number: int) -> None:
    """Adds a case to the counts."""
    found["cases"] += 1
    found[outcome] += 1
    if line:
        found["kinds"][f"{line} (case {number})"] += 1


def run(
    target: Target, name: str, seed: int, numbers: range, seconds: float = float("inf"), reached: Any = None
) -> Counter:
    """The counts of some cases of one reader.

    Args:
        numbers: of the cases; with seed and name they say all of a case.
        seconds: after which no further case is begun.
        reached: told the number of each case.
    """
    found: Counter = Counter(kinds=Counter())
    begun = time.monotonic()
    for number in numbers:
        if time.monotonic() - begun > seconds:
            break
        if reached is not None:
            reached.value = number
        count(found, *case(target, random.Random(f"{seed}:{name}:{number}")), number)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def case(target: Target, choices: random.Random) -> tuple[str, str]:
    """Damages one file, reads, and puts the file back: the outcome, and what to say of a bad one."""
    path = target.pick(choices)
    path.write_bytes(mutated(target.whole[path], path.name, choices))
    # Time of the processor, since others may use it too; and some time on the clock, for what waits.
    for what, timer, seconds in _TIMERS:
        signal.signal(what, _hang)
        signal.setitimer(timer, seconds)
    try:
        target.read(path)
        return "read", ""
    except target.allowed as error:
        if "\n" in str(error):
            return "foreign", f"{path.name}: more than one line: {error!r:.120}"
        cause = error.__cause__
        if cause is None or type(cause).__name__ not in PROGRAMMING or "yaml" in _raised_in(cause):
            # YAML's own constructors set attributes that a file names.
            return "refused", ""
        return "foreign", f"{path.name}: {type(cause).__name__} within: {_at(cause)}"
    except Hang:
        return "hangs", path.name
    except Exception as error:  # noqa: BLE001 -- they are what is looked for
        return "foreign", f"{path.name}: {type(error).__name__}: {str(error)[:80]} {_at(error)}"
    finally:
        for _, timer, _ in _TIMERS:
            signal.setitimer(timer, 0)
        path.write_bytes(target.whole[path])


def _raised_in(error: BaseException) -> str:
    """The file whose line raised an exception."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return "" if last is None else last.tb_frame.f_code.co_filename


def _at(error: BaseException) -> str:
    """The last line of ours that an exception passed."""
    root = Path(__file__).resolve().parents[1]
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(root)) and ".venv" not in frame.filename
    ]
    return f"at {Path(ours[-1].filename).relative_to(root)}:{ours[-1].lineno}" if ours else ""


def _hang(*_) -> None:
    raise Hang


if __name__ == "__main__":
    sys.exit(main())
