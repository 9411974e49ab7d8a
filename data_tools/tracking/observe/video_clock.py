"""When each frame is shown, told from timestamps that need not be there, rise or belong together."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

import numpy as np

RESTART = 0.5
"""A timestamp further back than this, in seconds, begins the clock anew; less is disorder among neighbours."""
GAP = 10.0
"""A longer pause than this, in seconds, is a jump of the clock and not a pause."""
SLOWEST, FASTEST = 1.0, 240.0
"""Frame rates that are believed, 1/s."""
USUAL = 25.0
"""Rate where the file names none that can be believed."""
REMEMBERED = 25


class Clock:
    """Seconds since the first frame, strictly rising, whatever the file's timestamps do.

    Pieces that were joined, counters that wrap around and discontinuities make timestamps fall back or leap; the clock
    carries on there with one frame's time. Timestamps that are missing, repeated or out of order are replaced.

    Example:
        >>> clock = Clock(25.0)
        >>> [round(clock.at(stamp), 2) for stamp in (1.4, 1.44, None, 0.0, 0.04)]
        [0.0, 0.04, 0.08, 0.12, 0.16]
    """

    def __init__(self, rate: float | None) -> None:
        """Args:
        rate: frames per second that the file promises; None if it does not.
        """
        believed = rate is not None and SLOWEST <= rate <= FASTEST
        self._promised = 1.0 / (rate if believed else USUAL)
        self._steps: deque[float] = deque(maxlen=REMEMBERED)
        self._raw: float | None = None
        self._shift = 0.0
        self._last: float | None = None
        self.restarts = 0
        """How often the timestamps fell back to an earlier time, or leapt ahead."""
        self.replaced = 0
        """How many timestamps were missing before others that are there, repeated or out of order."""
        self._missing = 0

    @property
    def blind(self) -> bool:
        """Whether no frame had a timestamp."""
        return self._raw is None

    @property
    def stamp(self) -> float | None:
        """The last timestamp that was there."""
        return self._raw

    @property
    def step(self) -> float:
        """Time from one frame to the next, as the last ones were spaced."""
        return max(statistics.median(self._steps), 1 / FASTEST) if self._steps else self._promised

    def at(self, stamp: float | None) -> float:
        """Time of the next frame.

        Args:
            stamp: its timestamp in seconds; None if it has none.
        """
        if self._last is None:
            self._raw, self._shift = stamp, -(stamp or 0.0)
            self._missing = int(stamp is None)
            self._last = 0.0
        else:
            self._last = self._last + self.step if stamp is None else self._shown(stamp)
            self._missing += stamp is None
        return self._last

    def _shown(self, stamp: float) -> float:
        """Time of a frame that is not the first, by its timestamp."""
        raw, self._raw = self._raw, stamp
        self.replaced, self._missing = self.replaced + self._missing, 0
        among_neighbours = self._last + min(self.step, self._promised)
        if raw is None or stamp < raw - RESTART or stamp > raw + GAP:
            # Begins anew; where there were no timestamps before, it does not fall back, it begins.
            self.restarts += raw is not None
            carried = self._last + self.step
            self._shift = carried - stamp
            return carried
        if stamp <= raw:
            self.replaced += 1
            return among_neighbours
        self._steps.append(stamp - raw)
        # Once ahead of disordered timestamps, the clock waits for them frame by frame.
        return stamp + self._shift if stamp + self._shift > self._last else among_neighbours


def even_rate(slots: Sequence[int], sources: Sequence[int], fps: float) -> float:
    """Frames a second of a film, by least squares, up to the sampling clock's rate; pauses are left out.

    A film slower than the clock has its own rate. What is faster, or a folder of pictures, has the clock's.

    Args:
        slots: increasing places of the sampled pictures on a clock of `fps` ticks a second.
        sources: number of each among the film's frames, of which some may be damaged.
    """
    steps, ticks = np.diff(sources), np.diff(slots).astype(float)
    if len(steps) == 0:
        return float(fps)
    each = ticks / steps
    # Of even frames one takes a tick longer than another at most.
    pause = each > np.median(each) + 1
    ticks[pause] = steps[pause] * (ticks[~pause].sum() / steps[~pause].sum())
    at, number = np.concatenate([[0.0], np.cumsum(ticks)]), sources - np.mean(sources)
    return round(min(float(fps), float(fps * (number @ number) / (number @ at))), 3)
