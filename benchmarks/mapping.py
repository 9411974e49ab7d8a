"""The canonical mapping: how exact, how fast, and what its settings do.

    python benchmarks/mapping.py                 # the open head, expressions drawn at random
    python benchmarks/mapping.py --subject DIR   # a tracked subject

Prints Markdown: agreement with the brute-force float64 version that the tests use (every sample against every
triangle), CPU time per sample beside it, and the seam between neighbouring faces for several neighbourhoods and beta.
Times are CPU time of one thread, the best of several runs: on a busy machine compare them with each other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flame_nerf.canonical import CanonicalMapping, MappingConfig, ShellSamples
from flame_nerf.heads import load_head
from flame_nerf.render.shell_config import ShellConfig
from flame_nerf.subject import load_subject

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
import canonical_oracle as oracle  # noqa: E402

RAYS = 1024
FRAMES = 8
MARCH = {"step": 0.0017, "behind": 0.01}


def read_meshes(subject: Path | None) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Faces, canonical vertices, posed vertices of a few frames, and the shell."""
    if subject is not None:
        track = load_subject(subject).track
        rows = np.linspace(0, len(track.vertices) - 1, FRAMES).astype(int)
        posed = [torch.from_numpy(np.asarray(track.vertices[row])) for row in rows]
        shell = ShellConfig().thickness(torch.from_numpy(track.region), track.region_names)
        return torch.from_numpy(track.faces), torch.from_numpy(track.canonical_vertices), posed, shell
    head = load_head()
    generator = torch.Generator().manual_seed(0)
    expression = torch.rand(FRAMES, len(head.expression_names), generator=generator) ** 4
    pose = 0.05 * torch.randn(FRAMES, len(head.joint_names), 3, generator=generator)
    identity = torch.zeros(head.shapedirs.shape[2])
    canonical = head.vertices(identity, torch.zeros_like(expression[0]), torch.zeros_like(pose[0]))
    shell = ShellConfig().thickness(head.region, head.region_names)
    return head.faces, canonical, list(head.vertices(identity, expression, pose)), shell


def camera_rays(vertices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from in front of the face over the whole head."""
    generator = torch.Generator().manual_seed(1)
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    target = low + (high - low) * (0.1 + 0.8 * torch.rand(RAYS, 3, generator=generator))
    origins = torch.tensor([0.1, 0.05, 0.6]).expand(RAYS, 3).contiguous()
    return origins, torch.nn.functional.normalize(target - origins, dim=1)


def cpu_ms(work: Callable[[], object], repeats: int = 9) -> float:
    """Least CPU time of the calling thread over several runs, milliseconds."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return 1e3 * min(times)


def report_speed(mapping: CanonicalMapping, posed_vertices, shell, origins, directions) -> ShellSamples:
    """Time of each step; returns the samples."""
    which = torch.arange(RAYS) * FRAMES // RAYS
    posed = [mapping.pose(vertices) for vertices in posed_vertices]

    def sample() -> ShellSamples:
        return mapping.sample_shell(posed, which, origins, directions, shell=shell, jitter=False, **MARCH)

    samples = sample()
    count = len(samples)
    points = samples.positions(origins, directions)
    along = directions[samples.ray_index]
    rows = {
        "pose a frame, ms": cpu_ms(lambda: mapping.pose(posed_vertices[0])),
        "sample, us a kept sample": cpu_ms(sample) / count * 1e3,
        "carry points and directions, us": cpu_ms(
            lambda: mapping.to_canonical(posed, samples.mesh_index, points, samples.face, along)
        )
        / count
        * 1e3,
        "nearest face alone, us": cpu_ms(lambda: mapping.to_canonical(posed, samples.mesh_index, points)) / count * 1e3,
    }
    print(f"| {mapping.config.backend}: {count} samples of {RAYS} rays | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.2f} |")
    print(f"| memory a frame, MB | {posed[0].nbytes / 1e6:.2f} |\n")
    return samples


def report_agreement(mapping: CanonicalMapping, posed_vertices, points, samples, count: int) -> None:
    """Errors against brute force on ``count`` samples of the frames, and its time."""
    pick = torch.randperm(len(samples), generator=torch.Generator().manual_seed(2))[:count]
    posed = [mapping.pose(vertices) for vertices in posed_vertices]
    mesh, face = samples.mesh_index[pick], samples.face[pick]
    carried = mapping.to_canonical(posed, mesh, points[pick], face).points.double().numpy()
    canonical, faces = mapping.canonical_vertices.double().numpy(), mapping.faces.numpy()
    errors, ties = np.zeros(len(pick)), 0
    begin = time.thread_time()
    for index, vertices in enumerate(posed_vertices):
        own = (mesh == index).numpy()
        found = oracle.map_points(points[pick][own].double().numpy(), vertices.double().numpy(), canonical, faces)
        errors[own] = oracle.mapping_errors(found, carried[own])
        ties += sum(len(nearest) > 1 for nearest, _ in found)
    spent = (time.thread_time() - begin) / len(pick)
    below = (errors < 1e-4).mean()
    print(
        f"Against brute force in float64 ({len(pick)} samples, {ties} of them with several faces equally near): "
        f"{100 * below:.2f} % within 0.1 mm, worst {1e3 * errors.max():.4f} mm, "
        f"median {1e3 * np.median(errors):.6f} mm; brute force takes {1e6 * spent:.0f} us a sample.\n"
    )


def report_seams(faces, canonical, posed_vertices, points, samples) -> None:
    """How far apart two neighbouring faces put the same point, by neighbourhood and beta."""
    turns = (samples.ray_index[1:] == samples.ray_index[:-1]) & (samples.face[1:] != samples.face[:-1])
    after = turns.nonzero()[:, 0] + 1
    middle, mesh = 0.5 * (points[after] + points[after - 1]), samples.mesh_index[after]
    print("| neighbourhood | beta | seam, median mm | seam, 95 % mm | moved from the default, median mm |")
    print("|---|---|---|---|---|")
    default = None
    for kind, beta in (("edge", 4.0), ("face", 4.0), ("vertex", 4.0), ("edge", 1e4), ("vertex", 1e4), ("vertex", 1e5)):
        mapping = CanonicalMapping(faces, canonical, MappingConfig(neighbourhood=kind, beta=beta))
        posed = [mapping.pose(vertices) for vertices in posed_vertices]
        sides = [mapping.to_canonical(posed, mesh, middle, samples.face[at]).points for at in (after - 1, after)]
        seam = 1e3 * (sides[0] - sides[1]).norm(dim=1)
        default = sides[0] if default is None else default
        moved = 1e3 * (sides[0] - default).norm(dim=1).median()
        print(f"| {kind} | {beta:g} | {seam.median():.3f} | {seam.quantile(0.95):.3f} | {moved:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", type=Path, help="a tracked subject's folder; default: the open head")
    parser.add_argument("--samples", type=int, default=2000, help="samples compared with brute force")
    parser.add_argument("--backends", nargs="+", default=["numba", "warp"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    faces, canonical, posed_vertices, shell = read_meshes(options.subject)
    origins, directions = camera_rays(canonical)
    for backend in options.backends:
        mapping = CanonicalMapping(faces, canonical, MappingConfig(backend=backend))
        samples = report_speed(mapping, posed_vertices, shell, origins, directions)
        points = samples.positions(origins, directions)
        report_agreement(mapping, posed_vertices, points, samples, options.samples)
    report_seams(faces, canonical, posed_vertices, points, samples)


if __name__ == "__main__":
    main()
