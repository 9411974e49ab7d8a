"""All kinds of bad video, and how tracking is tried with one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import data_tools.cli
from data_tools.tracking import TrackConfig, pipeline
from flame_nerf.subject import SubjectError, load_subject
from spoiling.outcome import Kind, answer_of, files_in
from spoiling.video_files import CLOCKS, NO_FILES, ODD_FILES, STREAMS
from spoiling.video_pictures import LIGHT, PEOPLE, SHAPES

VIDEO_GROUPS: dict[str, dict[str, Kind]] = {
    "no film, or too little": NO_FILES,
    "damaged files, odd names": ODD_FILES,
    "several streams": STREAMS,
    "clocks": CLOCKS,
    "sizes, pixels, colours": SHAPES,
    "light, focus, compression": LIGHT,
    "who is in it, what hides them": PEOPLE,
}
INTERRUPTED = 130
"""Exit status of a run that somebody ends."""


@contextmanager
def ended_before_the_fit() -> Iterator[None]:
    """Runs are interrupted once everything is decided that the film decides: the fit takes minutes, and is not bad."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fit, pipeline.fit = pipeline.fit, interrupt
    try:
        yield
    finally:
        pipeline.fit = fit


def try_video(kind: Kind, good: object, folder: Path) -> list[str]:
    """Track a bad video up to the fit.

    Args:
        good: what it is made from.
        folder: an empty folder.

    Returns:
        What is wrong with what came of it; empty if it is as expected.
    """
    given, place = folder / "given", folder / "place"
    given.mkdir()
    place.mkdir()
    video = kind.make(good, given)
    before, subject = files_in(given), place / "subject"
    with ended_before_the_fit():
        answer = answer_of(lambda: data_tools.cli.track(video, subject, TrackConfig(workers=1)))
    found = answer.faults(kind, video, INTERRUPTED)
    if files_in(given) != before:
        found.append("the input is another")
    if set(place.iterdir()) - {subject}:
        found.append(f"left beside the subject: {sorted(place.iterdir())}")
    found += [f"left half-written: {path}" for path in place.rglob("*.part*")]
    try:
        load_subject(subject)
        found.append("half a subject loads")
    except SubjectError:
        pass
    return found
