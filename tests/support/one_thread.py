"""Tests on one thread: import the fixture by name."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine torch's threads wait for each other far longer than small tensors take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
