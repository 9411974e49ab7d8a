"""A head model for the synthetic head: the arrays that `synthetic.make_subject` moves by, and joints that turn."""

from __future__ import annotations

import numpy as np
import torch
from synthetic import REGIONS, ellipsoid, opened, regions

from flame_nerf.heads import HeadModel
from flame_nerf.subject import HeadTrack

JOINTS = ("root", "neck", "head", "jaw", "left_eye", "right_eye")


def make_head(*, shapes: int = 3, turning_jaw: bool = False, seed: int = 0) -> HeadModel:
    """The model behind `make_subject`'s track, with `shapes` random smooth identity components.

    Args:
        turning_jaw: the chin follows the jaw joint; off, joints move nothing, as in `make_subject`.
    """
    generator = np.random.default_rng(seed)
    rest, faces = ellipsoid()
    smile = (rest[:, :1] > 0.01) & (np.abs(rest[:, 1:2] + 0.045) < 0.03) & (rest[:, 2:] > 0)
    expressions = np.stack([opened(rest, 1.0) - rest, smile * np.array([0.004, 0.006, 0.0])], axis=-1)
    places = np.array([[0, -0.2, 0], [0, -0.12, -0.02], [0, -0.05, 0], [0, 0, 0.02], [0.03, 0.025, 0.07],
                       [-0.03, 0.025, 0.07]])  # fmt: skip
    weights = np.zeros((len(rest), len(JOINTS)))
    chin = np.clip((-0.045 - rest[:, 1]) / 0.04, 0, 1) * (rest[:, 2] > 1e-6) * turning_jaw
    weights[:, JOINTS.index("jaw")] = chin
    weights[:, JOINTS.index("head")] = 1 - chin
    shapes_at = rest[:, :, None] * generator.normal(size=(1, 3, shapes)) * 0.03

    def floats(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    return HeadModel(
        name="synthetic",
        template=floats(rest),
        faces=torch.from_numpy(faces.astype(np.int64)),
        shapedirs=floats(shapes_at),
        exprdirs=floats(expressions),
        expression_names=("jawOpen", "mouthSmileLeft"),
        joint_template=floats(places),
        joint_shapedirs=floats(generator.normal(size=(len(JOINTS), 3, shapes)) * 0.002),
        joint_names=JOINTS,
        parents=(-1, 0, 1, 2, 2, 2),
        skinning_weights=floats(weights),
        posedirs=None,
        region=torch.from_numpy(regions(rest, faces).astype(np.int64)),
        region_names=REGIONS,
        landmarks=None,
        licence="Apache-2.0",
        provenance="tests/synthetic_head.py",
    )


def make_track(posing_head, named_after, count=11, seed=1) -> HeadTrack:
    """A track whose meshes are `posing_head`'s own, at a random identity and random coefficients."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.randn(posing_head.shapedirs.shape[-1], generator=generator)
    expression = torch.rand(count, len(named_after.expression_names), generator=generator)
    pose = 0.2 * torch.randn(count, len(JOINTS), 3, generator=generator)
    canonical = posing_head.vertices(identity, torch.zeros(expression.shape[1]), torch.zeros(len(JOINTS), 3))
    return HeadTrack(
        faces=posing_head.faces.numpy().astype(np.int32),
        canonical_vertices=canonical.numpy(),
        vertices=posing_head.vertices(identity, expression, pose).numpy(),
        expression=expression.numpy(),
        expression_names=named_after.expression_names,
        pose=pose.numpy(),
        joint_names=JOINTS,
        identity=identity.numpy(),
        region=posing_head.region.numpy().astype(np.int8),
        region_names=posing_head.region_names,
    )
