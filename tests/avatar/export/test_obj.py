"""Meshes of a performance, read back by trimesh."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from avatar_fixtures import config_path, packed, project  # noqa: F401
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flame_nerf.avatar.export.obj import obj_bytes, ply_bytes
from flame_nerf.commands.export_gltf import ExportObj
from flame_nerf.runtime.errors import UserError
from flame_nerf.subject import load_subject


@pytest.mark.parametrize("format", ["obj", "ply"])
@pytest.mark.parametrize("space", ["head", "world"])
def test_every_moment_is_a_mesh(project, packed, tmp_path, format, space, capsys):  # noqa: F811
    ExportObj(packed, tmp_path / "meshes", format=format, space=space).run()
    track = load_subject(project / "subjects/me").track
    files = sorted((tmp_path / "meshes").iterdir())
    assert [file.name for file in files] == [f"{row:06d}.{format}" for row in range(track.num_timesteps)]
    for row, file in enumerate(files):
        mesh = trimesh.load(file, process=False, maintain_order=True)
        # This subject's head stands still: its world is the head frame.
        np.testing.assert_allclose(mesh.vertices, track.vertices[row], atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, track.faces)
    assert f"{space} coordinates" in capsys.readouterr().out


def test_world_is_where_the_cameras_are(tmp_path):
    from avatar_runs import untrained_run
    from synthetic import make_subject

    subject = make_subject(tmp_path / "subject", size=32, count=3, moving_head=True)
    run = untrained_run(tmp_path / "subject", tmp_path / "outputs")
    meshes = {}
    for space in ("head", "world"):
        ExportObj(run, tmp_path / space, space=space).run()
        loaded = [trimesh.load(file, process=False) for file in sorted((tmp_path / space).iterdir())]
        meshes[space] = np.array([mesh.vertices for mesh in loaded])
    np.testing.assert_allclose(meshes["world"], subject.track.vertices, atol=1e-5)
    # In the head frame the skull stands still, in the world it moves.
    scalp = np.unique(subject.track.faces[subject.track.region_faces("scalp")])
    assert (
        np.ptp(meshes["head"][:, scalp], axis=0).max() < 1e-4 < 1e-2 < np.ptp(meshes["world"][:, scalp], axis=0).max()
    )


@settings(max_examples=30, deadline=None)
@given(vertices=arrays(np.float32, (4, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_numbers_come_back_as_they_were(vertices):
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    rows = [line.split() for line in obj_bytes(vertices, triangles).decode().splitlines() if line[0] in "vf"]
    np.testing.assert_array_equal(np.array([row[1:] for row in rows if row[0] == "v"], np.float32), vertices)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows if row[0] == "f"], int) - 1, triangles)
    body = ply_bytes(vertices, triangles).split(b"end_header\n", 1)[1]
    np.testing.assert_array_equal(np.frombuffer(body[:48], "<f4").reshape(4, 3), vertices)


def test_a_file_in_the_way_is_named(packed, tmp_path):  # noqa: F811
    (tmp_path / "meshes").write_text("")
    with pytest.raises(UserError, match="is a file"):
        ExportObj(packed, tmp_path / "meshes").run()
