"""What one person's skin looks like: grey value and spread of each surfel under the clip's mean light.

A frame shows surfel i with normal n as light(n) * mu_i, where the light is a sum of nine spherical harmonics that each
frame has for itself. Values are shares of full scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int

from data_tools.runs.blocks import run_blocks
from data_tools.tracking.photometric.kernels import column_medians, column_spreads, fit_light, turned_harmonics

LIGHTS = 9
"""Harmonics of a light."""
ALTERNATIONS = 3
"""Rounds of surfels' values against frames' lights."""
SMALLEST_SPREAD = 0.01
"""Of a surfel; sensors and compression are no better."""
LIGHT_HOLD = 0.02
"""Pull of a frame's light towards the clip's, as a share of what the points say."""
WIDE = 1.5
"""Spreads at which a frame has lost half its say in a surfel's value."""
LIGHT_ROUNDS, LIGHT_SHARE = 3, 3
"""Reweighted solves for the light of a frame, and of how many points one is asked: nine numbers need no thousand."""
CAUCHY = 2.0
"""Spreads at which a point has lost half its say."""
FEWEST_VIEWS, FEWEST_SHARE = 6, 0.04
"""A surfel is known if so many frames saw it, or this share of them where they are few."""
DARKEST, BRIGHTEST = 0.2, 5.0
"""Shade of a point against the mean: beyond it harmonics have run away."""


@dataclass(frozen=True)
class Atlas:
    """N surfels' look at one blur, float32."""

    blur: float
    """Standard deviation, pixels of the crops."""
    mu: Float[np.ndarray, " N"]
    sigma: Float[np.ndarray, " N"]
    known: Bool[np.ndarray, " N"]
    light: Float[np.ndarray, "9"]
    """The clip's usual light."""


@dataclass(frozen=True)
class Learned:
    """An atlas, and how the frames that it was taken from agree with it."""

    atlas: Atlas
    lights: Float[np.ndarray, "T 9"]
    off: Float[np.ndarray, "T N"]
    """Value minus what the atlas expects; NaN where not seen."""

    @property
    def residual(self) -> float:
        """Median absolute difference of known surfels."""
        return float(np.nanmedian(np.abs(self.off[:, self.atlas.known])))


def harmonics(
    which: Int[np.ndarray, " n"], normal: Float[np.ndarray, "N 3"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "n 9"]:
    """The first nine real spherical harmonics, each of order one, of turned unit vectors normal[which]; float32."""
    basis = np.empty((len(which), LIGHTS), dtype=np.float32)
    turned_harmonics(which, normal.astype(np.float32, copy=False), rotation.astype(np.float32, copy=False), basis)
    return basis


def shade(basis: Float[np.ndarray, "n 9"], light: Float[np.ndarray, "9"]) -> Float[np.ndarray, " n"]:
    """Factor on each point's value under a light."""
    return np.clip(basis @ light.astype(np.float32), DARKEST, BRIGHTEST)


def learn_atlas(
    blur: float,
    values: Sequence[Float[np.ndarray, " n"]],
    which: Sequence[Int[np.ndarray, " n"]],
    bases: Sequence[Float[np.ndarray, "n 9"]],
    count: int,
    workers: int = 1,
) -> Learned:
    """Surfels' values and spreads, robustly, together with the light of each frame.

    Args:
        values: of the surfels that each of the T frames sees, `which`, 0..1.
        bases: `harmonics` of those surfels' normals in camera axes.
        count: N.
    """
    frames = len(values)
    seen = np.full((frames, count), np.nan, dtype=np.float32)
    for t in range(frames):
        seen[t, which[t]] = values[t]
    views = np.bincount(np.concatenate(which), minlength=count) if frames else np.zeros(count)
    known = views >= min(FEWEST_VIEWS, max(2, FEWEST_SHARE * frames))
    factor, off = np.ones((frames, count), dtype=np.float32), np.empty((frames, count), dtype=np.float32)
    lights = np.zeros((frames, LIGHTS))
    lights[:, 0] = 1.0
    mu, sigma = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)

    usual, shades = np.zeros(LIGHTS), np.zeros(frames)

    def middle(block: range) -> None:
        column_medians(seen, block.start, block.stop, mu)

    def spread(block: range, again: bool) -> None:
        width, least = np.float32(WIDE), np.float32(SMALLEST_SPREAD)
        column_spreads(seen, factor, block.start, block.stop, again, width, least, mu, sigma, off)

    def light(block: range) -> None:
        for t in block:
            told = known[which[t]]
            rows = which[t][told]
            lights[t] = frame_light(values[t][told], bases[t][told], mu[rows], sigma[rows], usual)
            factor[t, which[t]] = shaded = shade(bases[t], lights[t])
            shades[t] = shaded.sum(dtype=np.float64)

    def side_by_side(total: int, work: Callable[[range], None]) -> None:
        length = max(1, -(-total // workers))
        run_blocks([range(start, min(start + length, total)) for start in range(0, total, length)], work, workers)

    side_by_side(count, middle)
    side_by_side(count, partial(spread, again=False))
    for _ in range(ALTERNATIONS - 1):
        usual[:] = np.median(lights, axis=0)
        side_by_side(frames, light)
        # Twice the light on skin half as bright is the same picture: the mean shade is one.
        scale = float(shades.sum() / max(views.sum(), 1)) or 1.0
        np.divide(lights, scale, out=lights)
        np.divide(factor, np.float32(scale), out=factor)
        np.multiply(mu, np.float32(scale), out=mu)
        side_by_side(count, partial(spread, again=True))
    atlas = Atlas(blur, np.nan_to_num(mu), np.nan_to_num(sigma, nan=1.0), known, np.median(lights, axis=0))
    return Learned(atlas, lights, off)


def frame_light(
    value: Float[np.ndarray, " n"],
    basis: Float[np.ndarray, "n 9"],
    mu: Float[np.ndarray, " n"],
    sigma: Float[np.ndarray, " n"],
    usual: Float[np.ndarray, "9"],
) -> Float[np.ndarray, "9"]:
    """The light of one frame, held near the usual one; robust against points that the frame hides."""
    if len(value) < LIGHT_SHARE * LIGHTS:
        return usual
    light = np.empty(LIGHTS)
    fit_light(
        value, basis, mu, sigma, np.asarray(usual, dtype=np.float64), np.float32(CAUCHY), LIGHT_HOLD, LIGHT_ROUNDS,
        LIGHT_SHARE, np.float32(DARKEST), np.float32(BRIGHTEST), light,
    )  # fmt: skip
    return light
