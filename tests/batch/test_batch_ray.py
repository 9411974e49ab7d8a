"""A batch on a Ray cluster: of two machines, of which one is lost; and without a cluster to be had."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
from batch_folders import summary, videos

from data_tools.batch import BatchConfig
from data_tools.batch.command import batch

NOTICED_SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 2}
"""Of Ray: a machine that is gone is missed after seconds."""


class RayError(Exception):
    """Of the stand-in."""


def stand_in(**changed) -> SimpleNamespace:
    """A Ray that gives back every task's result at once; `changed`: what it does otherwise."""
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: None,
        shutdown=lambda: None,
        cancel=lambda _: None,
        cluster_resources=lambda: {"CPU": 2.0},
        remote=lambda **_: lambda function: SimpleNamespace(remote=function),
        wait=lambda running, **_: (running[:1], running[1:]),
        get=lambda result: result,
        exceptions=SimpleNamespace(RayError=RayError),
    )
    return SimpleNamespace(**{**vars(ray), **changed})


def raises(error: Exception):
    def call(*_, **__):
        raise error

    return call


def test_without_ray_the_message_says_so(folders, monkeypatch, capsys):
    source, subjects = folders
    videos(source, anna="good")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert batch(source, BatchConfig(engine="ray"), subjects) == 1
    assert "pip install" in capsys.readouterr().err


def test_ray_that_does_not_start_in_time_is_one_line(folders, monkeypatch, capsys):
    source, subjects = folders
    videos(source, anna="good")
    late = Exception("The current node timed out during startup.\nThis could happen because the raylet failed.")
    monkeypatch.setitem(sys.modules, "ray", stand_in(init=raises(late)))
    assert batch(source, BatchConfig(engine="ray"), subjects) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: Ray does not start (The current node timed out during startup.)")


def test_jobs_of_a_machine_that_is_lost_for_good_have_failed(folders, monkeypatch):
    source, subjects = folders
    videos(source, anna="good", ben="good")
    lost = RayError("Task failed.\n\nThe node was lost.")
    monkeypatch.setitem(sys.modules, "ray", stand_in(get=raises(lost)))
    assert batch(source, BatchConfig(engine="ray"), subjects) == 1
    assert {(entry["status"], entry["error"]) for entry in summary(subjects).values()} == {
        ("failed", "Ray: The node was lost.")
    }


@pytest.mark.slow
def test_of_two_machines_one_is_lost_and_the_table_is_whole(folders, monkeypatch):
    # Read when Ray is imported, which the engine does too late here: these tests may run under `uv run`.
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'flame-nerf[ray]'")
    from ray.cluster_utils import Cluster

    source, subjects = folders
    videos(source, anna="waits", ben="bad", cleo="waits", dora="shaky")
    cluster = Cluster(True, head_node_args={"num_cpus": 1, "_system_config": NOTICED_SOON})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    try:
        other = cluster.add_node(num_cpus=1)

        def lose_one() -> None:
            both = subjects / "anna.tries", subjects / "cleo.tries"
            while not all(path.exists() for path in both):
                time.sleep(0.1)
            cluster.remove_node(other, allow_graceful=False)
            while sum(node["Alive"] for node in ray.nodes()) > 1:
                time.sleep(0.1)
            time.sleep(1.0)
            (subjects / "open").touch()

        threading.Thread(target=lose_one, daemon=True).start()
        assert batch(source, BatchConfig(engine="ray", workers=2), subjects) == 1
    finally:
        cluster.shutdown()
    told = {name: entry["status"] for name, entry in summary(subjects).items()}
    assert (told["ben"], told["dora"]) == ("failed", "done")
    # One of the two was with the machine that is gone, and was given out again. What that machine had begun lives on
    # here, where both are one, and may end first: then the second try finds the subject made.
    told = [(told[name], (subjects / f"{name}.tries").read_text()) for name in ("anna", "cleo")]
    assert sorted(told) in ([("done", "x"), ("done", "xx")], [("done", "x"), ("done before", "x")])
