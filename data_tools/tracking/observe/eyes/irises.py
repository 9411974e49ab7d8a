"""Irises in the pictures themselves: how far each has moved in its eye.

The face mesh draws an iris where eyes usually have it: up and down it goes by a quarter to three quarters of what the
eye does, the less the smaller the face. In the pictures an iris is round, and the same in all frames: one profile of
brightness over the distance from its middle, learned from the clip, is laid onto what shows between the lids.

The mesh still says where irises are on average, which the head's landmarks were made for; the pictures say how they
move from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from data_tools.tracking.observe.eyes.patches import IRISES, STEP, EyePatches, cut_patches, places
from flame_nerf.heads.eyes import SIDES

FRAMES = 80
"""Frames that the profile is learned from."""
FEWEST = 8
"""Fewer eyes than this in which an iris is found tell of no profile."""
TOGETHER = 40
"""Frames that are looked at at once: bounds memory."""
_ROUNDS = 5
"""Times that profile and places are found from each other."""
_OPEN = 0.6
"""Share of what is usually seen between the lids, from which an eye tells of the profile."""
_LEAST_SEEN = 25e-6
"""Square metres between the lids below which an iris is not looked for: most of it would be guessed."""
_REACH, _BINS = 0.0125, 24
"""Distance from an iris's middle to which its profile goes, metres, and the profile's places."""
_LID_STEP, _LID_BINS = 5e-4, 24
"""Steps below the upper lid that its shadow is told in, metres, and how many."""
_LID_TRUST = 200.0
"""Samples that a step of the shadow needs to be half believed."""
_TABLE = 1024
_FARTHEST = (0.0018, 0.0027)
"""How far from the face mesh's iris it is looked for, to the sides and up and down, metres."""
_COARSE, _HALVINGS = 4.5e-4, 4
"""Distance of the places that are tried first, metres, and times that it is halved around the best of them."""
_STRANGE = 0.08
"""Difference to the profile, of the contrast of pupil and white, at which a sample has lost half its say: glints,
lashes, and what a lid hides."""
_LEAST_GAIN = 0.03
"""Contrast of pupil and white, full scale 1, below which there is nothing to be seen."""
_LIKE = 0.6
"""Share of an eye's contrasts that the profile must explain for its iris to be found."""


@dataclass(frozen=True)
class IrisLook:
    """A person's irises in a clip: white of the eye 1 and pupil 0, about."""

    profile: Float[np.ndarray, " 24"]
    """Brightness over the distance from the middle, which never falls."""
    shadow: Float[np.ndarray, " 24"]
    """What is added to it below the upper lid."""
    usual: Float[np.ndarray, "2 2"]
    """Where each iris usually is, metres in its eye, by the pictures less where the face mesh has it."""


@dataclass(frozen=True)
class _Laid:
    """A profile laid onto the eyes of T frames."""

    middle: Float[np.ndarray, "T 2 2"]
    gain: Float[np.ndarray, "T 2"]
    black: Float[np.ndarray, "T 2"]
    say: Float[np.ndarray, "T 2 N"]
    """Of each sample, 0 to 1: how much like the profile it is."""
    found: Bool[np.ndarray, "T 2"]


def learn_irises(pictures: Sequence[Path], landmarks: Float[np.ndarray, "T 478 3"]) -> IrisLook | None:
    """How the irises of a clip look, from some frames spread over it.

    Args:
        landmarks: face mesh points in pixels of the pictures, as `find_landmarks` gives them, all of them finite.

    Returns:
        None where they are not to be told: too small, too dark, hidden by glasses.
    """
    chosen = spread_frames(len(pictures))
    patches = cut_patches([pictures[frame] for frame in chosen], landmarks[chosen])
    seen = patches.seen
    tells = (seen > _LEAST_SEEN) & (seen > _OPEN * np.quantile(seen, 0.75, axis=0))
    if tells.sum() < FEWEST:
        return None
    laid = _by_marks(patches, tells)
    look = IrisLook(np.zeros(_BINS), np.zeros(_LID_BINS), np.zeros((2, 2)))
    for number in range(_ROUNDS):
        look = _learn(patches, laid, look.shadow, with_shadow=number > 0)
        laid = _lay(patches, look, laid.middle if number else None)
        laid = replace(laid, say=laid.say * tells[..., None], found=laid.found & tells)
        if laid.found.sum() < FEWEST:
            return None
    usual = np.zeros((2, 2))
    for eye in range(2):
        found = laid.found[:, eye]
        if found.any():
            usual[eye] = np.median(laid.middle[found, eye], axis=0) - np.median(patches.marked[found, eye], axis=0)
    return replace(look, usual=usual)


def find_irises(
    pictures: Sequence[Path],
    landmarks: Float[np.ndarray, "T 478 3"],
    look: IrisLook,
    on_frames: Callable[[int], None] = lambda count: None,
) -> tuple[Float[np.ndarray, "T 2 2"], Bool[np.ndarray, "T 2"]]:
    """How far the irises lie from where the face mesh has them.

    Returns:
        Pixels to be added to the mesh's irises, the subject's left first; and whether each was found. Not found: 0.
    """
    shift, found = np.zeros((len(pictures), 2, 2)), np.zeros((len(pictures), 2), dtype=bool)
    for start in range(0, len(pictures), TOGETHER):
        rows = slice(start, start + TOGETHER)
        patches = cut_patches(pictures[rows], landmarks[rows])
        laid = _lay(patches, look)
        moved = np.einsum("tij,tej->tei", patches.axes, laid.middle - patches.marked - look.usual)
        shift[rows], found[rows] = moved * laid.found[..., None], laid.found
        on_frames(len(patches))
    return shift, found


def with_irises(
    landmarks: Float[np.ndarray, "T 478 3"], shift: Float[np.ndarray, "T 2 2"]
) -> Float[np.ndarray, "T 478 3"]:
    """The face mesh's points with each iris moved."""
    result = landmarks.copy()
    for eye, side in enumerate(SIDES):
        result[:, list(IRISES[side]), :2] += shift[:, eye, None]
    return result


def spread_frames(count: int) -> Int[np.ndarray, " F"]:
    """At most `FRAMES` of so many frames, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(FRAMES, count)).round().astype(int))


def _by_marks(patches: EyePatches, tells: Bool[np.ndarray, "T 2"]) -> _Laid:
    """To begin with: irises where the mesh has them, and pupil and white by an eye's darkest and brightest."""
    black, gain = np.zeros(tells.shape), np.ones(tells.shape)
    for frame, eye in np.argwhere(tells):
        low, high = np.percentile(patches.value[frame, eye][patches.inside[frame, eye] > 0], [10, 90])
        black[frame, eye], gain[frame, eye] = low, max(high - low, _LEAST_GAIN)
    return _Laid(patches.marked, gain, black, patches.inside * tells[..., None], tells)


def _circles(slope: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2 2"]:
    """Quadratic form of the square distance on the face from steps in the picture."""
    return np.eye(2) + slope[:, :, None] * slope[:, None, :]


def _learn(patches: EyePatches, laid: _Laid, shadow: Float[np.ndarray, " 24"], with_shadow: bool) -> IrisLook:
    """Profile and shadow, given where the irises are."""
    apart = places() - laid.middle[:, :, None]
    distance = np.sqrt(np.einsum("teni,tij,tenj->ten", apart, _circles(patches.slope), apart, optimize=True))
    at = np.clip(distance / _REACH * (_BINS - 1), 0, _BINS - 1.001)
    low = at.astype(int)
    share, value = at - low, (patches.value - laid.black[..., None]) / laid.gain[..., None]
    lid = np.clip(patches.below / _LID_STEP, 0, _LID_BINS - 1).astype(int)

    def sums(of: Float[np.ndarray, "T 2 N"]) -> Float[np.ndarray, " 24"]:
        parts = ((low, laid.say * (1 - share) * of), (low + 1, laid.say * share * of))
        return sum(np.bincount(rows.ravel(), part.ravel(), _BINS) for rows, part in parts)

    said, total = sums(np.ones_like(share)), sums(value - shadow[lid])
    known = np.flatnonzero(said > 0.01 * said.max())
    profile = np.interp(np.arange(_BINS), known, total[known] / said[known])
    # Whites get darker towards the corners, and stay there when the iris goes: that is none of its own.
    profile = np.maximum.accumulate(profile)
    if with_shadow:
        rest = value - profile[low] * (1 - share) - profile[low + 1] * share
        over, say = (np.bincount(lid.ravel(), (laid.say * of).ravel(), _LID_BINS) for of in (rest, np.ones_like(rest)))
        shadow = over / (say + _LID_TRUST)
    return IrisLook(profile, shadow, np.zeros((2, 2)))


def _lay(patches: EyePatches, look: IrisLook, begin: Float[np.ndarray, "T 2 2"] | None = None) -> _Laid:
    """Find where the profile is most like each eye, with the eye's own brightness and contrast.

    Args:
        begin: where the irises are, nearly; None: near where the mesh has them.
    """
    shape, eyes = patches.inside.shape[:2], 2 * len(patches)
    every = np.arange(eyes)
    # Samples between the lids first: only so many as the widest eye has are looked at.
    inside = patches.inside.reshape(eyes, -1)
    order = np.argsort(-inside, axis=1, kind="stable")[:, : max(int(inside.sum(axis=1).max()), 1)]
    inside, value, below = (
        np.take_along_axis(part.reshape(eyes, -1), order, axis=1) for part in (inside, patches.value, patches.below)
    )
    shadow = look.shadow[np.clip(below / _LID_STEP, 0, _LID_BINS - 1).astype(int)].astype(np.float32)
    at = places().astype(np.float32)[order]
    circles = np.repeat(_circles(patches.slope), 2, axis=0).astype(np.float32)
    drawn = np.einsum("eij,enj->eni", circles, at)
    square = (drawn * at).sum(axis=-1)
    steps = np.sqrt(np.linspace(0, 1, _TABLE)) * (_BINS - 1)
    table = np.interp(steps, np.arange(_BINS), look.profile).astype(np.float32)

    def tried(middle: Float[np.ndarray, "E K 2"], say: Float[np.ndarray, "E N"]) -> tuple[np.ndarray, ...]:
        """Cost of places, share of the contrasts that is explained, and the fitted samples with their gain and base."""
        own = np.einsum("eki,eij,ekj->ek", middle, circles, middle, optimize=True)
        apart = square[:, None] - 2 * middle @ drawn.transpose(0, 2, 1) + own[..., None]
        fitted = table[np.clip(apart * np.float32((_TABLE - 1) / _REACH**2), 0, _TABLE - 1).astype(np.int32)]
        fitted += shadow[:, None]
        total = np.maximum(say.sum(axis=1), 1e-6)[:, None]
        mean = (fitted @ say[..., None])[..., 0] / total
        seen = (say * value).sum(axis=1)[:, None] / total
        both = (fitted @ (say * value)[..., None])[..., 0] / total - mean * seen
        spread = np.maximum(((fitted * fitted) @ say[..., None])[..., 0] / total - mean * mean, 1e-9)
        contrast = (say * value * value).sum(axis=1)[:, None] / total - seen * seen
        gain = np.maximum(both / spread, _LEAST_GAIN)
        cost = contrast - 2 * gain * both + gain * gain * spread
        return cost, 1 - cost / np.maximum(contrast, 1e-9), fitted, gain, seen - gain * mean

    marked = patches.marked.reshape(eyes, 2).astype(np.float32)
    best = marked if begin is None else begin.reshape(eyes, 2).astype(np.float32)
    beside = _grid((1.0, 1.0), 1.0)
    first = beside * np.float32(_COARSE) if begin is not None else _grid(_FARTHEST, _COARSE)
    say = inside
    for offsets in [first, *(beside * np.float32(_COARSE / 2**n) for n in range(1, _HALVINGS + 1))]:
        middle = best[:, None] + offsets
        cost, like, fitted, gain, black = tried(middle, say)
        chosen = cost.argmin(axis=1)
        best = middle[every, chosen]
        gain, black, like = (part[every, chosen] for part in (gain, black, like))
        off = (value - black[:, None]) / gain[:, None] - fitted[every, chosen]
        say = inside / (1 + (off / _STRANGE) ** 2)
    far = (np.abs(best - marked) > np.array(_FARTHEST)).any(axis=1)
    found = ~far & (like > _LIKE) & (gain > _LEAST_GAIN) & (inside.sum(axis=1) * STEP**2 > _LEAST_SEEN)
    spread = np.zeros((eyes, patches.inside.shape[2]), np.float32)
    np.put_along_axis(spread, order, say, axis=1)
    return _Laid(
        best.reshape(*shape, 2).astype(float),
        gain.reshape(shape),
        black.reshape(shape),
        spread.reshape(*shape, -1),
        found.reshape(shape),
    )


def _grid(half: tuple[float, float], step: float) -> Float[np.ndarray, "K 2"]:
    """Offsets to both sides of nothing, float32."""
    ticks = [step * np.arange(-round(most / step), round(most / step) + 1) for most in half]
    return np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2).astype(np.float32)
