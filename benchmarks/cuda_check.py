"""What a machine with a GPU makes of this project, in ten minutes: one Markdown table and one JSON file.

    python benchmarks/cuda_check.py                      # on a synthetic person of 512 pixels, made first
    python benchmarks/cuda_check.py SUBJECT              # on a subject of yours
    python benchmarks/cuda_check.py --tiny               # on the CPU, in a minute: only that it works

tests      the tests that need CUDA
step       milliseconds of a training step by part, samples and rays a second, peak memory
render     frames a second at 256 and 512 pixels
methods    held-out PSNR of each method, the time to 99 % of it, peak memory; all at the stored size, for as long
two GPUs   the same training in two processes

Every part runs in a process of its own, within its seconds. What could not be done is in the table, with the reason;
no part keeps another from running.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SECONDS = {"tests": 60, "step": 60, "render": 45, "methods": 60, "two GPUs": 60}
"""What a part may take, its start included; `methods` is each method's. A minute is left for the synthetic person."""
STARTING = 35
"""Seconds of a method's that go into its start, looking at held-out frames, and timing its steps."""
METHODS = ("flame-nerf", "flame-nerf-insta", "nerface", "nha", "splatfacto")
CUDA_TESTS = ("tests/encodings/test_encodings.py", "tests/losses/test_encoders.py", "tests/kernels/test_cuda_step.py")
STEP_PARTS = ("draw", "prepare rays", "render", "losses")
"""Those of a step that are timed apart; the rest is `backward and optimiser`."""
Row = tuple[str, str, str]
"""Part, what, figure."""


class NotHereError(Exception):
    """A part that this machine cannot do; the text says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path, nargs="?", help="default: a synthetic person is made")
    parser.add_argument("--output", type=Path, default=Path("cuda_check"), help="folder for table.md and result.json")
    parser.add_argument("--tiny", action="store_true", help="moments of everything, on the CPU if there is no GPU")
    parser.add_argument("--methods", nargs="+", help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part is not None:
        print(json.dumps(PARTS[args.part](args)))
        return
    args.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine()}
    print(f"{found['machine']}\n\n| part | what | figure |\n|---|---|---|", flush=True)
    rows: list[Row] = []
    for name, work in plan(args):
        start = time.monotonic()
        try:
            result = work()
            new = [(name, what, str(figure)) for what, figure in result.get("rows", {}).items()]
            new.append((name, "took", f"{time.monotonic() - start:.0f} s"))
        except Exception as error:  # a part that fails must not cost the others
            text = " ".join(str(error).split()) or type(error).__name__
            result, new = {"not done": text}, [(name, "not done", text[-300:].replace("|", "/"))]
        found[name] = result
        rows += new
        print("\n".join("| " + " | ".join(row) + " |" for row in new), flush=True)
        table = [found["machine"], "", "| part | what | figure |", "|---|---|---|"]
        table += ["| " + " | ".join(row) + " |" for row in rows]
        (args.output / "table.md").write_text("\n".join(table) + "\n")
        (args.output / "result.json").write_text(json.dumps(found, indent=1))


def plan(args: argparse.Namespace) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """The parts in their order, by name; the work of each returns `rows` of figures."""
    on_cpu = not torch.cuda.is_available()
    if on_cpu and not args.tiny:
        # The subject would be made for nothing.
        problem = "no CUDA device: try --tiny, which runs on the CPU"
        return [(name, lambda: _raise(problem)) for name in ("tests", "step", "render", "methods", "two GPUs")]
    methods = args.methods or (["flame-nerf-cpu"] if args.tiny and on_cpu else METHODS)
    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    if args.subject is None:
        parts.append(("subject", lambda: make_subject(args)))
    parts.append(("tests", lambda: run_tests(on_cpu)))
    # Tiny, they are in one process: to start one takes longer than what it does.
    inside = on_cpu and args.tiny
    for name in ("step", "render"):
        parts.append((name, lambda name=name: PARTS[name](args) if inside else in_process(name, args)))
    for method in methods:
        parts.append((method, lambda method=method: learn(method, args, inside)))
    return [*parts, ("two GPUs", lambda: two_gpus(args))]


def _raise(problem: str) -> dict[str, Any]:
    raise NotHereError(problem)


def machine() -> str:
    """The machine in one line."""
    from speed import machine

    if not torch.cuda.is_available():
        return machine("cpu")
    about = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    gpus = ", ".join(f"{gpu.total_memory / 2**30:.0f} GiB and {gpu.major}.{gpu.minor}" for gpu in about)
    return f"{machine('cuda')} ({len(about)} GPUs: memory and compute capability {gpus})"


def run(command: list[str], seconds: float, cwd: Path | None = None) -> str:
    """What a command printed.

    Raises:
        NotHereError: it failed, or took longer; what it started is ended.
    """
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, start_new_session=True
    )
    try:
        said = started.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        raise NotHereError(f"more than {seconds:.0f} s, and ended") from None
    if started.returncode:
        lines = [line for line in said.splitlines() if line.strip()][-3:]
        raise NotHereError(f"exit {started.returncode}: {' / '.join(lines)}")
    return said


def in_process(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """One of `PARTS` in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), str(args.subject), "--part", part]
    said = run([*command, *(["--tiny"] if args.tiny else [])], SECONDS[part])
    return json.loads(said.strip().splitlines()[-1])


def make_subject(args: argparse.Namespace) -> dict[str, Any]:
    """A synthetic person, which becomes the subject of all that follows."""
    from data_tools.synth import SynthConfig, synthesise

    tiny = SynthConfig(frames=10, size=32, view_moments=1, novel_frames=6, overwrite=True)
    full = SynthConfig(frames=60, size=512, view_moments=1, novel_frames=6, overwrite=True)
    folder = args.output.resolve() / "subject"
    made = synthesise(folder, tiny if args.tiny else full, silent=True)
    args.subject = folder
    return {"rows": {"synthetic person": f"{made.train_frames} frames of {(tiny if args.tiny else full).size} pixels"}}


def run_tests(on_cpu: bool) -> dict[str, Any]:
    """The tests that need CUDA."""
    if on_cpu:
        raise NotHereError("no CUDA device")
    if not (ROOT / "tests").is_dir():
        raise NotHereError(f"{ROOT} has no tests: run this from a checkout of the project")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-k", "cuda", "-W", "ignore", *CUDA_TESTS]
    said = run(command, SECONDS["tests"], ROOT)
    return {"rows": {"pytest -k cuda": said.strip().splitlines()[-1].strip("= ")}}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _trainer(args: argparse.Namespace) -> Any:
    from learning_curve import method_config
    from training_speed import make_trainer

    return make_trainer(method_config("flame-nerf" if _device() == "cuda" else "flame-nerf-cpu", _device()),
                        args.subject, 1)  # fmt: skip


def step_part(args: argparse.Namespace) -> dict[str, Any]:
    """A training step by part: each is waited for, so that their sum is longer than a step."""
    from training_speed import measure, settle, train_step

    trainer, spent = _trainer(args), dict.fromkeys(STEP_PARTS, 0.0)
    warmup, steps = (3, 3) if args.tiny else (400, 60)
    speed = measure(trainer, warmup=warmup, blocks=1 if args.tiny else 3, steps=steps)
    first = warmup + 3 * steps
    # As much as training itself took; parts are waited for only afterwards.
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if _device() == "cuda" else "no GPU"
    model = trainer.pipeline.model
    for name, owner, method in (
        ("draw", trainer.pipeline.datamanager, "next_train"),
        ("prepare rays", model.training_rays, "prepare"),
        ("render", model.renderer, "forward"),
        ("losses", model.losses, "losses"),
    ):
        setattr(owner, method, _timed(getattr(owner, method), spent, name, trainer.device))
    settle(trainer.device)
    start = time.perf_counter()
    for index in range(first, first + steps):
        train_step(trainer, index)
    settle(trainer.device)
    whole = time.perf_counter() - start
    # The views of a term are rendered inside of it.
    each = {name: 1000 * seconds / steps for name, seconds in spent.items()}
    each["backward and optimiser"] = 1000 * whole / steps - sum(each.values())
    rows = {f"{name}, each part waited for": f"{milliseconds:.2f} ms" for name, milliseconds in each.items()}
    rows |= {
        "step, nothing waited for": f"{speed.step_ms:.2f} ms",
        "samples evaluated (in the shell)": f"{speed.evaluated:,.0f} /s ({speed.marched:,.0f} /s)",
        "rays": f"{speed.rays:,.0f} /s",
        "peak memory": memory,
    }
    return {"rows": rows, "ms": each, "step_ms": speed.step_ms, "samples": speed.evaluated, "rays_per_s": speed.rays}


def _timed(function: Callable[..., Any], spent: dict[str, float], name: str, device: str) -> Callable[..., Any]:
    """The function, its time noted unless another noted one is running."""
    from training_speed import settle

    def timed(*args: Any, **kwargs: Any) -> Any:
        if spent.get("inside"):
            return function(*args, **kwargs)
        settle(device)
        start, spent["inside"] = time.perf_counter(), 1.0
        try:
            return function(*args, **kwargs)
        finally:
            settle(device)
            spent.pop("inside")
            spent[name] += time.perf_counter() - start

    return timed


def render_part(args: argparse.Namespace) -> dict[str, Any]:
    """Whole pictures, as the viewer and ns-render ask for them."""
    from speed import picture_seconds
    from training_speed import train_step

    trainer, rows, median = _trainer(args), {}, {}
    for index in range(3 if args.tiny else 1000):
        train_step(trainer, index)
    for size in (16,) if args.tiny else (256, 512):
        times = picture_seconds(trainer, size)
        median[size] = statistics.median(times[1:] or times)
        rows[f"{size} pixels"] = f"{1 / median[size]:.1f} frames/s ({1000 * median[size]:.1f} ms)"
    return {"rows": rows, "seconds": median}


PARTS = {"step": step_part, "render": render_part}


def learn(method: str, args: argparse.Namespace, inside: bool) -> dict[str, Any]:
    """One method for its seconds: held-out PSNR, and when 99 % of it was there."""
    from learning_curve import learn, reached

    if method == "splatfacto":
        _refuse_splatfacto()
    minutes = (1 if args.tiny else SECONDS["methods"] - STARTING) / 60
    if inside:
        config = argparse.Namespace(subject=args.subject, method=method, device="cpu", minutes=minutes, downscale=1)
        found = learn(config, first_look=60 * minutes)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "result.json")
            command = [sys.executable, str(Path(__file__).with_name("learning_curve.py")), str(args.subject), method]
            command += ["--result", str(result), "--device", _device(), "--minutes", f"{minutes:.3f}"]
            run([*command, "--downscale", "1"], SECONDS["methods"])
            found = json.loads(result.read_text())
    end, psnr = found["curve"][-1]
    soon = reached(found["curve"], 0.99 * psnr)
    rows = {
        f"held-out PSNR after {end:.0f} s, {found['steps']} steps": f"{psnr:.2f} dB",
        "99 % of it after": f"{soon:.1f} s" if math.isfinite(soon) else "never",
        "step; rays": f"{found['speed']['step_ms']:.2f} ms; {found['speed']['rays']:,.0f} /s",
        "peak memory": f"{found['memory_gib']:.2f} GiB",
    }
    return {"rows": rows} | found


def _refuse_splatfacto() -> None:
    if not torch.cuda.is_available():
        raise NotHereError("gsplat, which splatfacto draws with, needs CUDA")
    try:
        import gsplat  # noqa: F401
    except Exception as error:  # it compiles at its import
        raise NotHereError(f"gsplat does not import: {error}") from None


def two_gpus(args: argparse.Namespace) -> dict[str, Any]:
    """A short training in two processes."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        raise NotHereError(f"{count} GPUs, not two")
    with tempfile.TemporaryDirectory() as folder:
        command = ["ns-train", "flame-nerf", "--data", str(args.subject), "--output-dir", folder]
        command += ["--vis", "tensorboard", "--max-num-iterations", "300", "--machine.num-devices", "2"]
        start = time.monotonic()
        run(command, SECONDS["two GPUs"])
    return {"rows": {"300 steps in two processes, start included": f"{time.monotonic() - start:.0f} s"}}


if __name__ == "__main__":
    main()
