"""Frames in which something lies before a part of the face are named."""

import numpy as np

from data_tools.tracking.advice import registration_warnings
from data_tools.tracking.photometric import stage


def test_frames_that_show_a_part_of_the_face_as_no_others_do_are_covered():
    count = 20
    usual, alone = np.linspace(0.0, 0.02, count), np.arange(count) == 5
    strange = np.where(np.isin(np.arange(count), [5, 8]), 0.15, usual)
    # What is seen once in a clip, such as a mouth wide open, is as far off as this.
    strange[11] = 0.11
    covered = stage.covered_frames(strange, alone)
    assert np.flatnonzero(covered).tolist() == [8]
    result = stage.Registration(True, alone, covered, 0.1, 0.1, None)
    kept = 100 + np.arange(count)
    assert result.summary(kept)["covered"] == (108,) and result.summary(kept)["by_landmarks"] == (105,)
    words = registration_warnings(result, kept)
    assert len(words) == 2 and "landmarks alone: 105." in words[0] and "glasses that shine): 108." in words[1]
