"""Charts of a report: SVG that follows the page's light or dark style."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from data_tools.runs.page import render_page

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 170, 46, 8, 8, 22
"""Size of a line chart and its margins, units of the drawing."""


def curves(series: Sequence[tuple[str, Float[np.ndarray, " T"]]], unit: str = "", mark: float | None = None) -> Markup:
    """Line chart over the frames.

    Args:
        series: name and values of each curve, at most two; all of one length. NaN leaves a gap.
        unit: behind the numbers of the axis.
        mark: value at which a dashed line is drawn.
    """
    values = np.concatenate([curve for _, curve in series] + ([np.array([0.0, 1.3 * mark])] if mark else []))
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low, high = float(values.min()), float(values.max())
    high = high if high > low else low + 1.0
    count = len(series[0][1])

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(count - 1, 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - BOTTOM - TOP) * (high - value) / (high - low)

    def path(curve: Float[np.ndarray, " T"]) -> str:
        words, begun = [], False
        for index, value in enumerate(curve.tolist()):
            known = np.isfinite(value)
            if known:
                words.append(f"{'L' if begun else 'M'}{x(index):.1f},{y(value):.1f}")
            begun = bool(known)
        return "".join(words)

    return Markup(
        render_page(
            "curves.html",
            size=(WIDTH, HEIGHT),
            span=(LEFT, WIDTH - RIGHT),
            levels=[(y(value), f"{value:.3g}{unit}") for value in np.linspace(low, high, 4)],
            places=[(x(index), int(index)) for index in np.unique(np.linspace(0, count - 1, 6).astype(int))],
            mark=None if mark is None else y(mark),
            series=[(name, path(curve)) for name, curve in series],
        )
    )
