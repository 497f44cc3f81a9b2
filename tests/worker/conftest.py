from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from gateway.worker import publisher

from . import fake as fake_module
from .fake import Fake
from .peer import Peer

_numbers = count()


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    """A gateway of this test's own; jobs find it by GATEWAY_URL."""
    peer = Peer()
    monkeypatch.setenv("GATEWAY_URL", peer.url)
    monkeypatch.delenv("GATEWAY_TOKEN", raising=False)
    monkeypatch.delenv("GATEWAY_TOKEN_FILE", raising=False)
    yield peer
    peer.go_away()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A publisher of this test's own; jobs name its `url`."""
    monkeypatch.setitem(publisher.SCHEMES, "fake", fake_module.__name__)
    fake = Fake(f"fake://{next(_numbers)}")
    yield fake
    fake.door.set()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a gateway that is not there: nothing listens at port 9. Of this test's own."""
    url = f"http://127.0.0.1:9/{next(_numbers)}"
    monkeypatch.setenv("GATEWAY_URL", url)
    return url
