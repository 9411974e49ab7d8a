"""A refined track as a subject of its own, for further training or for other tools."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from nerfstudio.utils.rich_utils import get_progress

from flame_nerf.heads.eyes import personal_head
from flame_nerf.subject import Frame, Subject, SubjectError, write_subject

if TYPE_CHECKING:
    from flame_nerf.heads import HeadModel
    from flame_nerf.refinement.track import TrackRefinement

REFINED = "refined_by"
"""Key of the subject's metadata that says what refined it."""


@torch.no_grad()
def refined_subject(subject: Subject, refinement: TrackRefinement, head: HeadModel | None) -> Subject:
    """The subject with the corrections applied: cameras of all frames, expressions, identity, meshes.

    Args:
        subject: stabilised, as the refinement was learned on it.
        refinement: trained.
        head: the model that posed the subject; needed where expressions or identity were refined.

    Raises:
        ValueError: it is needed and not there.
    """
    timesteps = torch.tensor([frame.timestep for frame in subject.frames])
    c2w = torch.from_numpy(np.stack([frame.c2w[:3] for frame in subject.frames])).float()
    corrected = refinement.pose.cpu().corrected(c2w, timesteps).double().numpy()
    bottom = np.array([[0.0, 0.0, 0.0, 1.0]])
    frames = tuple(
        dataclasses.replace(frame, c2w=np.concatenate([matrix, bottom]))
        for frame, matrix in zip(subject.frames, corrected, strict=True)
    )
    track = subject.track
    if refinement.expression is not None:
        head = _needed(head)
        offsets = refinement.expression.cpu().offsets(torch.arange(track.num_timesteps)).numpy()
        at = [head.expression_names.index(name) for name in track.expression_names]
        own = personal_head(head, torch.from_numpy(np.asarray(track.canonical_vertices, dtype=np.float32)))
        moved = np.einsum("vce,te->tvc", own.exprdirs[:, :, at].numpy(), offsets)
        track = dataclasses.replace(track, expression=track.expression + offsets, vertices=track.vertices + moved)
    if refinement.identity is not None:
        head = _needed(head)
        offset = refinement.identity.cpu().offset.numpy()
        moved = head.shapedirs.numpy() @ offset
        identity = np.zeros(len(offset), np.float32)
        identity[: len(track.identity)] = track.identity
        track = dataclasses.replace(
            track,
            identity=identity + offset,
            vertices=track.vertices + moved,
            canonical_vertices=track.canonical_vertices + moved,
        )
    return dataclasses.replace(subject, frames=frames, track=track, extra={**subject.extra, REFINED: "flame-nerf"})


def write_with_images(subject: Subject, root: Path) -> Path:
    """Write a subject to another folder, pictures and all. Pictures that are there already are not copied again.

    Raises:
        SubjectError: the folder is the subject's own, or holds a subject.
        OSError: the disk refuses.
    """
    root = root.expanduser().absolute()
    if root == subject.root.absolute() or (root / "transforms.json").exists():
        raise SubjectError(f"{root} holds a subject already; give a new folder, nothing is overwritten")
    copied: dict[Path, Path] = {}

    def copy(path: Path | None, folder: str) -> Path | None:
        if path is None:
            return None
        source = subject.root / path
        if source not in copied:
            target = root / folder / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.exists() and target.stat().st_size == source.stat().st_size):
                shutil.copy2(source, target)
            copied[source] = target
        return copied[source]

    frames: list[Frame] = []
    with get_progress("Copying pictures") as bar:
        for frame in bar.track(subject.frames):
            paths = {"file_path": "images", "mask_path": "masks", "depth_path": "depths"}
            changed = {name: copy(getattr(frame, name), folder) for name, folder in paths.items()}
            frames.append(dataclasses.replace(frame, **changed))
    background = copy(subject.background, ".")
    model = subject.root / subject.head_model
    if model.is_file():
        copy(model, ".")
    return write_subject(dataclasses.replace(subject, frames=tuple(frames), background=background), root)


def _needed(head: HeadModel | None) -> HeadModel:
    if head is None:
        raise ValueError("refined expressions and identities need the head model that posed the subject")
    return head
