"""A head whose skull stands still, before cameras that move instead."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Int

from flame_nerf.runtime.scratch import scratch_array
from flame_nerf.subject.rigid import rigid_fit, stands_still
from flame_nerf.subject.types import Subject

SKULL_REGIONS = ("scalp", "ears")
"""Regions that move with a human skull and hardly with the expression."""
SOFT_REGIONS = ("lips", "mouth", "teeth", "tongue", "eyes", "eyelids", "ears", "muzzle", "neck")
"""What to leave out of the skull when a head has no scalp: animals turn their ears, and a muzzle has a jaw."""

ROWS_AT_ONCE = 256
"""Timesteps whose meshes are held in memory at a time while a head is stabilised."""
TURNED_MEMORY = 256 * 1024**2
"""Bytes of stabilised meshes held in memory; beyond that they lie in a mapped temporary file."""


def stabilize_head(subject: Subject) -> Subject:
    """The same subject with its skull standing still: world = head frame, cameras moved along.

    Each timestep's posed skull is laid onto the canonical skull by a rigid least-squares fit. A track that is
    stabilised already is returned as it is. Meshes are gone through in blocks of rows, never all at once.
    """
    track = subject.track
    skull = _skull_vertices(subject)
    blocks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, track.num_timesteps, ROWS_AT_ONCE)]
    rest = track.canonical_vertices[skull]
    head_from_world = np.concatenate([rigid_fit(track.vertices[rows][:, skull].astype(float), rest) for rows in blocks])
    if stands_still(head_from_world, rest.mean(axis=0)):
        return subject
    vertices = scratch_array(track.vertices.shape, np.float32, TURNED_MEMORY)
    for rows in blocks:
        rotation, translation = head_from_world[rows, :3, :3], head_from_world[rows, :3, 3]
        vertices[rows] = np.einsum("tij,tvj->tvi", rotation, track.vertices[rows]) + translation[:, None]
    return dataclasses.replace(
        subject,
        frames=tuple(dataclasses.replace(f, c2w=head_from_world[f.timestep] @ f.c2w) for f in subject.frames),
        track=dataclasses.replace(track, vertices=vertices),
    )


def _skull_vertices(subject: Subject) -> Int[np.ndarray, " N"]:
    track = subject.track
    human = track.region_faces(SKULL_REGIONS[0]).any()
    faces = track.region_faces(*SKULL_REGIONS) if human else ~track.region_faces(*SOFT_REGIONS)
    return np.unique(track.faces[faces if faces.any() else slice(None)])
