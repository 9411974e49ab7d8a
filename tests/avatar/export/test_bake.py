"""Textures: every texel has the colour of its own place, and what nobody sees that of its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar_fixtures import config_path, project  # noqa: F401

from flame_nerf.avatar.export.atlas import unwrap
from flame_nerf.avatar.export.bake import bake_texture, fitting_size
from flame_nerf.avatar.loading import load_pipeline
from flame_nerf.runtime.errors import UserError

pytest.importorskip("xatlas", reason="textures need the extra 'export'")
SIZE = 96


class Painted:
    """Colours of places on the posed mesh instead of a field's; nothing where `empty` says so."""

    def __init__(self, model, empty=lambda points: np.zeros(len(points), bool)):
        self.model, self.empty, self.directions = model, empty, []

    def __call__(self, rays):
        renderer = self.model.renderer
        mesh, index = renderer.pose(self.model.override), torch.zeros(len(rays.origins), dtype=torch.long)
        distance, _ = renderer.mapping.first_hit([mesh], index, rays.origins, rays.directions)
        points = rays.origins + distance[:, None] * rays.directions
        opacity = torch.from_numpy(~self.empty(points.numpy())).float()[:, None]
        self.directions.append((points, rays.directions))
        background = torch.tensor([1.0, 0.0, 1.0]).expand(len(points), 3)
        rgb = colour_of(points) * opacity + background * (1 - opacity)
        return {"rgb": rgb, "accumulation": opacity, "background": background}


def colour_of(points):
    return 0.5 + 3.0 * points


@pytest.fixture(scope="module")
def model(config_path):  # noqa: F811
    return load_pipeline(config_path).model


@pytest.fixture(scope="module")
def atlas(model):
    track = model.subject.track
    return unwrap(track.canonical_vertices, track.faces, size=SIZE)


def test_texels_have_the_colour_of_their_place(model, atlas, monkeypatch):
    painted = Painted(model)
    monkeypatch.setattr(model, "get_outputs", painted)
    moment = model.motion.neutral()
    texture = bake_texture(model, atlas, moment)
    places = atlas.at_texels(moment.vertices.double().numpy(), model.subject.track.faces)
    wrong = np.abs(texture[atlas.covered] / 255 - colour_of(places)).max(axis=1)
    # The cameras of this subject stand in front: the back takes its neighbours' colours.
    front = places[:, 2] > 0.03
    assert np.quantile(wrong[front], 0.99) < 0.01
    assert wrong[places[:, 2] < -0.05].min() > 0.05
    # Rays come in from outside, head on.
    points, directions = (torch.cat(values) for values in zip(*painted.directions, strict=True))
    outwards = torch.nn.functional.normalize(points / torch.tensor([0.075, 0.105, 0.085]) ** 2, dim=1)
    assert float((outwards * directions).sum(1)[points[:, 2] > 0.03].max()) < -0.9


def test_what_is_transparent_takes_its_neighbours_colour(model, atlas, monkeypatch):
    monkeypatch.setattr(model, "get_outputs", Painted(model, lambda points: np.abs(points[:, 0]) < 0.01))
    moment = model.motion.neutral()
    texture = bake_texture(model, atlas, moment)
    places = atlas.at_texels(moment.vertices.double().numpy(), model.subject.track.faces)
    gap = (np.abs(places[:, 0]) < 0.01) & (places[:, 2] > 0.03)
    found = texture[atlas.covered][gap] / 255
    # Near the true colour, as it changes little over a centimetre, and nothing of the background's magenta.
    assert np.abs(found - colour_of(places[gap])).max() < 0.1


def test_the_model_is_as_before(model, atlas, monkeypatch):
    monkeypatch.setattr(model, "get_outputs", Painted(model))
    before = model.training, model.override
    bake_texture(model, atlas, model.motion.at_timestep(2))
    assert (model.training, model.override) == before


def test_a_method_without_a_mesh_has_no_texture(model, atlas):
    from types import SimpleNamespace

    with pytest.raises(UserError, match="no texture to bake"):
        bake_texture(SimpleNamespace(renderer=object()), atlas, model.motion.neutral())


@pytest.mark.parametrize(("pixels", "size"), [(32, 512), (256, 512), (300, 1024), (512, 1024), (4000, 2048)])
def test_the_texture_fits_the_pictures(pixels, size):
    from types import SimpleNamespace

    assert fitting_size(SimpleNamespace(subject=SimpleNamespace(width=pixels, height=pixels // 2))) == size
