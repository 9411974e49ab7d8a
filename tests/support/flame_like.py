"""A stand-in for FLAME: a model of its exact structure, the bytes that its pickles are made of, and an oracle for it.

FLAME itself may not be shipped. This head has its counts (5023 vertices, 9976 faces, 300 shape and 100 expression
components, 5 joints, 36 pose correctives), looks like a head, and was never near FLAME's data: its surface and its
bases are the open head's, refined and mixed.
"""

from __future__ import annotations

import functools
import heapq

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from flame_nerf.heads import HeadModel, load_head

VERTICES, FACES, SHAPES, EXPRESSIONS = 5023, 9976, 300, 100
JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1, 1)
ORIGIN = np.array([0.0, 0.028, -0.031])
"""FLAME's origin is not where the open head has its own."""
SPLITS, EARS = 340, 6


@functools.cache
def _arrays(seed: int) -> dict[str, np.ndarray]:
    head = load_head()
    random = np.random.default_rng(seed)
    skin = ~head.region_mask("teeth", "tongue").numpy()
    kept = np.unique(head.faces.numpy()[skin])
    renumber = np.full(len(head.template), -1)
    renumber[kept] = np.arange(len(kept))
    mix, faces, region = _refine(renumber[head.faces.numpy()[skin]], head.region.numpy()[skin], head.template[kept])
    regions = {name: np.unique(faces[region == row]) for row, name in enumerate(head.region_names)}

    def at(per_vertex) -> np.ndarray:
        values = per_vertex.numpy()[kept].astype(np.float64)
        return (mix @ values.reshape(len(kept), -1)).reshape(-1, *values.shape[1:])

    template = at(head.template)
    names = list(head.expression_names)
    spoken = [row for row, name in enumerate(names) if name not in ("jawOpen", "tongueOut")]
    left, size, _ = np.linalg.svd(at(head.exprdirs)[..., spoken].reshape(-1, len(spoken)), full_matrices=False)
    # A unit of a statistical model's coefficient is a usual, not a full expression.
    expressions = (left * size * 0.3).reshape(len(template), 3, -1)
    quiet = 1.0 - np.isin(np.arange(len(template)), regions["eyes"])[:, None, None]
    shapes = at(head.shapedirs)
    shapedirs = np.concatenate(
        [
            shapes,
            _bells(random, template, SHAPES - shapes.shape[-1], 0.4e-3),
            expressions,
            _bells(random, template, EXPRESSIONS - expressions.shape[-1], 0.3e-3) * quiet,
        ],
        axis=-1,
    )
    open_weights = at(head.skinning_weights)
    root, neck, skull, jaw, left_eye, right_eye = open_weights.T
    weights = np.stack([root + 0.6 * neck, 0.4 * neck + skull, jaw, left_eye, right_eye], axis=1)
    balls = regions["eyes"]
    sources = (
        _ring(template, (0.0, -0.18, -0.05), 0.03),
        _ring(template, (0.0, -0.11, -0.03), 0.03),
        _ring(template, (0.0, -0.033, 0.007), 0.025),
        np.isin(np.arange(len(template)), balls[template[balls, 0] > 0]),
        np.isin(np.arange(len(template)), balls[template[balls, 0] < 0]),
    )
    regressor = np.stack([row / row.sum() for row in np.asarray(sources, dtype=np.float64)])
    joints = regressor @ template
    posedirs = np.concatenate(
        [
            np.exp(-(((template - joints[joint]) / 0.07) ** 2).sum(-1))[:, None, None]
            * random.normal(0, 2e-3, (1, 3, 9))
            for joint in range(1, len(JOINTS))
        ],
        axis=-1,
    )
    assert template.shape == (VERTICES, 3) and faces.shape == (FACES, 3)
    return {
        "v_template": template + ORIGIN,
        "f": faces.astype(np.uint32),
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "J_regressor": regressor,
        "J": joints + ORIGIN,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([np.array(PARENTS).astype(np.uint32), range(len(JOINTS))], dtype=np.uint32),
        "region": region,
    }


def make_flame_like(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays under FLAME's own names, float64 and uint32, and `parents` for convenience.

    Model space: metres, x to the subject's left, y up, z forward. `shapedirs` holds 300 shape components, then 100
    expressions, all ~N(0, 1). Joints are root, neck (which carries the skull), jaw, left eye, right eye.
    """
    arrays = {name: value.copy() for name, value in _arrays(seed).items() if name not in ("region", "J")}
    return arrays | {"parents": np.array(PARENTS)}


def face_regions(seed: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """Region row of each face and the names: what a FLAME user has as FLAME_masks.pkl."""
    return _arrays(seed)["region"].copy(), load_head().region_names


def flame_masks(seed: int = 0) -> dict[str, np.ndarray]:
    """Vertex indices under FLAME_masks.pkl's names."""
    region, names = face_regions(seed)
    arrays = _arrays(seed)
    faces, template = arrays["f"].astype(int), arrays["v_template"] - ORIGIN

    def of(*wanted: str) -> np.ndarray:
        return np.unique(faces[np.isin(region, [names.index(name) for name in wanted])])

    side = template[:, 0]
    face = of("skin", "lips", "eyelids", "sockets")
    eyes, lids, ears = of("eyes"), of("eyelids", "sockets"), of("ears")
    nose = face[np.linalg.norm((template[face] - [0, -0.03, 0.1]) / [0.02, 0.03, 0.03], axis=1) < 1]
    forehead = of("skin")[template[of("skin"), 1] > 0.03]
    return {
        "eye_region": face[np.abs(template[face, 1]) < 0.03],
        "neck": of("neck"),
        "left_eyeball": eyes[side[eyes] > 0],
        "right_eyeball": eyes[side[eyes] < 0],
        "right_ear": ears[side[ears] < 0],
        "left_ear": ears[side[ears] > 0],
        "forehead": forehead,
        "lips": of("lips"),
        "nose": nose,
        "scalp": of("scalp"),
        "boundary": of("neck")[template[of("neck"), 1] < -0.15],
        "face": face,
        "left_eye_region": lids[side[lids] > 0],
        "right_eye_region": lids[side[lids] < 0],
    }


def flame_forward(
    model: dict[str, np.ndarray], shape: np.ndarray, expr: np.ndarray, pose: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """FLAME's forward pass from its paper's formulas, frame by frame, joint by joint, in float64.

    As in FLAME's own code, joints are regressed from the head after shape and expression.

    Args:
        shape: [<=300], expr: [T, <=100]; missing components are zero.
        pose: [T, 5, 3] axis-angle of root, neck, jaw, left eye, right eye. The root turns about the root joint.
        translation: [T, 3] or [3].

    Returns:
        [T, 5023, 3] in FLAME's model space.
    """
    expr, pose = np.atleast_2d(expr), np.asarray(pose, dtype=np.float64)
    betas = np.zeros((len(pose), SHAPES + EXPRESSIONS))
    betas[:, : len(shape)] = shape
    betas[:, SHAPES : SHAPES + expr.shape[1]] = expr
    moved = np.broadcast_to(translation, (len(pose), 3))
    return np.stack([smpl_forward(model, betas[t], pose[t]) + moved[t] for t in range(len(pose))])


def smpl_forward(model: dict[str, np.ndarray], betas: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Vertices [V, 3] of any SMPL-format model at coefficients [K] and joint rotations [J, 3], joint by joint."""
    shaped = model["v_template"] + model["shapedirs"] @ betas
    joints = np.asarray(model["J_regressor"]) @ shaped
    rotations = Rotation.from_rotvec(pose).as_matrix()
    shaped = shaped + model["posedirs"] @ (rotations[1:] - np.eye(3)).reshape(-1)
    chain, posed = [], np.zeros_like(shaped)
    for j, parent in enumerate(model["parents"]):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        chain.append(local if parent < 0 else chain[parent] @ local)
        moved = (shaped - joints[j]) @ chain[j][:3, :3].T + chain[j][:3, 3]
        posed += model["weights"][:, j : j + 1] * moved
    return posed


def _refine(faces: np.ndarray, region: np.ndarray, places) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Split the longest inner edges and fill notches of the collar until the counts are FLAME's.

    Returns:
        Vertices as mixtures of the old ones [N, V], faces, and each face's region.
    """
    places = list(places.numpy().astype(np.float64))
    mix = [{vertex: 1.0} for vertex in range(len(places))]
    triangles, labels = [tuple(face) for face in faces.tolist()], list(region)
    half: dict[tuple[int, int], int] = {}
    for row, (a, b, c) in enumerate(triangles):
        half.update({(a, b): row, (b, c): row, (c, a): row})

    def entry(a: int, b: int) -> tuple[float, int, int]:
        return -float(np.linalg.norm(places[a] - places[b])), min(a, b), max(a, b)

    longest = [entry(*edge) for edge in half if edge[0] < edge[1]]
    heapq.heapify(longest)
    for _ in range(SPLITS):
        while True:
            _, a, b = heapq.heappop(longest)
            if (a, b) in half and (b, a) in half:
                break
        new = len(places)
        places.append(0.5 * (places[a] + places[b]))
        mix.append({v: 0.5 * (mix[a].get(v, 0.0) + mix[b].get(v, 0.0)) for v in {*mix[a], *mix[b]}})
        for start, end in ((a, b), (b, a)):
            row = half.pop((start, end))
            apex = next(v for v in triangles[row] if v not in (a, b))
            other = len(triangles)
            triangles[row] = (start, new, apex)
            triangles.append((new, end, apex))
            labels.append(labels[row])
            half.update(
                {(start, new): row, (new, apex): row, (new, end): other, (end, apex): other, (apex, new): other}
            )
            heapq.heappush(longest, entry(new, apex))
            heapq.heappush(longest, entry(start, new))
    lowest = min((edge for edge in half if edge[::-1] not in half), key=lambda e: places[e[0]][1] + places[e[1]][1])
    following = {b: a for a, b in half if (b, a) not in half}
    vertex = lowest[1]
    for _ in range(EARS):
        second = following[vertex]
        third = following[second]
        # Open edges run against their face's direction: a filling triangle takes them the other way round.
        triangles.append((vertex, second, third))
        labels.append(labels[half[(second, vertex)]])
        vertex = following[third]
    rows = np.repeat(np.arange(len(mix)), [len(parts) for parts in mix])
    columns, values = np.array([pair for parts in mix for pair in parts.items()]).T
    return csr_matrix((values, (rows, columns.astype(int)))), np.array(triangles), np.array(labels)


def _bells(random: np.random.Generator, places: np.ndarray, count: int, size: float) -> np.ndarray:
    """Smooth random displacements [V, 3, count], each a few bumps as wide as a nose."""
    centre = places[random.integers(0, len(places), (count, 3))]
    push = random.normal(0, size, (count, 3, 3))
    result = np.empty((len(places), 3, count))
    for k in range(count):
        distance = ((places[:, None] - centre[k]) ** 2).sum(-1)
        result[..., k] = np.exp(-0.5 * distance / 0.02**2) @ push[k]
    return result


def _ring(places: np.ndarray, centre: tuple[float, float, float], height: float) -> np.ndarray:
    """Weights of vertices about level with a point, balanced so that their mean comes near it."""
    away = places - centre
    weight = np.exp(-0.5 * (away[:, 1] / (0.3 * height)) ** 2) * (np.linalg.norm(away[:, [0, 2]], axis=1) < 0.11)
    for _ in range(20):
        # Shift weight to the side that is missing; stays positive.
        mean = (weight @ away) / weight.sum()
        weight = weight * np.exp(-(away @ (mean / (away.var(0) + 1e-6))))
    return np.where(weight > 1e-3 * weight.max(), weight, 0.0)


SMAL_PARENTS = (
    -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 11, 12, 13, 6, 15, 0, 17, 18, 19, 0, 21, 22, 23, 0, 25, 26, 27, 28, 29, 30, 16
)  # fmt: skip


def make_smal_like(seed: int = 0) -> dict[str, np.ndarray]:
    """A made-up quadruped in SMAL's structure: 33 joints with its tree, 41 shape components, no expressions.

    A tube along each bone; the head is joint 16, the jaw 32. Small, so that tests are quick.
    """
    random = np.random.default_rng(seed)
    joints = np.zeros((33, 3))
    step = {1: (0.1, 0, 0), 7: (0, 0.08, -0.1), 11: (0, -0.08, -0.1), 15: (0.1, 0, 0.1), 16: (0.1, 0, 0.05)}
    step |= {17: (0, 0.08, -0.1), 21: (0, -0.08, -0.1), 25: (-0.1, 0, 0), 32: (0.08, 0, -0.03)}
    way = np.array([0.1, 0.0, 0.0])
    for j, parent in enumerate(SMAL_PARENTS):
        if parent >= 0:
            way = np.array(step[j]) if j in step else joints[parent] - joints[SMAL_PARENTS[parent]]
            joints[j] = joints[parent] + (way if np.linalg.norm(way) > 0 else [0.1, 0, 0])
    around = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.stack([0 * around, np.cos(around), np.sin(around)], axis=1) * 0.03
    places = np.concatenate([joints[j] + ring + [0.02 * k, 0, 0] for j in range(33) for k in range(3)])
    a, b = np.arange(8), (np.arange(8) + 1) % 8
    tube = np.concatenate([np.stack([a, b, a + 8], 1), np.stack([b, b + 8, a + 8], 1)])
    faces = np.concatenate([tube + 24 * j + 8 * k for j in range(33) for k in range(2)])
    owner = np.repeat(np.arange(33), 24)
    weights = np.full((len(places), 33), 1e-6)
    weights[np.arange(len(places)), owner] = 0.8
    weights[np.arange(len(places)), np.maximum(np.array(SMAL_PARENTS)[owner], 0)] += 0.2
    return {
        "v_template": places,
        "f": faces.astype(np.uint32),
        "shapedirs": _bells(random, places, 41, 3e-3),
        "posedirs": random.normal(0, 1e-3, (len(places), 3, 9 * 32)),
        "J_regressor": np.eye(33)[owner].T / 24.0,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([np.array(SMAL_PARENTS).astype(np.uint32), range(33)], dtype=np.uint32),
        "parents": np.array(SMAL_PARENTS),
    }


def head_from_arrays(model: dict[str, np.ndarray], seed: int = 0) -> HeadModel:
    """The head model that the arrays make, put together by hand: for tests that need no file."""
    import torch

    region, names = face_regions(seed)[0] if "region" not in model else model["region"], load_head().region_names

    def floats(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    shapes, expressions = model["shapedirs"][..., :SHAPES], model["shapedirs"][..., SHAPES:]
    return HeadModel(
        name="flame-like",
        template=floats(model["v_template"]),
        faces=torch.from_numpy(model["f"].astype(np.int64)),
        shapedirs=floats(shapes),
        exprdirs=floats(expressions),
        expression_names=tuple(f"expr_{k:03d}" for k in range(EXPRESSIONS)),
        joint_template=floats(model["J_regressor"] @ model["v_template"]),
        joint_shapedirs=floats(np.einsum("jv,vck->jck", model["J_regressor"], shapes)),
        joint_names=JOINTS,
        parents=PARENTS,
        skinning_weights=floats(model["weights"]),
        posedirs=floats(model["posedirs"].transpose(2, 0, 1)),
        region=torch.from_numpy(region.astype(np.int64)),
        region_names=names,
        landmarks=None,
        licence="test data",
        provenance="tests/support/flame_like.py",
        joint_exprdirs=floats(np.einsum("jv,vck->jck", model["J_regressor"], expressions)),
        expression_range="gaussian",
    )
