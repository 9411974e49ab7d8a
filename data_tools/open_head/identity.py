"""The identity space: people sampled from MakeHuman's phenotypes and head targets, then a PCA split by symmetry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from data_tools.open_head.mesh import mirrored
from data_tools.open_head.source import Source, face_local_changes, phenotype_weights
from flame_nerf.geometry import polar_rotation

# Spread of a head target, MakeHuman's slider running from -1 to 1; and of what its two sides differ by. With the
# phenotypes' spreads below, the sampled heads' breadth and length vary by 8 and 11 mm (standard deviation), measured
# adults' by 6 and 7: wide enough for unusual people, no caricatures.
_TARGET_STD = 0.18
_SIDE_STD = 0.04


def sample_people(source: Source, count: int, seed: int) -> Float[np.ndarray, "count K"]:
    """Blendshape coefficients of random adults: phenotypes, head targets, a little asymmetry."""
    random = np.random.default_rng(seed)
    ancestry = random.dirichlet([0.6, 0.6, 0.6], count)
    phenotypes = {
        "gender": random.beta(0.6, 0.6, count),
        # 2/3 is anny's "young" adult, 1 its "old"; the lower end are adolescents.
        "age": np.clip(random.normal(0.74, 0.1, count), 0.6, 1.0),
        "muscle": random.beta(2, 2, count),
        "weight": random.beta(2, 2, count),
        # Scales the whole body: 0.37 is 1.69 m tall on average, and 0.1 more is 11 cm.
        "height": random.normal(0.37, 0.06, count),
        "proportions": random.beta(2, 2, count),
        "african": ancestry[:, 0],
        "asian": ancestry[:, 1],
        "caucasian": ancestry[:, 2],
    }
    coefficients = np.zeros((count, len(source.labels)))
    weights = phenotype_weights(phenotypes, source)
    coefficients[:, : weights.shape[1]] = weights
    shared: dict[str, np.ndarray] = {}
    for name, (positive, negative) in sorted(face_local_changes(source).items()):
        sided = name.startswith(("l-", "r-"))
        stem = name[2:] if sided else name
        if stem not in shared:
            shared[stem] = random.normal(0, _TARGET_STD, count)
        # Targets without sides that move the head sideways are asymmetries as well.
        value = shared[stem] + random.normal(0, _SIDE_STD, count) if sided else shared[stem]
        if not sided and name.endswith("-out") and "trans" in name:
            value = value * (_SIDE_STD / _TARGET_STD)
        value = np.clip(value, -1, 1)
        coefficients[:, positive] = np.maximum(value, 0)
        coefficients[:, negative] = np.maximum(-value, 0)
    for row, label in enumerate(source.labels):
        if label.startswith("head_shape:"):
            coefficients[:, row] = np.clip(np.abs(random.normal(0, _TARGET_STD, count)), 0, 1)
    return coefficients


def align(
    people: Float[np.ndarray, "S N 3"], skull: Int[np.ndarray, " K"], reference: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "S 3 3"], Float[np.ndarray, "S 3"]]:
    """Rigid motion x -> R x + t that lays each person's skull on the reference's (Kabsch, no scale)."""
    target = reference[skull] - reference[skull].mean(0)
    centre = people[:, skull].mean(1)
    rotation = polar_rotation((people[:, skull] - centre[:, None]).transpose(0, 2, 1) @ target).transpose(0, 2, 1)
    return rotation, reference[skull].mean(0) - np.einsum("sij,sj->si", rotation, centre)


def principal_components(
    offsets: Float[np.ndarray, "S N 3"],
    pair: Int[np.ndarray, " N"],
    importance: Float[np.ndarray, " N"],
    count: int,
) -> tuple[Float[np.ndarray, "2S count"], Float[np.ndarray, " count"]]:
    """Scores, of unit variance, of the leading components, each exactly symmetric or exactly antisymmetric.

    Treating each person and their mirror image as equally likely makes the covariance split into a symmetric and an
    antisymmetric block; each is decomposed alone through the S x S Gram matrix.

    Args:
        offsets: aligned people minus the mean, metres.
        importance: weight of a vertex's squared error.

    Returns:
        Scores, (2 S, count): rows s and S + s belong to person s's symmetric and antisymmetric halves. And the share of
        the weighted variance that each component holds.
    """
    people = len(offsets)
    flipped = mirrored(offsets, pair)
    columns, variances = [], []
    for half, part in enumerate((0.5 * (offsets + flipped), 0.5 * (offsets - flipped))):
        flat = (part * np.sqrt(importance)[:, None]).reshape(people, -1)
        values, vectors = np.linalg.eigh(flat @ flat.T)
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        full = np.zeros((2 * people, vectors.shape[1]))
        full[half * people : (half + 1) * people] = vectors
        columns.append(full)
        variances.append(values)
    variance = np.concatenate(variances)
    order = np.argsort(-variance, kind="stable")[:count]
    scores = np.concatenate(columns, axis=1)[:, order]
    return scores * np.sqrt(people), variance[order] / variance.sum()


def regress(
    scores: Float[np.ndarray, "2S C"], offsets: Float[np.ndarray, "S N 3"], pair: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N 3 C"]:
    """Directions (metres per standard deviation) that the scores explain in any points of the same people."""
    flipped = mirrored(offsets, pair)
    halves = np.concatenate([0.5 * (offsets + flipped), 0.5 * (offsets - flipped)]).reshape(len(scores), -1)
    return (halves.T @ scores / len(offsets)).reshape(*offsets.shape[1:], -1)
