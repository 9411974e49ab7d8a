"""Layers of a page's head: how they are drawn, how their textures are found, and that offsets keep their triangles."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flame_nerf.avatar.export.atlas import unwrap
from flame_nerf.avatar.export.smooth_normals import neighbour_mean, smooth_normals
from flame_nerf.avatar.export.web.appearance import Appearance
from flame_nerf.avatar.export.web.clothes import LayeredClothes
from flame_nerf.avatar.export.web.distil import LayerView, composite, distil, sampled
from flame_nerf.avatar.export.web.layers import LayeredHead, backed, layer_offsets, unfolded
from flame_nerf.avatar.export.web.performance import head_movement
from flame_nerf.avatar.export.web.views import View, orbited
from flame_nerf.render.observed.clothes import Clothes


def sphere(rings: int = 16, radius: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward triangles of a ball about the origin."""
    polar = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    grid = np.stack([
        np.outer(np.sin(polar), np.sin(around)), np.outer(np.cos(polar), np.ones_like(around)),
        np.outer(np.sin(polar), np.cos(around)),
    ], -1).reshape(-1, 3)  # fmt: skip
    points = np.concatenate([grid, [[0, 1, 0], [0, -1, 0]]]) * radius
    n, faces = 2 * rings, []
    for j in range(n):
        k = (j + 1) % n
        faces += [[len(grid), j, k], [len(grid) + 1, (rings - 2) * n + k, (rings - 2) * n + j]]
        for i in range(rings - 2):
            a, b, c, d = i * n + j, i * n + k, (i + 1) * n + j, (i + 1) * n + k
            faces += [[a, c, b], [b, c, d]]
    return points, np.array(faces)


def ball(layers: int = 2, bases: int = 1) -> tuple[LayeredHead, np.ndarray, np.ndarray]:
    points, faces = sphere()
    atlas = unwrap(points, faces, size=64)
    still = np.zeros(len(points))
    textures = np.full((layers, 64, 64, 4), 0.5, np.float32)
    changes = np.zeros((layers, bases, 32, 32, 4), np.float32)
    offsets = 0.0025 * np.linspace(-1, 1, layers)[:, None] + still
    return LayeredHead(atlas, offsets, textures, np.ones(len(points)), changes), points, faces


FRONT = np.concatenate([np.eye(3), [[0.0], [0.0], [0.5]]], axis=1)


def test_fragments_are_where_the_ball_is_seen():
    layered, points, faces = ball()
    size, focal = 80, 120.0
    seen = LayerView(layered, faces)(points, FRONT, focal, size)
    for layer, radius in enumerate((0.0975, 0.1025)):
        chosen = (seen.layer == layer).numpy()
        row, column = np.divmod(seen.pixel.numpy()[chosen], size)
        ray = np.stack([(column + 0.5 - size / 2) / focal, -(row + 0.5 - size / 2) / focal, -np.ones(len(row))], 1)
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        # Where a ray from (0, 0, 0.5) first meets a ball of that radius.
        along = -ray[:, 2] * 0.5
        under = along**2 - 0.25 + radius**2
        met = np.array([0, 0, 0.5]) + ray * (along - np.sqrt(np.maximum(under, 0)))[:, None]
        normal = met / np.linalg.norm(met, axis=1, keepdims=True)
        inside = under > 0.001
        assert np.abs(seen.cosine.numpy()[chosen] + (ray * normal).sum(1))[inside].max() < 0.05
        expected = np.pi * (focal * radius / np.sqrt(0.25 - radius**2)) ** 2
        assert chosen.sum() == pytest.approx(expected, rel=0.03)
        # The atlas leads back to the place on the mesh that is seen.
        place = atlas_place(layered, points, faces, seen.at.numpy()[chosen])
        close = np.abs(place / np.linalg.norm(place, axis=1, keepdims=True) - normal).max(axis=1)
        assert np.median(close) < 0.05


def atlas_place(layered, points, faces, at) -> np.ndarray:
    picture = layered.atlas.picture(layered.atlas.at_texels(points, faces))
    column, row = (np.clip(at[:, axis] * layered.atlas.size, 0, layered.atlas.size - 1).astype(int) for axis in (0, 1))
    return picture[row, column]


def test_layers_are_drawn_over_each_other_from_inside_out():
    layered, points, faces = ball(layers=2, bases=0)
    layered.textures[0] = (1, 0, 0, 1.0)
    layered.textures[1] = (0, 0, 1, 0.5**0.5)
    seen = LayerView(layered, faces)(points, FRONT, 120.0, 81)
    picture = composite(seen, 2, 81 * 81, torch.from_numpy(layered.textures), None, torch.zeros(0)).view(81, 81, 4)
    middle, corner = picture[40, 40].numpy(), picture[0, 0].numpy()
    assert middle == pytest.approx([0.5, 0, 0.5, 1.0], abs=2e-3) and corner.max() == 0.0


def test_look_ups_are_bilinear():
    texture = torch.zeros(1, 4, 4, 1)
    texture[0, 1, 2] = 1.0
    at = torch.tensor([[2.5 / 4, 1.5 / 4], [3.0 / 4, 1.5 / 4], [3.0 / 4, 2.0 / 4], [0.0, 0.0]])
    assert sampled(texture, torch.zeros(4, dtype=torch.long), at)[:, 0].tolist() == pytest.approx([1.0, 0.5, 0.25, 0.0])


def test_textures_and_bases_are_found_from_pictures():
    """Pictures of a ball that is red on the person's left, blue on the right, and brightens with the condition."""
    layered, points, faces = ball(layers=2, bases=1)
    random, views = np.random.default_rng(0), []
    look, size = LayerView(layered, faces), 48
    for _ in range(24):
        c2w = orbited(FRONT, np.zeros(3), random.uniform(-np.pi, np.pi), random.uniform(-0.5, 0.5), 0.0)
        condition = random.uniform(-1, 1, 1)
        seen = look(points, c2w, 90.0, size)
        outer = seen.layer == 1
        place = atlas_place(layered, points, faces, seen.at[outer].numpy())
        shade = np.stack(
            [place[:, 0] / 0.2 + 0.5, np.full(len(place), 0.3 + 0.2 * condition[0]), 0.5 - place[:, 0] / 0.2], 1
        )
        picture = np.zeros((size * size, 4), np.float32)
        picture[seen.pixel[outer].numpy()] = np.concatenate([shade, np.ones((len(shade), 1))], axis=1)
        views.append(View(points, condition, c2w, 90.0, picture.reshape(size, size, 4)))
    appearance = Appearance(np.ones((1, 1)), np.zeros(1), -np.ones(1), np.ones(1))
    fitted = distil(layered, faces, views, appearance, 150, 32)

    def error(head: LayeredHead, view: View) -> float:
        bases = torch.from_numpy(head.bases).flatten(0, 1)
        weights = torch.from_numpy(appearance.weights(view.condition)).float()
        seen = look(view.vertices, view.c2w, view.focal, size)
        got = composite(seen, 2, size * size, torch.from_numpy(head.textures), bases, weights)
        inside = view.picture.reshape(-1, 4)[:, 3] > 0
        # The rim's last pixel is thin in the layers and opaque here.
        return float(np.median(np.abs(got.numpy() - view.picture.reshape(-1, 4))[inside]))

    assert np.mean([error(fitted, view) for view in views]) < 0.02 < np.mean([error(layered, view) for view in views])
    green = fitted.bases[:, 0, ..., 1]
    assert green.max() > 0.1 and np.abs(fitted.bases[:, 0, ..., 0]).mean() < 0.3 * np.abs(green).mean()


def test_holes_show_the_mesh_behind_them_where_it_is_the_persons():
    layered, points, faces = ball(layers=2)
    covered, place = layered.atlas.covered, layered.atlas.at_texels(points, faces)
    left, top = place[:, 0] < -0.02, place[:, 1] > 0.02
    layered.textures[0, ..., 3][covered] = np.where(left, 0.0, 1.0)
    surface = np.concatenate([np.tile([0.8, 0.1, 0.2], (len(points), 1)), (points[:, 1:2] > 0)], axis=1)
    out = backed(layered, surface, faces).textures
    hole, skin, cut = left & top, ~left & (place[:, 0] > 0.02), left & (place[:, 1] < -0.02)
    np.testing.assert_allclose(out[0][covered][hole], np.tile([0.8, 0.1, 0.2, 1.0], (hole.sum(), 1)), atol=1e-5)
    np.testing.assert_allclose(out[0][covered][skin], np.tile([0.5, 0.5, 0.5, 1.0], (skin.sum(), 1)), atol=1e-5)
    assert not out[0][covered][cut, 3].any(), "what was cut off stays away"
    assert np.array_equal(out[1], layered.textures[1]), "only the innermost layer"


def test_layers_follow_a_bump_as_narrow_as_the_mesh():
    """A lock of hair over a few vertices stands out of the outermost layer as it does out of the field."""
    points, faces = sphere()
    lock, outward = points[100] / 0.1, points / 0.1

    def radius(direction: np.ndarray) -> np.ndarray:
        return 0.102 + 0.012 * np.exp(-((np.linalg.norm(direction - lock, axis=1) / 0.25) ** 2))

    def solid(at: torch.Tensor, condition=None):
        place = at.numpy()
        away = np.linalg.norm(place, axis=1)
        sigma = np.where(away < radius(place / away[:, None]), 3000.0, 0.0)
        return torch.from_numpy(sigma).float(), torch.zeros(len(place), 3)

    shell, nowhere = np.full(len(faces), 0.02), np.zeros(len(faces), bool)
    offsets = layer_offsets(solid, points, faces, shell, 5, nowhere)
    surface = radius(outward) - 0.1
    assert surface.max() > 0.013 and surface.min() == pytest.approx(0.002, abs=1e-4)
    assert offsets[-1] == pytest.approx(surface, abs=0.0025), "the outermost at the surface, on the lock as beside it"
    assert (np.diff(offsets, axis=0) > 0).all() and (offsets[0] < surface).all()
    evened = layer_offsets(solid, points, faces, shell, 5, ~nowhere)
    assert evened[-1].max() < 0.8 * offsets[-1].max(), "in folds neighbours are much alike"


def test_offsets_never_turn_a_triangle_over():
    points, faces = sphere()
    # A ball seen from inside: offsets past its middle turn everything over.
    inward = -smooth_normals(points, faces, neighbour_mean(faces, len(points)))
    offset = unfolded(np.full(len(points), 0.15), points, inward, faces)
    assert 0 < offset.max() < 0.1
    kept = unfolded(np.full(len(points), 0.03), points, inward, faces)
    assert kept == pytest.approx(0.03)


def test_the_heads_movement_is_there_between_pictures_too():
    def camera(x: float) -> np.ndarray:
        c2w = np.eye(4)
        c2w[0, 3] = x
        return c2w

    frames = [SimpleNamespace(timestep=t, c2w=camera(0.1 * t)) for t in (0, 1, 3)]
    moved = head_movement(SimpleNamespace(frames=frames), 5, camera(0.0))
    assert moved[:, 0, 3] == pytest.approx([0.0, -0.1, -0.2, -0.3, -0.3])
    assert moved[:, :3, :3] == pytest.approx(np.tile(np.eye(3), (5, 1, 1)))


def test_what_stands_off_the_neck_is_drawn_from_where_it_was_filmed():
    points, faces = sphere()
    below = points[faces].mean(axis=1)[:, 1] < 0
    shell = np.where(below, 0.03, 0.01)
    c2w = torch.eye(4)[None, :3].clone()
    c2w[0, 2, 3] = 0.5
    region_faces = lambda *names: below  # noqa: E731
    track = SimpleNamespace(canonical_vertices=points.astype(np.float32), faces=faces, region_faces=region_faces)
    rule = Clothes(track, torch.from_numpy(shell).float(), c2w)
    clothes = LayeredClothes.of(rule, points, faces, shell)
    offsets = np.array([-0.005, 0.001, 0.029])[:, None] + np.zeros(len(points))
    assert (clothes.shown(offsets, FRONT[:, 3]) == 1.0).all()
    for yaw in (np.pi / 2, np.pi):
        shown = clothes.shown(offsets, orbited(FRONT, np.zeros(3), yaw, 0.0, 0.0)[:, 3])
        assert (shown[:2] > 0.99).all() and (shown[2, points[:, 1] > 0.01] == 1.0).all()
        assert (shown[2, points[:, 1] < -0.04] == 0.0).all()
    # Which is what the pictures are put together with.
    layered, _, _ = ball(layers=1, bases=0)
    layered = replace(layered, offsets=offsets[2:], textures=np.ones((1, 64, 64, 4), np.float32), clothes=clothes)
    weights = torch.zeros(0)
    for yaw, opaque in ((0.0, True), (np.pi / 2, False)):
        c2w = orbited(FRONT, np.zeros(3), yaw, 0.0, 0.0)
        seen = LayerView(layered, faces)(points, c2w, 80.0, 64)
        picture = composite(seen, 1, 64 * 64, torch.from_numpy(layered.textures), None, weights).reshape(64, 64, 4)
        assert picture[24, 32, 3] > 0.99
        assert picture[42, 32, 3] > 0.99 if opaque else picture[42, 32, 3] < 0.01


def test_a_head_without_a_neck_has_no_such_rule():
    assert LayeredClothes.of(None, np.zeros((3, 3)), np.zeros((1, 3), int), np.ones(1)) is None
