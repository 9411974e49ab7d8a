"""What one person's skin looks like: grey value and spread of each surfel under the clip's mean light.

A frame shows surfel i with normal n as light(n) * mu_i, where the light is a sum of nine spherical harmonics that each
frame has for itself. Values are shares of full scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from data_tools.tracking.photometric.kernels import column_medians, light_equations, turned_harmonics

LIGHTS = 9
"""Harmonics of a light."""
ALTERNATIONS = 3
"""Rounds of surfels' values against frames' lights."""
SMALLEST_SPREAD = 0.01
"""Of a surfel; sensors and compression are no better."""
LIGHT_HOLD = 0.02
"""Pull of a frame's light towards the clip's, as a share of what the points say."""
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
    known = np.isfinite(seen).sum(axis=0) >= min(FEWEST_VIEWS, max(2, FEWEST_SHARE * frames))
    factor = np.ones((frames, count), dtype=np.float32)
    lights = np.zeros((frames, LIGHTS))
    lights[:, 0] = 1.0
    mu, sigma = _medians(seen), None
    for turn in range(ALTERNATIONS):
        if sigma is not None:
            mu = _robust_mean(seen / factor, mu, sigma)
        off = seen - factor * mu
        sigma = np.maximum(1.4826 * _medians(np.abs(off)), SMALLEST_SPREAD)
        if turn == ALTERNATIONS - 1:
            break
        usual = np.median(lights, axis=0)
        for t in range(frames):
            rows = which[t][known[which[t]]]
            lights[t] = frame_light(seen[t, rows], bases[t][known[which[t]]], mu[rows], sigma[rows], usual)
            factor[t, which[t]] = shade(bases[t], lights[t])
        # Twice the light on skin half as bright is the same picture: the mean shade is one.
        scale = float(factor[np.isfinite(seen)].mean()) if np.isfinite(seen).any() else 1.0
        lights, factor = lights / scale, factor / np.float32(scale)
        mu = mu * np.float32(scale)
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
    # Lamps are switched: the whole light goes up and down before its parts are looked at.
    gain = float(np.median(value) / max(np.median(mu * shade(basis, usual)), 1e-3))
    start = usual * np.clip(gain, DARKEST, BRIGHTEST)
    light = start
    value, basis, mu, sigma = (np.ascontiguousarray(part[::LIGHT_SHARE]) for part in (value, basis, mu, sigma))
    hessian, gradient = np.empty((LIGHTS, LIGHTS)), np.empty(LIGHTS)
    for _ in range(LIGHT_ROUNDS):
        now = light.astype(np.float32)
        hold = LIGHT_HOLD * light_equations(value, basis, mu, sigma, now, np.float32(CAUCHY), hessian, gradient) + 1e-9
        light = np.linalg.solve(hessian + hold * np.eye(LIGHTS), gradient + hold * start)
    return light


def _medians(values: Float[np.ndarray, "T N"]) -> Float[np.ndarray, " N"]:
    result = np.empty(values.shape[1], dtype=np.float32)
    column_medians(values, result)
    return result


def _robust_mean(
    values: Float[np.ndarray, "T N"], mu: Float[np.ndarray, " N"], sigma: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Cauchy-weighted mean of what each column saw, one step from `mu`."""
    filled = np.where(np.isfinite(values), values, mu)
    weight = np.where(np.isfinite(values), 1 / (1 + ((filled - mu) / (1.5 * sigma)) ** 2), 0)
    total = weight.sum(axis=0)
    return np.where(total > 0, (weight * filled).sum(axis=0) / np.maximum(total, 1e-9), mu).astype(np.float32)
