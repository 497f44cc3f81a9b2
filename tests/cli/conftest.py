from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.worker.peer import Peer

from .processes import GATEWAY, Running


@pytest.fixture
def url() -> Iterator[str]:
    """A `gateway serve` of this test's own."""
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--drain", "1") as served:
        yield address(served)


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server that stands for a gateway, and records what it is told."""
    peer = Peer()
    yield peer
    peer.go_away()


def address(served: Running) -> str:
    """Where it serves, as soon as it does."""
    served.until("\n")
    return served.output.decode().split()[-1].rstrip("/")
