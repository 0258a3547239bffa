# SPDX-License-Identifier: Apache-2.0
"""The hub of fetch_util.py as a fixture."""

import pytest
from fetch_util import Hub


@pytest.fixture
def hub():
    h = Hub()
    yield h
    h.slow = False
    h.server.shutdown()
    h.server.server_close()
