"""flame-nerf: a talking-head video becomes a 3D head you can turn, drive and film.

Importing this package must stay cheap: Nerfstudio imports every installed plugin at each start of ``ns-train``,
``ns-eval`` and ``ns-render``. Nothing heavy or optional is imported at module level here or in ``methods``.
"""

import os

from flame_nerf.runtime import old_runs
from flame_nerf.runtime.kernel_cache import settle_kernel_cache

__version__ = "0.1.0"


def one_compile_worker() -> None:
    """Keeps torch from starting a compile worker per core; for this project's own commands, before torch is imported.

    It does so as soon as any installed method mentions torch.compile (Nerfstudio's splatfacto does), which doubles the
    time that a command takes to start. This package compiles nothing with it.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


# Before any kernel is imported.
settle_kernel_cache()
# Runs trained by older versions name modules that have moved since.
old_runs.install()
