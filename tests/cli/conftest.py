from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker.fake_gateway import FakeGateway

from .processes import GATEWAY, Running


@pytest.fixture
def url() -> Iterator[str]:
    """A `gateway serve` of this test's own."""
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--shutdown-timeout", "1") as served:
        yield address(served)


@pytest.fixture
def fake_gateway() -> Iterator[FakeGateway]:
    """A server that replaces a gateway, and records the updates."""
    fake_gateway = FakeGateway()
    yield fake_gateway
    fake_gateway.stop()


def address(served: Running) -> str:
    """Waits until the gateway serves. Returns its address."""
    served.until("\n")
    return served.output.decode().split()[-1].rstrip("/")
