"""A head as glTF, read back by a reader of its own: the skin is where the head model has it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from avatar_fixtures import config_path, packed, project  # noqa: F401
from flame_like import head_from_arrays, make_flame_like
from glb_reader import Head
from scipy.spatial.transform import Rotation
from synthetic_head import make_track

from flame_nerf.avatar.export.atlas import Atlas
from flame_nerf.avatar.export.gltf import Take, write_gltf
from flame_nerf.avatar.export.skeleton import Performance, furthest_from_head_model, skeleton_of, to_head_frame
from flame_nerf.avatar.head_model import check_may_be_written
from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.commands.export_gltf import ExportGltf
from flame_nerf.heads import HeadModel, load_head
from flame_nerf.heads.eyes import personal_head
from flame_nerf.motion import SubjectMotion, load_motion, transferred
from flame_nerf.runtime.errors import UserError
from flame_nerf.subject import load_subject

pytest.importorskip("xatlas", reason="textures need the extra 'export'")


def model_of(head: HeadModel, count: int = 9, looks: bool = True, seed: int = 0) -> SimpleNamespace:
    """What a trained model knows of its head, with a track of random faces."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.randn(head.shapedirs.shape[-1], generator=generator)
    expression = torch.rand(count, len(head.expression_names), generator=generator)
    if not looks:
        expression[:, [row for row, name in enumerate(head.expression_names) if name.startswith("eyeLook")]] = 0.0
    pose = 0.2 * torch.randn(count, len(head.joint_names), 3, generator=generator)
    pose[:, 0] = 0.0
    rest, _ = head.rest(identity)
    track = dataclasses.replace(
        make_track(load_head(), load_head(), 1),
        faces=head.faces.numpy().astype(np.int32),
        canonical_vertices=rest.numpy(),
        vertices=personal_head(head, rest).vertices(identity, expression, pose).numpy(),
        expression=expression.numpy(),
        expression_names=head.expression_names,
        pose=pose.numpy(),
        joint_names=head.joint_names,
        identity=identity.numpy(),
        region=head.region.numpy(),
        region_names=head.region_names,
    )
    return SimpleNamespace(head=head, motion=SubjectMotion(track, head), track=track)


def plain_atlas(vertices: int, triangles: np.ndarray) -> Atlas:
    """Every vertex once, in no place that matters."""
    size = 2
    nothing = np.full((size, size), -1, np.int32), np.zeros((size, size, 3), np.float32)
    uv = np.zeros((vertices, 2), np.float32)
    return Atlas(size, np.arange(vertices, dtype=np.int32), uv, triangles.astype(np.int32), *nothing)


def written(path: Path, model: SimpleNamespace, seed: int = 1, count: int = 6) -> tuple[Head, Performance]:
    """A file with random weights and turns as its animation, and what they are."""
    random = np.random.default_rng(seed)
    skeleton = skeleton_of(model)
    weights = random.uniform(0, 1, (count, len(skeleton.names))).astype(np.float32)
    turns = random.normal(0, 0.3, (count, len(skeleton.joints), 3))
    turns[:, 0] = 0.0
    movement = np.tile(np.eye(4), (count, 1, 1))
    movement[:, :3, :3] = Rotation.from_rotvec(random.normal(0, 0.5, (count, 3))).as_matrix()
    movement[:, :3, 3] = random.normal(0, 0.1, (count, 3))
    performance = Performance(weights, turns, movement, 30.0)
    write_gltf(
        path,
        skeleton,
        plain_atlas(len(skeleton.vertices), skeleton.triangles),
        np.zeros((4, 4, 3), np.uint8),
        to_head_frame(model, skeleton.resting[None])[0],
        Take(performance, movement @ to_head_frame(model, turns)),
    )
    return Head(path), performance


def test_the_skin_is_where_the_head_model_has_it(tmp_path):
    model = model_of(load_head())
    head, performance = written(tmp_path / "head.glb", model)
    assert sorted(head.names) == sorted(load_head().expression_names)
    joints = [head.json["nodes"][joint]["name"] for joint in head.skin["joints"]]
    assert joints == ["root", "neck", "head", "jaw", "left_eye", "right_eye"]
    live = model.motion.live
    for row, time in enumerate(head.times):
        posed = live.vertices(
            torch.from_numpy(performance.weights[row]), torch.from_numpy(performance.turns[row]).float()
        )
        moved = posed.numpy() @ performance.movement[row, :3, :3].T + performance.movement[row, :3, 3]
        np.testing.assert_allclose(head.at(time), moved, atol=1e-5)


@pytest.mark.parametrize("looks", [False, True])
def test_the_stored_frames_come_back(tmp_path, looks):
    """Against the meshes that the head model makes of its identity, no code of the avatar's between."""
    model = model_of(load_head(), looks=looks)
    skeleton, track = skeleton_of(model), model.track
    turns, still = track.pose.astype(np.float64), np.tile(np.eye(4), (len(track.pose), 1, 1))
    frames = to_head_frame(model, turns)
    take = Take(Performance(track.expression, turns, still, 25.0), frames)
    atlas = plain_atlas(len(skeleton.vertices), skeleton.triangles)
    write_gltf(tmp_path / "head.glb", skeleton, atlas, np.zeros((2, 2, 3), np.uint8), frames[0], take)
    head = Head(tmp_path / "head.glb")
    for row, time in enumerate(head.times):
        np.testing.assert_allclose(head.at(time), track.vertices[row], atol=1e-4)


def test_at_rest_the_neck_is_carried_as_the_person_does_and_the_skull_stands(tmp_path):
    model = model_of(load_head())
    head, _ = written(tmp_path / "head.glb", model)
    np.testing.assert_allclose(head.at(), model.motion.neutral().vertices.numpy(), atol=1e-5)


def test_what_gltf_cannot_hold_is_measured(tmp_path):
    """FLAME's correctives and moving joints, and a fifth joint that carries a vertex: the file is the head model
    without them, and says how far that is."""
    flame = head_from_arrays(make_flame_like())
    assert flame.posedirs is not None and flame.joint_exprdirs is not None
    still = dataclasses.replace(flame, posedirs=None, joint_exprdirs=None)
    hung = dataclasses.replace(load_head(), skinning_weights=0.9 * load_head().skinning_weights + 0.1 / 6)
    for head_model, exact in ((flame, False), (still, True), (hung, False)):
        model = model_of(head_model)
        head, performance = written(tmp_path / "head.glb", model)
        live, apart = model.motion.live, 0.0
        mixed = torch.stack([*torch.eye(len(live.expression_names)), *live.derived.values()])
        for row, time in enumerate(head.times):
            posed = live.vertices(
                torch.from_numpy(performance.weights[row]) @ mixed, torch.from_numpy(performance.turns[row]).float()
            )
            moved = posed.numpy() @ performance.movement[row, :3, :3].T + performance.movement[row, :3, 3]
            apart = max(apart, np.linalg.norm(head.at(time) - moved, axis=1).max())
        told = furthest_from_head_model(model, skeleton_of(model), performance)
        assert told == pytest.approx(apart, abs=2e-5)
        assert (told < 1e-4) == exact


@pytest.fixture(scope="session")
def exported(project, packed, tmp_path_factory) -> Path:  # noqa: F811
    path = tmp_path_factory.mktemp("exported") / "me.glb"
    ExportGltf(packed, path, animation=True, size=64).run()
    return path


def test_the_command_writes_the_performance(exported, config_path, capsys):  # noqa: F811
    head = Head(exported)
    motion = load_pipeline(config_path).model.motion
    assert head.names == ["jawOpen", "mouthSmileLeft"]
    np.testing.assert_allclose(head.times, np.arange(6) / 10.0, atol=1e-6)
    assert head.texture.shape == (64, 64, 3) and head.uv.min() >= 0 and head.uv.max() <= 1
    source = np.array([np.abs(motion.neutral().vertices.numpy() - at).sum(1).argmin() for at in head.at()])
    triangles = {tuple(row) for row in source[head.triangles].tolist()}
    track = load_subject(config_path.parents[4] / "subjects/me").track
    assert triangles == {tuple(row) for row in track.faces.tolist()}
    for row, time in enumerate(head.times):
        stored = motion.at_timestep(row).vertices.numpy()[source]
        # Rigidly moved: the head turned before the camera.
        moved = head.at(time)
        rotation, _ = Rotation.align_vectors(moved - moved.mean(0), stored - stored.mean(0))
        np.testing.assert_allclose(rotation.apply(stored - stored.mean(0)), moved - moved.mean(0), atol=1e-4)


def test_another_performance_becomes_the_animation(packed, config_path, tmp_path):  # noqa: F811
    take = tmp_path / "take.csv"
    take.write_text("time,jawOpen\n" + "".join(f"{row / 20},{row / 40}\n" for row in range(31)))
    ExportGltf(packed, tmp_path / "me.glb", motion=take, size=32).run()
    head, motion = Head(tmp_path / "me.glb"), load_pipeline(config_path).model.motion
    np.testing.assert_allclose(head.times, np.arange(31) / 20, atol=1e-6)
    source = np.array([np.abs(motion.neutral().vertices.numpy() - at).sum(1).argmin() for at in head.at()])
    moments = transferred(load_motion(take), motion).moments(motion)
    for row in (0, 12, 30):
        np.testing.assert_allclose(head.at(head.times[row]), moments[row].vertices.numpy()[source], atol=1e-4)


def test_a_head_that_does_not_move_is_the_stored_mesh(packed, config_path, tmp_path):  # noqa: F811
    ExportGltf(packed, tmp_path / "me.glb", animation=True, size=32, head_moves=False, pose=3, lit=True).run()
    head, motion = Head(tmp_path / "me.glb"), load_pipeline(config_path).model.motion
    assert "extensionsUsed" not in head.json
    source = np.array([np.abs(motion.neutral().vertices.numpy() - at).sum(1).argmin() for at in head.at()])
    for row, time in enumerate(head.times):
        np.testing.assert_allclose(head.at(time), motion.at_timestep(row).vertices.numpy()[source], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file": Path("head.gltf")}, "name a .glb"),
        ({"size": 4}, "--size is 4"),
        ({"pose": 6}, "--pose is 6; give a timestep from 0 to 5"),
    ],
)
def test_what_cannot_be_had_is_said(packed, tmp_path, options, message):  # noqa: F811
    options = {"file": tmp_path / "me.glb"} | options
    with pytest.raises(UserError, match=message):
        ExportGltf(packed, **options).run()
    assert not list(tmp_path.iterdir())


def test_a_head_that_may_not_be_given_away_is_not_written_silently(tmp_path):
    head = dataclasses.replace(load_head(), licence="FLAME: for research alone, no redistribution")
    with pytest.raises(UserError, match="--with-head-model"):
        check_may_be_written(head, tmp_path / "me.glb", allowed=False)
    check_may_be_written(head, tmp_path / "me.glb", allowed=True)
    check_may_be_written(load_head(), tmp_path / "me.glb", allowed=False)


def test_an_avatar_without_its_head_model_is_sent_to_its_meshes():
    model = SimpleNamespace(motion=SimpleNamespace(live=None, why_no_head="not found"))
    with pytest.raises(UserError, match="export obj"):
        skeleton_of(model)


def test_the_khronos_validator_has_nothing_to_say(exported, tmp_path):
    """Run where node has the npm package gltf-validator (NODE_PATH)."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    found = subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True, env=os.environ)
    if found.returncode:
        pytest.skip("the npm package gltf-validator is not installed, or NODE_PATH does not name its folder")
    written(tmp_path / "flame.glb", model_of(head_from_arrays(make_flame_like())))
    program = """
        const validate = require('gltf-validator').validateBytes, read = require('fs').readFileSync;
        Promise.all(process.argv.slice(1).map(path => validate(new Uint8Array(read(path))))).then(reports => {
            const issues = reports.flatMap(report => report.issues.messages.filter(message => message.severity < 2));
            console.log(JSON.stringify(issues));
            process.exit(issues.length ? 1 : 0);
        });
    """
    written(tmp_path / "moment.glb", model_of(load_head()), count=1)
    files = [str(path) for path in (exported, tmp_path / "flame.glb", tmp_path / "moment.glb")]
    report = subprocess.run([node, "-e", program, *files], capture_output=True, text=True)
    assert report.returncode == 0, report.stdout + report.stderr
