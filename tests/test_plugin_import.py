"""Nerfstudio imports every plugin at each start: ours must be light, and must never fail."""

import json
import subprocess
import sys

import pytest

OPTIONAL = [
    "mediapipe", "warp", "open_clip", "transformers", "efficientnet_lite_pytorch", "anny", "tinycudann", "pytorch3d",
]  # fmt: skip
HEAVY = [*OPTIONAL, "open3d", "numba", "av", "data_tools"]
BEYOND_COMMAND_LINES = ["torch", "nerfstudio", "scipy", "cv2", "matplotlib"]
MOST_OTHERS = 12
"""Modules of other packages that the plugin may import beyond what Nerfstudio has: small ones of what is there."""

PLUGIN = f"""
import json, sys

# Hidden from the import system: a machine without them must still train.
for name in {OPTIONAL}:
    sys.modules[name] = None
import nerfstudio.plugins.registry as registry
# Nerfstudio itself, plugins apart: what it imports is not our doing.
registry.discover_methods = lambda: ({{}}, {{}})
import nerfstudio.configs.method_configs
stock = set(sys.modules)

from importlib.metadata import entry_points
kinds = [
    type(entry.load()).__name__
    for group in ("nerfstudio.method_configs", "nerfstudio.dataparser_configs")
    for entry in entry_points(group=group)
    if entry.value.startswith("flame_nerf")
]
ours = sorted(name for name in set(sys.modules) - stock if sys.modules[name] is not None)
heavy = [name for name in {HEAVY} if sys.modules.get(name) is not None]
print("PROBE", json.dumps(dict(ours=ours, kinds=kinds, heavy=heavy)))
"""
COMMAND = """
import json, sys
import {module}
print("PROBE", json.dumps(sorted(sys.modules)))
"""


def probed(program: str):
    """What a fresh interpreter says."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.split("PROBE", 1)[1])


@pytest.mark.slow
def test_entry_points_are_light_and_need_nothing_optional():
    found = probed(PLUGIN)
    assert sorted(found["kinds"]) == ["DataParserSpecification", *["MethodSpecification"] * 5]
    assert found["heavy"] == []
    others = [name for name in found["ours"] if name.split(".")[0] != "flame_nerf"]
    assert "flame_nerf.methods" in found["ours"] and len(others) <= MOST_OTHERS, others


@pytest.mark.slow
def test_the_stock_list_of_methods_holds_ours():
    program = "import json, nerfstudio.configs.method_configs as s; print('PROBE', json.dumps([*s.all_methods]))"
    assert {"flame-nerf", "flame-nerf-cpu", "flame-nerf-insta", "nerface", "nha"} <= set(probed(program))


@pytest.mark.parametrize("module", ["flame_nerf.cli", "data_tools.cli"])
def test_a_command_line_answers_help_without_what_the_work_needs(module):
    loaded = probed(COMMAND.format(module=module))
    assert [name for name in [*HEAVY[:-1], *BEYOND_COMMAND_LINES] if name in loaded] == []
