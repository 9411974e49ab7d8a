"""Colours that outlines give to what no camera saw, on an ellipsoid whose hair and skin have one each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import look_at_origin
from test_silhouette import LENS, SIZE, YAWS, head, outline, track_skin

from flame_nerf.geometry import vertex_normals
from flame_nerf.losses.colours.outline import not_the_persons, outline_colours
from flame_nerf.losses.silhouette import OutlineSurface
from flame_nerf.subject import Frame

HAIR, SKIN, FACE, WALL = np.array([[60, 40, 20], [200, 150, 120], [0, 255, 0], [0, 0, 255]], np.uint8)
THICK = 0.02


def filmed(track, thick, hair=(HAIR, HAIR)):
    """Hair (of the picture's left and right) above, skin below, and a green face between the outlines."""
    rest = torch.from_numpy(track.vertices[0])
    skin = track_skin(track)
    over = torch.where(skin, 0.0, thick)
    body = (rest + over[:, None] * vertex_normals(rest, torch.from_numpy(track.faces).long())).numpy()
    frames, pictures = [], []
    for index, yaw in enumerate(YAWS):
        c2w = look_at_origin(yaw, 0.0)
        frames.append(Frame(Path(f"{index}.png"), None, None, c2w, index, "train"))
        matte = outline(body, c2w)
        inner = outline(0.75 * rest.numpy(), c2w)
        picture = np.empty((SIZE, SIZE, 4), np.uint8)
        picture[:, :, :3] = np.where(np.arange(SIZE)[:, None] < SIZE / 2, hair[0], hair[1])
        picture[SIZE // 2 + 6 :, :, :3] = SKIN
        picture[inner > 0, :3], picture[matte == 0, :3], picture[..., 3] = FACE, WALL, matte
        pictures.append(picture)
    surface = OutlineSurface(over, over, torch.ones(len(rest), dtype=torch.bool))
    colours, there = outline_colours(track, frames, lambda i: LENS, lambda i: pictures[i], surface)
    return (255 * colours).numpy(), there


@pytest.fixture(scope="module")
def track():
    return head(len(YAWS))


@pytest.mark.parametrize("thick", [0.0, THICK])
def test_the_back_has_the_colour_of_hair_and_the_nape_that_of_skin(track, thick):
    colours, there = filmed(track, thick)
    assert there.all()
    y = track.canonical_vertices[:, 1]
    skin = track_skin(track).numpy()
    for of, colour in ((~skin & (y > 0.02), HAIR), (skin & (y < -0.03), SKIN)):
        # Front, sides and back alike: the face's green and the wall's blue are nowhere.
        assert np.abs(colours[of] - colour).max() < 25


def test_either_side_has_its_own_outlines_colour(track):
    red, blue = np.array([200, 0, 0], np.uint8), np.array([0, 0, 200], np.uint8)
    colours, _ = filmed(track, 0.0, hair=(red, blue))
    x, y, z = track.canonical_vertices.T
    back = (y > 0.03) & (z < -0.02)
    left, right = (colours[back & side].mean(axis=0) for side in (x < -0.04, x > 0.04))
    assert left[0] > 150 and left[2] < 50 and right[2] > 150 and right[0] < 50


def test_a_side_whose_outline_was_never_seen_has_the_other_ones(track):
    def half(index):
        c2w = look_at_origin(YAWS[index], 0.0)
        picture = np.zeros((SIZE, SIZE, 4), np.uint8)
        picture[..., :3] = np.linspace(240, 10, SIZE).astype(np.uint8)[:, None, None]
        picture[:, : SIZE // 2, 3] = outline(track.vertices[0], c2w)[:, : SIZE // 2]
        return picture

    surface = OutlineSurface(*torch.zeros(2, track.vertices.shape[1]), torch.ones(track.vertices.shape[1]).bool())
    frames = [Frame(Path(f"{i}.png"), None, None, look_at_origin(yaw, 0.0), i, "train") for i, yaw in enumerate(YAWS)]
    colours, _ = outline_colours(track, frames, lambda i: LENS, half, surface)
    x, y, z = track.canonical_vertices.T
    # Far from the hairline, at which there is none.
    right = (x > 0.05) & (np.abs(z) < 0.02) & (y > 0.03)
    twin = [int(np.abs(track.canonical_vertices - place * np.array([-1, 1, 1])).sum(1).argmin()) for place in
            track.canonical_vertices[right]]  # fmt: skip
    assert right.sum() > 5 and np.abs(colours[right] - colours[twin]).max() < 0.02


def test_without_an_outline_there_is_no_colour(track):
    surface = OutlineSurface(*torch.zeros(2, track.vertices.shape[1]), torch.ones(track.vertices.shape[1]).bool())
    nothing = np.zeros((SIZE, SIZE, 4), np.uint8)
    frames = [Frame(Path("0.png"), None, None, look_at_origin(0.0, 0.0), 0, "train")]
    colours, there = outline_colours(track, frames, lambda i: LENS, lambda i: nothing, surface)
    assert not there.any() and not colours.any()


def test_a_colour_that_the_person_has_nowhere_near_is_not_the_persons():
    vertices = np.stack([np.linspace(0.0, 0.2, 41), np.zeros(41), np.zeros(41)], axis=1).astype(np.float32)
    skin, hair, window = torch.tensor([[0.6, 0.45, 0.4], [0.2, 0.15, 0.1], [0.95, 0.95, 1.0]])
    colours = skin.repeat(41, 1)
    colours[20:] = hair
    known = torch.arange(41) < 36
    known[:3] = False
    # Beside the skin a window, brighter skin, and hair; beside the hair that, and skin far from all other skin.
    colours[0], colours[1], colours[2] = window, 1.1 * skin, hair
    colours[36], colours[40] = hair, skin
    strange = not_the_persons(colours, ~known, colours, known, vertices)
    assert strange.nonzero()[:, 0].tolist() == [0, 2, 40]
    far = vertices + np.where(known.numpy(), 1.0, 0.0)[:, None].astype(np.float32)
    assert not not_the_persons(colours, ~known, colours, known, far).any()
    assert not not_the_persons(colours, ~known, colours, torch.zeros_like(known), vertices).any()
