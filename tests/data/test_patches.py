"""Patches beside rays, and the depth maps that come with them."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from synthetic import make_subject

from flame_nerf.data import depth_maps, image_cache, pixel_sampler
from flame_nerf.data.depth_maps import DepthMapError, read_depth_map, spread
from flame_nerf.data.image_cache import ImageCache
from flame_nerf.data.pixel_sampler import HeadPixelSamplerConfig
from flame_nerf.data.step_plan import StepPlan
from flame_nerf.datamanager import FlameNerfDataManagerConfig
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.runtime.scratch import scratch_array

SIZE = 48
WITH_PATCHES = partial(StepPlan, patches=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("patches") / "subject", size=SIZE, count=10).root


@pytest.fixture
def said(monkeypatch):
    lines = []
    for module in (pixel_sampler, depth_maps):
        monkeypatch.setattr(module, "CONSOLE", SimpleNamespace(log=lines.append))
    return lines


def manager(root, rays=64, **sampler):
    config = FlameNerfDataManagerConfig(
        data=root, dataparser=FlameNerfDataParserConfig(), train_num_rays_per_batch=rays,
        pixel_sampler=HeadPixelSamplerConfig(**sampler),
    )  # fmt: skip
    return config.setup(device="cpu", test_mode="val")


def with_depths(data, tmp_path, maps):
    """Point the dataset's frames at depth maps, which are written unless None."""
    frames = list(data.train_dataset.metadata["frames"])
    for index, values in enumerate(maps):
        path = tmp_path / f"{index:03d}.png"
        if values is not None:
            cv2.imwrite(str(path), values)
        frames[index] = dataclasses.replace(frames[index], depth_path=path)
    data.train_dataset.metadata["frames"] = tuple(frames)


def test_without_patches_a_step_is_what_it_was(root):
    data = manager(root)
    torch.manual_seed(3)
    plain = data.next_train(0)[1]
    assert set(plain) == {"indices", "image", "mask"}
    data.schedule = WITH_PATCHES
    torch.manual_seed(3)
    mixed = data.next_train(1)[1]
    assert torch.equal(mixed["indices"][:64], plain["indices"]) and torch.equal(mixed["image"][:64], plain["image"])


def test_patches_are_grids_of_the_steps_own_pictures_around_the_head(root):
    data = manager(root, frames_per_batch=3, num_patches=200, patch_size=5, patch_strides=(1, 3))
    data.schedule = WITH_PATCHES
    bundle, batch = data.next_train(0)
    count, size = batch["num_patches"], batch["patch_size"]
    assert (count, size) == (200, 5)
    assert len(bundle) == len(batch["image"]) == 64 + 200 * 25
    patch = batch["indices"][64:].view(count, size, size, 3)
    assert set(patch[..., 0].unique().tolist()) <= set(batch["indices"][:64, 0].tolist())
    assert (patch[..., 0] == patch[:, :1, :1, 0]).all()
    step = patch[:, 1, 0, 1] - patch[:, 0, 0, 1]
    assert set(step.tolist()) == {1, 3}
    grid = torch.arange(size) * step[:, None]
    assert torch.equal(patch[..., 1], (patch[:, :1, :1, 1] + grid[:, :, None]).expand(-1, -1, size))
    assert torch.equal(patch[..., 2], (patch[:, :1, :1, 2] + grid[:, None, :]).expand(-1, size, -1))
    assert patch[..., 1:].min() >= 0 and patch[..., 1:].max() < SIZE
    for k in (64, 64 + 777):
        camera, row, column = batch["indices"][k].tolist()
        rgba = data.train_dataset.get_numpy_image(camera)[row, column] / 255.0
        assert np.allclose(torch.cat([batch["image"][k], batch["mask"][k]]), rgba)
    assert batch["mask"][64:].mean() > 0.6
    assert "depth_prior" not in batch


def test_patches_larger_than_the_pictures_shrink_with_one_message(root, said):
    data = manager(root, num_patches=3, patch_size=30, patch_strides=(1, 2, 4))
    data.schedule = WITH_PATCHES
    for step in range(3):
        batch = data.next_train(step)[1]
        assert batch["patch_size"] == 30 and len(batch["indices"]) == 64 + 3 * 900
    assert len(said) == 1 and "48x48" in said[0] and "strides 1 are used" in said[0]
    data = manager(root, num_patches=1, patch_size=16, patch_strides=(4,))
    data.schedule = WITH_PATCHES
    data.next_train(0)
    assert len(said) == 2
    data = manager(root, num_patches=1, patch_size=100)
    data.schedule = WITH_PATCHES
    assert data.next_train(0)[1]["patch_size"] == SIZE


def test_depth_comes_with_the_patches(root, tmp_path, said):
    data = manager(root, num_patches=20, patch_size=6)
    random = np.random.default_rng(0)
    maps = [random.integers(1, 65536, (SIZE, SIZE)).astype(np.uint16) for _ in range(len(data.train_dataset))]
    for values in maps:
        values[:, :20] = 0
    with_depths(data, tmp_path, maps)
    data.schedule = WITH_PATCHES
    batch = data.next_train(0)[1]
    picture, row, column = batch["indices"][64:].T.numpy()
    want = np.stack(maps)[picture, row, column].reshape(20, 6, 6) / 65535
    got = batch["depth_prior"].numpy()
    assert np.allclose(got[want > 0], want[want > 0], atol=1e-6)
    assert np.isnan(got[want == 0]).all() and (want == 0).any() and not said


def test_maps_that_say_nothing_are_named_once_and_left_out(root, tmp_path, said):
    data = manager(root, num_patches=60, patch_size=6, frames_per_batch=8)
    good = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) + 1
    constant, nothing = np.full((SIZE, SIZE), 9, np.uint16), np.zeros((SIZE, SIZE), np.uint16)
    bad = [None, constant, nothing, good[:20], np.dstack([good] * 3)]
    with_depths(data, tmp_path, [*bad, *[good] * (len(data.train_dataset) - len(bad))])
    data.schedule = WITH_PATCHES
    for step in range(2):
        batch = data.next_train(step)[1]
        unusable = batch["indices"][64:].view(60, 36, 3)[:, 0, 0] < len(bad)
        assert batch["depth_prior"][unusable].isnan().all() and batch["depth_prior"][~unusable].isfinite().all()
    assert len(said) == 1
    for text in ("5 of 8", "000.png is missing", "001.png is constant", "003.png is 48x20, the pictures are 48x48",
                 "004.png has 3 channels", "without a depth prior", "flame-nerf-data depth"):  # fmt: skip
        assert text in said[0]


def test_with_no_usable_map_there_is_no_prior(root, tmp_path, said):
    data = manager(root, num_patches=2, patch_size=4)
    with_depths(data, tmp_path, [None] * len(data.train_dataset))
    data.schedule = WITH_PATCHES
    assert "depth_prior" not in data.next_train(0)[1] and "depth_prior" not in data.next_train(1)[1]
    assert len(said) == 1 and "3 more" in said[0]


def test_depth_beyond_the_memory_limit_is_mapped(root, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(image_cache, "scratch_array", lambda *options: made.append(scratch_array(*options)) or made[-1])
    data = manager(root)
    good = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) + 1
    with_depths(data, tmp_path, [good] * len(data.train_dataset))
    cache = ImageCache(data.train_dataset, memory_limit=10, head_margin=0.05).fill()
    where = torch.tensor([3]), torch.tensor([20]), torch.tensor([30])
    assert float(cache.depth_prior(*where)[0]) == pytest.approx((20 * SIZE + 31) / 65535, rel=1e-6)
    assert made[-1].dtype == np.uint16 and isinstance(made[-1], np.memmap)


def test_reading_float_maps_and_shrinking(tmp_path):
    values = np.linspace(-2, 3, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = np.nan
    cv2.imwrite(str(tmp_path / "a.tiff"), values)
    read = read_depth_map(tmp_path / "a.tiff", (8, 8), (4, 4))
    whole = read_depth_map(tmp_path / "a.tiff", (8, 8), (8, 8))
    assert whole[0, 0] == 0 and whole[0, 1] == 1 and whole[7, 7] == 65535
    assert (np.diff(whole.ravel()[1:].astype(int)) > 0).all()
    assert read.shape == (4, 4) and np.isin(read, whole).all()
    cv2.imwrite(str(tmp_path / "nan.tiff"), np.full((8, 8), np.nan, np.float32))
    with pytest.raises(DepthMapError, match="nan.tiff is constant"):
        read_depth_map(tmp_path / "nan.tiff", (8, 8), (8, 8))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DepthMapError, match="cut.png"):
        read_depth_map(tmp_path / "cut.png", (8, 8), (8, 8))


def test_spread_cuts_off_what_is_outside_its_range():
    values = np.array([[0.0, 1.0, 2.0, 3.0, np.nan]])
    assert spread(values, 1.0, 2.0).tolist() == [[1, 1, 65535, 65535, 0]]
    assert spread(np.full((2, 2), np.nan)).max() == 0


def test_maps_that_call_farther_larger_are_turned_round(root, tmp_path, said):
    """An ellipsoid is nearest in its middle: a map that rises towards there is right, its negative is not."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    right = np.maximum(60000 - 80 * np.hypot(x, y) ** 2, 1).astype(np.uint16)
    where = torch.tensor([2, 2]), torch.tensor([SIZE // 2, SIZE // 2]), torch.tensor([SIZE // 2, SIZE // 2 + 6])
    found = []
    for values in (right, 65536 - right.astype(np.int64)):
        data = manager(root)
        with_depths(data, tmp_path, [values.astype(np.uint16)] * len(data.train_dataset))
        cache = ImageCache(data.train_dataset, memory_limit=1 << 30, head_margin=0.05).fill()
        found.append(cache.depth_prior(*where))
    assert torch.equal(*found) and found[0][0] > found[0][1]
    assert len(said) == 1 and "other way round" in said[0]
