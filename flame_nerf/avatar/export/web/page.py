"""One HTML file that shows an avatar, without a network or a server."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from flame_nerf.avatar.export.web.config import FADE, LEAST_COSINE, WebConfig
from flame_nerf.avatar.head_model import check_may_be_written
from flame_nerf.runtime.errors import UserError
from flame_nerf.runtime.files import complete_file

if TYPE_CHECKING:
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from flame_nerf.avatar.export.web.appearance import Appearance
    from flame_nerf.avatar.export.web.layers import LayeredHead

SCRIPTS = ("web_head.js", "web_draw.js", "web_page.js")
COLOUR_QUALITY, OPACITY_QUALITY, BASE_QUALITY = 88, 85, 75
"""WebP's, 0 to 100."""


@dataclass(frozen=True)
class WebPage:
    """What came of it."""

    path: Path
    size: int
    """Bytes."""


@dataclass(frozen=True, eq=False)
class FirstCamera:
    """The camera that a page begins with."""

    c2w: Float[np.ndarray, "3 4"]
    """Head frame, metres, OpenGL axes."""
    focal: float
    """Focal length as a share of the picture's shorter side."""


def export_web(
    pipeline: Pipeline, path: Path, config: WebConfig | None = None, *, with_head_model: bool = False
) -> WebPage:
    """Writes an avatar as one HTML file, which appears under its name only when it is whole.

    Args:
        pipeline: a trained avatar's.
        path: the .html to write.
        with_head_model: also where the head model's licence does not let everybody pass it on.

    Raises:
        UserError: the avatar has no head model, one that may not be passed on, or no surface; or the file cannot be
            written.
    """
    config, model = config or WebConfig(), pipeline.model
    config.check()
    check(model, path, with_head_model)
    camera = first_camera(pipeline)
    layered, appearance = layered_head(pipeline, camera, config)
    text = page_text(pipeline, path.stem, camera, layered, appearance)
    with complete_file(path, "page", UserError) as spare:
        spare.write_text(text, encoding="utf-8")
    return WebPage(path, len(text.encode()))


def check(model: Any, path: Path, with_head_model: bool) -> None:
    """Says what a page would lack or must not hold, before the work begins.

    Raises:
        UserError: see `export_web`.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: a page's name ends in .html")
    if model.motion.live is None:
        raise UserError(f"{model.subject.root}: a page poses the head by itself, but {model.motion.why_no_head}")
    check_may_be_written(model.head, path, with_head_model)


def first_camera(pipeline: Pipeline) -> FirstCamera:
    """What the page shows at first: the mean training camera, held so that the head stands upright."""
    from flame_nerf.film.filming import Take, take_cameras
    from flame_nerf.motion.frame import Moments
    from flame_nerf.runtime.film_options import LookConfig

    motion = pipeline.model.motion
    camera = take_cameras(pipeline, Take(Moments(motion.num_timesteps, motion.at_timestep), motion.fps), LookConfig())
    c2w = camera.camera_to_worlds.reshape(-1, 3, 4)[0].double().cpu().numpy()
    shorter = min(int(camera.width.reshape(-1)[0]), int(camera.height.reshape(-1)[0]))
    return FirstCamera(c2w, float(camera.fy.reshape(-1)[0]) / shorter)


def layered_head(pipeline: Pipeline, camera: FirstCamera, config: WebConfig) -> tuple[LayeredHead, Appearance]:
    """Layers and textures of an avatar, baked from its field, then fitted to its own pictures."""
    from flame_nerf.avatar.export.atlas import region_scales, unwrap
    from flame_nerf.avatar.export.web.appearance import extreme_conditions, main_effects
    from flame_nerf.avatar.export.web.clothes import LayeredClothes
    from flame_nerf.avatar.export.web.distil import distil
    from flame_nerf.avatar.export.web.layers import FOLDED, backed, bake, changing, layer_offsets
    from flame_nerf.avatar.export.web.substance import Substance
    from flame_nerf.avatar.export.web.views import own_views

    model = pipeline.model
    substance, track = Substance(model), model.subject.track
    vertices, triangles = track.canonical_vertices.astype(np.float64), track.faces.astype(np.int64)
    atlas = unwrap(vertices, triangles, region_scales(track.region, track.region_names), config.texture_size)
    shell = model.renderer.shell.cpu().numpy()
    folded = np.isin(np.array(track.region_names)[track.region], FOLDED)
    offsets = layer_offsets(substance, vertices, triangles, shell, config.layers, folded)
    layered = bake(substance, atlas, vertices, triangles, offsets)
    backing = model.renderer.backing
    if backing.is_known:
        layered = backed(layered, backing.surface.cpu().numpy(), triangles)
    layered = replace(layered, clothes=LayeredClothes.of(model.renderer.clothes, vertices, triangles, shell))
    appearance = main_effects(model, config.bases if config.views else 0)
    if not config.views:
        return layered, appearance
    seen = model.motion.conditions[model.train_timesteps].cpu().double().numpy()
    extremes = extreme_conditions(appearance, seen)
    layered = replace(layered, changes=changing(substance, vertices, triangles, offsets, extremes))
    views = own_views(pipeline, camera.c2w, camera.focal, config.view_size, config.views)
    return distil(layered, triangles, views, appearance, config.steps, max(1, config.texture_size // 2)), appearance


def page_text(pipeline: Pipeline, title: str, camera: FirstCamera, layered: LayeredHead, appearance: Appearance) -> str:
    """The page's HTML."""
    import jinja2
    from markupsafe import Markup

    from flame_nerf import __version__

    loader = jinja2.PackageLoader("flame_nerf.avatar.export.web")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    constants = f"const LEAST_COSINE = {LEAST_COSINE}, FADE = {FADE}, NORMAL_SWEEPS = {_normal_sweeps()};"
    script = "\n".join([constants, *(loader.get_source(environment, name)[0] for name in SCRIPTS)])
    model = pipeline.model
    document = json.dumps(
        avatar_document(pipeline.model, camera, layered, appearance), allow_nan=False, separators=(",", ":")
    )
    return environment.get_template("web_page.html").render(
        title=title,
        generator=f"flame-nerf {__version__}",
        about=_about(model),
        # A "<" in a name must not end the script that holds it.
        avatar=Markup(document.replace("<", "\\u003c")),
        script=Markup(script),
    )


def avatar_document(model: Any, camera: FirstCamera, layered: LayeredHead, appearance: Appearance) -> dict[str, Any]:
    """All that the page's script knows of an avatar."""
    from flame_nerf.avatar.export.web.performance import performance
    from flame_nerf.avatar.export.web.rig import rig

    live, centre = model.motion.live, model.motion.centre.cpu().tolist()
    base = np.concatenate([camera.c2w, [[0.0, 0.0, 0.0, 1.0]]])
    return {
        "rig": rig(live),
        "rest": model.motion.rest_pose().joints.astype(np.float32).reshape(-1).tolist(),
        "look": look_document(layered, appearance.documents(model.motion, live)) | {"centre": centre},
        "performance": performance(model, base),
        "camera": {"c2w": camera.c2w.reshape(-1).tolist(), "centre": centre, "focal": camera.focal},
        "groups": _slider_document(model),
    }


def look_document(layered: LayeredHead, weights: list[dict[str, Any]]) -> dict[str, Any]:
    """Layers, textures and bases as the page's painter reads them.

    Args:
        weights: of `Appearance.documents`, one for each base.
    """
    from flame_nerf.avatar.export.web.arrays import array, indices, webp

    atlas, bases = layered.atlas, layered.bases
    # Bases go from -1 to 1 in units of the largest change that one makes, kept around a middle that bytes can say.
    strength = np.maximum(np.abs(bases).max(axis=(0, 2, 3)), 1e-4)
    stored = bases / strength[:, None, None] * (127 / 255) + 128 / 255
    pictures = [picture for layer in stored for picture in layer]
    return {
        "layers": len(layered.textures),
        "size": atlas.size,
        "source": indices(atlas.source),
        "corners": indices(atlas.triangles),
        "uv": array(np.round(np.clip(atlas.uv, 0, 1) * 65535).astype(np.uint16)),
        "offsets": array(layered.offsets.astype(np.float32)),
        "changes": array(layered.changes.astype(np.uint8)),
        "clothes": None if layered.clothes is None else layered.clothes.document(),
        "colour": [webp(texture[..., :3], COLOUR_QUALITY) for texture in layered.textures],
        "opacity": [webp(texture[..., 3], OPACITY_QUALITY) for texture in layered.textures],
        "bases": [
            base | {"strength": (most * (255 / 127)).tolist()} for base, most in zip(weights, strength, strict=True)
        ],
        "baseSize": bases.shape[2],
        "baseColour": [webp(picture[..., :3], BASE_QUALITY) for picture in pictures],
        "baseOpacity": [webp(picture[..., 3], BASE_QUALITY) for picture in pictures],
    }


def _slider_document(model: Any) -> list[dict[str, Any]]:
    """The groups of sliders that the viewer has, with labels for people."""
    from flame_nerf.viewer.sliders import ANGLE_RANGE_DEG, slider_groups

    motion, groups = model.motion, []
    for group in slider_groups(motion.pose_names, motion.pose_joints):
        sliders = [
            {"name": name, "label": spoken(name, group.label), "range": list(group.expression_range), "angle": False}
            for name in group.expressions
        ]
        sliders += [
            {"name": name, "label": spoken(name, ""), "range": list(ANGLE_RANGE_DEG[name]), "angle": True}
            for name in group.angles
        ]
        groups.append({"label": group.label, "sliders": sliders})
    return groups


def spoken(name: str, group: str) -> str:
    """A name as people read it: `mouthSmileLeft` in the group "Mouth" is "Smile left"."""
    import re

    words = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|_", " ", name).lower().split()
    if len(words) > 1 and group.lower().startswith(words[0]):
        words = words[1:]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _about(model: Any) -> str:
    head, subject = model.head, model.subject
    licence = subject.licence or "no licence was noted; ask whoever made it"
    return (
        f"An avatar of a person, learned from a video; whoever is shown has a say in where it goes. Video and avatar: "
        f"{licence}. Head model {head.name!r}: {head.licence}"
    )


def _normal_sweeps() -> int:
    from flame_nerf.avatar.export.smooth_normals import NORMAL_SWEEPS

    return NORMAL_SWEEPS
