"""What the renderer adds to what the field says: where substance is expected."""

import numpy as np
import pytest
import torch
from canonical_oracle import distances, is_inside
from synthetic import make_subject

from flame_nerf.canonical import MappingConfig, MeshShift
from flame_nerf.field import FieldConfig
from flame_nerf.methods import flame_nerf, flame_nerf_cpu, flame_nerf_insta
from flame_nerf.motion import SubjectMotion
from flame_nerf.render.head_renderer import NEAR, HeadRenderer
from flame_nerf.render.observed.occupancy import OccupancyConfig
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.render.shell_config import ShellConfig
from flame_nerf.render.step_rays import Moments, StepRays

SIGMA = 20.0
"""1/m: a density at which no ray is opaque."""


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    return make_subject(tmp_path_factory.mktemp("subject") / "subject", size=32, count=5).track


def renderer(track, **sampling) -> HeadRenderer:
    """One whose field says the same everywhere."""
    config = SamplingConfig(step=0.002, occupancy=OccupancyConfig(enabled=False), **sampling)
    field = FieldConfig(n_levels=2, log2_hashmap_size=8, max_resolution=32)
    found = HeadRenderer(track, SubjectMotion(track), MappingConfig(), field, config, pixel_size=0.002).eval()
    found.query_field = lambda points, *told: (torch.full((len(points),), SIGMA), torch.zeros(len(points), 3))
    return found


def opacity(
    found: HeadRenderer, origins: torch.Tensor, directions: torch.Tensor, shift: MeshShift | None = None
) -> torch.Tensor:
    which, condition = torch.zeros(len(origins), dtype=torch.long), torch.zeros(1, found.field.condition_dim)
    moments = Moments([found.meshes.get(0)], condition, shift=shift)
    outputs = found(found.prepare(StepRays(moments, which, origins, directions)), condition)
    return outputs["accumulation"][:, 0]


def rays() -> tuple[torch.Tensor, torch.Tensor]:
    """From all around, through the head and past it."""
    generator = torch.Generator().manual_seed(0)
    origins = 0.5 * torch.nn.functional.normalize(torch.randn(60, 3, generator=generator), dim=1)
    towards = 0.16 * (torch.rand(60, 3, generator=generator) - 0.5)
    return origins, torch.nn.functional.normalize(towards - origins, dim=1)


@pytest.mark.parametrize("in_kernels", [True, False])
def test_densities_fall_from_the_mesh_to_the_shells_edge_but_for_hair(track, in_kernels, monkeypatch):
    if not in_kernels:
        monkeypatch.setattr("flame_nerf.kernels.availability.numba_problem", lambda: "not here")
    shell = ShellConfig(skin=0.01, scalp=0.03, neck=0.02)
    falling = renderer(track, shell=shell, falloff=3.0)
    origins, directions = rays()
    samples = falling.mapping.sample_shell(
        [falling.meshes.get(0)], torch.zeros(60, dtype=torch.long), origins, directions,
        shell=falling.shell, behind=falling.config.behind, grazing=falling.config.grazing, step=falling.config.step,
        through=True, near=NEAR,
    )  # fmt: skip
    middles = samples.positions(origins, directions).double().numpy()
    apart = distances(middles, np.asarray(track.vertices[0], np.float64), track.faces)
    nearest = apart.argmin(axis=1)
    region = np.asarray(track.region_names)[track.region[nearest]]
    thickness = np.array([shell.by_region()[name] for name in region])
    assert {"scalp", "skin", "neck"} <= set(region)
    inside = is_inside(middles, np.asarray(track.vertices[0], np.float64), track.faces)
    assert 0.1 < inside.mean() < 0.9
    # A mean of one from the mesh to the shell's edge.
    fallen = np.exp(-3.0 * np.where(inside, 0.0, apart.min(axis=1)) / thickness)
    part = np.where(region == "scalp", 1.0, 3.0 / (1 - np.exp(-3.0)) * fallen)
    along = np.zeros(60)
    np.add.at(along, samples.ray_index.numpy(), SIGMA * part * (samples.t_end - samples.t_start).numpy())
    found = opacity(falling, origins, directions)
    # Where two regions meet, which of two triangles is nearest is a matter of rounding.
    elsewhere = np.where(np.asarray(track.region_names)[track.region] == region[:, None], np.inf, apart).min(axis=1)
    judged = np.ones(60, bool)
    judged[samples.ray_index.numpy()[elsewhere - apart.min(axis=1) < 1e-6]] = False
    assert judged.sum() > 40
    np.testing.assert_allclose(found.numpy()[judged], (1 - np.exp(-along))[judged], atol=1e-5)
    assert (found - opacity(renderer(track, shell=shell), origins, directions)).abs().max() > 0.05


def test_densities_fall_off_the_mesh_where_corrections_of_identity_move_it(track):
    falling = renderer(track, falloff=4.0)
    moved = MeshShift(torch.zeros(1, len(track.faces), 3), torch.full((len(track.faces), 3), 0.02))
    torch.testing.assert_close(opacity(falling, *rays(), moved), opacity(falling, *rays()), atol=1e-4, rtol=0)


def test_a_shell_without_thickness_is_no_division_by_zero(track):
    thin = renderer(track, shell=ShellConfig(skin=0.0), falloff=4.0)
    assert torch.isfinite(opacity(thin, *rays())).all()


@pytest.mark.parametrize(("spec", "falls"), [(flame_nerf, True), (flame_nerf_cpu, True), (flame_nerf_insta, False)])
def test_methods(spec, falls):
    assert (spec.config.pipeline.model.sampling.falloff > 0) == falls
    # A run that knew nothing of it has to look as it did.
    assert SamplingConfig().falloff == 0.0
