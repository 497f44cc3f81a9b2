"""The errors for a server that is not a gateway."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from gateway.cli.watch.client import WatchClient
from gateway.cli.watch.connect import CONNECT_TIMEOUT, connected_to
from gateway.cli.watch.job_states import JobStates
from gateway.cli.watch.text_output import FrameLines

AT_ONCE = CONNECT_TIMEOUT / 2  # seconds
AUTHORITY = trustme.CA()


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


@asynccontextmanager
async def server_that(response: bytes | None, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Yields a server that reads, sends `response`, and closes. If `response` is None it closes
    immediately."""

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            if response is not None:
                try:
                    await stream.receive_some()
                    await stream.send_all(response)
                except trio.BrokenResourceError:
                    return

    async with trio.open_nursery() as nursery:
        (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener = plain if context is None else trio.SSLListener(plain, context)
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield plain.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def failure(url: str) -> str:
    """Connects to `url`; returns the reason why the connection ended."""
    client = WatchClient(JobStates(["a"]), mode="latest", token=None, display=FrameLines())
    with trio.fail_after(AT_ONCE):
        return await client.run(url)


@pytest.mark.parametrize("response", [None, b"", b"SSH-2.0-OpenSSH\r\n", b"\r\n\r\n\r\n"])
async def test_a_server_that_is_not_a_gateway_is_reported(response: bytes | None) -> None:
    async with server_that(response, None) as port:
        assert f"{port} does not respond as a gateway" in await failure(f"http://localhost:{port}")


async def test_http_to_a_tls_server_is_reported(tls: ssl.SSLContext) -> None:
    async with server_that(b"", tls) as port:
        assert "is http:// correct" in await failure(f"http://localhost:{port}")


@pytest.mark.parametrize("response", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_https_to_a_plain_server_is_reported(response: bytes | None) -> None:
    async with server_that(response, None) as port:
        assert "SSL" in await failure(f"https://localhost:{port}")


async def test_an_untrusted_certificate_is_reported(tls: ssl.SSLContext) -> None:
    async with server_that(b"", tls) as port:
        assert "certificate verify failed" in await failure(f"https://localhost:{port}")


async def test_a_custom_certificate_authority_is_accepted(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    paths = []

    async def serve(request: WebSocketRequest) -> None:
        paths.append(request.path)
        ws = await request.accept()
        try:
            await ws.get_message()
        except ConnectionClosed:
            return

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, serve, "localhost", 0, tls))
        async with connected_to(f"https://localhost:{server.port}/gateway/"):
            pass
        nursery.cancel_scope.cancel()
    assert paths == ["/gateway/ws"]
