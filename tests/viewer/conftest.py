"""What tests of the page without a browser share."""

import pytest
import viser


@pytest.fixture(scope="module")
def server():
    """A page's server on a free port of this machine, with nobody at it."""
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    yield server
    server.stop()
