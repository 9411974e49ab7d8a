"""Bringing points near a head's template onto it, each kind of landmark onto its own part."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from data_tools.open_head.detection import IRISES, inner_lips, landmark_set
from data_tools.ray_casting import MeshRays
from flame_nerf.heads import HeadModel


class Surface:
    """Brings places near the template onto it, each kind of landmark onto its own part."""

    def __init__(self, head: HeadModel):
        self.faces, self.template = head.faces.numpy(), head.template.numpy()
        self.rims = lid_rims(head)
        inner = head.region_mask(*named(head, "mouth", "teeth", "tongue", "eyes", "sockets")).numpy()
        self.parts = {
            "eyes": np.nonzero(head.region_mask("eyes").numpy())[0],
            "lips": np.nonzero(head.region_mask("lips").numpy())[0],
            "outside": np.nonzero(~inner)[0],
        }

    def snap(
        self, index: Int[np.ndarray, " L"], places: Float[np.ndarray, "L 3"]
    ) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "L 3"]]:
        """Face and barycentric coordinates of each landmark."""
        irises = [i for eye in IRISES.values() for i in eye]
        face = np.zeros(len(index), dtype=np.int64)
        barycentric = np.zeros((len(index), 3))
        groups = {
            "eyes": np.isin(index, irises),
            "lips": np.isin(index, list(inner_lips())),
        }
        groups["outside"] = ~(groups["eyes"] | groups["lips"])
        for part, chosen in groups.items():
            if chosen.any():
                face[chosen], barycentric[chosen] = self._closest(self.parts[part], places[chosen])
        for side, rim in self.rims.items():
            chosen = np.nonzero(np.isin(index, list(landmark_set(f"{side.upper()}_EYE"))))[0]
            edge, share = nearest_on_edges(self.template[rim], places[chosen])
            for row, (a, b), t in zip(chosen, rim[edge], share, strict=True):
                # Any face that has the edge will do; one of the part outside keeps the socket out of it.
                owner = self.parts["outside"][
                    (self.faces[self.parts["outside"]] == a).any(1) & (self.faces[self.parts["outside"]] == b).any(1)
                ][0]
                face[row] = owner
                barycentric[row] = (self.faces[owner] == a) * (1 - t) + (self.faces[owner] == b) * t
        return face, barycentric

    def _closest(self, part: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = MeshRays(self.template, self.faces[part]).closest(places)
        return part[found.face], found.barycentric


def lid_rims(head: HeadModel) -> dict[str, Int[np.ndarray, "K 2"]]:
    """The edge loop where each eye's lids meet the eyeball, or the rim of the eye's hole in a model without sockets.

    Where lids and socket are one surface, their border lies a little inside the eyeball; the lids' next loop of edges
    outwards is the one that touches it.

    Returns:
        Vertex pairs by side ("left" is the subject's); a side without such edges is absent.
    """
    faces, template = head.faces.numpy(), head.template.numpy()
    sockets = head.region_mask(*named(head, "sockets")).numpy()
    eyes = head.region_mask(*named(head, "eyes")).numpy()
    owners: dict[tuple[int, int], list[int]] = {}
    for f in np.nonzero(~eyes)[0]:
        for k in range(3):
            a, b = int(faces[f, k]), int(faces[f, (k + 1) % 3])
            owners.setdefault((min(a, b), max(a, b)), []).append(f)
    if sockets.any():
        border = {v for e, own in owners.items() if len(own) == 2 and sockets[own[0]] != sockets[own[1]] for v in e}
        socket = set(np.unique(faces[sockets]).tolist())
        touching = {v for e in owners if border & set(e) for v in e} - socket
        edges = [e for e in owners if touching.issuperset(e)]
    else:
        edges = [e for e, own in owners.items() if len(own) == 1]
    rims = {}
    for side in ("left", "right"):
        centre = head.joint_template[head.joint_names.index(f"{side}_eye")].numpy()
        near = [e for e in edges if np.linalg.norm(template[list(e)].mean(0) - centre) < 0.03]
        if near:
            rims[side] = np.array(sorted(near))
    return rims


def named(head: HeadModel, *names: str) -> list[str]:
    """Those of the names that the model has as regions."""
    return [n for n in names if n in head.region_names]


def nearest_on_edges(
    edges: Float[np.ndarray, "K 2 D"], points: Float[np.ndarray, "N D"]
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """The nearest segment of each point and the share of the way along it."""
    start, along = edges[:, 0], edges[:, 1] - edges[:, 0]
    share = ((points[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-20)
    share = share.clip(0, 1)
    distance = np.linalg.norm(start + share[..., None] * along - points[:, None], axis=-1)
    nearest = distance.argmin(1)
    return nearest, share[np.arange(len(points)), nearest]
