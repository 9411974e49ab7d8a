"""Sides that the video never shows: which they are, and that the term asks for the mesh there and nowhere else."""

import numpy as np
import pytest
import torch
from synthetic import ellipsoid, look_at_origin, make_subject, regions

from flame_nerf.pictures import FlameNerfDataset
from flame_nerf.subject import Frame, HeadTrack
from flame_nerf.unseen_sides import UnseenSides, UnseenSidesConfig, unseen_faces


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


@pytest.fixture(scope="module")
def term(tmp_path_factory):
    from flame_nerf.dataparser import FlameNerfDataParserConfig

    root = make_subject(tmp_path_factory.mktemp("unseen") / "subject", size=48, count=8).root
    outputs = FlameNerfDataParserConfig(data=root, split="all").setup().get_dataparser_outputs("train")
    dataset = FlameNerfDataset(outputs)
    subject, frames = outputs.metadata["subject"], outputs.metadata["frames"]
    c2w = torch.stack([torch.from_numpy(frame.c2w[:3]).float() for frame in frames])
    return UnseenSides(UnseenSidesConfig(size=6), subject.track, frames, dataset, torch.device("cpu")), c2w


def rendered(face: int, accumulation: float, depth: float, mesh_depth: float):
    """A renderer whose rays all meet one triangle, and show the same."""

    def render(frame, origins, directions):
        count = len(origins)
        return {
            "accumulation": torch.full((count, 1), accumulation, requires_grad=True),
            "depth": torch.full((count, 1), depth, requires_grad=True),
            "mesh_depth": torch.full((count,), mesh_depth),
            "mesh_face": torch.full((count,), face),
        }

    return render


def test_unseen_skin_is_to_be_solid_and_at_the_meshs_depth(term):
    sides, c2w = term
    skin = int((sides._unseen & sides._bare).nonzero()[0])
    assert float(sides.loss(c2w, rendered(skin, 1.0, 0.5, 0.5))) == pytest.approx(0.0)
    assert float(sides.loss(c2w, rendered(skin, 0.25, 0.5, 0.5))) == pytest.approx(0.75)
    assert float(sides.loss(c2w, rendered(skin, 1.0, 0.52, 0.5))) == pytest.approx(0.1)


def test_unseen_hair_is_to_be_solid_at_any_depth(term):
    sides, c2w = term
    hair = int((sides._unseen & ~sides._bare).nonzero()[0])
    assert float(sides.loss(c2w, rendered(hair, 0.25, 0.9, 0.5))) == pytest.approx(0.75)


def test_what_was_seen_and_what_meets_nothing_is_left_alone(term):
    sides, c2w = term
    seen = int((~sides._unseen).nonzero()[0])
    assert float(sides.loss(c2w, rendered(seen, 0.0, 0.9, 0.5))) == 0.0
    assert float(sides.loss(c2w, rendered(-1, 0.0, 0.0, float("inf")))) == 0.0
