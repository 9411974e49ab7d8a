"""Text and JSON in the encodings that programs save them in."""

import codecs
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame_nerf.runtime.door import read_json, read_text


class Wrong(Exception):
    pass


ENCODINGS = {
    "utf-8": ("utf-8", b""),
    "utf-8 marked": ("utf-8", codecs.BOM_UTF8),
    "utf-16 little": ("utf-16-le", codecs.BOM_UTF16_LE),
    "utf-16 big": ("utf-16-be", codecs.BOM_UTF16_BE),
    "utf-16 little, unmarked": ("utf-16-le", b""),
    "utf-16 big, unmarked": ("utf-16-be", b""),
    "utf-32 little": ("utf-32-le", codecs.BOM_UTF32_LE),
    "utf-32 big, unmarked": ("utf-32-be", b""),
}


@pytest.mark.parametrize("encoding, mark", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_any_unicode_is_read(tmp_path, encoding, mark):
    content = {"frames": [{"Öhrchen": "耳", "x": 1.5}]}
    (tmp_path / "k.json").write_bytes(mark + json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "k.json", Wrong) == content


BAD = {
    "cut short": (b'{"frames": [1, 2', "ends too soon, in line 1"),
    "cut in a word": (b'{"frames": "ab', "ends too soon"),
    "cut, UTF-16": ('{"frames": [1,'.encode("utf-16"), "ends too soon"),
    "odd UTF-16": ('{"frames": [1]}'.encode("utf-16")[:-1], "is no Unicode text .* UTF-16"),
    "slip": (b'{"a": 1,\n "b": 2,}', "line 2, column"),
    "another alphabet": ('{"ä": 1}'.encode("latin-1"), "is no Unicode text .*UTF-8.*Save it again as UTF-8"),
    "empty": (b"  \n", "is empty"),
    "zeros": (b"\0" * 64, "zero bytes"),
    "zeros at the end": (b'{"frames": [1]}' + b"\0" * 64, "zero bytes"),
    "nested": (b"[" * 100_000, "nested over"),
    "a number without end": (b"1" * 5000, "cannot be read"),
}


@pytest.mark.parametrize("data, message", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_said(tmp_path, data, message):
    (tmp_path / "k.json").write_bytes(data)
    with pytest.raises(Wrong, match=f"k.json: .*({message})"):
        read_json(tmp_path / "k.json", Wrong)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(Wrong, match="none.json does not exist"):
        read_json(tmp_path / "none.json", Wrong)
    with pytest.raises(Wrong, match="is a folder"):
        read_text(tmp_path, Wrong)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path, data):
    (tmp_path / "k.json").write_bytes(data)
    try:
        read_json(tmp_path / "k.json", Wrong)
    except Wrong as error:
        assert "k.json" in str(error)
