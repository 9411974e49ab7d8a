"""From somebody's head model file to a head model of this project."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_tools.convert_head.config import ConvertConfig, ConvertSummary
from data_tools.convert_head.regions import has_eyes, regions_from_groups, regions_from_landmarks, regions_from_shape
from data_tools.convert_head.reshape import carried_by_head, cut_to, to_head_axes
from flame_nerf.heads import HeadModel, HeadModelError, LandmarkEmbedding, load_head, save_head
from flame_nerf.heads.array_files import read_arrays
from flame_nerf.heads.flame_smpl import HeadFile, read_statistical_head
from flame_nerf.heads.masks_landmarks import read_landmarks, read_vertex_groups
from flame_nerf.heads.registry import remember_head

USUAL_SIZE = (0.08, 1.2)
"""Height of a head with its neck, metres, from a cat's to a horse's: outside of it the unit is probably wrong."""
QUICK = {"identities": 6, "yaws_deg": (-20.0, 0.0, 20.0), "pitches_deg": (0.0,), "jaw_openings": (0.0, 0.25)}
"""The first, rough embedding, that only has to find the lips. Each lip point needs eight marks."""


def convert_head(
    source: Path | str,
    target: Path | str,
    config: ConvertConfig | None = None,
    on_stage: Callable[[str, int], Callable[[], None]] = lambda title, total: lambda: None,
) -> ConvertSummary:
    """Read a head model in its own format and write it as this project's npz.

    Args:
        target: the .npz to write; written whole or not at all.
        on_stage: called with the title and the number of steps of each long stage; gives what is called at each step.

    Raises:
        HeadModelError: the source cannot be used, an option does not fit it, or the target is there already.
        OSError: the target cannot be written.
    """
    config = config or ConvertConfig()
    source, target = Path(source), Path(target)
    _check_target(source, target, config.overwrite)
    file = read_any_head(source, config)
    head = file.head
    warnings = _oddities(head)
    landmarks, origin = _landmarks(head, config, warnings, on_stage)
    if landmarks is not None and not file.groups and config.masks is None and file.kind != "project":
        head = regions_from_landmarks(head, landmarks)
    head = replace(head, landmarks=landmarks)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Half precision would move FLAME's vertices by more than the hundredth of a millimetre that its users compare by.
    save_head(head, target, half_bases=file.kind == "project")
    noted = remember_head(head.name, target) if config.remember else None
    counts = np.bincount(head.region.numpy(), minlength=len(head.region_names))
    return ConvertSummary(
        path=target,
        name=head.name,
        seen=file.seen,
        vertices=len(head.template),
        faces=len(head.faces),
        regions={name: int(count) for name, count in zip(head.region_names, counts, strict=True) if count},
        landmarks=origin,
        licence=head.licence,
        remembered=noted,
        warnings=tuple(warnings),
    )


def read_any_head(source: Path | str, config: ConvertConfig | None = None) -> HeadFile:
    """A head with its regions, from any file that can be converted, a head of this project's own, or a known name.

    In the head frame (metres, z forward, y up). FLAME keeps its own template coordinates, so that
    `HeadModel.placement` gives FLAME's model space; models that are cut are moved to their head joint.

    Raises:
        HeadModelError: as of `convert_head`.
    """
    config = config or ConvertConfig()
    file = _read(source, config)
    head = to_head_axes(file.head, config.forward, config.up, config.scale)
    if not {"head", "neck"} & set(head.joint_names):
        names = ", ".join(f"{row} {name}" for row, name in enumerate(head.joint_names))
        raise HeadModelError(
            f"{source}: none of its joints is called head: say which one carries the skull with --head-joint. It has "
            f"{names}"
        )
    masks = read_vertex_groups(config.masks, len(head.template)) if config.masks else dict(file.groups)
    kept = _kept(head, file, config)
    if kept is not None:
        renumber = np.cumsum(kept) - 1
        before = len(head.template)
        head = cut_to(head, kept)
        if len(head.template) != kept.sum():
            raise HeadModelError(
                f"{source}: {int(kept.sum()) - len(head.template)} of the vertices to keep belong to no triangle among "
                "them: give whole triangles, or leave --vertices out"
            )
        masks = {name: renumber[rows[kept[rows]]] for name, rows in masks.items()}
        seen = f"{file.seen}; cut to {len(head.template)} of {before} vertices, {len(head.joint_names)} joints"
        file = replace(file, seen=seen)
    if masks:
        head = regions_from_groups(head, masks)
    elif file.kind != "project":
        head = regions_from_shape(head)
    return replace(file, head=head)


def _read(source: Path | str, config: ConvertConfig) -> HeadFile:
    named = _joint_rows(config)
    path = Path(source)
    is_own = config.kind == "project" or (config.kind == "auto" and not path.is_file())
    if not is_own and config.kind == "auto" and path.suffix.lower() == ".npz":
        is_own = "format_version" in read_arrays(path)
    if is_own:
        head = load_head(source)
        head = replace(head, joint_names=_renamed(head.joint_names, named))
        seen = (
            f"a head model of this project, '{head.name}': {len(head.template)} vertices, {len(head.faces)} faces, "
            f"{head.shapedirs.shape[-1]} shape and {head.exprdirs.shape[-1]} expression components"
        )
        return HeadFile(head, "project", seen)
    kind = config.kind
    rows = {int(key): name for key, name in named.items() if key.isdigit()}
    file = read_statistical_head(path, kind, rows)
    by_name = {key: name for key, name in named.items() if not key.isdigit()}
    return replace(file, head=replace(file.head, joint_names=_renamed(file.head.joint_names, by_name)))


def _joint_rows(config: ConvertConfig) -> dict[str, str]:
    """What the options call the joints that matter: number or name in the file -> our name."""
    named = {config.head_joint: "head", config.jaw_joint: "jaw"}
    if config.eye_joints:
        named |= dict(zip(config.eye_joints, ("left_eye", "right_eye"), strict=True))
    return {key: name for key, name in named.items() if key is not None}


def _renamed(names: tuple[str, ...], named: dict[str, str]) -> tuple[str, ...]:
    result = list(names)
    for key, name in named.items():
        row = int(key) if key.isdigit() else (names.index(key) if key in names else -1)
        if not 0 <= row < len(names):
            raise HeadModelError(f"there is no joint {key}: the model has {', '.join(names)}")
        if name in result:
            result[result.index(name)] = f"joint_{result.index(name):02d}"
        result[row] = name
    return tuple(result)


def _kept(head: HeadModel, file: HeadFile, config: ConvertConfig) -> np.ndarray | None:
    """Vertices to cut to; None to leave the model whole."""
    if config.vertices is not None:
        groups = read_vertex_groups(config.vertices, len(head.template))
        kept = np.zeros(len(head.template), dtype=bool)
        kept[np.concatenate(list(groups.values()))] = True
        return kept
    if file.kind == "smpl" and not config.whole:
        kept = carried_by_head(head)
        # Vertices that only hang on triangles that are cut through go too.
        faces = head.faces.numpy()
        whole = faces[kept[faces].all(1)]
        kept = np.zeros_like(kept)
        kept[whole] = True
        return kept
    return None


def _landmarks(
    head: HeadModel,
    config: ConvertConfig,
    warnings: list[str],
    on_stage: Callable[[str, int], Callable[[], None]],
) -> tuple[LandmarkEmbedding | None, str]:
    """The landmark embedding that was asked for, and a word on it."""
    if config.landmarks == "none":
        if head.landmarks is not None:
            return head.landmarks, f"{len(head.landmarks.index)} points, kept from the source"
        return None, "none"
    if config.landmarks != "build":
        found = read_landmarks(Path(config.landmarks), len(head.faces))
        return found, f"{len(found.index)} points from {Path(config.landmarks).name}"
    if not has_eyes(head):
        warnings.append(
            "No joints called left_eye and right_eye, so this is taken for no human head and no landmarks were looked "
            "for. Name them with --eye-joints, or track by keypoints of your own."
        )
        return None, "none"
    try:
        return _build_landmarks(head, on_stage)
    except ImportError as error:
        warnings.append(f"No landmarks were built: {error}. They are needed for tracking only.")
        return None, "none"
    except ValueError as error:
        warnings.append(
            f"No landmarks were built: {error}. Check --forward, --up and --scale: the face must look along z. Without "
            "landmarks the head cannot be tracked, only imported with."
        )
        return None, "none"


def _build_landmarks(
    head: HeadModel, on_stage: Callable[[str, int], Callable[[], None]]
) -> tuple[LandmarkEmbedding, str]:
    """Mediapipe's points found on pictures: roughly first, which tells where the lips are, then well."""
    from data_tools.open_head.embed import EmbedConfig, embed_landmarks, picture_count

    if (head.region == head.region_names.index("lips")).sum() == 0 or not head.region_mask("eyes").any():
        raise ValueError("the head has no faces called lips or none called eyes")
    rough = EmbedConfig(**QUICK)
    first = embed_landmarks(head, rough, on_stage("Finding the lips", picture_count(rough)))
    head = regions_from_landmarks(head, first)
    config = EmbedConfig()
    found = embed_landmarks(head, config, on_stage("Embedding landmarks", picture_count(config)))
    return found, f"{len(found.index)} points, built from {picture_count(config)} pictures of the head"


def _oddities(head: HeadModel) -> list[str]:
    """What looks wrong about a head's axes and unit."""
    found = []
    size = head.template.max(0).values - head.template.min(0).values
    height = float(size[1])
    if not USUAL_SIZE[0] <= height <= USUAL_SIZE[1]:
        found.append(f"The head is {height:.3g} m high: is its unit the metre? See --scale.")
    if has_eyes(head):
        eyes = head.joint_template[[head.joint_names.index(name) for name in ("left_eye", "right_eye")]]
        across = eyes[0] - eyes[1]
        if int(across.abs().argmax()) != 0 or across[0] < 0:
            found.append("The left eye is not at +x of the right one: check --forward and --up, or --eye-joints.")
        ahead = float(eyes[:, 2].mean() - head.joint_template[head.head_joint, 2])
        if ahead < 0:
            found.append("The eyes lie behind the head's joint: check --forward.")
    return found


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() != ".npz":
        raise HeadModelError(f"{target}: name the head model to write with the ending .npz")
    if target.exists() and not overwrite:
        raise HeadModelError(f"{target} is there already: use --overwrite to replace it, or give another name")
    if source.exists() and target.exists() and os.path.samefile(source, target):
        raise HeadModelError(f"{target} is the source itself: give another name for the result")
