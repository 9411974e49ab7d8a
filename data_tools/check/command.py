"""The `check` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check(
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")], strict: bool = False
) -> int:
    """Say what is wrong or weak about a subject before training on it.

    Looks for missing and damaged pictures, empty masks, wrong axes, signs and scale (by laying the mesh on the masks),
    a head out of the picture, blurred and repeated frames, too few frames or turns, a mouth that never opens, and
    landmarks that are far off. Ends with status 1 if training would break on it, else 0.

    Examples:
      flame-nerf-data check subjects/me
      flame-nerf-data check subjects/imported --strict

    Args:
        subject: Folder of the subject.
        strict: End with status 1 for warnings too.
    """
    from data_tools.check.picture_checks import LOOKED_AT
    from data_tools.check.subject_checks import check_subject
    from data_tools.runs.progress import StageBars

    with StageBars() as bars, bars.stage("Looking at the subject", LOOKED_AT) as advance:
        findings = check_subject(subject, advance)
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        colour = _COLOURS[finding.level]
        console.print(f"[{colour}]{finding.level.capitalize():<8}[/] {finding.topic}: {escape(finding.text)}")
    count = {level: sum(finding.level == level for finding in findings) for level in _COLOURS}
    console.print(
        f"{escape(str(subject))}: {count['error']} errors, {count['warning']} warnings, {count['note']} notes"
    )
    return 1 if count["error"] or (strict and count["warning"]) else 0
