"""Whatever Nerfstudio's scripts hand to a model is answered; and all of their sub-commands run or say why not."""

import copy
import dataclasses
import sys

import numpy as np
import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from synthetic import RADII, ellipsoid, make_subject
from trained_run import RUN, trained_folder  # noqa: F401

from flame_nerf import methods
from flame_nerf.canonical import CanonicalMapping
from flame_nerf.canonical.surface_normals import surface_normals
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.runtime import compatibility
from flame_nerf.runtime.command_line import loaded_config, prepare_export
from flame_nerf.viewer import HeadPanel

COUNT = 10
OPEN, SHUT = 5, 0
"""Timesteps of the synthetic head with its mouth wide open, and shut."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("contract") / "subject", size=32, count=COUNT).root


def configured(method, root, **changes):
    config = copy.deepcopy(method.config.pipeline)
    config.datamanager.data = root
    config.datamanager.dataparser = FlameNerfDataParserConfig(data=root)
    config.datamanager.train_num_rays_per_batch = config.datamanager.eval_num_rays_per_batch = 128
    for name, value in changes.items():
        setattr(config.model, name, value)
    return config


@pytest.fixture(
    scope="module",
    params=["flame_nerf_cpu", "flame_nerf_insta", "nerface", "nha"],
    ids=["flame-nerf", "insta", "nerface", "nha"],
)
def pipeline(request, root):
    config = configured(getattr(methods, request.param), root, eval_num_rays_per_chunk=300)
    if request.param == "nerface":
        config.model.field.hidden_dim, config.model.field.density_layers = 16, 3
        config.model.sampling.num_coarse = config.model.sampling.num_fine = 8
    if request.param == "nha":
        config.model.field.texture_dim, config.model.sampling.least_faces = 16, 0
    torch.manual_seed(0)
    pipeline = config.setup(device="cpu", test_mode="test", world_size=1, local_rank=0).eval()
    if request.param not in ("nerface", "nha"):
        # Nothing is known to be empty.
        pipeline.model.renderer.occupancy.highest.fill_(1e4)
    return pipeline


def picture(model, camera, **metadata):
    bare = camera[:]
    bare.metadata, bare.times = metadata or None, None
    return model.get_outputs_for_camera(bare)


def rays_of(camera, **changes) -> RayBundle:
    """A camera's rays [H, W] as ns-export makes them, with what names a moment in them changed."""
    return dataclasses.replace(camera.generate_rays(camera_indices=0, keep_shape=True), **changes)


def same(a, b) -> bool:
    return all(alike(a[name], b[name].view(a[name].shape)) for name in ("rgb", "depth"))


def alike(a, b) -> bool:
    """Equal but for single values, by a little: some processors round a ray alone otherwise than among others, and a
    sample at its edge then is one side or the other."""
    off = (a - b).abs()
    return float(off.max()) < 0.02 and float((off > 1e-5).float().mean()) < 0.01


@pytest.fixture
def camera(pipeline):
    return pipeline.datamanager.train_dataset.cameras[3:4]


@pytest.fixture
def one_ray_a_pixel(monkeypatch):
    """Pictures as the viewer has them while it moves, without the further rays of outlines."""
    monkeypatch.setattr(HeadPanel, "is_moving", True)


@pytest.mark.usefixtures("one_ray_a_pixel")
def test_rays_without_metadata_see_what_a_picture_without_it_shows(pipeline, camera):
    model = pipeline.model
    expected = picture(model, camera)
    assert float(expected["accumulation"].max()) > 0.1
    for metadata in ({}, {"directions_norm": torch.ones(32, 32, 1)}):
        flat = rays_of(camera, metadata=metadata, times=None).flatten()
        assert same(expected, model(flat))
    whole = model.get_outputs_for_camera_ray_bundle(rays_of(camera, metadata={}, times=None))
    assert same(expected, whole)


def test_every_output_outside_training_has_one_row_a_ray(pipeline, camera):
    outputs = pipeline.model(rays_of(camera).flatten())
    assert {"rgb", "accumulation", "depth", "background"} <= set(outputs)
    assert all(values.ndim == 2 and len(values) == 32 * 32 for values in outputs.values())
    rgba = pipeline.model.get_rgba_image(outputs)
    assert rgba.shape == (32 * 32, 4)
    if "normals" in outputs:
        assert float(outputs["normals"].min()) >= 0 and float(outputs["normals"].max()) <= 1


def test_evaluation_sees_each_ray_s_own_timestep_and_exports_see_one(pipeline):
    model, data = pipeline.model, pipeline.datamanager
    rays, batch = data.next_eval(0)
    assert len(rays.metadata["frame_idx"].unique()) > 1
    loss = model.get_loss_dict(model(rays), batch)
    assert loss and all(np.isfinite(float(value)) for value in loss.values())
    drawn, _ = data.next_train(0)
    assert "frame_idx" not in drawn.metadata and drawn.times is None
    pipeline.train()
    try:
        assert len(data.next_train(0)[0].metadata["frame_idx"].unique()) > 1
    finally:
        pipeline.eval()


@pytest.mark.usefixtures("one_ray_a_pixel")
def test_the_pictures_of_an_export_show_the_moment_that_the_config_names(pipeline, camera):
    model = pipeline.model
    own = int(camera.metadata["frame_idx"])
    pictures = {"neutral": picture(model, camera), "open": picture(model, camera, frame_idx=torch.tensor([[OPEN]]))}
    assert own not in (OPEN, SHUT) and not same(pictures["neutral"], pictures["open"])
    assert same(pictures["neutral"], model.get_outputs_for_camera_ray_bundle(rays_of(camera)))
    model.timeline.default_timestep = OPEN
    try:
        assert same(pictures["open"], model.get_outputs_for_camera_ray_bundle(rays_of(camera)))
        assert same(pictures["open"], picture(model, camera))
    finally:
        model.timeline.default_timestep = None


@pytest.mark.usefixtures("one_ray_a_pixel")
def test_rays_with_times_see_those(pipeline, camera):
    model = pipeline.model
    rays = rays_of(camera, metadata={}).flatten()
    half = len(rays) // 2
    rays.times = torch.full((len(rays), 1), SHUT / (COUNT - 1))
    rays.times[half:] = OPEN / (COUNT - 1)
    shown = model(rays)["rgb"]
    for part, row in ((slice(0, half), SHUT), (slice(half, None), OPEN)):
        expected = picture(model, camera, expr=model.motion.at_timestep(row))["rgb"].view(-1, 3)
        assert alike(shown[part], expected[part])


def test_odd_rays(pipeline, camera):
    """Directions of any length, of none, and such as `--render-nearest-camera` makes of two cameras in one place."""
    model = pipeline.model
    rays = rays_of(camera, metadata={}, times=None).flatten()
    plain = model(rays)
    rays.directions = 2 * rays.directions
    rays.directions[5], rays.directions[6] = 0.0, torch.nan
    odd = model(rays)
    assert all(values.isfinite().all() for values in odd.values())
    assert float(odd["accumulation"][5:7].max()) == 0 and float(odd["depth"][5:7].max()) == 0
    others = torch.arange(len(rays)) > 6
    torch.testing.assert_close(2 * odd["depth"][others], plain["depth"][others], atol=1e-4, rtol=0)
    torch.testing.assert_close(odd["rgb"][others], plain["rgb"][others], atol=1e-4, rtol=0)
    one = RayBundle(
        origins=torch.zeros(1, 3), directions=torch.ones(1, 3), pixel_area=torch.tensor(1).view(1, 1),
        camera_indices=torch.zeros(1, 1), metadata={},
    )  # fmt: skip
    assert model.get_outputs(one)["depth"].shape == (1, 1)


def test_normals_are_the_surface_s_and_face_the_camera():
    vertices, faces = ellipsoid(48, 64)
    vertices, faces = torch.from_numpy(vertices).float(), torch.from_numpy(faces)
    mapping = CanonicalMapping(faces, vertices)
    generator = torch.Generator().manual_seed(0)
    radii = torch.tensor(RADII).float()
    points = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=1) * radii
    outwards = torch.nn.functional.normalize(points / radii**2, dim=1)
    which = torch.zeros(200, dtype=torch.long)
    for toward in (outwards, -outwards):
        found = surface_normals(mapping, [mapping.pose(vertices)], which, points * 1.02, -toward)
        assert float((found * toward).sum(dim=1).quantile(0.05)) > 0.98


def test_a_timestep_that_is_not_there_is_named(root):
    config = configured(methods.flame_nerf_cpu, root, default_timestep=COUNT)
    with pytest.raises(SystemExit, match=f"default_timestep is {COUNT}: give one from 0 to {COUNT - 1}"):
        config.setup(device="cpu", test_mode="test", world_size=1, local_rank=0)


@pytest.mark.parametrize("kind", ["gaussian-splat", "marching-cubes"])
def test_exports_of_other_kinds_of_method_are_refused_in_a_sentence(kind):
    with pytest.raises(SystemExit, match=f"ns-export {kind} needs a method .* use ns-export poisson or tsdf"):
        prepare_export(["/usr/bin/ns-export", kind, "--load-config", "config.yml"])
    prepare_export(["/usr/bin/ns-export", "pointcloud"])
    prepare_export(["/usr/bin/ns-render", kind])


def test_a_mesh_that_cannot_be_made_is_one_line_and_other_errors_are_shown_as_they_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: print("as it is", file=sys.stderr))
    prepare_export(["ns-export", "poisson"])

    def said(module: str, error: BaseException) -> str:
        within = {
            "__name__": "nerfstudio.scripts.exporter",
            "inner": lambda: exec(code, {"__name__": module, "e": error}),
        }
        code = compile("raise e", module, "exec")
        try:
            exec("inner()", within)
        except BaseException as raised:
            sys.excepthook(type(raised), raised, raised.__traceback__)
        return capsys.readouterr().err

    words = said("open3d", RuntimeError("[Open3D Error]\n no points"))
    assert words.count("\n") == 1 and "(RuntimeError: [Open3D Error] no points)" in words and "--load-dir" in words
    assert said("flame_nerf.model", RuntimeError("a mistake")) == "as it is\n"
    assert said("open3d", KeyboardInterrupt()) == "as it is\n"


def test_camera_paths_go_where_they_can_be_written(root, tmp_path, monkeypatch):
    data = configured(methods.flame_nerf_cpu, root).setup(device="cpu", test_mode="test").datamanager
    assert data.get_datapath() == root
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yml").touch()
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config", str(run / "config.yml")])
    assert loaded_config(sys.argv) == loaded_config(["x", f"--load-config={run / 'config.yml'}"]) == run / "config.yml"
    data.config.dataparser.data = tmp_path / "where it was trained"
    assert data.get_datapath() == run and not data.config.dataparser.data.exists()
    monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load-config"])
    monkeypatch.chdir(tmp_path)
    assert data.get_datapath() == tmp_path


def test_two_keyframes_are_joined_along_the_shorter_arc(monkeypatch):
    import splines.quaternion as rotations
    from scipy.spatial.transform import Rotation, Slerp

    original = rotations.KochanekBartels
    monkeypatch.setattr(rotations, "KochanekBartels", original)
    mended = compatibility.mend_two_keyframes()
    assert compatibility.mend_two_keyframes() is False, "what is mended is left alone"
    if not mended:
        pytest.skip("the installed splines and numpy get along, or an earlier test has mended them")
    keys = Rotation.from_euler("yx", [[10, 5], [200, -20]], degrees=True)
    quaternions = [rotations.UnitQuaternion.from_unit_xyzw(q) for q in keys.as_quat()]
    spline = rotations.KochanekBartels(quaternions, tcb=(0.5, 0, 0), endconditions="natural")
    for t in (0.0, 0.3, 1.0):
        found = Rotation.from_quat(spline.evaluate(t).xyzw)
        assert (found * Slerp([0, 1], keys)(t).inv()).magnitude() < 1e-6
    for three in (quaternions + quaternions[:1], quaternions):
        end = "natural" if len(three) == 3 else "closed"
        ours = rotations.KochanekBartels(three, tcb=(0.5, 0, 0), endconditions=end).evaluate(0.4)
        np.testing.assert_allclose(
            ours.xyzw, original(three, tcb=(0.5, 0, 0), endconditions=end).evaluate(0.4).xyzw, atol=1e-12
        )


def test_a_tsdf_mesh_is_written(tmp_path, monkeypatch):
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    from nerfstudio.exporter.exporter_utils import Mesh
    from nerfstudio.exporter.tsdf_utils import TSDF

    monkeypatch.setattr(TSDF, "export_mesh", TSDF.export_mesh)
    compatibility.mend_tsdf_export()
    vertices, faces = ellipsoid()
    colors = torch.linspace(0, 1, len(vertices))[:, None].expand(-1, 3)
    points = torch.from_numpy(vertices)
    TSDF.export_mesh(Mesh(points, torch.from_numpy(faces), points, colors), filename=str(tmp_path / "mesh.ply"))
    read = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    np.testing.assert_allclose(np.asarray(read.vertices), vertices, atol=1e-6)
    assert len(read.triangles) == len(faces)
    np.testing.assert_allclose(np.asarray(read.vertex_colors), colors, atol=3e-3)
