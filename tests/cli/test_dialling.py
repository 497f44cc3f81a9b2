"""What is said, and at once, of a server that is not the gateway it was taken for."""

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

from gateway.cli.dialling import DIAL_WITHIN, dialled
from gateway.cli.known import Known
from gateway.cli.line import Line
from gateway.cli.plainly import FrameLines

AT_ONCE = DIAL_WITHIN / 2  # seconds
AUTHORITY = trustme.CA()


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


@asynccontextmanager
async def server_that(says: bytes | None, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A server that reads, then says so and hangs up. None: it hangs up at once."""

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            if says is not None:
                try:
                    await stream.receive_some()
                    await stream.send_all(says)
                except trio.BrokenResourceError:
                    return

    async with trio.open_nursery() as nursery:
        (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener = plain if context is None else trio.SSLListener(plain, context)
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield plain.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def failure(url: str) -> str:
    """Why a line to `url` has ended."""
    line = Line(Known(["a"]), mode="latest", token=None, audience=FrameLines())
    with trio.fail_after(AT_ONCE):
        return await line.live(url)


@pytest.mark.parametrize("says", [None, b"", b"SSH-2.0-OpenSSH\r\n", b"\r\n\r\n\r\n"])
async def test_what_is_no_gateway(says: bytes | None) -> None:
    async with server_that(says, None) as port:
        assert f"{port} does not answer as a gateway" in await failure(f"http://localhost:{port}")


async def test_http_where_there_is_tls(tls: ssl.SSLContext) -> None:
    async with server_that(b"", tls) as port:
        assert "is http:// right" in await failure(f"http://localhost:{port}")


@pytest.mark.parametrize("says", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_https_where_there_is_no_tls(says: bytes | None) -> None:
    async with server_that(says, None) as port:
        assert "SSL" in await failure(f"https://localhost:{port}")


async def test_a_certificate_of_nobody_who_is_trusted(tls: ssl.SSLContext) -> None:
    async with server_that(b"", tls) as port:
        assert "certificate verify failed" in await failure(f"https://localhost:{port}")


async def test_an_authority_of_ones_own(
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
        async with dialled(f"https://localhost:{server.port}/gateway/"):
            pass
        nursery.cancel_scope.cancel()
    assert paths == ["/gateway/ws"]
