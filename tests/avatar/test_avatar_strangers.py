"""A packed avatar may come from anywhere: nothing in it is run, written elsewhere or believed."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from harm import Calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame_nerf.avatar import AvatarError
from flame_nerf.avatar.loading import load_pipeline, open_avatar
from flame_nerf.avatar.unpack import unpack
from flame_nerf.subject import SubjectError

pytest_plugins = ["avatar_fixtures"]


def rewritten(
    packed: Path, target: Path, change: dict[str, bytes | None], extra: dict[str, bytes] | None = None
) -> Path:
    """A packed avatar with some members' content changed (None: left out) and others added."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = change.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in (extra or {}).items():
            new.writestr(name, content)
    return target


def with_json(packed: Path, name: str, change) -> bytes:
    with zipfile.ZipFile(packed) as archive:
        content = json.loads(archive.read(name))
    change(content)
    return json.dumps(content).encode()


MANIFESTS = {
    "method": lambda m: m["settings"].update(method="os.system"),
    "version": lambda m: m.update(version=99),
    "format": lambda m: m.update(format="other"),
    "head": lambda m: m.update(head=3),
    "unknown setting": lambda m: m["settings"]["model"].update(run_this="x"),
    "a setting of training": lambda m: m["settings"]["model"].update(semantic={"encoder": {"encoder": "os:system"}}),
    "target": lambda m: m["settings"]["model"].update(_target="os.system"),
    "wrong type": lambda m: m["settings"]["model"]["field"].update(n_levels="many"),
    "truth for number": lambda m: m["settings"]["model"]["field"].update(n_levels=True),
    "too large": lambda m: m["settings"]["model"]["field"].update(log2_hashmap_size=60),
    "larger than any float": lambda m: m["settings"]["model"]["sampling"].update(falloff=10**400),
    "no number": lambda m: m["settings"]["model"]["sampling"].update(falloff=float("nan")),
    "group for value": lambda m: m["settings"]["model"]["field"].update(n_levels={}),
    "value for group": lambda m: m["settings"]["model"].update(field=7),
    "other data": lambda m: m["settings"]["dataparser"].update(data="/etc"),
    "other size than the weights": lambda m: m["settings"]["model"]["field"].update(hidden_dim=32),
}
TRANSFORMS = {
    "picture elsewhere": lambda t: t["frames"][0].update(file_path="../../../../etc/passwd"),
    "absolute picture": lambda t: t["frames"][0].update(file_path="/etc/passwd"),
    "mask elsewhere": lambda t: t["frames"][0].update(mask_path="images/../../x.png"),
    "plate elsewhere": lambda t: t["flame_nerf"].update(background="/etc/x.png"),
    "depth": lambda t: t["frames"][0].update(depth_file_path="images/000000.png"),
    "no frames": lambda t: t.update(frames=[]),
    "frame of nothing": lambda t: t.update(frames=[3]),
    "row": lambda t: t["frames"][0].update(timestep=999),
}


@pytest.fixture
def quiet_folder(tmp_path, monkeypatch):
    """A working folder, and another for temporary files, which must be empty afterwards."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp", "work"]


def refused(path: Path) -> str:
    """Loading and unpacking both refuse, in one line, and leave nothing."""
    with pytest.raises((AvatarError, SubjectError)) as by_loading:
        load_pipeline(path)
    before = sorted(item.name for item in path.parent.iterdir())
    try:
        unpack(path, path.parent / "out")
        shutil.rmtree(path.parent / "out")
    except (AvatarError, SubjectError) as error:
        assert "\n" not in str(error)
    assert sorted(item.name for item in path.parent.iterdir()) == before
    assert "\n" not in str(by_loading.value)
    return str(by_loading.value)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_asks_for_what_none_needs_is_refused(packed, quiet_folder, name):
    changed = with_json(packed, "avatar.json", MANIFESTS[name])
    refused(rewritten(packed, quiet_folder / "bad.zip", {"avatar.json": changed}))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_subject_that_names_other_files_is_refused(packed, quiet_folder, name):
    changed = with_json(packed, "subject/transforms.json", TRANSFORMS[name])
    refused(rewritten(packed, quiet_folder / "bad.zip", {"subject/transforms.json": changed}))


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "subject/../../evil", "C:\\evil", "subject/images/000001.py", "subject/images/x/../1.png",
     "config.yml", "subject/images/", "subject/images/1.png/"],
)  # fmt: skip
def test_names_that_no_avatar_has_are_refused(packed, quiet_folder, name):
    assert "which no avatar does" in refused(rewritten(packed, quiet_folder / "bad.zip", {}, {name: b"x"}))


def test_code_in_a_checkpoint_is_never_run(packed, quiet_folder):
    torch.save({"step": 1, "pipeline": {"x": Calls(os.system, "touch EXECUTED")}}, quiet_folder / "c")
    evil = (quiet_folder / "c").read_bytes()
    for content in (evil, pickle.dumps(Calls(os.system, "touch EXECUTED")), b"", b"\x80"):
        refused(rewritten(packed, quiet_folder / "bad.zip", {"checkpoint.ckpt": content}))
    assert not (quiet_folder / "EXECUTED").exists()


def test_a_bomb_is_not_unpacked(packed, quiet_folder):
    path = rewritten(packed, quiet_folder / "bad.zip", {"subject/head.npz": bytes(64 << 20)})
    assert "more than an avatar's may" in refused(path)


def test_files_that_lack_or_repeat_something_are_refused(packed, quiet_folder):
    for name in ("avatar.json", "checkpoint.ckpt", "subject/head.npz", "subject/transforms.json"):
        assert name in refused(rewritten(packed, quiet_folder / "bad.zip", {name: None}))
    with pytest.warns(UserWarning, match="Duplicate"):
        path = rewritten(packed, quiet_folder / "bad.zip", {}, {"avatar.json": b"{}"})
    assert "twice" in refused(path)
    (quiet_folder / "empty.zip").write_bytes(b"")
    assert "no zip" in refused(quiet_folder / "empty.zip")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), how=st.sampled_from(["cut", "flip"]))
def test_a_damaged_file_is_refused_or_whole(packed, quiet_folder, where, how):
    content = bytearray(packed.read_bytes())
    at = min(int(where * len(content)), len(content) - 1)
    if how == "cut":
        content = content[:at]
    else:
        content[at] ^= 0x55
    path = quiet_folder / "bad.zip"
    path.write_bytes(content)
    try:
        with open_avatar(path):
            pass
    except (AvatarError, SubjectError) as error:
        assert "\n" not in str(error)
    # A byte that no check covers (a time, an attribute) may differ.


def test_a_file_of_an_older_version_may_name_options_that_changed_since(capsys):
    from flame_nerf.avatar.plain_config import config_of

    sampling = {"seen_expressions_only": False, "near": 0.02, "max_samples_per_ray": 64}
    mapping = {"scale_limit": 2.0}
    config = config_of({"method": "flame-nerf-cpu", "model": {"sampling": sampling, "mapping": mapping}}, "old.zip")
    assert not config.pipeline.model.sampling.observed_expressions_only
    written = " ".join(capsys.readouterr().out.split())
    assert written.count("An older version's config") == 1
    assert "SamplingConfig.max_samples_per_ray: 64 is not used, it is 256 in every run now" in written
    for wrong in ({"seen_expressions_only": "yes"}, {"never_was": 1}):
        with pytest.raises(AvatarError, match="old.zip: setting model.sampling"):
            config_of({"method": "flame-nerf-cpu", "model": {"sampling": wrong}}, "old.zip")
