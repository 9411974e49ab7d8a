"""Compositing of packed samples, forward and backward, one ray after the other; compiled, for the CPU.

Everything of a ray is summed in float64: haze of 1e-7 must keep its depth.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from flame_nerf.kernels.cpu.dense import KERNEL

COMPILED_WITH = "5d5f37ff9d90"
"""Checksum of the files imported from; see `flame_nerf.kernels.cpu`."""


@numba.njit(**KERNEL)
def forward(
    begin, end, offsets, sigma, rgb, t_start, t_end, background, most_depth, tiny,
    out_rgb, out_accumulation, out_depth, out_weights,
):  # fmt: skip
    """Rays[begin:end] front to back.

    Args:
        offsets: [R + 1] first sample of each ray. sigma, t_start, t_end: [N]. rgb: [N, 3].
        background: [R, 3], or [1, 3] for all rays.
        most_depth: optical depth at which a sample is opaque. tiny: least accumulation to divide by.
        out_rgb: [R, 3]. out_accumulation, out_depth: [R]. out_weights: [N].
    """
    for ray in range(begin, end):
        red = green = blue = distance = opacity = 0.0
        clear = 1.0
        for n in range(offsets[ray], offsets[ray + 1]):
            start, stop = np.float64(t_start[n]), np.float64(t_end[n])
            weight = -math.expm1(-min(sigma[n] * (stop - start), most_depth)) * clear
            clear -= weight
            red += weight * rgb[n, 0]
            green += weight * rgb[n, 1]
            blue += weight * rgb[n, 2]
            distance += weight * 0.5 * (start + stop)
            # Not 1 - transmittance: a ray that hardly meets anything still has a depth.
            opacity += weight
            out_weights[n] = weight
        behind = ray if len(background) > 1 else 0
        out_rgb[ray, 0] = red + clear * background[behind, 0]
        out_rgb[ray, 1] = green + clear * background[behind, 1]
        out_rgb[ray, 2] = blue + clear * background[behind, 2]
        out_accumulation[ray] = opacity
        out_depth[ray] = distance / max(opacity, tiny)


@numba.njit(**KERNEL)
def backward(
    begin, end, offsets, sigma, rgb, t_start, t_end, background, most_depth, tiny,
    grad_color, grad_accumulation, grad_depth, grad_weights, grad_sigma, grad_rgb, grad_background,
):  # fmt: skip
    """Gradients of rays[begin:end], given those to colour [R, 3], accumulation [R], depth [R] and weights [N].

    With x_n the optical depth of a sample, w_n = T_n (1 - exp(-x_n)), and v_n what a unit of w_n is worth to the loss,
    dL/dx_n = v_n T_{n+1} - sum over m > n of v_m w_m - v_end T_end, v_end the worth of what passes all samples.

    Args (beyond those of `forward`):
        grad_sigma: [N], grad_rgb: [N, 3], grad_background: [R, 3]; all written.
    """
    longest = 0
    for ray in range(begin, end):
        longest = max(longest, offsets[ray + 1] - offsets[ray])
    share = np.empty(longest)
    passed = np.empty(longest)
    for ray in range(begin, end):
        first, last = offsets[ray], offsets[ray + 1]
        distance = opacity = 0.0
        clear = 1.0
        for n in range(first, last):
            start, stop = np.float64(t_start[n]), np.float64(t_end[n])
            weight = -math.expm1(-min(sigma[n] * (stop - start), most_depth)) * clear
            clear -= weight
            opacity += weight
            distance += weight * 0.5 * (start + stop)
            share[n - first], passed[n - first] = weight, clear
        red, green = np.float64(grad_color[ray, 0]), np.float64(grad_color[ray, 1])
        blue = np.float64(grad_color[ray, 2])
        per_distance = grad_depth[ray] / max(opacity, tiny)
        per_opacity = np.float64(grad_accumulation[ray])
        if opacity > tiny:
            per_opacity -= per_distance * distance / opacity
        behind = ray if len(background) > 1 else 0
        later = clear * (red * background[behind, 0] + green * background[behind, 1] + blue * background[behind, 2])
        grad_background[ray, 0], grad_background[ray, 1] = clear * red, clear * green
        grad_background[ray, 2] = clear * blue
        for n in range(last - 1, first - 1, -1):
            start, stop = np.float64(t_start[n]), np.float64(t_end[n])
            weight = share[n - first]
            worth = red * rgb[n, 0] + green * rgb[n, 1] + blue * rgb[n, 2]
            worth += per_distance * 0.5 * (start + stop) + per_opacity + grad_weights[n]
            slope = worth * passed[n - first] - later
            # Beyond the limit nothing changes any more.
            grad_sigma[n] = slope * (stop - start) if sigma[n] * (stop - start) <= most_depth else 0.0
            later += worth * weight
            grad_rgb[n, 0], grad_rgb[n, 1], grad_rgb[n, 2] = weight * red, weight * green, weight * blue
