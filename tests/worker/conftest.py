from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from gateway.worker import publisher
from tests.brokers.redis.conftest import server

from . import fake as fake_module
from .fake import FakePublisher
from .fake_gateway import FakeGateway
from .recorder import Recorder

__all__ = ["fake", "fake_gateway", "module_recorder", "nowhere", "recorder", "server"]

_numbers = count()


@pytest.fixture
def fake_gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """A gateway for this test; jobs find it by PROGRESS_GATEWAY_URL."""
    fake_gateway = FakeGateway()
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", fake_gateway.url)
    monkeypatch.delenv("PROGRESS_GATEWAY_TOKEN", raising=False)
    monkeypatch.delenv("PROGRESS_GATEWAY_TOKEN_FILE", raising=False)
    yield fake_gateway
    fake_gateway.stop()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A real gateway for this test, which records all events."""
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def module_recorder() -> Iterator[Recorder]:
    """A real gateway for the tests of a module, which records all events."""
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePublisher]:
    """A publisher for this test; jobs use its `url`."""
    monkeypatch.setitem(publisher.SCHEMES, "fake", fake_module.__name__)
    fake = FakePublisher(f"fake://{next(_numbers)}")
    yield fake
    fake.requests_allowed.set()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL without a gateway, because nothing listens at port 9. It is different for each test."""
    url = f"http://127.0.0.1:9/{next(_numbers)}"
    monkeypatch.setenv("PROGRESS_GATEWAY_URL", url)
    return url
