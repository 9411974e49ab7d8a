"""Damage chosen by coverage: atheris keeps the choices that reach new lines and varies them."""

from __future__ import annotations

import io
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

MOST_CHOICES = 4096
"""Bytes of choices a case."""


class Led(random.Random):
    """Chance out of bytes: the same bytes, the same choices; zeros where they end."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)
        super().__init__(0)

    def getrandbits(self, bits: int) -> int:
        """That many bits of what is left."""
        size = (bits + 7) // 8
        return int.from_bytes(self._left.read(size).ljust(size, b"\0"), "big") >> (8 * size - bits)

    def random(self) -> float:
        """A number from 0 to 1."""
        return self.getrandbits(32) / 2**32


def run_guided(make: Callable[[], Callable[[random.Random], None]], cases: int, seed: int, corpus: Path) -> None:
    """Runs cases until there were as many as asked for; the process ends in the last one if that one ends it.

    Args:
        make: loads the readers, whose lines are watched from then on; gives what does one case.
        corpus: where choices that reached new lines are kept.
    """
    import atheris

    # Kernels are compiled, and numba knows nothing of what atheris writes between their lines.
    with atheris.instrument_imports(include=["flame_nerf", "data_tools"], exclude=["flame_nerf.kernels"]):
        one = make()

    def case(data: bytes) -> None:
        one(Led(data))

    corpus.mkdir(parents=True, exist_ok=True)
    # Random bytes to begin with: by itself it would begin with none, and grow slowly.
    source = random.Random(seed)
    for number in range(32):
        (corpus / f"{number:02d}").write_bytes(source.randbytes(256))
    options = [f"-seed={seed + 1}", f"-max_len={MOST_CHOICES}", "-handle_alrm=0", "-rss_limit_mb=0", "-timeout=0"]
    atheris.Setup([sys.argv[0], f"-runs={2 * cases + 1000}", *options, os.fspath(corpus)], case)
    atheris.Fuzz()
