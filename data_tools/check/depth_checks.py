"""Whether training can use a subject's depth maps; without them it goes on."""

from __future__ import annotations

import numpy as np

from flame_nerf.data.depth_maps import DepthMapError, other_way_round, read_depth_map
from flame_nerf.data.faults import LAID_ON, Finding, some, spread
from flame_nerf.subject import Subject


def check_depth(subject: Subject) -> list[Finding]:
    """Depth maps that cannot be read, and those in which larger is farther."""
    frames = spread(subject.frames, LAID_ON)
    size = subject.width, subject.height
    if all(frame.depth_path is None for frame in frames):
        return []
    maps, problems = np.zeros((len(frames), *size[::-1]), np.uint16), []
    for row, frame in enumerate(frames):
        try:
            if frame.depth_path is None:
                raise DepthMapError(f"{frame.file_path.name} has none")
            maps[row] = read_depth_map(subject.root / frame.depth_path, size, size)
        except DepthMapError as error:
            problems.append(str(error))
    findings = []
    if problems:
        findings.append(
            Finding(
                "warning",
                "depth",
                f"{len(problems)} of {len(frames)} depth maps cannot be used ({some(problems)}): such frames train "
                f"without. Write them again with `flame-nerf-data depth {subject.root} --overwrite`.",
            )
        )
    if other_way_round(maps, subject, frames):
        text = "The maps are larger where the tracked face is farther: training takes them the other way round."
        findings.append(Finding("note", "depth", text))
    return findings
