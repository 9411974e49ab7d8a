"""One run of the tracker: its files, its settings and its bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from data_tools.runs.progress import StageBars
from data_tools.runs.workspace import Workspace
from data_tools.tracking.config import TrackConfig


@dataclass(frozen=True)
class Run:
    """What all stages of a run share."""

    video: Path
    subject: Path
    config: TrackConfig
    workspace: Workspace
    bars: StageBars


@contextmanager
def quiet_threads() -> Iterator[None]:
    """One thread for each library's inner loops, as long as the tracker runs: it has its own, and they would fight."""
    torch_threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv_threads)
