"""Head model files: what is written is read again, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_heads_model import random_head

from flame_nerf.heads import HeadModelError, load_head, save_head


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    """The fields of a good file."""
    save_head(random_head(), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("correctives", [True, False])
def test_round_trip(tmp_path: Path, correctives: bool) -> None:
    head = random_head(correctives=correctives)
    save_head(head, tmp_path / "head.npz")
    again = load_head(tmp_path / "head.npz")
    for field in ("name", "expression_names", "joint_names", "parents", "region_names", "licence", "provenance"):
        assert getattr(again, field) == getattr(head, field)
    for field in ("faces", "region"):
        assert torch.equal(getattr(again, field), getattr(head, field))
        assert getattr(again, field).dtype == torch.int64
    for field, tolerance in (("template", 1e-6), ("joint_template", 1e-6), ("skinning_weights", 1e-6)):
        torch.testing.assert_close(getattr(again, field), getattr(head, field).float(), atol=tolerance, rtol=1e-6)
    # Stored as float16: eleven bits.
    for field in ("shapedirs", "exprdirs"):
        torch.testing.assert_close(getattr(again, field), getattr(head, field).float(), atol=1e-6, rtol=6e-4)
        assert getattr(again, field).dtype == torch.float32
    assert (again.posedirs is None) != correctives
    assert torch.equal(again.landmarks.face, head.landmarks.face)
    torch.testing.assert_close(again.landmarks.barycentric, head.landmarks.barycentric.float())
    assert [p.name for p in tmp_path.iterdir()] == ["head.npz"], "a temporary file was left behind"


def test_same_model_same_bytes(tmp_path: Path) -> None:
    save_head(random_head(), tmp_path / "a.npz")
    save_head(load_head(tmp_path / "a.npz"), tmp_path / "b.npz")
    save_head(load_head(tmp_path / "b.npz"), tmp_path / "c.npz")
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()


def _shorter(array: np.ndarray) -> np.ndarray:
    return array[:-1]


def _with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.reshape(-1)[3] = np.nan
    return array


BAD = {
    "missing": ("exprdirs", lambda a: None, "is missing"),
    "missing landmark part": ("landmark_face", lambda a: None, "is missing"),
    "wrong rows": ("shapedirs", _shorter, "has shape"),
    "wrong count of names": ("expression_names", _shorter, "has shape"),
    "flat": ("template", lambda a: a.reshape(-1), "has shape"),
    "nan": ("template", _with_nan, "not finite"),
    "nan half": ("shapedirs", _with_nan, "not finite"),
    "floats for rows": ("faces", lambda a: a.astype(np.float32), "expected integers"),
    "text for numbers": ("template", lambda a: a.astype(str), "expected floats"),
    "numbers for names": ("joint_names", lambda a: np.arange(len(a)), "expected numpy unicode"),
    "face out of range": ("faces", lambda a: a + 1000, "outside 0"),
    "negative face": ("faces", lambda a: a - 30, "outside 0"),
    "region out of range": ("region", lambda a: a + 7, "outside 0"),
    "landmark out of range": ("landmark_face", lambda a: a + 1000, "outside 0"),
    "two roots": ("parents", lambda a: np.array([-1, -1, 1, 2, 2, 2]), "parents before their children"),
    "child first": ("parents", lambda a: np.array([-1, 2, 1, 2, 2, 2]), "parents before their children"),
    "no skull": ("joint_names", lambda a: np.array([f"j{k}" for k in range(6)]), "to hold the skull"),
    "twice a name": ("expression_names", lambda a: np.array(["e0"] * 5), "distinct names"),
    "weights": ("skinning_weights", lambda a: 2 * a, "sums to 2"),
    "barycentric": ("landmark_barycentric", lambda a: a + 0.1, "sums to 1.3"),
    "correctives of another rig": ("posedirs", _shorter, "has shape"),
    "future version": ("format_version", lambda a: np.array(99), "is 99"),
    "objects": ("name", lambda a: np.array({"a": 1}, dtype=object), "plain array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_field_is_named(case: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    field, change, message = BAD[case]
    changed = change(arrays.pop(field))
    if changed is not None:
        arrays[field] = changed
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(HeadModelError, match=message) as error:
        load_head(tmp_path / "bad.npz")
    assert "bad.npz" in str(error.value)
    # A count that disagrees is reported at the field that comes second.
    assert field in str(error.value) or "expression" in field


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_truncated_file(keep: int, tmp_path: Path) -> None:
    save_head(random_head(), tmp_path / "head.npz")
    content = (tmp_path / "head.npz").read_bytes()
    (tmp_path / "head.npz").write_bytes(content[:keep])
    with pytest.raises(HeadModelError, match=r"head\.npz.*(cannot be read|is empty)"):
        load_head(tmp_path / "head.npz")


def test_damaged_bytes(tmp_path: Path) -> None:
    save_head(random_head(), tmp_path / "head.npz")
    content = bytearray((tmp_path / "head.npz").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "head.npz").write_bytes(bytes(content))
    with pytest.raises(HeadModelError, match=r"head\.npz"):
        load_head(tmp_path / "head.npz")


def test_not_an_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(HeadModelError, match="array.npy: cannot be read as an npz file"):
        load_head(tmp_path / "array.npy")
    (tmp_path / "text.npz").write_text("v 0 0 0\n")
    with pytest.raises(HeadModelError, match="text.npz"):
        load_head(tmp_path / "text.npz")
    with pytest.raises(HeadModelError, match="no head model at.*anny"):
        load_head(tmp_path / "absent.npz")


def test_contradictory_model_is_not_written(tmp_path: Path) -> None:
    head = random_head()
    head.template[0] = torch.nan
    with pytest.raises(HeadModelError, match="template"):
        save_head(head, tmp_path / "head.npz")
    assert not list(tmp_path.iterdir())
