"""Head models and packed avatars: which may be passed on, and which copy of a left-out one a user has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flame_nerf.runtime.errors import UserError

if TYPE_CHECKING:
    from flame_nerf.heads import HeadModel
    from flame_nerf.subject import HeadTrack

FREE = re.compile(
    r"(model data: )?(CC0|CC[ -]BY(?!-N)(?! N)|Apache|MIT\b|BSD|public domain|Creative Commons Attribution (?!-?Non))",
    re.IGNORECASE,
)
"""How a licence begins that lets everybody pass the data on."""


def may_be_passed_on(licence: str) -> bool:
    """Whether a head model's licence says in its first words that it may; in doubt it may not."""
    return FREE.match(licence.strip()) is not None


def check_may_be_written(head: HeadModel, path: Path, allowed: bool) -> None:
    """Refuses a file with the shapes of a head model in it, unless its licence or the user's own word allows it.

    Args:
        allowed: the user said --with-head-model.

    Raises:
        UserError: naming the licence and that option.
    """
    if not (allowed or may_be_passed_on(head.licence)):
        raise UserError(
            f"{path}: would hold the shapes of the head model {head.name!r}, whose licence does not let everybody pass "
            f"them on ({head.licence.strip()[:80]}); for your own use, add --with-head-model"
        )


def own_copy(track: HeadTrack) -> Path | None:
    """The first of the user's remembered head models that can have posed a track; None where none can."""
    from flame_nerf.heads import load_head
    from flame_nerf.heads.registry import remembered_heads
    from flame_nerf.motion import LiveHead

    for path in remembered_heads().values():
        try:
            LiveHead(load_head(path), track)
        except (OSError, ValueError):
            continue
        return path.absolute()
    return None


def licence_text(head: HeadModel | None, head_name: str, included: bool, subject_licence: str) -> str:
    """What LICENCE.txt says."""
    lines = ["This is an avatar of a person, learned from a video. Whoever is shown has a say in where it goes.", ""]
    lines += ["Video, track and weights", f"  {subject_licence or 'no licence was noted: ask whoever made it.'}", ""]
    lines += [f"Head model: {head_name}"]
    if head is not None:
        lines += [f"  licence: {head.licence}", f"  provenance: {head.provenance}"]
    if not included:
        lines += ["  NOT included. The track's meshes were posed with it; its terms may reach them too."]
    return "\n".join(lines) + "\n"
