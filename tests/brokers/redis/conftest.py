"""The Redis server of the session, emptied."""

from __future__ import annotations

import pytest

from .server import Server, session_server


@pytest.fixture
def server() -> Server:
    """Emptied before each test."""
    return session_server()


@pytest.fixture(scope="module")
def module_server() -> Server:
    """Emptied before the tests of a module, for property tests."""
    return session_server()
