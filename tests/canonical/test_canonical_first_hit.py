"""Where rays meet the posed mesh first, and faces that are blended and scaled alone."""

from __future__ import annotations

import dataclasses

import canonical_oracle as oracle
import numpy as np
import pytest
import torch
from canonical_cases import BACKENDS, as_tensor
from torch.nn.functional import normalize

from flame_nerf.canonical import CanonicalMapping, MappingConfig


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_hit_against_open3d(backend):
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    rest, faces = oracle.head_like(6)
    posed = [oracle.deformed(rest, seed).astype(np.float32) for seed in (0, 1)]
    mapping = CanonicalMapping(torch.from_numpy(faces), as_tensor(rest), MappingConfig(backend=backend))
    generator = torch.Generator().manual_seed(0)
    origins = 0.4 * normalize(torch.randn(600, 3, generator=generator))
    # Towards the head, past it and (from the last hundred, inside of it) out of it.
    directions = normalize(0.12 * torch.randn(600, 3, generator=generator) - origins)
    origins[500:] *= 0.05
    # Whole packets of one mesh, and cut ones.
    which = torch.arange(600) // 13 % 2
    distance, face = mapping.first_hit([mapping.pose(as_tensor(v)) for v in posed], which, origins, directions)

    for mesh, vertices in enumerate(posed):
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(faces.astype(np.uint32)))
        own = which == mesh
        rays = torch.cat([origins, directions], dim=1)[own].numpy()
        truth = scene.cast_rays(o3d.core.Tensor(rays))
        expected = torch.from_numpy(truth["t_hit"].numpy())
        assert 20 < expected.isinf().sum() < 250
        torch.testing.assert_close(distance[own], expected, atol=2e-6, rtol=1e-5)
        ids = truth["primitive_ids"].numpy().astype(np.int64)
        ids[~np.isfinite(expected.numpy())] = -1
        assert (face[own].numpy() == ids).mean() > 0.995, "all but hits on an edge"
        assert ((face[own] < 0) == expected.isinf()).all()


def test_first_hit_of_no_rays_and_wrong_mesh():
    rest, faces = oracle.head_like(2)
    mapping = CanonicalMapping(torch.from_numpy(faces), as_tensor(rest))
    posed, none = [mapping.pose(as_tensor(rest))], torch.empty(0, 3)
    distance, face = mapping.first_hit(posed, torch.empty(0, dtype=torch.long), none, none)
    assert len(distance) == len(face) == 0
    with pytest.raises(ValueError, match="mesh_index"):
        mapping.first_hit(posed, torch.tensor([1]), torch.zeros(1, 3), torch.ones(1, 3))


@pytest.mark.parametrize("blend", ["face", "point"])
def test_blending_and_scaling_of_some_faces_alone(blend):
    rest, faces = oracle.head_like(4)
    config = MappingConfig(squared=False, blend=blend)
    mask = torch.arange(len(faces)) % 3 == 0
    points = as_tensor(oracle.deformed(rest, 0)[faces].mean(axis=1) * 1.03)
    face, one = torch.arange(len(faces)), torch.zeros(len(faces), dtype=torch.long)

    def carried(config: MappingConfig, **masks) -> torch.Tensor:
        mapping = CanonicalMapping(torch.from_numpy(faces), as_tensor(rest), config, **masks)
        return mapping.to_canonical([mapping.pose(as_tensor(oracle.deformed(rest, 0)))], one, points, face).points

    alone = carried(dataclasses.replace(config, neighbourhood="face"))
    together, unscaled = carried(config), carried(dataclasses.replace(config, scale=False))
    assert (alone - together).abs().max() > 1e-4
    torch.testing.assert_close(carried(config, blended=mask), torch.where(mask[:, None], together, alone))
    # A scaled face's unscaled neighbour takes part in its blend, so scaling is compared face by face.
    by_face = dataclasses.replace(config, neighbourhood="face")
    unscaled = carried(dataclasses.replace(by_face, scale=False))
    assert (alone - unscaled).abs().max() > 1e-4
    torch.testing.assert_close(carried(by_face, scaled=mask), torch.where(mask[:, None], alone, unscaled))
