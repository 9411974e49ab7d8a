"""Sides that the video never shows: which they are, and that the term asks for the surface there and nowhere else."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from synthetic import RADII, REGIONS, ellipsoid, look_at_origin, make_subject, opened, paint, regions

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.losses.seen_faces import LEAST_COSINE, steepest_views
from flame_nerf.losses.unseen_views import COLOUR_WEIGHT, UnseenViews, UnseenViewsConfig
from flame_nerf.subject import Frame, HeadTrack


def film(yaws: list[float]) -> tuple[HeadTrack, list[Frame]]:
    """The ellipsoid at rest, seen from cameras at some angles (radians) around it."""
    from pathlib import Path

    vertices, faces = ellipsoid()
    rows = len(yaws)
    track = HeadTrack(
        faces=faces, canonical_vertices=vertices.astype(np.float32),
        vertices=np.repeat(vertices[None], rows, 0).astype(np.float32),
        expression=np.zeros((rows, 1), np.float32), expression_names=("jawOpen",),
        pose=np.zeros((rows, 1, 3), np.float32), joint_names=("head",), identity=np.zeros(0, np.float32),
        region=regions(vertices, faces), region_names=("skin", "lips", "eyes", "scalp", "neck"),
    )  # fmt: skip
    frames = [Frame(Path(f"{i}.png"), None, None, look_at_origin(yaw, 0.0), i, "train") for i, yaw in enumerate(yaws)]
    return track, frames


def unseen_faces(track: HeadTrack, frames: list[Frame]) -> torch.Tensor:
    return steepest_views(track, frames) <= LEAST_COSINE


def test_what_no_camera_looks_at_is_unseen():
    track, frames = film([-0.3, 0.0, 0.3])
    unseen = unseen_faces(track, frames).numpy()
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    # The camera stands before the face, at +z: the front is seen, the back is not.
    assert not unseen[middle[:, 2] > 0.06].any()
    assert unseen[middle[:, 2] < 0.0].all()


def test_turning_further_shows_more():
    little, much = (int(unseen_faces(*film(yaws)).sum()) for yaws in ([0.0], [-1.2, 0.0, 1.2]))
    assert much < 0.75 * little


def test_what_stands_behind_something_is_unseen():
    track, frames = film([0.0])
    alone = unseen_faces(track, frames)
    # A square 3 cm before the face, as large as its middle, on vertices of its own.
    corners = np.array([[-0.03, -0.03, 0.12], [0.03, -0.03, 0.12], [0.03, 0.03, 0.12], [-0.03, 0.03, 0.12]], np.float32)
    first, count = len(track.canonical_vertices), len(track.faces)
    faces = np.concatenate([track.faces, np.array([[0, 1, 2], [0, 2, 3]], np.int32) + first])
    both = dataclasses.replace(
        track, faces=faces, vertices=np.concatenate([track.vertices, corners[None]], axis=1),
        canonical_vertices=np.concatenate([track.canonical_vertices, corners]),
        region=np.concatenate([track.region, np.zeros(2, np.int8)]),
    )  # fmt: skip
    unseen = unseen_faces(both, frames)
    middle = track.canonical_vertices[track.faces].mean(axis=1)
    inside = torch.from_numpy((np.abs(middle[:, :2]).max(axis=1) < 0.02) & (middle[:, 2] > 0))
    outside = torch.from_numpy(np.abs(middle[:, :2]).max(axis=1) > 0.045)
    assert unseen[:count][inside].all() and not alone[inside].any() and not unseen[count:].any()
    assert torch.equal(unseen[:count][outside], alone[outside])


@pytest.fixture(scope="module")
def term(tmp_path_factory):
    from flame_nerf.dataparser import FlameNerfDataParserConfig

    root = make_subject(tmp_path_factory.mktemp("unseen") / "subject", size=48, count=8).root
    outputs = FlameNerfDataParserConfig(data=root, split="all").setup().get_dataparser_outputs("train")
    dataset = FlameNerfDataset(outputs)
    subject, frames = outputs.metadata["subject"], outputs.metadata["frames"]
    c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in frames])
    shell = torch.full((len(subject.track.faces),), 0.02)
    return UnseenViews(UnseenViewsConfig(size=6), subject.track, frames, dataset, shell), c2w


def towards_middle(offset: float, side: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Parallel rays from behind (side -1) or before the head (1), along z, so far beside its middle."""
    origins = torch.tensor([[offset, 0.0, 0.6 * side]]).repeat(5, 1)
    return origins, torch.tensor([[0.0, 0.0, -side]]).repeat(5, 1)


def test_the_back_of_the_head_is_to_be_met(term):
    sides, _ = term
    depth, far, solid, empty, *_ = sides.surface(0, *towards_middle(0.0, -1.0))
    assert solid.all() and not empty.any() and torch.equal(depth, far)
    # The ellipsoid's back is 8.5 cm from its middle and has no hair in these pictures, give or take their 5 mm pixels.
    assert float(depth[0]) == pytest.approx(0.6 - 0.085, abs=0.008)


def test_the_front_may_lie_near_the_mesh_and_anywhere_without_a_tolerance(term):
    sides, _ = term
    met = sides.surface(0, *towards_middle(0.0, 1.0))
    assert met.solid.all() and not met.empty.any()
    # 4 mm inside; outside, also what outlines of pixels 5 mm wide may show.
    assert float(met.far[0]) == pytest.approx(0.6 - RADII[2] + 0.004, abs=0.001)
    assert 0.6 - RADII[2] - 0.010 < float(met.near[0]) < 0.6 - RADII[2] - 0.003
    met = without_tolerance(sides).surface(0, *towards_middle(0.0, 1.0))
    assert not (met.solid | met.empty).any()


@pytest.mark.parametrize(
    ("off", "solid", "empty"),
    [(-0.01, True, False), (-0.002, False, False), (0.002, False, False), (0.015, False, True)],
)
def test_the_outline_of_what_was_seen_is_asked_for_give_or_take_a_tolerance(term, off, solid, empty):
    sides, _ = term
    # From the side, past the tip of the face; its shell is 2 cm thick.
    origins = torch.tensor([[0.6, 0.0, RADII[2] + off]]).repeat(5, 1).float()
    rays = origins, torch.tensor([[-1.0, 0.0, 0.0]]).repeat(5, 1)
    met = sides.surface(0, *rays)
    assert (met.solid == solid).all() and (met.empty == empty).all()
    met = without_tolerance(sides).surface(0, *rays)
    assert not (met.empty | met.solid).any()


def test_beside_the_back_nothing_is_to_be_and_far_away_nothing_is_asked(term):
    sides, _ = term
    depth, _, solid, empty, *_ = sides.surface(0, *towards_middle(RADII[0] + 0.016, -1.0))
    assert depth.isinf().all() and not solid.any() and empty.all()
    _, _, solid, empty, *_ = sides.surface(0, *towards_middle(0.3, -1.0))
    assert not (solid | empty).any()


def without_tolerance(sides: UnseenViews) -> UnseenViews:
    """The same, but what cameras saw is left alone."""
    other = copy.copy(sides)
    other.config = dataclasses.replace(sides.config, observed_tolerance=math.inf)
    return other


def shows(accumulation: float, further: float, sides, rays, off_colour: float = 0.0):
    """A renderer whose rays show the same at some distance behind the surface, so far off the colour they shall have,
    before grey."""

    def render(frame, origins, directions):
        met = sides.surface(frame, *rays)
        depth = met.far
        return {
            "rgb": (met.colour + off_colour) * accumulation + 0.5 * (1 - accumulation),
            "background": torch.full((3,), 0.5),
            "accumulation": torch.full((len(depth), 1), accumulation, requires_grad=True),
            "depth": (torch.where(depth.isinf(), 0.0, depth) + further)[:, None],
            "origins": rays[0],
            "directions": rays[1],
        }

    return render


@pytest.mark.parametrize(
    "rays, accumulation, further, expected",
    [
        (towards_middle(0.0, -1.0), 1.0, 0.0, 0.0),
        (towards_middle(0.0, -1.0), 0.25, 0.0, 0.75),
        (towards_middle(0.0, -1.0), 1.0, 0.02, 0.1),
        (towards_middle(0.0, -1.0), 1.0, -0.02, 0.1),
        (towards_middle(RADII[0] + 0.016, -1.0), 0.4, 0.0, 0.4),
        (towards_middle(0.0, 1.0), 0.3, -0.002, 0.7),
        (towards_middle(0.0, 1.0), 1.0, 0.02, 0.1),
    ],
)
def test_the_loss(term, rays, accumulation, further, expected):
    sides, c2w = term
    assert float(sides.loss(c2w, shows(accumulation, further, sides, rays))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "rays, accumulation, expected",
    [
        (towards_middle(0.0, -1.0), 1.0, 0.2 * COLOUR_WEIGHT),
        (towards_middle(0.0, -1.0), 0.5, 0.5 + 0.1 * COLOUR_WEIGHT),
        # What cameras saw has its colour from them.
        (towards_middle(0.0, 1.0), 1.0, 0.0),
    ],
)
def test_what_no_camera_saw_is_to_have_the_outlines_colour(term, rays, accumulation, expected):
    sides, c2w = term
    assert float(sides.loss(c2w, shows(accumulation, 0.0, sides, rays, 0.2))) == pytest.approx(expected, abs=1e-5)


def test_views_go_all_around_the_head_and_not_over_it(term):
    sides, c2w = term
    directions = []

    def render(frame, origins, rays):
        directions.append(-rays.mean(dim=0))
        return {
            "rgb": torch.zeros(len(rays), 3), "background": torch.zeros(3), "accumulation": torch.ones(len(rays), 1),
            "depth": torch.ones(len(rays), 1), "origins": origins, "directions": rays,
        }  # fmt: skip

    for _ in range(60):
        sides.loss(c2w, render)
    towards = torch.nn.functional.normalize(torch.stack(directions), dim=1)
    # From before (+z), from behind, from either side, and never from far above.
    assert towards[:, 2].max() > 0.7 and towards[:, 2].min() < -0.7
    assert towards[:, 0].max() > 0.5 and towards[:, 0].min() < -0.5
    assert towards[:, 1].abs().max() < 0.85


def test_the_mesh_has_the_colours_that_it_was_painted_with(term):
    sides, _ = term
    rest, _ = ellipsoid()
    assert sides.solid.all()
    _, y, z = rest.T
    for part, most in (((z > 0.05) & (np.abs(y) < 0.06), 0.05), ((z < -0.04) & (y > 0.03), 0.15)):
        painted, found = paint(rest[part], 0.5), sides.colours.numpy()[part]
        assert part.sum() > 30 and np.abs(painted.mean(axis=0) - found.mean(axis=0)).max() < most


def test_what_was_seen_at_a_slant_has_its_colour_too_and_the_less_the_better_it_was_seen(term):
    sides, _ = term
    front = sides.surface(0, *towards_middle(0.0, 1.0))
    back = sides.surface(0, *towards_middle(0.0, -1.0))
    assert (front.coloured == 0).all() and (back.coloured == 1).all()
    # From the right side, further and further towards the face.
    z = torch.linspace(-0.04, 0.05, 10)
    origins = torch.stack([torch.full_like(z, 0.6), torch.full_like(z, 0.02), z], dim=1)
    coloured = sides.surface(0, origins, torch.tensor([[-1.0, 0.0, 0.0]]).repeat(10, 1)).coloured
    assert coloured[0] == 1 and coloured[-1] < 0.5 and ((coloured > 0) & (coloured < 1)).any()
    assert (coloured.diff() <= 0.05).all()


def test_some_views_look_closely_into_an_open_mouth(term):
    sides, c2w = term
    asked, views = [], []

    @dataclasses.dataclass
    class Open:
        vertices: torch.Tensor

    def open_mouth(frame):
        rest, _ = ellipsoid()
        asked.append(Open(torch.from_numpy(opened(rest, 1.0)).float()))
        return asked[-1]

    def render(frame, origins, directions, shown=None):
        views.append((origins, directions, shown))
        return {
            "rgb": torch.zeros(len(origins), 3), "background": torch.zeros(3), "origins": origins,
            "accumulation": torch.zeros(len(origins), 1), "depth": torch.zeros(len(origins), 1),
            "directions": directions,
        }  # fmt: skip

    sides = copy.copy(sides)
    sides.open_mouth = open_mouth
    lips = np.unique(ellipsoid()[1][regions(*ellipsoid()) == REGIONS.index("lips")])
    torch.manual_seed(0)
    lost = [(float(sides.loss(c2w, render)), views[-1][2] is not None) for _ in range(80)]
    close = [view for view in views if view[2] is not None]
    assert [view[2] for view in close] == asked and 8 < len(close) < 36
    # All rays of a close-up go by the lips within their size and a little more; others look at the whole head.
    for origins, directions, shown in close:
        points = shown.vertices[lips]
        middle = points.mean(dim=0)
        apart = torch.linalg.cross(directions, middle - origins).norm(dim=1)
        # A square's corner, a margin away.
        assert float(apart.max()) < 1.3 * 2**0.5 * float((points - middle).norm(dim=1).max())
    # And most of it is to be opaque, more than of a whole view.
    of_mouth, of_head = (np.mean([value for value, close_up in lost if close_up == which]) for which in (True, False))
    assert of_mouth > 0.7 > of_head
