"""Plain data in pickles of every protocol is read, and nothing in them can run."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
from harm import Calls
from python2_pickles import write_python2_pickle

from flame_nerf.heads import HeadModelError
from flame_nerf.heads.flame_smpl import read_statistical_head
from flame_nerf.runtime.door.pickles import PlainPickleError, read_plain_pickle


def test_plain_data_of_every_protocol_is_read():
    content = {
        "a": np.arange(12.0).reshape(3, 4).T,
        "b": [np.float32(3), {1, 2}],
        "é": "ü",
        "raw": b"\x80\x81",
        "n": None,
    }
    for protocol in range(6):
        found = read_plain_pickle(io.BytesIO(pickle.dumps(content, protocol)))
        np.testing.assert_array_equal(found["a"], content["a"])
        assert found["b"] == [3.0, {1, 2}] and found["é"] == "ü" and found["raw"] == b"\x80\x81" and found["n"] is None


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_program_is_refused_and_named(tmp_path, protocol):
    mark = tmp_path / "ran"
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": Calls(os.system, f"touch {mark}")}, protocol))
    with pytest.raises(HeadModelError, match=r"evil\.pkl: it asks for \w+\.system"):
        read_statistical_head(tmp_path / "evil.pkl")
    assert not mark.exists()


@pytest.mark.parametrize(
    "program, named",
    [
        (b"cbuiltins\neval\n(S'1+1'\ntR.", "builtins.eval"),
        (b"c__builtin__\ngetattr\n(S'1'\nS'real'\ntR.", "__builtin__.getattr"),
        (b"(S'touch x'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'touch x'\no.", "os.system"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.", "_reconstruct.__globals__"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", "os.system"),
        (b"\x82\x01.", "extension number 1"),
    ],
)
def test_other_ways_to_reach_a_function_are_refused_too(program, named):
    with pytest.raises(PlainPickleError, match=named.replace(".", r"\.")):
        read_plain_pickle(io.BytesIO(program))


@pytest.mark.parametrize(
    "program",
    [
        # The names that are known stay names: calling, building on and filling them does nothing.
        b"ccollections\nOrderedDict\n}S'__class__'\nI1\nsb.",
        b"c_codecs\nencode\n(S'import os'\nS'rot13'\ntR.",
        b"cchumpy.ch\nCh\n(S'x'\ntR(S'y'\nI1\nu.",
        b"ccopy_reg\n_reconstructor\n(I1\nI2\nNtR.",
    ],
)
def test_known_names_cannot_be_bent(program):
    with pytest.raises(PlainPickleError):
        read_plain_pickle(io.BytesIO(program))


def test_unknown_chumpy_objects_are_left_alone_and_selections_understood(tmp_path):
    class Ch:
        pass

    def pickled(name: str, **state) -> object:
        made = type(name, (), {})()
        made.__dict__.update(state)
        return made

    import python2_pickles

    array = np.arange(12.0)
    select = pickled("Select", a=array, idxs=np.array([3, 1, 2, 0]), preferred_shape=(2, 2))
    other = pickled("Multiply", a=array, b=array)
    names = {type(select): ("chumpy.reordering", "Select"), type(other): ("chumpy.ch", "Multiply")}
    python2_pickles.OLD_NAMES.update(names)
    try:
        write_python2_pickle(tmp_path / "x.pkl", {"select": select, "other": other})
    finally:
        for kind in names:
            del python2_pickles.OLD_NAMES[kind]
    found = read_plain_pickle(io.BytesIO((tmp_path / "x.pkl").read_bytes()))
    np.testing.assert_array_equal(found["select"], [[3.0, 1.0], [2.0, 0.0]])
    assert not isinstance(found["other"], np.ndarray)
