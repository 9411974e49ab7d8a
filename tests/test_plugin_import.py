"""Nerfstudio imports every plugin at each start: ours must be light, and must never fail."""

import json
import subprocess
import sys

import pytest

OPTIONAL = [
    "mediapipe", "warp", "open_clip", "transformers", "efficientnet_lite_pytorch", "anny", "tinycudann", "pytorch3d",
]  # fmt: skip
HEAVY = [*OPTIONAL, "open3d", "numba", "data_tools"]
PROBE = f"""
import gc, json, sys, time

# Hidden from the import system: a machine without them must still train.
for name in {OPTIONAL}:
    sys.modules[name] = None
start = time.process_time()
import nerfstudio.configs.method_configs as stock
total = time.process_time() - start
assert "flame-nerf-cpu" in stock.all_methods and "flame-nerf" in stock.all_methods

from importlib.metadata import entry_points
kinds = [
    type(entry.load()).__name__
    for group in ("nerfstudio.method_configs", "nerfstudio.dataparser_configs")
    for entry in entry_points(group=group)
    if entry.value.startswith("flame_nerf")
]
heavy = [name for name in {HEAVY} if sys.modules.get(name) is not None]

for name in [name for name in sys.modules if name.startswith("flame_nerf")]:
    del sys.modules[name]
# A collection of all that the others left behind takes longer than our import, and falls into it or not by chance.
gc.collect()
start = time.process_time()
import flame_nerf.methods
ours = time.process_time() - start
print("PROBE", json.dumps(dict(total=total, ours=ours, kinds=kinds, heavy=heavy)))
"""


@pytest.mark.slow
def test_entry_points_are_light_and_need_nothing_optional():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.split("PROBE", 1)[1])
    assert sorted(found["kinds"]) == ["DataParserSpecification", *["MethodSpecification"] * 4]
    assert found["heavy"] == []
    assert found["ours"] < 0.3, f"importing the plugin costs {found['ours']:.2f} s of {found['total']:.2f} s"
