"""Views of a head that a prior is shown: cameras moved about it, windows on it, crops of its picture."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import look_at_origin, make_subject, paint

from data_tools.ray_casting import MeshRays
from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.datamanager import PinholeRays
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.losses.encoders import PriorUnavailable
from flame_nerf.losses.head_views import HeadViews
from flame_nerf.losses.view_geometry import crop_image, nearest_view, perturb_camera, square_window, window_rays

GREY = (0.5, 0.5, 0.5)


def test_perturbed_camera_keeps_the_heads_centre_in_place():
    c2w = torch.from_numpy(look_at_origin(0.4, 0.1)[:3]).double()
    c2w[:, 3] += torch.tensor([0.03, -0.02, 0.01])
    centre = torch.tensor([0.01, 0.02, -0.01], dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    angles = []
    for _ in range(200):
        other = perturb_camera(c2w, centre, 20.0, random)
        rotation = other[:, :3]
        assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
        assert torch.allclose(rotation.T @ (centre - other[:, 3]), c2w[:, :3].T @ (centre - c2w[:, 3]), atol=1e-9)
        cosine = ((rotation @ c2w[:, :3].T).trace() - 1) / 2
        angles.append(math.degrees(float(cosine.clamp(-1, 1).acos())))
    assert 17 < max(angles) < 22.5 and min(angles) < 5
    assert torch.allclose(perturb_camera(c2w, centre, 0.0), c2w, atol=1e-9)


@given(st.integers(0, 2**32))
def test_nearest_view_is_the_least_angle_away(seed):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([0.01, 0.02, -0.01])
    c2w = torch.randn(8, 3, 4, generator=generator)
    camera = torch.randn(3, 4, generator=generator)
    found = nearest_view(c2w, centre, camera)
    asked = camera[:, 3] - centre
    angles = [
        math.atan2(float(torch.linalg.cross(asked, stands).norm()), float(asked @ stands))
        for stands in c2w[:, :, 3] - centre
    ]
    assert angles[found] <= min(angles) + 1e-3
    assert nearest_view(c2w, centre, c2w[5]) == 5


def test_window_rays_are_the_cameras_where_cells_are_pixels():
    focal, centre = torch.tensor([70.0, 72.0]), torch.tensor([23.0, 25.0])
    c2w = torch.from_numpy(look_at_origin(-0.3, 0.2)[:3]).float()
    origins, directions = window_rays((8.0, 4.0, 16.0), 16, focal, centre, c2w)
    for k in (0, 5, 100, 255):
        row, column = 4 + k // 16 + 0.5, 8 + k % 16 + 0.5
        local = torch.tensor([(column - 23) / 70, -(row - 25) / 72, -1.0])
        assert torch.allclose(directions[k], torch.nn.functional.normalize(c2w[:, :3] @ local, dim=0), atol=1e-6)
        assert torch.equal(origins[k], c2w[:, 3])
    jittered = [
        window_rays((8.0, 4.0, 16.0), 4, focal, centre, c2w, torch.Generator().manual_seed(s))[1] for s in range(200)
    ]
    plain = window_rays((8.0, 4.0, 16.0), 4, focal, centre, c2w)[1]
    assert (torch.stack(jittered).mean(dim=0) - plain).abs().max() < 0.006
    assert not torch.equal(jittered[0], jittered[1])


def test_crop_is_the_mean_over_areas_on_the_background():
    random = np.random.default_rng(0)
    rgba = random.integers(0, 256, (40, 60, 4)).astype(np.uint8)
    got = crop_image(rgba, (12.0, 4.0, 32.0), 8, (1.0, 0.0, 0.5)).numpy()
    pixels = rgba / 255.0
    composed = pixels[..., :3] * pixels[..., 3:] + np.array([1.0, 0.0, 0.5]) * (1 - pixels[..., 3:])
    want = composed[4:36, 12:44].reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.allclose(got, want, atol=1e-5)
    # A square with edges between pixels: a ramp stays a ramp.
    ramp = np.full((40, 60, 4), 255, np.uint8)
    ramp[..., :3] = (np.arange(60) * 4)[None, :, None]
    columns = crop_image(ramp, (10.25, 3.0, 30.0), 10, GREY)[0, 5].numpy() * 255
    assert np.allclose(columns, 4 * (10.25 + 3 * (np.arange(10) + 0.5) - 0.5), atol=0.05)


@pytest.mark.parametrize("box", [(10, 20, 30, 35), (0, 0, 60, 40), (50, 5, 60, 39), (0, 30, 5, 40)])
def test_window_holds_the_matte_and_stays_in_the_picture(box):
    x0, y0, x1, y1 = box
    alpha = np.zeros((40, 60), np.uint8)
    alpha[y0:y1, x0:x1] = 255
    left, top, side = square_window(alpha)
    assert left >= 0 and top >= 0 and left + side <= 60 and top + side <= 40
    assert side >= min(40, max(x1 - x0, y1 - y0))
    if side < 40:
        assert left <= x0 and left + side >= x1 and top <= y0 and top + side >= y1
    with pytest.raises(ValueError, match="empty"):
        square_window(np.zeros((4, 4), np.uint8))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = make_subject(tmp_path_factory.mktemp("views") / "subject", size=64, count=6).root
    return FlameNerfDataset(FlameNerfDataParserConfig(data=root).setup().get_dataparser_outputs("train"))


def test_views_show_the_frames_head(dataset):
    """What the rays meet on the true head has the colours that the target shows there."""
    from synthetic import ellipsoid

    views = HeadViews(dataset, 24, GREY)
    assert len(views) == len(dataset)
    rest, faces = ellipsoid()
    for index in (0, 3):
        track, frame = dataset.subject.track, dataset.frame(index)
        c2w = torch.from_numpy(frame.c2w[:3]).float()
        origins, directions = views.rays(index, c2w)
        hit = MeshRays(track.vertices[frame.timestep], faces).cast(origins.numpy(), directions.numpy())
        seen = hit.face >= 0
        points = (rest[faces[hit.face[seen]]] * hit.barycentric[seen, :, None]).sum(axis=1)
        colour = np.full((24 * 24, 3), 0.5)
        colour[seen] = paint(points, float(track.expression[frame.timestep, 0]))
        target = views.target(index).moveaxis(0, -1).reshape(-1, 3).numpy()
        error = np.abs(colour - target).mean(axis=1)
        assert 0.4 < seen.mean() < 0.9
        assert np.median(error) < 0.03 and error.mean() < 0.06
        # The same rays as a training batch has for whole pixels.
        stock = PinholeRays(dataset.cameras)(torch.tensor([[index, 32, 32]]))
        assert torch.allclose(stock.origins[0], origins[0], atol=1e-6)


def test_views_need_masks(dataset):
    import copy
    import dataclasses

    bare = copy.copy(dataset)
    bare.metadata = dict(dataset.metadata)
    bare.metadata["frames"] = tuple(dataclasses.replace(f, mask_path=None) for f in dataset.metadata["frames"])
    with pytest.raises(PriorUnavailable, match="no masks"):
        HeadViews(bare, 24, GREY)
