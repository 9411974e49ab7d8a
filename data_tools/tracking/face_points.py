"""A head model reduced to its landmark points: what a fit to landmarks needs, and nothing else.

With the jaw joint at rest and world = head frame, every landmark is a linear function of identity and expression,
except for the iris points, which turn with the eyes: so a Gauss-Newton step costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_tools.tracking.config import TrackingError
from flame_nerf.heads import HeadModel, axis_angle_to_matrix

UNSEEN_EXPRESSIONS = ("tongueOut", "cheekPuff")
"""Left at zero: the face mesh has no points that see them, so they would only take up other errors."""
GAZE_PREFIX = "eyeLook"
"""Left at zero too: gaze is carried by the eye joints, and two explanations of one movement fight."""
EYE_JOINTS = ("left_eye", "right_eye")


@dataclass(frozen=True)
class FacePoints:
    """Landmark points of a head: L points, S identity components, E fitted expressions."""

    index: Int[Tensor, "L"]
    """Number of each point among the detector's."""
    weight: Float[Tensor, "L"]
    """Trust in each point, 1 on average."""
    mean: Float[Tensor, "L 3"]
    shape: Float[Tensor, "L 3 S"]
    expression: Float[Tensor, "L 3 E"]
    expression_rows: Int[Tensor, "E"]
    """Row of each fitted expression in the head model's list."""
    bounded: bool
    """Whether coefficients are blendshape weights in 0..1 (else they are free, ~N(0, 1))."""
    eye: Int[Tensor, "L"]
    """0 or 1 for points that turn with the left or right eye, -1 for the others."""
    eye_mean: Float[Tensor, "2 3"]
    eye_shape: Float[Tensor, "2 3 S"]
    """Centres of the eyes, linear in the identity."""
    normal: Float[Tensor, "L 3"]
    """Outward normals of the mean head's surface."""

    @property
    def gaze_points(self) -> Bool[Tensor, "L"]:
        return self.eye >= 0

    def points(
        self, identity: Float[Tensor, "S"], expression: Float[Tensor, "T E"], gaze: Float[Tensor, "T 2 2"]
    ) -> Float[Tensor, "T L 3"]:
        """Head-frame positions in metres. `gaze` is each eye's rotation about x (down) and y (to its left), radians."""
        still = self.mean + self.shape @ identity
        points = still + (expression @ self.expression.flatten(0, 1).T).unflatten(-1, still.shape)
        turning = self.gaze_points
        if not turning.any():
            return points
        centre = self.eye_centres(identity)[self.eye[turning]]
        rotation = gaze_rotation(gaze)[:, self.eye[turning]]
        turned = (rotation @ (points[:, turning] - centre)[..., None])[..., 0] + centre
        result = points.clone()
        result[:, turning] = turned
        return result

    def eye_centres(self, identity: Float[Tensor, "S"]) -> Float[Tensor, "2 3"]:
        return self.eye_mean + self.eye_shape @ identity


def gaze_rotation(gaze: Float[Tensor, "*T 2 2"]) -> Float[Tensor, "*T 2 3 3"]:
    """Rotation matrices of both eyes from their turns about x and y."""
    return axis_angle_to_matrix(torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1))


def face_points(head: HeadModel) -> FacePoints:
    """Reduce a head model to its landmark points.

    Raises:
        TrackingError: if the head has no landmark embedding.
    """
    if head.landmarks is None:
        raise TrackingError(
            f"the head model {head.name} has no landmark embedding, so it cannot be fitted to a video. "
            "Use --head anny, or add an embedding to the model's file."
        )
    embedding = head.landmarks
    corners = head.faces[embedding.face]
    blend = embedding.barycentric.double()

    def at_points(per_vertex: Tensor) -> Tensor:
        return torch.einsum("lc,lc...->l...", blend, per_vertex[corners].double())

    eyes = [head.joint_names.index(name) for name in EYE_JOINTS if name in head.joint_names]
    eye = torch.full((len(embedding.index),), -1, dtype=torch.long)
    if len(eyes) == 2:
        share = at_points(head.skinning_weights[:, eyes])
        eye = torch.where(share.max(dim=1).values > 0.5, share.argmax(dim=1), eye)
    else:
        eyes = [head.head_joint, head.head_joint]
    fitted = [
        row
        for row, name in enumerate(head.expression_names)
        if name not in UNSEEN_EXPRESSIONS and not name.startswith(GAZE_PREFIX)
    ]
    triangle = head.template[corners].double()
    normal = torch.linalg.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    return FacePoints(
        index=embedding.index.long(),
        # Only their ratios count: how well points can be told at all is the fit's noise level.
        weight=embedding.weight.double() / embedding.weight.double().mean(),
        mean=at_points(head.template),
        shape=at_points(head.shapedirs),
        expression=at_points(head.exprdirs[..., fitted]),
        expression_rows=torch.tensor(fitted, dtype=torch.long),
        bounded="jawOpen" in head.expression_names,
        eye=eye,
        eye_mean=head.joint_template[eyes].double(),
        eye_shape=head.joint_shapedirs[eyes].double(),
        normal=torch.nn.functional.normalize(normal, dim=-1),
    )
