"""Frames compared with the atlas: residuals, and their normal equations, to be added to the landmarks'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from data_tools.runs.blocks import blocks_of, run_blocks
from data_tools.tracking.fit.residuals import POSE, FaceState
from data_tools.tracking.photometric.atlas import CAUCHY, Atlas, Learned, frame_light, harmonics, learn_atlas, shade
from data_tools.tracking.photometric.crops import Crops
from data_tools.tracking.photometric.kernels import linearise, sample
from data_tools.tracking.photometric.surfels import Surfels, Visibility
from flame_nerf.geometry import perspective

WEIGHT = 1200.0
"""What all surfels of a head say together, in residuals of one spread: neighbours err together, so that more of them
are not more evidence."""
HARDLY_MOVED, MARK = 1.0, 40
"""Pixels that no point of a head, of one in so many, has moved by: the frame sees what it saw."""
TOGETHER = 20
"""Frames whose points are placed at once."""


@dataclass(frozen=True)
class Rows:
    """Residuals of the n known surfels that one frame sees, and their derivatives; float32."""

    which: Int[np.ndarray, " n"]
    frame: Float[np.ndarray, "n P"]
    """By the frame's own parameters."""
    by_head: Float[np.ndarray, "n 3"]
    """By the surfel's place in head axes, per metre."""
    log_focal: Float[np.ndarray, " n"]
    residual: Float[np.ndarray, " n"]
    """Picture minus atlas, spreads."""
    weight: Float[np.ndarray, " n"]
    """Cauchy's, 0..1."""
    value: Float[np.ndarray, " n"]
    """Of the picture, 0..1."""
    factor: Float[np.ndarray, " n"]
    """The frame's light on the atlas' value."""


STRANGE, STRANGE_OFF = 3.0, 0.05
"""Spreads of the atlas, and share of full scale, from which a point does not show the skin that is known there: of a
head that keeps still, spreads are so small that a fold of the cheek is many."""


@dataclass(frozen=True)
class Agreement:
    """How T frames agree with the atlas."""

    points: Int[np.ndarray, " T"]
    """Known surfels that are seen."""
    spreads: Float[np.ndarray, " T"]
    """Median absolute residual, spreads of the atlas."""
    off: Float[np.ndarray, " T"]
    """The same as a share of full scale."""
    gain: Float[np.ndarray, " T"]
    """Brightness against the atlas."""
    likeness: Float[np.ndarray, " T"]
    """Correlation with the atlas, -1..1."""
    strange: Float[np.ndarray, " T"]
    """Share of the points that show something else: a hand, hair, a reflection."""


class PhotometricFrames:
    """T frames of a clip, their pictures and the surfels that they see."""

    def __init__(
        self,
        surfels: Surfels,
        visibility: Visibility,
        pictures: Sequence[Path],
        state: FaceState,
        centre: Float[np.ndarray, "2"],
        workers: int = 1,
    ) -> None:
        """
        Args:
            state: of the frames, well enough to know what they see.
            centre: principal point, pixels.
        """
        self._surfels, self._visibility, self._workers = surfels, visibility, workers
        self._which: list[Int[np.ndarray, " n"]] = [np.zeros(0, dtype=np.int64)] * len(pictures)
        self._marks = np.full((len(pictures), 1, 2), np.inf, dtype=np.float32)
        self.look_again(state)
        pixels: list[Float[np.ndarray, "n 2"]] = [np.zeros((0, 2))] * len(pictures)
        for rows, places in self._placed(state, range(len(pictures))):
            rotation, shift = state.rotation[rows].numpy(), state.shift[rows].numpy()
            for k, t in enumerate(rows):
                camera = places[k, self._which[t]] @ rotation[k].T + shift[k]
                pixels[t] = perspective(camera, state.focal, centre)
        self._crops = Crops(pictures, pixels, state.focal, centre, workers)
        self._scale = self._crops.focal / state.focal

    def __len__(self) -> int:
        return len(self._which)

    def of(self, surfels: Surfels) -> None:
        """Go on with the same points on another person."""
        self._surfels = surfels

    def seen(self, t: int) -> Int[np.ndarray, " n"]:
        """Surfels that a frame sees."""
        return self._which[t]

    def look_again(self, state: FaceState) -> None:
        """Find out anew which surfels each frame sees, unless it has hardly moved since that was last found."""
        marks = self._marks_of(state)
        far = np.linalg.norm(marks - self._marks, axis=2).max(axis=1)
        moved = np.flatnonzero(~(far < HARDLY_MOVED))

        def one(block: range) -> None:
            for portion in _portions(block):
                rows = moved[portion.start : portion.stop]
                for t, which in zip(rows.tolist(), self._visibility.of_frames(state.frames(rows)), strict=True):
                    self._which[t] = which

        if len(moved):
            self._side_by_side(one, len(moved))
            self._marks = np.where(np.isin(np.arange(len(marks)), moved)[:, None, None], marks, self._marks)

    def _marks_of(self, state: FaceState) -> Float[np.ndarray, "T M 2"]:
        """Where some points of the head are in each picture, seen or not, pixels."""
        result = []
        for rows, places in self._placed(state, range(len(self))):
            part = state.frames(slice(rows.start, rows.stop))
            camera = (
                places[:, ::MARK] @ part.rotation.transpose(1, 2).float().numpy() + part.shift[:, None].float().numpy()
            )
            result.append(perspective(camera, state.focal, np.zeros(2, dtype=np.float32)))
        return np.concatenate(result)

    def learn(self, state: FaceState, blur: float) -> Learned:
        """The atlas at a blur, as these frames show it from where they stand."""
        values = self._values(state, blur)
        bases = [self._harmonics(t, which, state) for t, which in enumerate(self._which)]
        return learn_atlas(blur, values, self._which, bases, len(self._surfels), self._workers)

    def _values(self, state: FaceState, blur: float) -> list[Float[np.ndarray, " n"]]:
        result = [np.zeros(0, dtype=np.float32)] * len(self)
        images = self._crops.blurred(blur)

        def one(block: range) -> None:
            for rows, places in self._placed(state, block):
                for k, t in enumerate(rows):
                    result[t] = self._sampled(t, places[k], images[t], self._which[t], state)

        self._side_by_side(one, len(self))
        return result

    def _sampled(
        self,
        t: int,
        places: Float[np.ndarray, "N 3"],
        image: Float[np.ndarray, "h w"],
        which: Int[np.ndarray, " n"],
        state: FaceState,
    ) -> Float[np.ndarray, " n"]:
        value = np.empty(len(which), dtype=np.float32)
        sample(image, which, places, *self._camera(t, state), value)
        return value

    def _camera(self, t: int, state: FaceState) -> tuple:
        """Rotation, shift, focal length and principal point of a frame's crop."""
        return (
            state.rotation[t].float().numpy(),
            state.shift[t].float().numpy(),
            np.float32(state.focal * self._scale[t]),
            self._crops.centre[t].astype(np.float32),
        )

    def _harmonics(self, t: int, which: Int[np.ndarray, " n"], state: FaceState) -> Float[np.ndarray, "n 9"]:
        return harmonics(which, self._surfels.normal, state.rotation[t].numpy())

    def _placed(self, state: FaceState, block: range) -> Iterator[tuple[range, Float[np.ndarray, "T N 3"]]]:
        for rows in _portions(block):
            yield rows, self._surfels.places(state.expression[rows.start : rows.stop])

    def _side_by_side(self, work: Callable[[range], None], count: int) -> None:
        run_blocks(blocks_of(count, self._workers), work, self._workers)

    def rows(
        self, state: FaceState, atlas: Atlas, size: int, visit: Callable[[int, Rows], None], share: int = 1
    ) -> None:
        """Linearise all frames, on several threads, and hand each to `visit`.

        Args:
            size: number of parameters of a frame; 6 for the pose alone.
            share: look at one point in so many; which ones differs from frame to frame.
        """
        images = self._crops.blurred(atlas.blur)

        def one(block: range) -> None:
            for rows, places in self._placed(state, block):
                opened = self._surfels.by_jaw(places) if size > POSE.stop else None
                for k, t in enumerate(rows):
                    which = self._which[t]
                    which = which[atlas.known[which]][t % share :: share]
                    found = self._rows_of(t, which, places[k], images[t], state, atlas, size)
                    if opened is not None:
                        found.frame[:, -1] = (found.by_head * opened[k, which]).sum(axis=1)
                    visit(t, found)

        self._side_by_side(one, len(self))

    def _rows_of(
        self,
        t: int,
        which: Int[np.ndarray, " n"],
        places: Float[np.ndarray, "N 3"],
        image: Float[np.ndarray, "h w"],
        state: FaceState,
        atlas: Atlas,
        size: int,
    ) -> Rows:
        count = len(which)
        value = self._sampled(t, places, image, which, state)
        basis, mu = self._harmonics(t, which, state), atlas.mu[which]
        factor = shade(basis, frame_light(value, basis, mu, atlas.sigma[which], atlas.light))
        frame, by_head = np.empty((count, size), np.float32), np.empty((count, 3), np.float32)
        log_focal, residual, weight = (np.empty(count, np.float32) for _ in range(3))
        linearise(
            image, which, places, self._surfels.basis, *self._camera(t, state), factor * mu,
            atlas.sigma, np.float32(CAUCHY), frame, by_head, log_focal, residual, weight,
        )  # fmt: skip
        return Rows(which, frame, by_head, log_focal, residual, weight, value, factor)

    def equations(
        self, state: FaceState, atlas: Atlas, size: int
    ) -> tuple[Float[np.ndarray, "T P P"], Float[np.ndarray, "T P"]]:
        """Gauss-Newton model of the robust photometric energy by each frame's own parameters."""
        hessian, gradient = np.zeros((len(self), size, size)), np.zeros((len(self), size))
        # A pose is told by far fewer points than a face, and blurred pictures are alike at neighbouring points.
        share = max(1, round(atlas.blur)) if size == POSE.stop else 1
        say = share * WEIGHT / len(self._surfels)

        def add(t: int, rows: Rows) -> None:
            frame = torch.from_numpy(rows.frame)
            weighted = (frame * torch.from_numpy(say * rows.weight)[:, None]).T
            hessian[t] = (weighted @ frame).numpy()
            gradient[t] = (weighted @ torch.from_numpy(rows.residual)).numpy()

        self.rows(state, atlas, size, add, share)
        return hessian, gradient

    def agreement(self, state: FaceState, atlas: Atlas) -> Agreement:
        """How well each frame shows what the atlas expects."""
        found = np.zeros((6, len(self)))

        def look(t: int, rows: Rows) -> None:
            if len(rows.which) < 3:
                found[:, t] = len(rows.which), np.inf, 1.0, 1.0, 0.0, 1.0
                return
            off, expected = np.abs(rows.residual), rows.factor * atlas.mu[rows.which]
            spread = rows.value.std() * expected.std()
            likeness = np.mean((rows.value - rows.value.mean()) * (expected - expected.mean())) / max(spread, 1e-9)
            found[:, t] = (
                len(off), np.median(off), np.median(off * atlas.sigma[rows.which]), rows.factor.mean(), likeness,
                np.mean((off > STRANGE) & (off * atlas.sigma[rows.which] > STRANGE_OFF)),
            )  # fmt: skip

        self.rows(state, atlas, POSE.stop, look)
        return Agreement(found[0].astype(int), *found[1:])


def _portions(block: range) -> Iterator[range]:
    for start in range(block.start, block.stop, TOGETHER):
        yield range(start, min(start + TOGETHER, block.stop))
