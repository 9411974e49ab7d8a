"""How well a fit's lids follow those that were detected: openings over time, and closures followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from data_tools.tracking.fit.energy import Seen, fitted_pixels, portions
from data_tools.tracking.fit.face.face_points import FacePoints
from data_tools.tracking.fit.face.lid_points import openings, usual_openings
from data_tools.tracking.fit.lids import FADE
from data_tools.tracking.fit.residuals import POSE, FaceState, linearise

CLOSED = 0.4
"""Share of its usual opening under which an eye is closed."""
NEAR = 0.1
"""The same by which a mesh's eye may be wider than the one seen: half-shut eyes hover about where closed begins."""


@dataclass(frozen=True)
class LidCurves:
    """Openings of T frames, the subject's left eye first, shares of the eye's usual opening."""

    detected: Float[np.ndarray, "T 2"]
    mesh: Float[np.ndarray, "T 2"]
    shown: Bool[np.ndarray, "T 2"]
    """Where an eye faces the camera well enough to tell."""

    def frames(self, kept: np.ndarray) -> LidCurves:
        """The same with some of the frames."""
        return LidCurves(self.detected[kept], self.mesh[kept], self.shown[kept])

    def closures(self) -> tuple[int, int]:
        """How many times an eye closes, each eye by itself, and how many of them the mesh's lids follow, within a
        frame."""
        total = followed = 0
        for eye in (0, 1):
            shut = (self.detected[:, eye] < CLOSED) & self.shown[:, eye]
            for first, stop in runs(shut):
                total += 1
                narrowest = self.mesh[max(0, first - 1) : stop + 1, eye].min()
                followed += bool(narrowest < max(CLOSED, self.detected[first:stop, eye].min() + NEAR))
        return total, followed


def runs(marked: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First index of each run of marked samples, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def lid_curves(points: FacePoints, state: FaceState, seen: Seen) -> LidCurves | None:
    """Openings as detected and as fitted; None for heads and detectors without lids."""
    lids = points.lids
    if lids is None:
        return None
    mesh = openings(lids, fitted_pixels(points, state, seen.centre), seen.pixels)
    usual = usual_openings(lids, seen.pixels).clamp_min(1e-6)
    # Derivatives come with it, a hundred times what is asked for: not of all frames at once.
    parts = [(state.frames(rows), seen.frames(rows)) for rows in portions(len(state.shift))]
    linear = (linearise(points, moment, part.pixels, seen.centre, POSE.stop) for moment, part in parts)
    facing = torch.cat([part.facing(one) for (_, part), one in zip(parts, linear, strict=True)])
    facing = facing[:, lids.upper].mean(dim=-1)
    return LidCurves((openings(lids, seen.pixels) / usual).numpy(), (mesh / usual).numpy(), (facing > FADE[1]).numpy())


def lid_warnings(curves: LidCurves | None) -> tuple[str, ...]:
    """What the person should know of blinks before training."""
    if curves is None or not curves.shown.any():
        return ()
    total, followed = curves.closures()
    if followed < total:
        return (f"{total - followed} of {total} closures of an eye are not followed: see the report's lids.",)
    return ()
