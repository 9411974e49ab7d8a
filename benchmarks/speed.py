"""How fast everything is on this machine, in one Markdown table.

    python benchmarks/speed.py SUBJECT                                   # all parts, about an hour on two cores
    python benchmarks/speed.py SUBJECT --parts mapping grid startup      # those that take a minute
    python benchmarks/speed.py SUBJECT --parts training --minutes 10 --methods flame-nerf-cpu nerfacto

mapping     nearest triangles and the whole way into the canonical head, per backend; brute force in float64, pytorch3d
grid        the hash grid forward and backward, per implementation, at the sizes of flame-nerf-cpu and flame-nerf
training    samples and rays a second, and the time to the held-out PSNR that nerfacto and nerface end with
render      frames a second at 256² and 512², held-out cameras, after a short training
startup     importing the plugin, beyond Nerfstudio's own import

Each method has its own settings, LPIPS left out. nerfacto is static: a subject whose expression holds still is fair to
it. Every training runs in a process of its own, whose peak memory is told. PSNR is taken on pixels well inside the
matte of a few held-out frames, the clock standing still meanwhile. Times are wall time, medians: run nothing beside it.
What cannot run here is named, with the reason.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import torch
from learning_curve import method_config, reached
from training_speed import make_trainer, settle, train_step

PARTS = ("mapping", "grid", "training", "render", "startup")
Row = tuple[str, str, str]
"""Part, what, figure."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--methods", nargs="+", help="default: flame-nerf(-cpu) flame-nerf-insta nerface nerfacto")
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each method")
    parser.add_argument("--downscale", type=int, default=2, help="train at 1/N of the stored size")
    parser.add_argument("--render-steps", type=int, default=1000, help="steps trained before frames are timed")
    parser.add_argument("--points", type=int, default=100_000, help="points of mapping and grid")
    args = parser.parse_args()
    ours = "flame-nerf" if args.device == "cuda" else "flame-nerf-cpu"
    args.methods = args.methods or [ours, "flame-nerf-insta", "nerface", "nerfacto"]
    print(f"\n{machine(args.device)}\n\n| part | what | figure |\n|---|---|---|")
    makers: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
        "mapping": mapping_rows,
        "grid": grid_rows,
        "training": training_rows,
        "render": render_rows,
        "startup": startup_rows,
    }
    for part in args.parts:
        for row in makers[part](args):
            print("| " + " | ".join(row) + " |", flush=True)


def machine(device: str) -> str:
    """The machine in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ", no GPU used"
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {threads}, {memory:.0f} GiB{gpu}; Python {platform.python_version()}, torch {torch.__version__}"


def seconds(work: Callable[[], object], device: str, repeats: int = 7, unheeded: int = 2) -> float:
    """Median wall time of a call; the first ones, which compile and warm up, do not count."""
    for _ in range(unheeded):
        work()
    times = []
    for _ in range(repeats):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# ---------------------------------------------------------------------------------------------- mapping


def mapping_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Points a second into the canonical head."""
    from mapping import FRAMES, MARCH, RAYS, camera_rays, oracle, read_meshes

    from flame_nerf.canonical import CanonicalMapping, MappingConfig

    faces, canonical, posed_vertices, shell = read_meshes(args.subject)
    origins, directions = (values.to(args.device) for values in camera_rays(canonical))
    which = torch.arange(RAYS, device=args.device) * FRAMES // RAYS
    points = mesh = None
    for backend in ("numba", "warp"):
        try:
            mapping = CanonicalMapping(faces, canonical, MappingConfig(backend=backend), args.device)
        except (ValueError, ImportError) as error:
            yield "mapping", backend, f"not here: {error}"
            continue
        posed = [mapping.pose(vertices.to(args.device)) for vertices in posed_vertices]

        def march(mapping=mapping, posed=posed):
            samples = mapping.sample_shell(
                posed, which, origins, directions, shell=shell.to(args.device), jitter=False, **MARCH
            )
            return samples, mapping.carry_samples(posed, samples, origins, directions)

        samples = march()[0]
        if points is None:
            found = samples.positions(origins, directions)
            pick = torch.randint(len(found), (args.points,), generator=torch.Generator().manual_seed(0))
            pick = pick.to(args.device)
            points, mesh = found[pick], samples.mesh_index[pick]

        def carry(mapping=mapping, posed=posed, mesh=mesh, points=points):
            return mapping.to_canonical(posed, mesh, points)

        carried, marched = args.points / seconds(carry, args.device), len(samples) / seconds(march, args.device)
        yield "mapping", f"{backend}: nearest triangle and transform of given points", per_second(carried)
        yield "mapping", f"{backend}: march of rays, mapped samples", per_second(marched)
        posing = seconds(lambda m=mapping: m.pose(posed_vertices[0].to(args.device)), args.device)
        yield "mapping", f"{backend}: structures of a frame", f"{1000 * posing:.2f} ms"
    few, vertices = points[mesh == mesh[0]][:400].cpu(), posed_vertices[int(mesh[0])]
    arrays = (few.double().numpy(), vertices.double().numpy(), canonical.double().numpy(), faces.numpy())
    brute = seconds(lambda: oracle.map_points(*arrays), "cpu", repeats=1, unheeded=0)
    yield "mapping", "brute force in float64 (the tests' oracle)", per_second(len(few) / brute)
    yield "mapping", "pytorch3d point-face distance, search alone", pytorch3d_speed(few, vertices, faces, args.device)


def pytorch3d_speed(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, device: str) -> str:
    """Its points a second on one mesh, or why not."""
    try:
        from pytorch3d.loss.point_mesh_distance import point_face_distance
    except Exception as error:  # its wheel fails in several ways beside another torch
        return f"not here: {error}"
    # It is exact only on meshes about a hundred units large.
    triangles, at = (100.0 * values.to(device) for values in (vertices[faces.long()], points))
    first = torch.zeros(1, dtype=torch.long, device=device)

    def search() -> torch.Tensor:
        return point_face_distance(at, first, triangles, first, len(at), 5e-9)

    return per_second(len(at) / seconds(search, device, repeats=3))


# ---------------------------------------------------------------------------------------------- hash grid


def grid_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Milliseconds forward and backward."""
    from flame_nerf.encodings import HashGrid
    from flame_nerf.encodings.hash_grid import Implementation
    from flame_nerf.kernels.grid_layout import GridLayout
    from flame_nerf.methods import flame_nerf, flame_nerf_cpu

    # By its path: Python has a package of the same name.
    spec = importlib.util.spec_from_file_location("hash_grid_benchmark", Path(__file__).with_name("hash_grid.py"))
    benchmark = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    points, (low, high) = benchmark.shell_samples(args.points)[0], benchmark.BOX
    x = ((points - low) / (high - low)).to(args.device)
    for method in (flame_nerf_cpu, flame_nerf):
        field = method.config.pipeline.model.field
        size = f"{field.n_levels} levels, 2^{field.log2_hashmap_size}"
        layout = [getattr(field, entry.name) for entry in fields(GridLayout)]
        for implementation in get_args(Implementation):
            if implementation == "auto":
                continue
            what = f"{implementation}, {size}, {len(x) // 1000} k points, forward / backward"
            try:
                grid = HashGrid(*layout, implementation=implementation).to(args.device)
                upstream = torch.randn_like(grid(x))
                forward = seconds(lambda grid=grid: grid(x), args.device, repeats=5)
                both = seconds(lambda grid=grid, up=upstream: step(grid, x, up), args.device, repeats=5)
            except Exception as error:  # each implementation has its own reasons
                yield "grid", what, f"not here: {str(error).splitlines()[0].split('. ')[0]}"
                continue
            yield "grid", what, f"{1000 * forward:.1f} / {1000 * (both - forward):.1f} ms"


def step(grid: torch.nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> None:
    """Forward and backward."""
    grid.zero_grad()
    grid(x).backward(upstream)


# ---------------------------------------------------------------------------------------------- training


def training_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Each method in a process of its own, then who reaches whose end when."""
    results: dict[str, dict[str, Any]] = {}
    for method in args.methods:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "result.json")
            script = Path(__file__).with_name("learning_curve.py")
            command = [sys.executable, str(script), str(args.subject), method, "--result", str(result)]
            command += ["--device", args.device, "--minutes", str(args.minutes), "--downscale", str(args.downscale)]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode:
                last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                yield "training", method, f"failed: {' '.join(last)}"
                continue
            results[method] = json.loads(result.read_text())
        found = results[method]
        speed = found["speed"]
        counted = f"{per_second(speed['evaluated'])} ({per_second(speed['marched'])})"
        counted = counted if speed["evaluated"] else "not counted"
        yield "training", f"{method}: samples evaluated (in the shell)", counted
        yield "training", f"{method}: rays; step", f"{per_second(speed['rays'])}; {speed['step_ms']:.1f} ms"
        end, psnr = found["curve"][-1]
        yield "training", f"{method}: held-out PSNR after {end:.0f} s, {found['steps']} steps", f"{psnr:.2f} dB"
        yield "training", f"{method}: 99 % of it after", f"{reached(found['curve'], 0.99 * psnr):.0f} s"
        yield "training", f"{method}: peak memory", f"{found['memory_gib']:.2f} GiB"
    for goal in ("nerfacto", "nerface"):
        for method in results:
            if goal not in results or method == goal:
                continue
            end, psnr = results[goal]["curve"][-1]
            when = reached(results[method]["curve"], psnr)
            figure = f"{when:.1f} s, {end / when:.0f} times faster" if math.isfinite(when) else "not reached"
            yield "training", f"{method}: time to {goal}'s {psnr:.2f} dB ({end:.0f} s)", figure


# ---------------------------------------------------------------------------------------------- rendering, start


def render_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Whole pictures, as the viewer and ns-render ask for them."""
    method = "flame-nerf" if args.device == "cuda" else "flame-nerf-cpu"
    trainer = make_trainer(method_config(method, args.device), args.subject, args.downscale)
    for index in range(args.render_steps):
        train_step(trainer, index)
    for size in (256, 512):
        times = picture_seconds(trainer, size)
        typical = statistics.median(times[1:] or times)
        figure = f"{1 / typical:.2f} frames/s ({1000 * typical:.0f} ms; the first {times[0]:.1f} s)"
        yield "render", f"{method} at {size} pixels, each frame another moment", figure


def picture_seconds(trainer: Any, size: int) -> list[float]:
    """Wall times of held-out cameras' pictures, `size` pixels wide, each of another moment."""
    model, cameras, times = trainer.pipeline.eval().model, trainer.pipeline.datamanager.eval_dataset.cameras, []
    for index in range(min(len(cameras), 12)):
        camera = copy.deepcopy(cameras[index : index + 1]).to(model.device)
        camera.rescale_output_resolution(size / int(camera.width))
        settle(trainer.device)
        start = time.perf_counter()
        model.get_outputs_for_camera(camera)
        settle(trainer.device)
        times.append(time.perf_counter() - start)
    return times


def startup_rows(args: argparse.Namespace) -> Iterator[Row]:
    """Wall time of processes that import and end."""
    base = "import nerfstudio.engine.trainer, nerfstudio.pipelines.base_pipeline, nerfstudio.data.datasets.base_dataset"
    code = {"Nerfstudio's own import": base, "the same and flame_nerf.methods": f"{base}, flame_nerf.methods"}
    for what, imports in code.items():
        took = seconds(lambda imports=imports: subprocess.run([sys.executable, "-c", imports], check=True), "cpu", 3, 1)
        yield "startup", what, f"{took:.2f} s"


def per_second(value: float) -> str:
    """A rate with its unit."""
    for unit, size in (("M/s", 1e6), ("k/s", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.1f} /s"


if __name__ == "__main__":
    main()
