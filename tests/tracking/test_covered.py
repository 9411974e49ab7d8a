"""Frames in which something lies before a part of the face are named, and those in which the head is lost, apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.tracking.advice import doubt_warnings, registration_warnings
from data_tools.tracking.fit.energy import Seen
from data_tools.tracking.photometric import stage
from data_tools.tracking.photometric.atlas import Atlas
from data_tools.tracking.photometric.course import off_course
from data_tools.tracking.photometric.registration import UNLIKE_SPREADS, unlike
from data_tools.tracking.photometric.residuals import Agreement, PhotometricFrames, Rows

NONE = np.zeros(80, dtype=bool)

HEIGHT = 100.0


def test_frames_that_show_a_part_of_the_face_as_no_others_do_are_covered():
    count = 20
    usual, alone = np.linspace(0.0, 0.02, count), np.isin(np.arange(count), [5, 6])
    strange = np.where(np.isin(np.arange(count), [5, 8]), 0.15, usual)
    # What is seen once in a clip, such as a mouth wide open, is as far off as this.
    strange[11] = 0.085
    covered = stage.covered_frames(strange, alone)
    assert np.flatnonzero(covered).tolist() == [8]
    off = np.arange(count) == 6
    result = stage.Registration(True, alone, covered, off, 0.1, 0.1, None)
    kept = 100 + np.arange(count)
    summary = result.summary(kept)
    assert summary["covered"] == (108,) and summary["by_landmarks"] == (105, 106) and summary["off_course"] == (106,)
    (alone_said,) = registration_warnings(result, kept)
    off_said, covered_said = doubt_warnings(result, kept)
    assert "probably wrong there: 106. Training" in off_said and "glasses that shine): 108." in covered_said
    assert "landmarks alone" in alone_said and alone_said.endswith(": 105.")


def test_a_fold_of_the_cheek_is_not_strange_on_a_head_that_keeps_still():
    """However many spreads it is where all other frames are alike."""
    count = 100
    nothing, ones = np.zeros(count, np.float32), np.ones(count, np.float32)
    off = np.zeros(count, np.float32)
    # A tenth shows something else, the rest of the lower half is folded.
    off[:50], off[:10] = 0.04, 0.2

    class Still(PhotometricFrames):
        def __init__(self, sigma: float) -> None:
            self.sigma = sigma

        def __len__(self) -> int:
            return 1

        def rows(self, state, atlas, size, visit, share=1) -> None:
            residual = off / self.sigma
            visit(0, Rows(np.arange(count), nothing, nothing, nothing, residual, ones, 0.5 + off, ones))

    for sigma, strange in ((0.01, 0.1), (0.03, 0.1), (0.08, 0.0)):
        mu = np.linspace(0.3, 0.7, count).astype(np.float32)
        atlas = Atlas(1.0, mu, sigma * ones, ones > 0, np.zeros(9, np.float32))
        assert Still(sigma).agreement(None, atlas).strange[0] == pytest.approx(strange)


def test_faces_that_are_half_out_of_the_picture_are_cut_off():
    middle = torch.tensor([[50.0, 95.0], [50.0, 85.0], [50.0, 50.0]])
    across = torch.stack([torch.linspace(-20, 20, 21), torch.zeros(21)], dim=1)
    pixels = (middle[:, None] + across.flip(-1)).double()
    seen = Seen(pixels, torch.tensor([50.0, 50.0]), size=torch.tensor([100.0, 100.0]))
    assert stage.cut_off_frames(seen).tolist() == [True, False, False]
    assert not stage.cut_off_frames(replace(seen, size=None)).any()


def _swaying(seconds: np.ndarray, reach: float) -> np.ndarray:
    """A face of five points that sways once in two seconds, pixels."""
    face = np.array([[0, 0], [30, 10], [-30, 10], [15, 60], [-15, 60]], dtype=float)
    return face + reach * HEIGHT * np.stack([np.sin(np.pi * seconds), np.cos(np.pi * seconds)], axis=1)[:, None]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 12), st.integers(4, 60), st.floats(0, 0.1), st.floats(0, 2 * np.pi), st.floats(0.15, 3),
    st.sampled_from([25.0, 30.0, 60.0]),
)  # fmt: skip
def test_a_face_where_the_frames_around_have_it_is_followed_and_one_beside_is_not(many, first, reach, way, far, fps):
    seconds = np.arange(80) / fps
    doubtful = np.isin(np.arange(80), np.arange(first, first + many))
    pixels, height = _swaying(seconds, reach), np.full(80, HEIGHT)
    row = first + many // 2
    for doubt in ((doubtful, NONE), (NONE, doubtful)):
        assert not off_course(pixels.__getitem__, height, seconds, *doubt).any()
    pixels[row] += far * HEIGHT * np.array([np.cos(way), np.sin(way)])
    # Nothing is said of frames that show the face well, even beside one that does not.
    for doubt in ((doubtful, NONE), (NONE, doubtful)):
        assert np.flatnonzero(off_course(pixels.__getitem__, height, seconds, *doubt)).tolist() == [row]


@pytest.mark.parametrize(
    "doubtful, off",
    [
        (range(5), []),  # nothing before it
        (range(75, 80), []),
        (range(20), range(8)),  # half a second from the first frame that can be seen
        (range(20, 60), range(20, 60)),  # 1.6 s: a head may be anywhere meanwhile
        (range(80), range(80)),
        ([], []),
    ],
)
def test_what_cannot_be_told_is_not_called_right(doubtful, off):
    seconds, rows = np.arange(80) / 25, np.isin(np.arange(80), doubtful)
    given = _swaying(seconds, 0.0).__getitem__, np.full(80, HEIGHT), seconds
    assert np.flatnonzero(off_course(*given, rows, NONE)).tolist() == list(off)
    # Of frames that are blurred at most, nothing is said where nothing can be told.
    assert not off_course(*given, NONE, rows).any()


def test_a_head_that_jolts_is_not_called_lost_where_it_is_blurred():
    seconds, unclear = np.arange(80) / 25, np.isin(np.arange(80), range(40, 46))
    jolts = np.random.default_rng(0).normal(0, 0.04 * HEIGHT, (80, 1, 2))
    pixels, height = _swaying(seconds, 0.1) + jolts, np.full(80, HEIGHT)
    assert off_course(pixels.__getitem__, height, seconds, unclear, NONE).any()
    assert not off_course(pixels.__getitem__, height, seconds, NONE, unclear).any()


def test_blurred_noisy_and_coarse_frames_are_looked_at():
    off, strange = np.full(20, 0.01), np.full(20, 0.005)
    off[3], strange[8], off[11], strange[12] = 0.0155, 0.07, 0.0113, 0.02
    assert np.flatnonzero(stage.unclear_frames(off, strange)).tolist() == [3, 8]


def test_a_head_that_nods_twice_is_not_called_lost_the_time_it_is_blurred():
    count = 400
    nods = sum(size * np.exp(-0.5 * ((np.arange(count) - at) / 3) ** 2) for size, at in ((1.0, 105), (1.1, 305)))
    pixels, height = _swaying(np.arange(count) / 25, 0.0) + 0.05 * HEIGHT * nods[:, None, None], np.full(count, HEIGHT)
    unclear, none = np.isin(np.arange(count), range(99, 112)), np.zeros(count, dtype=bool)
    assert not off_course(pixels.__getitem__, height, np.arange(count) / 25, none, unclear).any()
    # Farther than it ever goes, it is.
    pixels[105] += 0.1 * HEIGHT
    off = off_course(pixels.__getitem__, height, np.arange(count) / 25, none, unclear)
    assert np.flatnonzero(off).tolist() == [105]


def test_of_a_head_that_hardly_moves_one_that_turns_is_neither_another_nor_unclear():
    """Every frame is nearer to the atlas there than its spreads say."""
    count = 20
    spreads = np.full(count, 0.4)
    spreads[7], spreads[9] = 1.0, 1.5
    ones = np.ones(count)
    agreement = Agreement(np.full(count, 2500), spreads, 0.01 * spreads, ones, 0.99 * ones, 0.0 * ones)
    assert np.flatnonzero(unlike(agreement, np.array([2500, 0.4, 0.99]), UNLIKE_SPREADS)).tolist() == [9]
    assert np.flatnonzero(stage.unclear_frames(0.01 * spreads, 0.0 * ones)).tolist() == [7, 9]
    assert not stage.unclear_frames(0.01 * np.where(np.arange(count) == 5, 0.7, 0.4), 0.0 * ones).any()
