"""Fixtures of the end-to-end tests. They run on real sockets, so real time passes;
but nothing sleeps to wait for something, and every wait has a deadline."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio

from gateway import Gateway, Limits

from .client import PATIENCE
from .hosts import Host, asgi_server, embedded, listener

HOSTS = {"listener": listener, "hypercorn": asgi_server, "trio-websocket": embedded}


@pytest.fixture
def limits() -> Limits:
    """Short deadlines, so that tests with hostile clients reach them soon."""
    return Limits(
        request_header_timeout=0.3,
        body_timeout=0.3,
        write_timeout=0.5,
        close_timeout=0.3,
        shutdown_timeout=2.0,
    )


@pytest.fixture(params=HOSTS)
async def host(request: pytest.FixtureRequest, limits: Limits) -> AsyncIterator[Host]:
    """The gateway, behind each transport in turn."""
    async with HOSTS[request.param](limits) as host:
        yield host


@pytest.fixture
def port(gateway: Gateway) -> int:
    return gateway.addresses[0][1]


@pytest.fixture(autouse=True)
def _no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which the input of a client has caused an error in the log."""
    yield
    # `get_records` has those of the call phase, `records` those of the current phase.
    records = caplog.get_records("call")
    wrong = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    assert not wrong


async def eventually(holds: Callable[[], bool]) -> None:
    """Returns when the condition is true. Only this function polls: for conditions without an
    event, such as the gateway's counts after a client has been disconnected."""
    with trio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.002)
