"""A head as a linear model with skinning: template + shape + expression, then joints.

One implementation serves every statistical head (the shipped open head, FLAME, an animal's): only the arrays differ.

Frames. All arrays are in the *head frame*: metres, x to the subject's left, y up, z forward out of the face. Posed
vertices are returned in that frame too: the head joint stands still at its rest place, so the skull keeps its template
coordinates whatever the neck and the root do, and it is the shoulders that move under a bent neck.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flame_nerf.geometry import axis_angle_to_matrix


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Points of a landmark scheme on the mesh: L points, each on one triangle."""

    index: Int[Tensor, " L"]
    """Number of the point in its scheme (0..477 of mediapipe's face mesh with irises; its row where it has a name)."""
    face: Int[Tensor, " L"]
    """Row of the head model's faces."""
    barycentric: Float[Tensor, "L 3"]
    """Weights of that face's three vertices; each row sums to 1."""
    weight: Float[Tensor, " L"]
    """0..1: how far the point can be trusted to stay on its place of the surface (face-oval points slide: <= 0.15)."""
    names: tuple[str, ...] = ()
    """L names where the head has keypoints of its own (an animal's `nose_tip`, `left_ear_tip`); empty for mediapipe's
    scheme, whose points only have numbers."""


@dataclass(frozen=True)
class HeadModel:
    """V vertices, F faces, S shape components, E expressions, J joints; see the module's docstring for the frame."""

    name: str
    template: Float[Tensor, "V 3"]
    """The mean head at rest, metres."""
    faces: Int[Tensor, "F 3"]
    """int64, counter-clockwise seen from outside."""
    shapedirs: Float[Tensor, "V 3 S"]
    """Metres per standard deviation: identity coefficients are ~N(0, 1)."""
    exprdirs: Float[Tensor, "V 3 E"]
    """Metres at full expression, or per standard deviation (see expression_range)."""
    expression_names: tuple[str, ...]
    joint_template: Float[Tensor, "J 3"]
    joint_shapedirs: Float[Tensor, "J 3 S"]
    """How the joints follow the identity."""
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """Row of each joint's parent, -1 for the root; a parent comes before its children."""
    skinning_weights: Float[Tensor, "V J"]
    """Rows sum to 1."""
    posedirs: Float[Tensor, "P V 3"] | None
    """Correctives for the P = 9 (J - 1) entries of (R - I) of every joint but the root; None where a model has none."""
    region: Int[Tensor, " F"]
    """Row of region_names for each face."""
    region_names: tuple[str, ...]
    landmarks: LandmarkEmbedding | None
    licence: str
    provenance: str
    joint_exprdirs: Float[Tensor, "J 3 E"] | None = None
    """How the joints follow the expression; None where they do not. FLAME regresses its joints from the head after
    shape and expression."""
    expression_range: str = "unit"
    """What coefficients mean: "unit", 0 (neutral) to 1 (full) as blendshapes have it, or "gaussian", unbounded and
    ~N(0, 1) as in statistical models."""

    @property
    def head_joint(self) -> int:
        """Row of the joint that carries the skull: "head", or "neck" in models without one (FLAME)."""
        return self.joint_names.index("head" if "head" in self.joint_names else "neck")

    def to(self, device: torch.device | str) -> HeadModel:
        """The same model with all its tensors on `device`."""
        return _map_tensors(self, lambda t: t.to(device))

    def region_mask(self, *names: str) -> Bool[Tensor, " F"]:
        """True for the faces of the named regions.

        Raises:
            KeyError: a name is none of `region_names`.
        """
        unknown = [n for n in names if n not in self.region_names]
        if unknown:
            raise KeyError(f"head model '{self.name}' has no region {unknown}; it has {list(self.region_names)}")
        rows = torch.tensor([self.region_names.index(n) for n in names], device=self.region.device)
        return torch.isin(self.region, rows)

    def rest(self, identity: Float[Tensor, " S"]) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "J 3"]]:
        """Vertices and joints of an identity at rest with a neutral face; metres, differentiable."""
        return self.template + self.shapedirs @ identity, self.joint_template + self.joint_shapedirs @ identity

    def vertices(
        self, identity: Float[Tensor, " S"], expression: Float[Tensor, "*T E"], pose: Float[Tensor, "*T J 3"]
    ) -> Float[Tensor, "*T V 3"]:
        """Posed vertices in the head frame: linear shape and expression, pose correctives, linear blend skinning.

        Args:
            identity: shape coefficients, in standard deviations.
            expression: expression coefficients; see expression_range for their meaning.
            pose: rotation of each joint against its parent, axis-angle in radians. The root's is ignored, and so is any
                rotation's effect on the head joint itself: the result is carried back to the head's rest placement.

        Returns:
            Vertices in metres. Differentiable in all three arguments; leading dimensions are batched.

        The skinning is SMPL's (Loper et al. 2015, eq. 2-4): v' = sum_j w_j G_j J_j^-1 v, here multiplied from the left
        by (G_head J_head^-1)^-1.
        """
        rest, _ = self.rest(identity)
        joints = self._joints(identity, expression)
        batch = expression.shape[:-1]
        shaped = rest + (expression @ self.exprdirs.flatten(0, 1).T).unflatten(-1, rest.shape)
        rotation = axis_angle_to_matrix(pose)
        if self.posedirs is not None:
            eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
            feature = (rotation[..., 1:, :, :] - eye).flatten(-3)
            shaped = shaped + (feature @ self.posedirs.flatten(1)).unflatten(-1, rest.shape)
        linear, offset = self._joint_transforms(joints, rotation)
        blend = (self.skinning_weights @ torch.cat([linear.flatten(-2), offset], dim=-1)).expand(*batch, -1, -1)
        return (blend[..., :9].unflatten(-1, (3, 3)) @ shaped[..., None])[..., 0] + blend[..., 9:]

    def placement(
        self,
        identity: Float[Tensor, " S"],
        pose: Float[Tensor, "*T J 3"],
        expression: Float[Tensor, "*T E"] | None = None,
    ) -> Float[Tensor, "*T 4 4"]:
        """Where the head frame is in model space: model-space vertices = placement @ [`vertices`; 1].

        Model space is where a statistical model's own forward pass leaves its vertices (FLAME's, SMPL's), in template
        coordinates: the root joint stays at its rest place and turns by `pose[..., 0, :]` about it, and the chain from
        there carries the head joint. With G_j the skinning transform of joint j, x_rest -> x_model, built from
        G_root = x -> R_root (x - J_root) + J_root downwards, this is G_head. A translation of the model is not in it:
        add it to the last column.

        Args:
            identity: shape coefficients, in standard deviations; they move the joints.
            pose: rotation of each joint against its parent, axis-angle in radians; the root's counts here.
            expression: needed where joints follow the expression (`joint_exprdirs`); None is a neutral face.

        Returns:
            Rigid transforms, metres; differentiable, leading dimensions batched.
        """
        joints = self._joints(identity, expression)
        rotation = axis_angle_to_matrix(pose)
        linear, offset = self._chain(joints, rotation)
        root, root_joint = rotation[..., 0, :, :], joints[..., 0, :]
        turned = root @ linear[self.head_joint]
        moved = (root @ (offset[self.head_joint] - root_joint)[..., None])[..., 0] + root_joint
        top = torch.cat([turned, moved[..., None]], dim=-1)
        return torch.cat([top, top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)], dim=-2)

    def _joints(
        self, identity: Float[Tensor, " S"], expression: Float[Tensor, "*T E"] | None
    ) -> Float[Tensor, "*T J 3"]:
        """Joints before any rotation; no leading dimensions where they do not follow the expression."""
        _, joints = self.rest(identity)
        if self.joint_exprdirs is None or expression is None:
            return joints
        return joints + (expression @ self.joint_exprdirs.flatten(0, 1).T).unflatten(-1, joints.shape)

    def _joint_transforms(
        self, joints: Float[Tensor, "*T J 3"], rotation: Float[Tensor, "*T J 3 3"]
    ) -> tuple[Float[Tensor, "*T J 3 3"], Float[Tensor, "*T J 3"]]:
        """x_rest -> linear @ x_rest + offset of every joint, relative to the head joint's own motion."""
        linear, offset = self._chain(joints, rotation)
        head_inverse = linear[self.head_joint].transpose(-1, -2)
        head_offset = offset[self.head_joint]
        relative = [head_inverse @ m for m in linear]
        shift = [(head_inverse @ (t - head_offset)[..., None])[..., 0] for t in offset]
        return torch.stack(relative, dim=-3), torch.stack(shift, dim=-2)

    def _chain(
        self, joints: Float[Tensor, "*T J 3"], rotation: Float[Tensor, "*T J 3 3"]
    ) -> tuple[list[Float[Tensor, "*T 3 3"]], list[Float[Tensor, "*T 3"]]]:
        """x_rest -> linear @ x_rest + offset of every joint, down the chain from a root that stands still."""
        linear: list[Tensor] = []
        offset: list[Tensor] = []
        for j, parent in enumerate(self.parents):
            if parent < 0:
                eye = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
                linear.append(eye.expand(rotation.shape[:-3] + (3, 3)))
                offset.append(torch.zeros_like(rotation[..., 0, :, 0]))
                continue
            turned = linear[parent] @ rotation[..., j, :, :]
            # The joint itself is carried by its parent; the joint's rotation leaves it in place.
            carried = ((linear[parent] - turned) @ joints[..., j, :, None])[..., 0]
            linear.append(turned)
            offset.append(carried + offset[parent])
        return linear, offset

    def landmark_points(self, vertices: Float[Tensor, "*T V 3"]) -> Float[Tensor, "*T L 3"]:
        """The landmark embedding's points on posed vertices, in the vertices' frame; differentiable.

        Raises:
            ValueError: the model carries no landmark embedding.
        """
        if self.landmarks is None:
            raise ValueError(
                f"head model '{self.name}' has no landmark embedding; build one with data_tools.open_head.embed"
            )
        corners = vertices[..., self.faces[self.landmarks.face], :]
        return (corners * self.landmarks.barycentric[:, :, None]).sum(-2)

    def subset(self, vertex_index: Int[Tensor, " K"]) -> HeadModel:
        """The model restricted to the given vertices, in the given order, with the faces that they span.

        Landmarks on faces that are gone are dropped. A fit that looks at landmarks only needs a tenth of the vertices.
        """
        new_row = torch.full((len(self.template),), -1, dtype=torch.int64, device=self.faces.device)
        new_row[vertex_index] = torch.arange(len(vertex_index), device=self.faces.device)
        faces = new_row[self.faces]
        kept = (faces >= 0).all(-1)
        landmarks = self.landmarks
        if landmarks is not None:
            new_face = torch.cumsum(kept, 0) - 1
            on_mesh = kept[landmarks.face]
            landmarks = _map_tensors(landmarks, lambda t: t[on_mesh])
            names = tuple(name for name, on in zip(landmarks.names, on_mesh.tolist(), strict=False) if on)
            landmarks = replace(landmarks, face=new_face[landmarks.face], names=names)
        return replace(
            self,
            template=self.template[vertex_index],
            faces=faces[kept],
            shapedirs=self.shapedirs[vertex_index],
            exprdirs=self.exprdirs[vertex_index],
            skinning_weights=self.skinning_weights[vertex_index],
            posedirs=None if self.posedirs is None else self.posedirs[:, vertex_index],
            region=self.region[kept],
            landmarks=landmarks,
        )

    def expression_vector(self, values: dict[str, float]) -> Float[Tensor, " E"]:
        """Coefficients from named expressions, the others zero.

        Raises:
            KeyError: a name is none of `expression_names`.
        """
        vector = torch.zeros(len(self.expression_names), dtype=self.template.dtype, device=self.template.device)
        for name, value in values.items():
            if name not in self.expression_names:
                raise KeyError(f"head model '{self.name}' has no expression '{name}'; see its expression_names")
            vector[self.expression_names.index(name)] = value
        return vector


def _map_tensors(record: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a dataclass with `function` applied to its tensors, nested records included."""
    changed = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = function(value)
        elif isinstance(value, LandmarkEmbedding):
            changed[field.name] = _map_tensors(value, function)
    return replace(record, **changed)
