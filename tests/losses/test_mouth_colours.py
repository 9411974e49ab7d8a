"""The inside of a mouth that was never filmed: teeth as pale as the person's, darkness further in."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import ellipsoid, look_at_origin
from test_silhouette import LENS, SIZE, head

from flame_nerf.losses.colours.mouth import mouth_colours, tooth_colour
from flame_nerf.subject import Frame

SKIN, LIPS, TEETH = np.array([200, 150, 120]), np.array([150, 70, 70]), np.array([210, 205, 195])
COUNT = 24


@pytest.fixture(scope="module")
def track():
    """An ellipsoid with lips in the middle of its face, and a smaller one of teeth and gums right behind them."""
    vertices, faces = ellipsoid()
    inner = 0.5 * vertices + [0.0, 0.0, 0.4 * vertices[:, 2].max()]
    canonical = np.concatenate([vertices, inner]).astype(np.float32)
    region = np.concatenate([np.zeros(len(faces)), np.full(len(faces), 2)])
    middle = vertices[faces].mean(axis=1)
    region[: len(faces)][(np.abs(middle[:, :2]).max(axis=1) < 0.03) & (middle[:, 2] > 0)] = 1
    region[len(faces) :][inner[faces].mean(axis=1)[:, 1] < 0] = 3
    return dataclasses.replace(
        head(COUNT), canonical_vertices=canonical, vertices=np.repeat(canonical[None], COUNT, 0),
        faces=np.concatenate([faces, faces + len(vertices)]), region=region.astype(np.int8),
        region_names=("skin", "lips", "teeth", "mouth"),
    )  # fmt: skip


def filmed(track, teeth_in: int):
    """Frames of skin all over, with lips in the middle; in so many of them teeth between the lips."""
    frames = [Frame(Path(f"{i}.png"), None, None, look_at_origin(0.02 * i, 0.0), i, "train") for i in range(COUNT)]
    rows, columns = np.abs(np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2) / SIZE
    pictures = [np.full((SIZE, SIZE, 4), 255, np.uint8) for _ in frames]
    for index, picture in enumerate(pictures):
        picture[..., :3] = SKIN
        picture[(rows < 0.12) & (columns < 0.2), :3] = LIPS
        if index < teeth_in:
            picture[(rows < 0.06) & (columns < 0.15), :3] = TEETH
    return track, frames, lambda index: LENS, lambda index: pictures[index]


def vertices_of(track, name: str) -> torch.Tensor:
    of = torch.zeros(len(track.canonical_vertices), dtype=torch.bool)
    of[torch.from_numpy(track.faces[track.region_faces(name)]).long().flatten()] = True
    return of


def given(track):
    colours = torch.from_numpy(np.broadcast_to(SKIN / 255, track.canonical_vertices.shape).copy()).float()
    colours[vertices_of(track, "lips")] = torch.from_numpy(LIPS / 255).float()
    colours[vertices_of(track, "teeth")] = torch.from_numpy(LIPS / 255).float()
    gums = vertices_of(track, "mouth")
    front = torch.from_numpy(track.canonical_vertices[:, 2])
    hidden = vertices_of(track, "teeth") | gums & (front < front[gums].max() - 0.005)
    return colours, ~hidden, hidden


def test_hidden_teeth_are_as_pale_as_what_shows_between_the_lips_and_darker_further_in(track):
    colours, known, hidden = given(track)
    result = 255 * mouth_colours(*filmed(track, teeth_in=COUNT // 2), colours, known, hidden)
    teeth = vertices_of(track, "teeth") & ~vertices_of(track, "mouth")
    depth = -torch.from_numpy(track.canonical_vertices)[:, 2]
    front, back = teeth & (depth < depth[teeth].min() + 0.002), teeth & (depth > depth[teeth].max() - 0.01)
    assert (result[front] - torch.from_numpy(TEETH)).abs().max() < 25
    assert result[back].mean() < 0.5 * result[front].mean()
    gums = vertices_of(track, "mouth") & ~vertices_of(track, "teeth") & hidden
    assert result[gums].mean() < 0.6 * 255 * colours[gums].mean()
    assert torch.equal(result[~hidden], 255 * colours[~hidden]), "what was filmed stays"


def test_without_teeth_in_any_picture_they_are_paled_skin(track):
    skin, lips = (torch.from_numpy(colour / 255).float() for colour in (SKIN, LIPS))
    colour = tooth_colour(*filmed(track, teeth_in=0), skin, lips)
    assert colour.mean() == pytest.approx(float(skin.mean()), rel=0.02)
    assert 0 < colour.max() - colour.min() < 0.5 * (skin.max() - skin.min())


def test_a_head_without_lips_or_without_a_colour_of_them_keeps_what_it_had(track):
    colours, known, hidden = given(track)
    animal = dataclasses.replace(track, region_names=("skin", "beak", "teeth", "mouth"))
    for one, told in ((animal, known), (track, known & ~vertices_of(track, "lips"))):
        assert torch.equal(mouth_colours(*filmed(one, teeth_in=COUNT // 2), colours, told, hidden), colours)
