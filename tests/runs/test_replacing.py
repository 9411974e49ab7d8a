"""A result that is made anew: the old one stays whole until the new one is, whatever happens in between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath

import pytest
from import_truth import make_truth
from import_writers import write_insta
from synthetic import make_subject

from data_tools.exporters import ExportConfig, ExportError, export_subject, insta
from data_tools.importers import ImportConfig, ImportingError, conversion, import_data, pipeline
from data_tools.runs import replacing as replacing_module
from data_tools.runs.replacing import beside, clear_away, just_replaced, replacing
from flame_nerf.runtime import files as files_module
from flame_nerf.subject import load_subject


class Refused(Exception):
    """Of these tests."""


def owns(name: PurePath) -> bool:
    return name.parts[0] in ("a", "made")


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def make_anew(folder: Path, fail: type[BaseException] | None = None) -> None:
    with replacing(folder, True, owns, Refused) as place:
        (place / "made").mkdir(exist_ok=True)
        (place / "made" / "1").write_text("new")
        if fail is not None:
            raise fail
        (place / "a").write_text("new")


@pytest.fixture
def old(tmp_path) -> Path:
    folder = tmp_path / "old"
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "2").write_text("old")
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("at_once", [True, False])
def test_old_and_new_change_places_and_what_is_somebodys_own_moves_over(old, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(files_module, "_exchanged_at_once", lambda *_: False)
    make_anew(old)
    assert contents(old) == {"a": b"new", "made/1": b"new", "notes.txt": b"mine"}
    assert os.listdir(old.parent) == ["old"]


@pytest.mark.parametrize("fail", [Refused, KeyboardInterrupt, OSError])
def test_the_old_one_outlives_a_run_that_fails_and_the_next_one_goes_on(old, fail):
    before = contents(old)
    with pytest.raises(fail):
        make_anew(old, fail)
    assert contents(old) == before and (beside(old) / "made" / "1").read_text() == "new"
    make_anew(old)
    assert "a" in contents(old) and os.listdir(old.parent) == ["old"]


@pytest.mark.parametrize("step", ["exchange", "_keep_strangers"])
def test_killed_while_they_change_places_the_next_run_ends_it(old, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(replacing_module, step, killed)
        make_anew(old)
    assert just_replaced(old) == (step != "exchange")
    if step == "exchange":
        make_anew(old)
    clear_away(old, owns)
    assert contents(old) == {"a": b"new", "made/1": b"new", "notes.txt": b"mine"}
    assert os.listdir(old.parent) == ["old"] and not just_replaced(old)


def test_killed_between_two_names_where_the_system_cannot_exchange(old, monkeypatch):
    before = contents(old)
    os.replace(old, old.with_name(".old.old"))
    with files_module.whole_folder(old.with_name("other")):
        pass
    with pytest.raises(Refused):
        make_anew(old, Refused)
    clear_away(old, owns)
    assert contents(old) == before


def test_kept_work_of_the_old_one_is_gone_on_from(old):
    with replacing(old, True, owns, Refused, ("made", "none")) as place:
        assert (place / "made" / "2").read_text() == "old"
        (place / "made" / "2").unlink()
        assert (old / "made" / "2").read_text() == "old"
    assert contents(old) == {"notes.txt": b"mine"}


def test_room_for_both_is_asked_for_before(old, monkeypatch):
    usage = shutil.disk_usage(old)._replace(free=2)
    monkeypatch.setattr(replacing_module.shutil, "disk_usage", lambda _: usage)
    before = contents(old)
    with pytest.raises(Refused, match=r"takes about 0\.0 kB more, and 0\.0 kB are free\. Free some space") as caught:
        make_anew(old)
    assert "\n" not in str(caught.value) and contents(old) == before and os.listdir(old.parent) == ["old"]


def test_the_folder_that_one_is_in_does_not_go(old, monkeypatch):
    monkeypatch.chdir(old)
    with pytest.raises(Refused, match=r"the folder that you are in.*cd \.\."):
        make_anew(Path("."))


def test_a_link_to_a_folder_stays_a_link(old):
    link = old.with_name("link")
    link.symlink_to(old)
    make_anew(link)
    assert link.is_symlink() and (old / "a").read_text() == "new"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("anew") / "src"
    write_insta(root, make_truth("still", 4))
    return root


@pytest.mark.parametrize("stage", ["a picture", "the meshes", "the subject", "the end"])
def test_an_import_that_is_stopped_while_it_replaces_leaves_the_old_subject(source, tmp_path, monkeypatch, stage):
    module, name = {
        "a picture": (conversion, "matte_of"),
        "the meshes": (conversion, "mapped_file"),
        "the subject": (pipeline, "write_subject"),
        "the end": (replacing_module, "exchange"),
    }[stage]
    folder, again = tmp_path / "dst", ImportConfig(overwrite=True, fps=30)
    import_data("insta", source, folder, silent=True)
    before = contents(folder)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, name, stop)
        import_data("insta", source, folder, again, silent=True)
    assert contents(folder) == before and len(load_subject(folder).frames) == 4
    import_data("insta", source, folder, again, silent=True)
    assert load_subject(folder).fps == 30 and os.listdir(tmp_path) == ["dst"]
    assert contents(folder).keys() == before.keys()


def test_an_import_of_wrong_data_leaves_the_old_subject_and_nothing_else(source, tmp_path):
    folder = tmp_path / "dst"
    import_data("insta", source, folder, silent=True)
    before = contents(folder)
    wrong = tmp_path / "wrong"
    shutil.copytree(source, wrong)
    for path in wrong.rglob("*.png"):
        path.unlink()
    with pytest.raises(ImportingError):
        import_data("insta", wrong, folder, ImportConfig(overwrite=True), silent=True)
    assert contents(folder) == before and sorted(os.listdir(tmp_path)) == ["dst", "wrong"]


def test_an_export_that_fails_while_it_replaces_leaves_the_old_one(tmp_path, monkeypatch):
    subject, out = make_subject(tmp_path / "subject", count=3).root, tmp_path / "out"
    export_subject("insta", subject, out, silent=True)
    (out / "notes.md").write_text("mine")
    before = contents(out)
    os.utime(subject / "transforms.json", ns=(1, 1))

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(out))

    with monkeypatch.context() as patch, pytest.raises(ExportError):
        patch.setattr(insta, "write_json", full)
        export_subject("insta", subject, out, ExportConfig(overwrite=True), silent=True)
    assert contents(out) == before
    export_subject("insta", subject, out, ExportConfig(overwrite=True), silent=True)
    assert contents(out).keys() == before.keys() and sorted(os.listdir(tmp_path)) == ["out", "subject"]
