"""``flame-nerf export gltf`` and ``flame-nerf export obj``: an avatar's head as meshes."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from flame_nerf.commands.drive import AvatarPath
from flame_nerf.commands.performer import Performer
from flame_nerf.runtime.errors import UserError


@dataclass
class ExportGltf:
    """Write an avatar as a textured head that Blender, three.js, Unity and Unreal pose: one .glb (glTF 2.0).

    Expressions are morph targets under ARKit's names (or the head model's own), and the skin hangs on joints for neck,
    jaw and eyes. It is a mesh: hair is as thick as the head model's scalp. Set an `eyeLook…` target or turn the eye's
    joint, not both. Pose correctives and joints that follow the expression, which FLAME has, have no place in glTF:
    how far the file is from the head model over the performance is printed (0.0 mm for the open head).

    The head model's shapes are in the file. One whose licence does not let everybody pass it on (FLAME) needs
    --with-head-model. Ask whoever is shown before you give the file away.

    Examples:
      flame-nerf export gltf outputs/me/flame-nerf/2026-01-31_120000/config.yml me.glb --animation
      flame-nerf export gltf avatar.zip me.glb --motion take.csv --size 2048
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="HEAD.glb")]
    """The file to write."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    animation: bool = False
    """Put the recorded performance into it, at its own rate: morph weights, turns of the joints, the head's movement.
    """
    motion: Path | None = None
    """Put this performance into it instead: another subject's folder, a motion file, Live Link Face's or another CSV,
    LAM's JSON, or a video, which is tracked first."""
    head_moves: bool = True
    """Whether the animation has the head's movement, too; without, the head stands still and the face alone moves."""
    pose: int | None = None
    """Timestep of the video whose colours the texture has; the neutral face's unless given. What a moment hides, as the
    inside of a closed mouth, is taken from others that show it."""
    size: int | None = None
    """Rows and columns of the texture; unless given what holds the training pictures, 512 to 2048."""
    lit: bool = False
    """Let the scene's lights fall on the head. Without, colours are shown as they are: they have the video's light in
    them."""
    with_head_model: bool = False
    """Write the file though the head model's licence does not let everybody pass it on: for your own use."""

    def run(self) -> None:
        from flame_nerf.avatar.loading import open_avatar

        if self.file.suffix.lower() != ".glb":
            raise UserError(f"{self.file}: name a .glb to write, as in `flame-nerf export gltf {self.config} me.glb`")
        if self.size is not None and not 16 <= self.size <= 8192:
            raise UserError(f"--size is {self.size}; give 16 to 8192 texels")
        # What cannot be read is said before the avatar is loaded.
        performer = Performer.of(self.motion, None) if self.motion is not None else None
        with open_avatar(self.config, self.data) as avatar:
            self._write(avatar.load().model, performer)

    def _write(self, model: Any, performer: Performer | None) -> None:
        from flame_nerf.avatar.export.atlas import region_scales, unwrap
        from flame_nerf.avatar.export.bake import bake_texture, fitting_size
        from flame_nerf.avatar.export.gltf import Take, write_gltf
        from flame_nerf.avatar.export.skeleton import (
            furthest_from_head_model,
            performance_by,
            performance_of,
            skeleton_of,
            to_head_frame,
        )
        from flame_nerf.avatar.head_model import check_may_be_written

        animated = self.animation or performer is not None
        track, last = model.subject.track, model.motion.num_timesteps - 1
        if self.pose is not None and not 0 <= self.pose <= last:
            raise UserError(f"--pose is {self.pose}; give a timestep from 0 to {last}, or leave it out")
        skeleton = skeleton_of(model)
        check_may_be_written(model.head, self.file, self.with_head_model)
        if performer is None:
            performance = performance_of(model, self.head_moves)
        else:
            performance = performance_by(model, performer.motion, self.head_moves)
        size = self.size or fitting_size(model)
        scales = region_scales(track.region, track.region_names)
        atlas = unwrap(track.canonical_vertices, skeleton.triangles, scales, size)
        moment = model.motion.neutral() if self.pose is None else model.motion.at_timestep(self.pose)
        texture = bake_texture(model, atlas, moment)
        frames = performance.movement @ to_head_frame(model, performance.turns)
        write_gltf(
            self.file,
            skeleton,
            atlas,
            texture,
            to_head_frame(model, skeleton.resting[None])[0],
            Take(performance, frames) if animated else None,
            lit=self.lit,
            asset={"copyright": _copyright(model)},
        )
        distance = 1000 * furthest_from_head_model(model, skeleton, performance)
        print(f"head: {self.file} ({self.file.stat().st_size / 1e6:.1f} MB)")
        joints = ", ".join(skeleton.joint_names)
        print(f"  {len(skeleton.names)} morph targets; joints: {joints}; texture {size}x{size}")
        if animated:
            print(f"  animation: {len(performance.weights)} moments at {performance.fps:g} a second")
        print(f"  farthest from the head model over the performance: {distance:.1f} mm")
        print(f"  head model {model.head.name!r} inside: {_one_line(model.head.licence)}")


def _one_line(licence: str) -> str:
    return textwrap.shorten(licence, 110, placeholder=" …")


def _copyright(model: Any) -> str:
    subject = model.subject.licence or "no licence was noted: ask whoever made it"
    return f"Person, video and texture: {subject}. Head model {model.head.name}: {model.head.licence}"


@dataclass
class ExportObj:
    """Write the head's mesh at each moment of its performance: numbered OBJ or PLY files of one topology, in metres.

    These are the meshes that the avatar was trained on, vertex for vertex, also where the head model itself may not be
    passed on: the terms of one such as FLAME may reach meshes that were posed with it. For textures and morph targets
    see `flame-nerf export gltf`.

    Examples:
      flame-nerf export obj outputs/me/flame-nerf/2026-01-31_120000/config.yml meshes
      flame-nerf export obj avatar.zip meshes --format ply --space world
    """

    config: AvatarPath
    """The config.yml of a training run, or a file that `flame-nerf pack` wrote."""
    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder for the files, named by their timestep; files of the same names are written over."""
    data: Path | None = None
    """The subject's folder, where it was moved and is not found beside or above the run."""
    format: Literal["obj", "ply"] = "obj"
    """Kind of file."""
    space: Literal["head", "world"] = "head"
    """Coordinates: head, in which the skull stands still (x to the person's left, y up, z out of the face), or world,
    in which the subject's cameras are given."""

    def run(self) -> None:
        from flame_nerf.avatar.export.obj import write_meshes
        from flame_nerf.avatar.head_model import may_be_passed_on
        from flame_nerf.avatar.loading import open_avatar
        from flame_nerf.motion import head_of
        from flame_nerf.subject import load_subject
        from flame_nerf.subject.stabilised import stabilize_head

        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; name a folder for the meshes")
        with open_avatar(self.config, self.data) as avatar:
            subject = load_subject(avatar.data)
            track = (stabilize_head(subject) if self.space == "head" else subject).track
            paths = write_meshes(
                self.folder, track.num_timesteps, lambda row: track.vertices[row], track.faces, self.format
            )
            head = head_of(subject)
        print(f"meshes: {self.folder} ({len(paths)} files, {paths[0].name} to {paths[-1].name})")
        print(f"  {subject.fps:g} a second; metres, {self.space} coordinates")
        if head is None or not may_be_passed_on(head.licence):
            licence = "its licence is not known" if head is None else _one_line(head.licence)
            print(f"  posed with the head model {subject.head_model!r}, whose terms may reach them: {licence}")
