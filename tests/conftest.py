"""Order of the tests."""

from __future__ import annotations

import collections

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the largest share of slow tests first: of two processes none works long alone in the end.

    It tells where files go to processes in this order: `--dist loadfile --no-loadscope-reorder`.
    """
    slow, all_tests = collections.Counter(), collections.Counter()
    for item in items:
        all_tests[item.path] += 1
        slow[item.path] += item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: -slow[item.path] / all_tests[item.path])
