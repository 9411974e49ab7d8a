"""One run of the tracker: its files, its settings and its bars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
