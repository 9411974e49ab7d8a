"""A video of any length that costs no time to make: a few pictures shown again and again, each with its own mesh."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from synthetic import ellipsoid, make_subject, regions

from flame_nerf.subject import HeadTrack, Subject, write_subject


def long_subject(root: Path, *, size: int, count: int, rings: int = 24, pictures: int = 12) -> Subject:
    """Write a subject of `count` frames of size x size pixels that share `pictures` files.

    Args:
        rings: of the head's mesh, which has about rings x rings x 4/3 vertices; 61 make as many as a real head has.
    """
    few = make_subject(root / "few", size=size, count=pictures)
    rest, faces = ellipsoid(rings, rings * 4 // 3)
    posed = np.empty((count, len(rest), 3), np.float32)
    posed[:] = rest
    # Each mesh is its own, so that nothing can be shared between them.
    posed[:, :, 1] *= 1 + 1e-3 * np.sin(np.arange(count))[:, None]
    track = HeadTrack(
        faces=faces,
        canonical_vertices=rest.astype(np.float32),
        vertices=posed,
        expression=np.tile(few.track.expression, (count // pictures + 1, 1))[:count],
        expression_names=few.track.expression_names,
        pose=np.tile(few.track.pose, (count // pictures + 1, 1, 1))[:count],
        joint_names=few.track.joint_names,
        identity=few.track.identity,
        region=regions(rest, faces),
        region_names=few.track.region_names,
    )
    frames = tuple(
        dataclasses.replace(few.frames[index % pictures], timestep=index, split="test" if index % 50 == 7 else "train")
        for index in range(count)
    )
    subject = dataclasses.replace(few, root=root, frames=frames, track=track)
    write_subject(subject)
    return subject
