"""The `check` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from flame_nerf.runtime.words import escape

if TYPE_CHECKING:
    from data_tools.capture.measured import Measured

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check(
    subject: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SUBJECT")],
    strict: bool = False,
    report: Annotated[Path | None, tyro.conf.arg(metavar="PAGE.html")] = None,
) -> int:
    """Say what is wrong or weak about a subject before training on it, and what to film next.

    Looks for missing and damaged pictures, empty masks, wrong axes, signs and scale (by laying the mesh on the masks),
    a head out of the picture, repeated frames and landmarks that are far off; and at the footage: turns and nods of the
    head, what the face did and never did, sharpness, light, flicker, the size of the face.

    Ends with status 0 if it can be trained on, 1 if training would break on it (with --strict: or if it has warnings).
    For scripts, the JSON beside the report says `verdict`: good, usable, or film again.

    Examples:
      flame-nerf-data check subjects/me
      flame-nerf-data check subjects/me --report me.html
      flame-nerf-data check subjects/imported --strict

    Args:
        subject: Folder of the subject, tracked or imported.
        strict: End with status 1 for warnings too.
        report: Write the capture report, one HTML page to send to whoever films: what the footage covers and lacks,
            what that costs in the avatar, and what to film next. The same as JSON is written beside it.
    """
    from data_tools.check.picture_checks import LOOKED_AT
    from data_tools.check.subject_checks import check_and_measure
    from data_tools.runs.progress import StageBars

    console, refused = (Console(stderr=stderr, highlight=False, soft_wrap=True) for stderr in (False, True))
    if report is not None and (report.suffix.lower() not in (".html", ".htm") or report.is_dir()):
        refused.print(f"[bold red]Error:[/] --report is {escape(report)}; name a file that ends in .html.")
        return 1
    with StageBars() as bars, bars.stage("Looking at the subject", 2 * LOOKED_AT) as advance:
        findings, measured = check_and_measure(subject, advance)
    for finding in findings:
        colour = _COLOURS[finding.level]
        console.print(f"[{colour}]{finding.level.capitalize():<8}[/] {finding.topic}: {escape(finding.text)}")
    count = {level: sum(finding.level == level for finding in findings) for level in _COLOURS}
    console.print(f"{escape(subject)}: {count['error']} errors, {count['warning']} warnings, {count['note']} notes")
    failed = bool(count["error"] or (strict and count["warning"]))
    if report is not None and measured is not None:
        errors = [finding.text for finding in findings if finding.level == "error"]
        try:
            _write(report, measured, errors)
        except OSError as error:
            refused.print(f"[bold red]Error:[/] {escape(report)}: cannot be written ({error.strerror or error}).")
            return 1
        console.print(f"Report        {escape(report)}, {escape(report.with_suffix('.json').name)} beside it")
    return int(failed)


def _write(report: Path, measured: Measured, errors: list[str]) -> None:
    from data_tools.capture.page import write_capture_page

    report.parent.mkdir(parents=True, exist_ok=True)
    write_capture_page(report, measured, warnings=errors)
