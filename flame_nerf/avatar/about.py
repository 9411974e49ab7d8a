"""What an avatar is, in words, without loading it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flame_nerf.avatar.archive import read_manifest
from flame_nerf.avatar.loading import open_avatar
from flame_nerf.training.checkpoints import read_checkpoint
from flame_nerf.training.records import plain, read_record, subject_hash

if TYPE_CHECKING:
    from flame_nerf.subject import Subject


def describe(path: Path, data: Path | None = None) -> dict[str, Any]:
    """Lines of a table on a run (by its config.yml) or on a packed avatar; errors as for `open_avatar`."""
    from flame_nerf.heads import load_head
    from flame_nerf.subject import load_subject

    if zipfile.is_zipfile(path):
        manifest = read_manifest(path)
        head, settings = manifest["head"], manifest.get("settings") or {}
        rows = {name: manifest.get(name) for name in ("name", "timesteps", "fps", "licence")}
        rows |= {
            "method": settings.get("method"),
            "steps": manifest.get("step", 0) + 1,
            "made with": manifest["made_with"],
        }
        rows |= record_rows(_table(manifest.get("record")))
        rows |= {"head model": f"{head['name']} ({'inside' if head['included'] else 'left out for its licence'})"}
        return rows | {"head's licence": head["licence"]}
    with open_avatar(path, data) as avatar:
        subject, (step, _) = load_subject(avatar.data), read_checkpoint(avatar.checkpoint)
        record = read_record(avatar.checkpoint)
    rows = {"name": subject.root.name, "timesteps": subject.track.num_timesteps, "fps": subject.fps}
    rows |= {
        "licence": subject.licence,
        "method": avatar.config.method_name,
        "steps": step + 1,
        "subject": subject.root,
    }
    rows |= record_rows(record, subject)
    try:
        head = load_head(subject.head_model_source)
    except (OSError, ValueError) as error:
        return rows | {"head model": str(error)}
    return rows | {"head model": head.name, "head's licence": head.licence}


def record_rows(record: Mapping[str, Any], subject: Subject | None = None) -> dict[str, str]:
    """What a checkpoint's record says it was made of and with, one line each.

    Args:
        record: empty where there is none; from a file that may come from anywhere.
        subject: what it is shown with; compared with what it was trained on.
    """
    if not record:
        return {"record": "none: trained by an older version, or copied without checkpoint_records/"}
    made, priors = (_table(record.get(name)) for name in ("versions", "priors"))
    trained_on = str(_table(record.get("subject")).get("sha256", ""))
    same = "" if subject is None else ", unchanged" if subject_hash(subject) == trained_on else ", changed since"
    return {
        "trained with": ", ".join(f"{name} {value}" for name, value in made.items()) or "unknown",
        "trained on": str(record.get("device", "unknown")),
        "seed": str(record.get("seed", "unknown")),
        "subject's sha256": f"{trained_on[:16] or 'unknown'}{same}",
        "priors": ", ".join(f"{name}: {_words(value)}" for name, value in priors.items()) or "none",
        **_settings(record),
    }


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> str:
    return " ".join(str(one) for one in value.values() if one is not None) if isinstance(value, dict) else str(value)


def _settings(record: Mapping[str, Any]) -> dict[str, str]:
    """Settings of the model that differ from the method's own; nothing where they are not recorded."""
    from flame_nerf.avatar.plain_config import own_config

    own = own_config(record.get("method"))
    model = _table(_table(_table(record.get("config")).get("pipeline")).get("model"))
    if own is None or not model:
        return {}
    changed = differences(model, plain(own.pipeline.model))
    return {"settings": ", ".join(changed) or "the method's own"}


def differences(values: Mapping[str, Any], usual: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`name=value` of each value that is not the usual one, names joined by dots."""
    found = []
    for name, value in values.items():
        known = usual.get(name)
        if isinstance(value, dict) and isinstance(known, dict):
            found += differences(value, known, f"{prefix}{name}.")
        elif value != known:
            found.append(f"{prefix}{name}={value}")
    return found
