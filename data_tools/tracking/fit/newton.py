"""Newton steps for parameters of many frames that are tied together in time.

Each frame has P parameters. What the pictures say gives a P x P block a frame; smoothness ties each parameter to itself
in the frames before and after by its second difference. The whole is one block-tridiagonal system, solved exactly: no
lag, and no hundreds of small gradient steps.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

LONGEST_GAP = 3.5
"""Frames farther apart than this, in ticks of the sampling clock, are not tied together."""


def second_difference(slots: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T_minus_2 3"]:
    """Weights of three successive samples in their second difference, for unevenly spaced samples.

    Evenly spaced ones give (1, -2, 1). Rows that span a gap are zero.

    Args:
        slots: increasing time of each sample in ticks.
    """
    step = np.diff(slots)
    before, after = 1.0 / step[:-1], 1.0 / step[1:]
    rows = np.stack([before, -(before + after), after], axis=1)
    rows[np.maximum(step[:-1], step[1:]) > LONGEST_GAP] = 0.0
    return rows


def newton_step(
    hessian: Float[np.ndarray, "T P P"],
    gradient: Float[np.ndarray, "T P"],
    difference: Float[np.ndarray, "T_minus_2 3"],
    bend: Float[np.ndarray, "T_minus_2 P"],
    stiffness: Float[np.ndarray, "T_minus_2 P"],
    fixed: Bool[np.ndarray, "T P"],
) -> Float[np.ndarray, "T P"]:
    """Minimise 1/2 s'Hs + g's + 1/2 sum stiffness (bend + D s)^2 over the step s, with s = 0 where fixed.

    Args:
        hessian, gradient: of the data term and priors, frame by frame.
        difference: rows of D, from `second_difference`.
        bend: second differences of the parameters now.
        stiffness: weight of each; may differ from frame to frame.
        fixed: parameters that must stay (at a bound, or in a frame that is done).
    """
    frames, size = gradient.shape
    free = ~fixed
    # Pairs of frames make the system block-tridiagonal: second differences reach two frames ahead.
    pairs = -(-frames // 2)
    diagonal = np.zeros((pairs, 2, size, 2, size))
    off = np.zeros((pairs, 2, size, 2, size))
    right = np.zeros((2 * pairs, size))
    right[:frames] = -gradient
    blocks = hessian * (free[:, :, None] & free[:, None, :])
    for parity in (0, 1):
        half = blocks[parity::2]
        diagonal[: len(half), parity, :, parity] = half
    every = np.arange(size)
    for i in range(3):
        right[i : frames - 2 + i] -= difference[:, i, None] * stiffness * bend
        for j in range(3):
            tie = difference[:, i, None] * difference[:, j, None] * stiffness
            tie = tie * free[i : frames - 2 + i] * free[j : frames - 2 + j]
            for parity in (0, 1):
                half, row, column = tie[parity::2], parity + i, parity + j
                at = slice(row // 2, row // 2 + len(half))
                if row // 2 == column // 2:
                    diagonal[at, row % 2, every, column % 2, every] += half
                elif row // 2 + 1 == column // 2:
                    off[at, row % 2, every, column % 2, every] += half
    held = np.ones((2 * pairs, size), dtype=bool)
    held[:frames] = fixed
    right[held] = 0.0
    # A whisper of damping keeps parameters that nothing sees (closed eyes' gaze) solvable.
    damping = 1e-9 * np.abs(hessian).max()
    for parity in (0, 1):
        diagonal[:, parity, every, parity, every] += np.where(held[parity::2], 1.0, damping)
    width = 2 * size
    solved = _solve_tridiagonal(
        torch.from_numpy(diagonal.reshape(pairs, width, width)),
        torch.from_numpy(off.reshape(pairs, width, width)),
        torch.from_numpy(right.reshape(pairs, width)),
    )
    return solved.numpy().reshape(2 * pairs, size)[:frames]


def _solve_tridiagonal(
    diagonal: Float[Tensor, "N M M"], above: Float[Tensor, "N M M"], right: Float[Tensor, "N M"]
) -> Float[Tensor, "N M"]:
    """Solve a symmetric positive definite block-tridiagonal system by block Cholesky.

    Args:
        above: block (n, n + 1) of each row; the last is not used.
    """
    factor, link, forward = [], [], []
    block, value = diagonal[0], right[0]
    for n in range(len(diagonal)):
        factor.append(torch.linalg.cholesky(block))
        forward.append(torch.linalg.solve_triangular(factor[n], value[:, None], upper=False)[:, 0])
        if n + 1 < len(diagonal):
            link.append(torch.linalg.solve_triangular(factor[n], above[n], upper=False))
            block = diagonal[n + 1] - link[n].T @ link[n]
            value = right[n + 1] - link[n].T @ forward[n]
    result = torch.empty_like(right)
    for n in reversed(range(len(diagonal))):
        value = forward[n] if n + 1 == len(diagonal) else forward[n] - link[n] @ result[n + 1]
        result[n] = torch.linalg.solve_triangular(factor[n].T, value[:, None], upper=True)[:, 0]
    return result
