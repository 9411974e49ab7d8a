"""A head model reduced to its landmark points: what a fit to landmarks needs, and nothing else.

In the head frame every landmark is a linear function of identity and expression, except for the iris points, which
turn with the eyes, and the lower face of heads that open the mouth by a joint: so a Gauss-Newton step costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_tools.tracking.config import TrackingError
from data_tools.tracking.fit.face.jaw import JOINT, RANGE, Jaw, opens_by_joint
from data_tools.tracking.fit.face.lid_points import Lids, find_lids
from flame_nerf.geometry import axis_angle_to_matrix
from flame_nerf.heads import HeadModel

UNSEEN_EXPRESSIONS = ("tongueOut", "cheekPuff")
"""Left at zero: the face mesh has no points that see them, so they would only take up other errors."""
GAZE_PREFIX = "eyeLook"
"""Left at zero too: gaze is carried by the eye joints, and two explanations of one movement fight."""
EYE_JOINTS = ("left_eye", "right_eye")
QUICK_PREFIXES = ("eyeBlink", "eyeWide", "eyeSquint")
"""Expressions of the lids, which come and go within a frame or two."""
NORMAL_REACH = 0.01
"""Landmarks' normals are taken over so much of the surface, metres. Margins of lids and lips face up and down by
themselves, and would count as turned away."""
GAZE_SEEN = (0.7, 0.85)
"""Share of an eye's turn up or down, and to a side, by which the detector moves its iris: the lids hide a part of it.
Measured on pictures of the open head and of the synthetic person: 0.6 (down) to 0.9 where lids follow the eyes, down to
0.25 where they do not; and 0.72 (eyes of 20 pixels) to 0.96. It counts where irises are not found in the pictures."""
GAUSSIAN_UNIT = 1 / 0.3
"""Standard deviations of a statistical expression at a fitted coefficient of 1: blendshapes spread by 0.3 of their
range, and so all coefficients are fitted in like units."""


@dataclass(frozen=True)
class Detector:
    """How far what finds a head's landmarks can be trusted. Lengths are fractions of the mean face's height at the
    head's distance, but for `good` and `poor`, which are of the person's own."""

    noise: float
    """Standard deviation of a landmark."""
    outlier: float
    """Distance at which a point has lost half its say (Cauchy weight)."""
    guess: float
    """Weight of a point on the side that is turned away."""
    span: tuple[int, int] | None
    """Numbers of two points, top and bottom, whose distance is the face's height, and between which the head's outline
    is skin. None: there are no such points; the whole head's outline counts."""
    good: float
    """Mean distance that a good capture stays below,"""
    poor: float
    """and that from which its fit is poor."""
    noun: str
    """What is measured, in words:"""
    band: str
    """and which part of its outline."""


FACE_MESH = Detector(
    noise=0.02, outlier=0.03, guess=0.1, span=(9, 152), good=0.011, poor=0.018, noun="face", band="brow to chin"
)
"""MediaPipe's. A single point is better than that; but neighbours err together, so that 478 count as far fewer. It
invents the far cheek. Its points 9 and 152 lie between the brows and at the chin."""
KEYPOINTS = Detector(
    noise=0.008, outlier=0.05, guess=1.0, span=None, good=0.02, poor=0.04, noun="head", band="whole head"
)
"""A few dozen named points, each found for itself, each with a likelihood that says whether it was seen."""
HEAD_SHARE_OF_EXTENT = 0.65
"""What stands for the face's height on a head without the two points: this share of its points' vertical extent."""


@dataclass(frozen=True)
class FacePoints:
    """Landmark points of a head: L points, S identity components, E fitted expressions."""

    index: Int[Tensor, " L"]
    """Number of each point among the detector's."""
    weight: Float[Tensor, " L"]
    """Trust in each point, 1 on average."""
    mean: Float[Tensor, "L 3"]
    shape: Float[Tensor, "L 3 S"]
    expression: Float[Tensor, "L 3 E"]
    """Metres per fitted coefficient. The last one is the jaw's, zero here, where a jaw joint opens the mouth."""
    expression_rows: Int[Tensor, " E_of_head"]
    """Row of each fitted expression in the head model's list; the jaw has none."""
    unit: float
    """The head model's coefficient at a fitted coefficient of 1."""
    low: Float[Tensor, " E"]
    high: Float[Tensor, " E"]
    """Bounds of the fitted coefficients: 0 and 1 for blendshapes, none (infinite) for statistical expressions."""
    eye: Int[Tensor, " L"]
    """0 or 1 for points that turn with the left or right eye, -1 for the others."""
    eye_mean: Float[Tensor, "2 3"]
    eye_shape: Float[Tensor, "2 3 S"]
    """Centres of the eyes, linear in the identity."""
    normal: Float[Tensor, "L 3"]
    """Outward normals of the mean head's surface around each point."""
    detector: Detector
    jaw: Jaw | None = None
    """Of heads that open the mouth by a joint."""
    quick: Bool[Tensor, " E"] | None = None
    """Expressions that may change within a frame or two; None: none."""
    lids: Lids | None = None
    """Pairs of points on the lids, where the detector has them."""
    gaze_seen: tuple[float, float] = (1.0, 1.0)
    """Share of an eye's turn about x and about y that its points show."""

    @property
    def gaze_points(self) -> Bool[Tensor, " L"]:
        return self.eye >= 0

    def points(
        self, identity: Float[Tensor, " S"], expression: Float[Tensor, "T E"], gaze: Float[Tensor, "T 2 2"]
    ) -> Float[Tensor, "T L 3"]:
        """Head-frame positions in metres, as the detector sees them. `gaze` is each eye's rotation about x (down) and y
        (to its left), radians."""
        still = self.mean + self.shape @ identity
        points = still + (expression @ self.expression.flatten(0, 1).T).unflatten(-1, still.shape)
        if self.jaw is not None:
            points = self.jaw.turned(points, expression[:, -1], identity)
        turning = self.gaze_points
        if not turning.any():
            return points
        centre = self.eye_centres(identity)[self.eye[turning]]
        shown = gaze * gaze.new_tensor(self.gaze_seen)
        rotation = gaze_rotation(shown)[:, self.eye[turning]]
        turned = (rotation @ (points[:, turning] - centre)[..., None])[..., 0] + centre
        result = points.clone()
        result[:, turning] = turned
        return result

    def eye_centres(self, identity: Float[Tensor, " S"]) -> Float[Tensor, "2 3"]:
        return self.eye_mean + self.eye_shape @ identity


def gaze_rotation(gaze: Float[Tensor, "*T 2 2"]) -> Float[Tensor, "*T 2 3 3"]:
    """Rotation matrices of both eyes from their turns about x and y."""
    return axis_angle_to_matrix(torch.cat([gaze, torch.zeros_like(gaze[..., :1])], dim=-1))


def face_points(head: HeadModel, marks: bool = True) -> FacePoints:
    """Reduce a head model to its landmark points.

    Args:
        marks: whether the points are a detector's marks; otherwise they are any places of the surface.

    Raises:
        TrackingError: if the head has no landmark embedding.
    """
    if head.landmarks is None:
        raise TrackingError(
            f"the head model {head.name} has no landmark embedding, so it cannot be fitted to a video. "
            "Use --head anny, add an embedding to the model's file, or give --keypoints with a --keypoint-map."
        )
    embedding = head.landmarks
    detector = KEYPOINTS if embedding.names else FACE_MESH
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
    unit, low, high = (1.0, 0.0, 1.0) if head.expression_range == "unit" else (GAUSSIAN_UNIT, -torch.inf, torch.inf)
    expression = unit * at_points(head.exprdirs[..., fitted])
    bounds = [torch.full((len(fitted),), bound, dtype=torch.float64) for bound in (low, high)]
    jaw = _jaw(head, at_points) if opens_by_joint(head) else None
    if jaw is not None:
        expression = torch.cat([expression, torch.zeros_like(expression[..., :1])], dim=-1)
        bounds = [torch.cat([bound, bound.new_tensor([limit])]) for bound, limit in zip(bounds, RANGE, strict=True)]
    triangle = head.template[corners].double()
    normal = torch.linalg.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    mean = at_points(head.template)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    normal = _over_reach(mean, normal, eye >= 0) if marks else normal
    human = marks and detector is FACE_MESH
    names = [head.expression_names[row] for row in fitted]
    quick = torch.tensor([name.startswith(QUICK_PREFIXES) for name in names] + [False] * (jaw is not None))
    return FacePoints(
        index=embedding.index.long(),
        # Only their ratios count: how well points can be told at all is the fit's noise level.
        weight=embedding.weight.double() / embedding.weight.double().mean(),
        mean=mean,
        shape=at_points(head.shapedirs),
        expression=expression,
        expression_rows=torch.tensor(fitted, dtype=torch.long),
        unit=unit,
        low=bounds[0],
        high=bounds[1],
        eye=eye,
        eye_mean=head.joint_template[eyes].double(),
        eye_shape=head.joint_shapedirs[eyes].double(),
        normal=normal,
        detector=detector,
        jaw=jaw,
        quick=quick,
        lids=find_lids(embedding.index.tolist(), mean, names) if human else None,
        gaze_seen=GAZE_SEEN if human else (1.0, 1.0),
    )


def _over_reach(
    places: Float[Tensor, "L 3"], normal: Float[Tensor, "L 3"], apart: Bool[Tensor, " L"]
) -> Float[Tensor, "L 3"]:
    """Normals of the surface around each point, by its neighbours' normals; those of points `apart` are their own."""
    near = torch.exp(-0.5 * torch.cdist(places, places).square() / NORMAL_REACH**2)
    around = torch.nn.functional.normalize((near * ~apart) @ normal, dim=-1)
    return torch.where(apart[:, None], normal, around)


def _jaw(head: HeadModel, at_points: Callable[[Tensor], Tensor]) -> Jaw:
    row = head.joint_names.index(JOINT)
    corrective = None
    if head.posedirs is not None:
        of_jaw = head.posedirs[9 * (row - 1) : 9 * row]
        corrective = at_points(of_jaw.permute(1, 2, 0)).permute(2, 0, 1)
    return Jaw(
        row=row,
        share=at_points(head.skinning_weights[:, row]),
        corrective=corrective,
        mean=head.joint_template[row].double(),
        shape=head.joint_shapedirs[row].double(),
    )
