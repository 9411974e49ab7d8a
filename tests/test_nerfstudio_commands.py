"""Nerfstudio's exports and films of a trained avatar, whole commands."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import RADII, look_at_origin
from trained_run import RUN, trained_folder  # noqa: F401


@pytest.fixture(scope="module")
def trained(trained_folder, tmp_path_factory):  # noqa: F811
    """The config.yml of a short run, in a folder to write to."""
    folder = tmp_path_factory.mktemp("contract") / "run"
    return shutil.copytree(trained_folder, folder) / RUN / "config.yml"


def off_the_mesh(points, vertices, faces):
    """Metres from points to a mesh."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    return scene.compute_distance(points.astype(np.float32)).numpy()


@pytest.mark.slow
def test_point_clouds_show_one_moment(trained, tmp_path, monkeypatch):
    import open3d as o3d

    from flame_nerf.motion import SubjectMotion
    from flame_nerf.subject import load_subject

    track = load_subject(trained.parents[4] / "subject").track
    motion = SubjectMotion(track)
    meshes = {"null": motion.neutral(), "3": motion.at_timestep(3)}
    text = trained.read_text()
    assert "default_timestep: null" in text
    for shown, other in (("null", "3"), ("3", "null")):
        changed = trained.with_name("changed.yml")
        changed.write_text(text.replace("default_timestep: null", f"default_timestep: {shown}"))
        out = tmp_path / shown
        run(monkeypatch, "ns-export", "pointcloud", "--load-config", changed, "--output-dir", out,
            "--num-points", "4000", "--num-rays-per-batch", "4096")  # fmt: skip
        cloud = o3d.io.read_point_cloud(str(out / "point_cloud.ply"))
        points, normals = np.asarray(cloud.points), np.asarray(cloud.normals)
        assert len(points) >= 3000 and cloud.has_colors()
        assert np.mean((normals * points).sum(axis=1) > 0) > 0.98, "normals point out of the head"
        chin = points[points[:, 1] < -0.05]
        right, wrong = (off_the_mesh(chin, meshes[k].vertices.numpy(), track.faces).mean() for k in (shown, other))
        assert right < 0.7 * wrong, "the jaw is where that moment has it"


@pytest.mark.slow
def test_meshes_and_cameras(trained, tmp_path, monkeypatch):
    import open3d as o3d

    texture = ("--num-pixels-per-side", "64", "--target-num-faces", "400")
    commands = {
        "poisson": ("--num-points", "4000", "--num-rays-per-batch", "4096", *texture),
        "tsdf": ("--use-bounding-box", "False", "--resolution", "48", *texture),
    }
    for kind, options in commands.items():
        out = tmp_path / kind
        run(monkeypatch, "ns-export", kind, "--load-config", trained, "--output-dir", out, *options)
        mesh = o3d.io.read_triangle_mesh(str(out / f"{kind}_mesh.ply"))
        size = np.ptp(np.asarray(mesh.vertices), axis=0)
        assert np.all(size[:2] > 1.4 * np.asarray(RADII)[:2]), f"{kind}: {size}"
        assert (out / "mesh.obj").exists() and (out / "material_0.png").exists()
    run(monkeypatch, "ns-export", "cameras", "--load-config", trained, "--output-dir", tmp_path)
    assert len(json.loads((tmp_path / "transforms_train.json").read_text())) == 12
    for kind in ("marching-cubes", "gaussian-splat"):
        with pytest.raises(SystemExit, match="needs a method"):
            run(monkeypatch, "ns-export", kind, "--load-config", trained, "--output-dir", tmp_path)


@pytest.mark.slow
def test_films(trained, tmp_path, monkeypatch):
    key = {"camera_to_world": look_at_origin(0, 0).flatten().tolist(), "fov": 26, "aspect": 1}
    path = tmp_path / "path.json"
    path.write_text(
        json.dumps({
            "camera_type": "perspective", "render_height": 48, "render_width": 48, "seconds": 1,
            "camera_path": [key, key],
        })
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    nearest = ("--render-nearest-camera", "True", "--check-occlusions", "True")
    pictures = ("--output-format", "images", "--image-format", "png")
    everything = ("--rendered-output-names", "rgb", "depth", "accumulation")
    file = ("camera-path", "--camera-path-filename", path)
    for number, command in enumerate((
        (*file, *nearest, *pictures),
        (*file, *pictures, *everything),
        ("interpolate", "--interpolation-steps", "2", "--pose-source", "eval", *nearest, *pictures, *everything),
        ("spiral", "--seconds", "0.2", "--frame-rate", "10", *nearest, *pictures),
    )):  # fmt: skip
        kind, *options = command
        run(monkeypatch, "ns-render", kind, "--load-config", trained, "--output-path", f"{number}.mp4", *options)
        assert len(list(Path(str(number)).glob("*.png"))) >= 2, command
    run(monkeypatch, "ns-render", "spiral", "--load-config", trained, "--output-path", "film.mp4", "--seconds", "0.2")
    assert Path("film.mp4").stat().st_size > 500
    run(monkeypatch, "ns-render", "dataset", "--load-config", trained, "--output-path", "set", "--split", "train+test",
        "--image-format", "png",
        "--rendered-output-names", "rgb", "gt-rgb", "rgba", "depth", "raw-depth", "accumulation")  # fmt: skip
    assert len(list(Path("set/test/rgb").rglob("*.png"))) == 3 and len(list(Path("set/train/rgb").rglob("*.png"))) == 12
    assert len(list(Path("set/test/raw-depth").rglob("*.npy.gz"))) == 3


def run(monkeypatch, script, *arguments):
    """A script of Nerfstudio's, as its command line calls it, in this process."""
    from nerfstudio.scripts import exporter, render

    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{script}", *map(str, arguments)])
    {"ns-export": exporter, "ns-render": render}[script].entrypoint()
