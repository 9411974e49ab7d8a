"""Takes of a video: what lies between two cuts, and which pieces belong together."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

STEP = 4
"""Every so many pixels of a picture are compared."""
STILL = 0.3
"""Mean difference, of 255, below which two pictures are the same one compressed twice: a camera's noise is larger."""
OTHER_SCENE = 0.55
"""Correlation of neighbouring pictures below which the scene may have changed. It does not mind light that changes."""
BACK = 0.7
"""The same below which it may have changed back to a scene that was seen before."""
FALL = 0.3
"""How far that must lie below the film's usual: pictures taken far apart are never alike."""
FLAT = 2.0
"""Grey levels of spread below which a picture shows nothing."""
MOST_CUTS = 200
"""More are no cuts but restless pictures."""


class Neighbours:
    """Compares each picture of a film with the one before, as they come."""

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None
        self._shown: np.ndarray | None = None
        self._repeats = 0
        self._alike: list[float] = []
        self._across: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def see(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next picture."""
        sparse, small = picture[::STEP, ::STEP].astype(np.int16), _shrunk(picture)
        if self._previous is not None:
            self._repeats += bool(np.abs(sparse - self._previous).mean() < STILL)
            # A picture that shows nothing is no scene: what comes behind it is compared with what came before.
            seen = self._shown is not None and _spread(small) >= FLAT
            alike = correlation(small, self._shown) if seen else 1.0
            if alike < BACK and len(self._across) <= MOST_CUTS:
                self._across[len(self._alike) + 1] = (self._shown, small)
            self._alike.append(alike)
        self._previous = sparse
        self._shown = small if _spread(small) >= FLAT else self._shown

    @property
    def still(self) -> float:
        """Fraction of pictures that are the same as the one before."""
        return self._repeats / max(1, len(self._alike))

    def takes(self) -> tuple[int, ...]:
        """Number of each picture's take, from 0 in the order of their first pictures; empty if there is but one.

        A film that cuts back and forth between two scenes has two takes.
        """
        usual = float(np.median(self._alike)) if self._alike else 1.0
        breaks = [at for at in self._across if self._alike[at - 1] < usual - FALL]
        if all(self._alike[at - 1] >= OTHER_SCENE for at in breaks) or len(self._across) > MOST_CUTS:
            return ()
        number, latest = [0] * breaks[0], {0: self._across[breaks[0]][0]}
        for at, end in zip(breaks, [*breaks[1:], len(self._alike) + 1], strict=True):
            first = self._across[at][1]
            alike = {take: correlation(first, last) for take, last in latest.items()}
            best = max(alike, key=lambda take: alike[take])
            # What is rather like the picture before it begins no scene, but may go back to one.
            known = alike[best] >= OTHER_SCENE or self._alike[at - 1] >= OTHER_SCENE
            take = best if known else len(latest)
            number += [take] * (end - at)
            latest[take] = self._across[end][0] if end in self._across else first
        return tuple(number) if len(latest) > 1 else ()


def _shrunk(picture: UInt8[np.ndarray, "H W 3"]) -> Int[np.ndarray, "h w 3"]:
    """Means over `STEP` pixels each way: noise, which is another in each picture, is no scene."""
    height, width = (max(1, side // STEP) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.int16)


def correlation(first: Int[np.ndarray, "h w 3"], second: Int[np.ndarray, "h w 3"]) -> float:
    """How alike two pictures are whatever their brightness and contrast, at most 1. Neither may be all of one grey."""
    a, b = (picture.mean(axis=2) for picture in (first, second))
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def _spread(picture: Int[np.ndarray, "h w 3"]) -> float:
    return float(picture.mean(axis=2).std())


def longest_take(takes: Sequence[int], usable: Int[np.ndarray, " K"]) -> Int[np.ndarray, " N"]:
    """Pictures of the take that holds most usable ones.

    Args:
        takes: of each picture.
        usable: pictures that can be used at all.
    """
    numbers = np.asarray(takes)
    return np.flatnonzero(numbers == np.bincount(numbers[usable]).argmax())


def take_words(
    takes: Sequence[int], used: Int[np.ndarray, " N"], left_out: int, seconds: Float[np.ndarray, " T"]
) -> str:
    """One sentence about the cuts of a video and what became of its takes.

    Args:
        used: pictures of the take that is used.
        left_out: how many frames are not.
        seconds: time of each picture.
    """
    cuts = np.flatnonzero(np.diff(takes)) + 1
    named = ", ".join(f"{seconds[at]:.1f}" for at in cuts[:6]) + (" and more" if len(cuts) > 6 else "")
    pieces = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
    spans = ", ".join(f"{seconds[piece[0]]:.1f} to {seconds[piece[-1]]:.1f} s" for piece in pieces[:6])
    return (
        f"The video cuts to another scene at {named} s. Used is one take, {spans}; {left_out} frames of others are "
        "left out, since two people, or two lights, make no avatar. If it is the same person in the same light, give "
        "--cuts keep."
    )
