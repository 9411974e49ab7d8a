"""The whole person as one mesh: head, hair and torso, with one texture."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float

from data_tools.ray_casting import MeshRays
from data_tools.synth import lighting
from data_tools.synth.hair import grow_hair
from data_tools.synth.paint import Palette, above_collar, paint
from data_tools.synth.torso import make_torso
from flame_nerf.heads import HeadModel


class Figure:
    """N vertices and G faces: those of the head first, then the hair's, then the torso's."""

    def __init__(self, head: HeadModel, identity: Float[torch.Tensor, " S"], random: np.random.Generator) -> None:
        """
        Args:
            head: the head model; its scalp region bears the hair.
            identity: shape coefficients.
            random: decides colours, hair and all texture.
        """
        rest, joints = (part.numpy().astype(np.float64) for part in head.rest(identity))
        head_faces = head.faces.numpy()
        palette = Palette.draw(random)
        length = random.uniform(0.020, 0.030)
        self._rest = rest
        self._hair = grow_hair(rest, head_faces, head.region_mask("scalp").numpy(), length, random)
        self._torso = make_torso(rest, head_faces)
        neck = joints[head.joint_names.index("neck")]
        self.texels = paint(head, rest.astype(np.float32), neck, self._hair, self._torso, palette, random)
        hair_end = len(rest) + len(self._hair.vertices)
        self.faces = np.concatenate([head_faces, self._hair.faces + len(rest), self._torso.faces + hair_end])
        count = hair_end + len(self._torso.border) * (self._torso.faces.max() // len(self._torso.border) + 1)
        self.is_hair: Bool[np.ndarray, " N"] = np.zeros(count, dtype=bool)
        self.is_hair[len(rest) : hair_end] = True
        self.above_collar: Float[np.ndarray, " N"] = np.full(count, -1.0, dtype=np.float32)
        """Linear over each face and 0 where masks end: hair is all above, the torso all below."""
        self.above_collar[: len(rest)] = above_collar(rest, neck)
        self.above_collar[self.is_hair] = 1.0
        self.at_rest = MeshRays(self.posed(rest, np.eye(3)), self.faces)
        """What `MeshRays.posed` makes every moment's mesh of."""
        self._hair_visible: np.ndarray | None = None

    def posed(
        self, head_vertices: Float[np.ndarray, "V 3"], torso_to_head: Float[np.ndarray, "3 3"]
    ) -> Float[np.ndarray, "N 3"]:
        """All vertices for a posed head, head frame, metres. Hair moves along with the scalp under it."""
        head_vertices = head_vertices.astype(np.float64)
        hair = self._hair.vertices + self._hair.roots @ (head_vertices - self._rest)
        return np.concatenate([head_vertices, hair, self._torso.vertices(head_vertices, torso_to_head)])

    def hair_visible(self, mesh: MeshRays, vertices: np.ndarray, normals: np.ndarray) -> Bool[np.ndarray, "H K"]:
        """The directions of light that the hair's vertices see. The skull is rigid, so one pose tells for all."""
        if self._hair_visible is None:
            self._hair_visible = lighting.visibility(mesh, vertices[self.is_hair], normals[self.is_hair])
        return self._hair_visible
