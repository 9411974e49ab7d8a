"""Takes of a video: what lies between two cuts or dissolves, and which pieces belong together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

STEP = 4
"""Every so many pixels of a picture are compared."""
STILL, DRIFT = 0.3, 0.4
"""Mean differences, of 255, below which two pictures are the same one compressed twice, neighbours and those further
apart: a camera's noise is larger, and encoders better a still picture little by little."""
OTHER_SCENE = 0.55
"""Correlation of neighbouring pictures below which the scene may have changed. It does not mind light that changes."""
BACK = 0.7
"""The same below which it may have changed back to a scene that was seen before."""
FALL = 0.3
"""How far that must lie below the film's usual: pictures taken far apart are never alike."""
FLAT = 2.0
"""Grey levels of spread below which a picture shows nothing."""
ONE_CUT = 0.5
"""Seconds within which cuts are told as one."""
MOST_CUTS = 200
"""More are no cuts but restless pictures."""
DISSOLVES = (5, 8, 12, 18, 26, 38, 55)
"""Lengths in pictures at which dissolves are looked for; of a longer one, or one between, a part is as well one."""
ENDS = 4
"""Pictures before and after that are taken together."""
OTHER_LOOK = 0.8
"""Correlation of what is before and after, below which they may be two scenes, or two people in one."""
UNMIXED = {OTHER_LOOK: 0.1, 0.6: 0.15}
"""How far pictures between may be from a mixture of both, as a share of the square of their difference, where the two
are less alike than this: two people may move meanwhile, and so may one, who stays alike."""
PALER = 0.85
"""A mixture keeps less than this share of the detail that the two have; what moves from place to place keeps it all."""
EVENLY, MOST_LOST = 0.4, 1.3
"""Detail is lost by degrees: at a quarter of the way and at three quarters so much of what the middle says, at least,
and nowhere more than so many times what two scenes lose. Pictures that are coarse lose it at once, and more."""
STEP_OF_CUT, BACKWARDS = 0.5, 0.15
"""So much of the way in one picture is a cut; and so much back, and it is no dissolve."""


@dataclass(frozen=True)
class Dissolve:
    """One scene that fades into another."""

    first: int
    last: int
    """The pictures that show both."""
    before: Int[np.ndarray, "h w 3"]
    after: Int[np.ndarray, "h w 3"]
    """A picture of the one, and one of the other."""


class Neighbours:
    """Compares each picture of a film with the one before, as they come."""

    def __init__(self) -> None:
        self._other: np.ndarray | None = None
        self._previous: np.ndarray | None = None
        self._shown: np.ndarray | None = None
        self._repeats = 0
        self._alike: list[float] = []
        self._across: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._dissolves = _Dissolves()

    def see(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take the next picture."""
        sparse, small = picture[::STEP, ::STEP].astype(np.int16), _shrunk(picture)
        repeated = False
        if self._previous is not None:
            # Not against the one before alone: what moves slowly, or in the dark, has moved after a second.
            apart = (float(np.abs(sparse - one).mean()) for one in (self._previous, self._other))
            repeated = all(one < bound for one, bound in zip(apart, (STILL, DRIFT), strict=True))
            self._repeats += repeated
            # A picture that shows nothing is no scene: what comes behind it is compared with what came before.
            seen = self._shown is not None and _spread(small) >= FLAT
            alike = correlation(small, self._shown) if seen else 1.0
            if alike < BACK and len(self._across) <= MOST_CUTS:
                self._across[len(self._alike) + 1] = (self._shown, small)
            self._alike.append(alike)
        self._dissolves.see(small)
        if not repeated:
            self._other = sparse
        self._previous = sparse
        self._shown = small if _spread(small) >= FLAT else self._shown

    @property
    def still(self) -> float:
        """Fraction of pictures that are the same as the last one that was another."""
        return self._repeats / max(1, len(self._alike))

    @property
    def dissolves(self) -> tuple[tuple[int, int], ...]:
        """First and last picture of each dissolve: pictures that show two scenes at once."""
        return tuple((one.first, one.last) for one in self._dissolves.found())

    def takes(self) -> tuple[int, ...]:
        """Number of each picture's take, from 0 in the order of their first pictures; empty if there is but one.

        A film that cuts back and forth between two scenes has two takes. A dissolve's pictures are a take of their own.
        """
        dissolves = {one.first: one for one in self._dissolves.found()}
        breaks = sorted([*self._cuts(dissolves.values()), *dissolves])
        if not breaks:
            return ()
        ends = [*breaks[1:], len(self._alike) + 1]
        latest = {0: self._before(breaks[0], dissolves)}
        number, count = [0] * breaks[0], 1
        for at, end in zip(breaks, ends, strict=True):
            fade = dissolves.get(at)
            begin, first = (at, self._across[at][1]) if fade is None else (fade.last + 1, fade.after)
            left, alike = number[-1], {take: correlation(first, last) for take, last in latest.items()}
            if fade is not None:
                number += [count] * (begin - at)
                count += 1
                # It has left that one, however alike: two people may sit in one room.
                alike.pop(left, None)
            best = max(alike, key=lambda take: alike[take], default=left)
            bound = OTHER_SCENE if fade is None else OTHER_LOOK
            # What is rather like the picture before it begins no scene, but may go back to one.
            known = alike.get(best, -1.0) >= bound or (fade is None and self._alike[at - 1] >= OTHER_SCENE)
            take = best if known else count
            count += not known
            number += [take] * (end - begin)
            latest[take] = self._before(end, dissolves, first)
        return tuple(number) if count > 1 else ()

    def _cuts(self, dissolves: Iterable[Dissolve]) -> list[int]:
        """First pictures after hard cuts."""
        usual = float(np.median(self._alike)) if self._alike else 1.0
        breaks = [at for at in self._across if self._alike[at - 1] < usual - FALL]
        breaks = [at for at in breaks if not any(one.first <= at <= one.last + 1 for one in dissolves)]
        if all(self._alike[at - 1] >= OTHER_SCENE for at in breaks) or len(self._across) > MOST_CUTS:
            return []
        return breaks

    def _before(
        self, at: int, dissolves: dict[int, Dissolve], otherwise: Int[np.ndarray, "h w 3"] | None = None
    ) -> Int[np.ndarray, "h w 3"] | None:
        """The last picture that shows something before a break."""
        if at in dissolves:
            return dissolves[at].before
        return self._across[at][0] if at in self._across else otherwise


class _Dissolves:
    """Looks for dissolves among the last pictures of a film, as they come.

    What lies between two scenes in a dissolve is a mixture of both, more and more of the second, and paler than either;
    a head that turns, a camera that moves and light that changes give other pictures in between, or none so unlike.
    """

    def __init__(self) -> None:
        kept = max(DISSOLVES) + 2 * ENDS
        self._look: deque[np.ndarray] = deque(maxlen=kept)
        self._detail: deque[float] = deque(maxlen=kept)
        self._small: deque[np.ndarray] = deque(maxlen=kept)
        self._count = 0
        self._found: list[Dissolve] = []

    def see(self, small: Int[np.ndarray, "h w 3"]) -> None:
        """Take the next picture."""
        fine = cv2.resize(small.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(fine, (32, 32), interpolation=cv2.INTER_AREA)
        self._look.append(np.ascontiguousarray(coarse.reshape(-1, 3).T))
        self._detail.append(float(np.square(fine - cv2.GaussianBlur(fine, (0, 0), 2)).mean()))
        self._small.append(small)
        self._count += 1
        self._compare(ENDS)

    def found(self) -> list[Dissolve]:
        """Dissolves, in the order of their pictures."""
        for behind in range(ENDS - 1, 0, -1):
            self._compare(behind)
        return list(self._found)

    def _compare(self, behind: int) -> None:
        """Look for dissolves whose other scene begins with the last `behind` pictures."""
        last = len(self._look) - behind
        if last < min(DISSOLVES):
            return
        after = np.mean([self._look[row] for row in range(last, len(self._look))], axis=0)
        for length in DISSOLVES:
            first = last - length
            if first < 0 or len(self._found) > MOST_CUTS:
                break
            before = np.mean([self._look[row] for row in range(max(0, first - ENDS + 1), first + 1)], axis=0)
            alike = _likeness(before, after)
            if alike >= OTHER_LOOK or min(side.mean(axis=0).std() for side in (before, after)) < FLAT:
                continue
            unmixed = max(most for bound, most in UNMIXED.items() if alike < bound)
            share = self._shares(before, after, first, last, unmixed)
            if share is not None:
                # Where a quarter and three quarters are reached tells both ends: near these, movement tells more.
                way = np.maximum.accumulate(np.concatenate([[0.0], share, [1.0]]))
                quarter, three = np.interp((0.25, 0.75), way, np.arange(first, last + 1))
                begin = max(first + 1, int(quarter - (three - quarter) / 2))
                end = max(begin, min(last - 1, int(np.ceil(three + (three - quarter) / 2))))
                offset = self._count - len(self._look)
                self._add(offset + begin, offset + end, self._small[first], self._small[last])

    def _shares(
        self,
        before: Float[np.ndarray, "3 1024"],
        after: Float[np.ndarray, "3 1024"],
        first: int,
        last: int,
        unmixed: float,
    ) -> Float[np.ndarray, " n"] | None:
        """Share of the second scene in each picture between; None if they are no dissolve."""
        way = (after - before).ravel()
        between = np.array([self._look[row] for row in range(first + 1, last)]).reshape(-1, len(way)) - before.ravel()
        square = float(way @ way)
        share = between @ way / square
        steps = np.diff(share, prepend=0.0, append=1.0)
        beside = float(np.vdot(between, between)) - square * float(share @ share)
        if (
            beside / (len(share) * square) > unmixed
            or steps.max() > STEP_OF_CUT
            or -np.minimum(steps, 0).sum() > BACKWARDS
        ):
            return None
        middle = (share > 0.3) & (share < 0.7)
        if not middle.any():
            return None
        old, new = (np.mean([self._detail[row] for row in rows]) for rows in self._ends(first, last))
        detail = np.array([self._detail[row] for row in range(first + 1, last)])
        kept = detail / np.maximum((1 - share) * old + share * new, 1e-9)
        # Of two scenes' detail a mixture keeps (1 - s)^2 and s^2; of what they share, all.
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = (1 - kept) / (2 * share * (1 - share))
        sides = [(share > 0.12) & (share <= 0.3), (share >= 0.7) & (share < 0.88)]
        evenly = all(lost[side].mean() >= EVENLY * lost[middle].mean() for side in sides if side.any())
        paler = kept[middle].mean() < PALER and lost[middle].mean() < MOST_LOST
        return share if evenly and paler else None

    def _ends(self, first: int, last: int) -> tuple[range, range]:
        return range(max(0, first - ENDS + 1), first + 1), range(last, min(last + ENDS, len(self._look)))

    def _add(self, first: int, last: int, before: np.ndarray, after: np.ndarray) -> None:
        """Note a dissolve, or a part of the one before."""
        while self._found and first <= self._found[-1].last + ENDS:
            one = self._found.pop()
            if one.first <= first:
                first, before = one.first, one.before
            if one.last >= last:
                last, after = one.last, one.after
        self._found.append(Dissolve(first, last, before, after))


def _likeness(first: Float[np.ndarray, "3 n"], second: Float[np.ndarray, "3 n"]) -> float:
    """Correlation of each colour by itself, their mean: light of another colour is no other scene."""
    a, b = (picture - picture.mean(axis=1, keepdims=True) for picture in (first, second))
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return float(((a * b).sum(axis=1) / np.maximum(norm, 1e-6)).mean())


def _shrunk(picture: UInt8[np.ndarray, "H W 3"]) -> Int[np.ndarray, "h w 3"]:
    """Means over `STEP` pixels each way: noise, which is another in each picture, is no scene."""
    height, width = (max(1, side // STEP) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.int16)


def correlation(first: Int[np.ndarray, "h w 3"], second: Int[np.ndarray, "h w 3"]) -> float:
    """How alike two pictures are whatever their brightness and contrast, at most 1. Neither may be all of one grey."""
    a, b = _grey(first), _grey(second)
    return float(((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std()))


def _spread(picture: Int[np.ndarray, "h w 3"]) -> float:
    return float(_grey(picture).std())


def _grey(picture: Int[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    # A mean over the last axis takes ten times as long.
    return picture.astype(np.float32) @ np.full(3, 1 / 3, dtype=np.float32)


def mixed_pictures(dissolves: Sequence[tuple[int, int]]) -> Int[np.ndarray, " M"]:
    """Pictures that show two scenes at once.

    Args:
        dissolves: first and last picture of each.
    """
    return np.array([row for first, last in dissolves for row in range(first, last + 1)], dtype=np.int64)


def longest_take(
    takes: Sequence[int], usable: Int[np.ndarray, " K"], dissolves: Sequence[tuple[int, int]] = ()
) -> Int[np.ndarray, " N"]:
    """Pictures of the take that holds most usable ones; none where there is no usable one but in dissolves.

    Args:
        takes: of each picture.
        usable: pictures that can be used at all.
        dissolves: first and last picture of each; takes that are none.
    """
    numbers, usable = np.asarray(takes), np.setdiff1d(usable, mixed_pictures(dissolves))
    return np.flatnonzero(numbers == np.bincount(numbers[usable]).argmax()) if len(usable) else usable


def take_words(
    takes: Sequence[int],
    used: Int[np.ndarray, " N"],
    left_out: int,
    seconds: Float[np.ndarray, " T"],
    dissolves: Sequence[tuple[int, int]] = (),
) -> str:
    """One sentence about the cuts of a video and what became of its takes.

    Args:
        used: pictures of the take that is used.
        left_out: how many frames are not.
        seconds: time of each picture.
        dissolves: first and last picture of each.
    """
    fading = mixed_pictures(dissolves)
    cuts = np.setdiff1d(np.flatnonzero(np.diff(takes)) + 1, np.union1d(fading, fading + 1))
    # A flash or a picture that spins in is one cut to whoever looks.
    cuts = cuts[np.diff(seconds[cuts], prepend=-np.inf) > ONE_CUT]
    told = [f"cuts to another scene at {_listed([f'{seconds[at]:.1f}' for at in cuts])} s"] if len(cuts) else []
    spans = [f"{seconds[first]:.1f} to {seconds[last]:.1f}" for first, last in dissolves]
    told += [f"fades into another scene from {_listed(spans)} s"] if spans else []
    if len(used) == 0:
        return f"The video {' and '.join(told)}, and shows a face in no other picture."
    pieces = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
    spans = ", ".join(f"{seconds[piece[0]]:.1f} to {seconds[piece[-1]]:.1f} s" for piece in pieces[:6])
    return (
        f"The video {' and '.join(told)}. Used is one take, {spans}; {left_out} frames of others are "
        "left out, since two people, or two lights, make no avatar. If it is the same person in the same light, give "
        "--cuts keep."
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:6]) + (" and more" if len(words) > 6 else "")
