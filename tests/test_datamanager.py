"""Batches: the pixels that are drawn, what comes with them, and the rays through them."""

import numpy as np
import pytest
import torch
from nerfstudio.model_components.ray_generators import RayGenerator
from synthetic import make_subject

from flame_nerf.data.image_cache import ImageCache
from flame_nerf.data.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.datamanager import FlameNerfDataManagerConfig, PinholeRays
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.subject import SubjectError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("batches") / "subject", size=48, count=10).root


def manager(root, rays=4096, **sampler):
    config = FlameNerfDataManagerConfig(
        data=root,
        dataparser=FlameNerfDataParserConfig(),
        train_num_rays_per_batch=rays,
        pixel_sampler=HeadPixelSamplerConfig(**sampler),
    )
    return config.setup(device="cpu", test_mode="val")


def test_batch_matches_the_pictures(root):
    data = manager(root, frames_per_batch=3)
    bundle, batch = data.next_train(0)
    camera, row, column = batch["indices"].T
    assert len(camera) == 4096 and len(torch.unique(camera)) == 3
    assert (camera.diff() >= 0).all()
    for k in (0, 1000, 4000):
        rgba = data.train_dataset.get_numpy_image(int(camera[k]))[row[k], column[k]] / 255.0
        assert np.allclose(torch.cat([batch["image"][k], batch["mask"][k]]), rgba)
    assert torch.equal(bundle.metadata["frame_idx"], data.train_dataset.cameras.metadata["frame_idx"][camera])
    assert torch.equal(bundle.camera_indices[:, 0], camera)


def test_rays_are_nerfstudios(root):
    data = manager(root)
    indices = data.next_train(0)[1]["indices"]
    ours = PinholeRays(data.train_dataset.cameras)(indices)
    stock = RayGenerator(data.train_dataset.cameras)(indices)
    for name in ("origins", "directions", "times", "camera_indices"):
        assert torch.allclose(getattr(ours, name), getattr(stock, name), atol=1e-6), name
    assert torch.allclose(ours.pixel_area, stock.pixel_area, rtol=2e-2)
    assert torch.allclose(ours.metadata["directions_norm"], stock.metadata["directions_norm"])


def test_shares_decide_where_pixels_fall(root):
    nothing = {"matte_share": 0.0, "surroundings_share": 0.0, "mouth_share": 0.0, "eyes_share": 0.0}
    data = manager(root, **{**nothing, "mouth_share": 1.0})
    batch = data.next_train(0)[1]
    boxes = torch.stack([data.train_dataset[i]["boxes"][0] for i in range(len(data.train_dataset))])
    x0, y0, x1, y1 = boxes[batch["indices"][:, 0]].T
    assert ((batch["indices"][:, 2] >= x0) & (batch["indices"][:, 2] < x1)).all()
    assert ((batch["indices"][:, 1] >= y0) & (batch["indices"][:, 1] < y1)).all()

    matte = manager(root, **{**nothing, "matte_share": 1.0}).next_train(0)[1]["mask"]
    around = manager(root, **{**nothing, "surroundings_share": 1.0}).next_train(0)[1]["mask"]
    assert matte.mean() > 0.75 > 0.6 > around.mean() > 0.1


def test_every_matte_pixel_can_be_drawn(root):
    data = manager(root, rays=60000, frames_per_batch=1)
    batch = data.next_train(0)[1]
    camera = int(batch["indices"][0, 0])
    seen = torch.zeros(48, 48, dtype=torch.bool)
    seen[batch["indices"][:, 1], batch["indices"][:, 2]] = True
    assert seen[data.train_dataset[camera]["mask"][..., 0] > 0].all()


def test_pictures_beyond_the_limit_are_mapped(root, monkeypatch):
    data = manager(root)
    limited = ImageCache(data.train_dataset, memory_limit=10, head_margin=0.05).fill()
    held = ImageCache(data.train_dataset, memory_limit=1 << 30, head_margin=0.05).fill()
    assert torch.equal(limited.pictures, held.pictures) and torch.equal(limited.blocks, held.blocks)


def test_picture_that_breaks_later_is_named(root, tmp_path):
    import shutil

    copy = shutil.copytree(root, tmp_path / "subject")
    data = manager(copy)
    path = copy / "images" / "00003.png"
    # The header is whole, so the subject loads; the pixels are not.
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SubjectError, match=r"00003\.png"):
        data.next_train(0)


def test_data_path_is_absolute(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    config = FlameNerfDataManagerConfig()
    config.data = type(root)(root.name)
    assert config.data == root
