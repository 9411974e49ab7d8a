"""What an avatar is, in words, without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flame_nerf.avatar.archive import read_manifest
from flame_nerf.avatar.loading import open_avatar
from flame_nerf.runtime.door import is_zip
from flame_nerf.training.checkpoints import read_checkpoint


def describe(path: Path, data: Path | None = None) -> dict[str, Any]:
    """Lines of a table on a run (by its config.yml) or on a packed avatar; errors as for `open_avatar`."""
    from flame_nerf.heads import load_head
    from flame_nerf.subject import load_subject

    if is_zip(path):
        manifest = read_manifest(path)
        head, settings = manifest["head"], manifest.get("settings") or {}
        rows = {name: manifest.get(name) for name in ("name", "timesteps", "fps", "licence")}
        rows |= {
            "method": settings.get("method"),
            "steps": manifest.get("step", 0) + 1,
            "made with": manifest["made_with"],
        }
        rows |= {"head model": f"{head['name']} ({'inside' if head['included'] else 'left out for its licence'})"}
        return rows | {"head's licence": head["licence"]}
    with open_avatar(path, data) as avatar:
        subject, (step, _) = load_subject(avatar.data), read_checkpoint(avatar.checkpoint)
    rows = {"name": subject.root.name, "timesteps": subject.track.num_timesteps, "fps": subject.fps}
    rows |= {
        "licence": subject.licence,
        "method": avatar.config.method_name,
        "steps": step + 1,
        "subject": subject.root,
    }
    try:
        head = load_head(subject.head_model_source)
    except (OSError, ValueError) as error:
        return rows | {"head model": str(error)}
    return rows | {"head model": head.name, "head's licence": head.licence}
