"""How fine the field is where: levels of its grid that places without a camera do without."""

import dataclasses

import pytest
import torch
from one_thread import one_thread  # noqa: F401
from synthetic import make_subject

from flame_nerf.canonical import MappingConfig
from flame_nerf.field import FieldConfig
from flame_nerf.motion import SubjectMotion
from flame_nerf.render.head_renderer import HeadRenderer
from flame_nerf.render.sampling_config import SamplingConfig

FIELD = FieldConfig(n_levels=8, log2_hashmap_size=12, max_resolution=48, precision="float32")


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("subject") / "subject", size=32, count=3).track


def renderer(track, **changes) -> HeadRenderer:
    field = dataclasses.replace(FIELD, **changes)
    found = HeadRenderer(track, SubjectMotion(track), MappingConfig(), field, SamplingConfig(), pixel_size=1e-4)
    torch.manual_seed(0)
    for name, parameter in found.field.named_parameters():
        if name.startswith(("grid.", "condition_")):
            torch.nn.init.uniform_(parameter, -3.0, 3.0)
    return found


def learn(found: HeadRenderer, track, behind: int) -> None:
    """So many eighths of the levels less for the back of the head."""
    vertices = torch.from_numpy(track.canonical_vertices)
    left_out = torch.where(vertices[:, 2] < 0, behind, 0).to(torch.uint8)
    found.set_detail(left_out)


def asked(track) -> tuple[torch.Tensor, ...]:
    """Places of the mesh, before and behind, of two moments by turns."""
    points = torch.from_numpy(track.canonical_vertices)
    points = points[points[:, 2].abs() > 0.02]
    directions = torch.nn.functional.normalize(points, dim=1)
    condition = torch.rand(2, SubjectMotion(track).condition_dim, generator=torch.Generator().manual_seed(1))
    return points, directions, condition, torch.arange(len(points)) % 2


@pytest.mark.parametrize("compiled", [True, False])
def test_places_do_without_the_finest_levels_and_others_have_them(track, compiled):
    found = renderer(track, compiled=compiled)
    given = asked(track)
    behind = given[0][:, 2] < 0
    whole = found.query_field(*given)
    learn(found, track, behind=2)
    coarser = found.query_field(*given)
    torch.manual_seed(3)
    with torch.no_grad():
        rows = found.field.grid.table[int(found.field.grid.layout.offsets[-2]) :]
        rows.add_(torch.randn_like(rows))
    changed = found.query_field(*given)
    for was, now, then in zip(whole, coarser, changed, strict=True):
        assert torch.allclose(was[~behind], now[~behind], atol=1e-6)
        assert (was[behind] - now[behind]).abs().mean() > 1e-3
        assert torch.allclose(now[behind], then[behind], atol=1e-6)
        assert (now[~behind] - then[~behind]).abs().mean() > 1e-3


@pytest.mark.parametrize(("levels", "less"), [(16, 6), (8, 3), (6, 1), (5, 0), (2, 0)])
def test_grids_of_few_levels_do_without_fewer(track, levels, less):
    found = renderer(track, n_levels=levels)
    learn(found, track, behind=3)
    assert int(found.detail.left_out.max()) == less


def test_it_is_kept_with_the_weights_and_older_ones_have_all_levels(track):
    found, other = renderer(track), renderer(track)
    given = asked(track)
    whole = found.query_field(*given)
    learn(found, track, behind=2)
    state = found.state_dict()
    other.load_state_dict(state)
    assert all(map(torch.equal, other.query_field(*given), found.query_field(*given)))
    del state["detail.left_out"]
    other = renderer(track)
    other.load_state_dict(state)
    assert all(map(torch.equal, other.query_field(*given), whole))
