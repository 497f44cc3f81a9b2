"""Each proxy of `docs/operations.md` in front of a gateway, over TLS."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.auth.signing import SECRET
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running
from tests.e2e.client import command, upgrade

from .proxies import IDLE, PROXIES, SETTINGS
from .site import HOST, ProxiedGateway, certificate, receive


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxiedGateway]:
    folder = tmp_path_factory.mktemp("site")
    form = "proxy-protocol" if "bytes" in request.param else "x-forwarded-for"
    (folder / "gateway.toml").write_text(f'client_ip_header = "{form}"\n{SETTINGS}')
    pair = certificate(folder)
    serve = (*GATEWAY, "serve", "--config", str(folder / "gateway.toml"))
    with Running(*serve, env={"PROGRESS_GATEWAY_SECRET": SECRET}) as gateway:
        upstream = address(gateway).removeprefix("http://")
        with PROXIES[request.param](upstream, pair, folder) as port:
            yield ProxiedGateway(port, ssl.create_default_context(cafile=str(pair[0])), gateway)


def test_the_page_and_an_update_work_through_the_proxy(site: ProxiedGateway) -> None:
    with site.connect() as sock:
        sock.sendall(site.request("/"))
        receive(sock, b" 200 ", b"</html>")
        sock.sendall(site.request("/api/jobs/a", b'{"percent": 10}'))
        receive(sock, b" 200 ", b'"applied":true')


def test_a_websocket_outlives_the_idle_timeout(site: ProxiedGateway) -> None:
    with site.connect() as sock:
        sock.sendall(upgrade(host=site.host, origin=f"https://{site.host}"))
        receive(sock, b" 101 ", b"welcome")
        sock.sendall(command("hello", token=site.token()) + command("subscribe", jobs=["idle"]))
        receive(sock, b'"state":null')
        end = time.monotonic() + 3 * IDLE
        while time.monotonic() < end:
            receive(sock, b'"ping"')
            sock.sendall(command("pong"))
        with site.connect() as other:
            other.sendall(site.request("/api/jobs/idle", b'{"percent": 55}'))
            receive(other, b'"applied":true')
        receive(sock, b'"percent":55')


def test_an_upgrade_reuses_a_connection_that_carried_requests(site: ProxiedGateway) -> None:
    """A proxy keeps its connections to us: requests first, then an upgrade, many times."""
    for _ in range(10):
        with site.connect() as sock:
            sock.sendall(site.request("/healthz"))
            receive(sock, b'"ok"')
        with site.connect() as sock:
            sock.sendall(upgrade(host=site.host))
            receive(sock, b" 101 ", b"welcome")


def test_no_other_protocol_is_proxied(site: ProxiedGateway) -> None:
    """The proxy's rules would not apply to its content."""
    with site.connect() as sock:
        sock.sendall(
            site.request(
                "/healthz",
                connection="Upgrade, HTTP2-Settings",
                upgrade="h2c",
                http2_settings="AAMAAABkAAQAoAAA",
            )
        )
        receive(sock, b"HTTP/1.1 200 ", b'"ok"')


@pytest.mark.parametrize(("offer", "passed_on"), [("WebSocket", True), ("h2c", False)])
def test_nginx_forwards_only_websocket_upgrades(
    tmp_path: Path, offer: str, passed_on: bool
) -> None:
    pair = certificate(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(WITHIN)
        address = f"127.0.0.1:{upstream.getsockname()[1]}"
        with PROXIES["nginx"](address, pair, tmp_path) as port:
            tls = ssl.create_default_context(cafile=str(pair[0]))
            plain = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
            with tls.wrap_socket(plain, server_hostname=HOST) as client:
                client.sendall(upgrade(host=HOST, upgrade=offer))
                with upstream.accept()[0] as received:
                    head = received.recv(65_536).lower()
    assert (b"\r\nupgrade: websocket\r\n" in head) is passed_on
    assert (b"\r\nupgrade:" in head) is passed_on
    assert (b"\r\nconnection: upgrade\r\n" in head) is passed_on


def test_the_proxy_does_not_buffer_events(site: ProxiedGateway) -> None:
    with site.connect() as stream, site.connect() as other:
        stream.sendall(site.request("/api/events?job=sse"))
        receive(stream, b"text/event-stream", b'"state":null')
        for percent in (1, 2, 3):
            other.sendall(site.request("/api/jobs/sse", b'{"percent": %d}' % percent))
            receive(other, b'"applied":true')
            receive(stream, b'"percent":%d' % percent)


def test_a_page_of_another_origin_is_refused(site: ProxiedGateway) -> None:
    with site.connect() as sock:
        sock.sendall(upgrade(host=site.host, origin="https://evil.example"))
        receive(sock, b" 101 ", b"origin is not allowed")


def test_the_gateway_gets_the_clients_address(site: ProxiedGateway) -> None:
    """The address is correct whatever header the client sends, and also if other clients have used
    the connections that the proxy keeps open: others have just left it as many as it may keep."""
    with ExitStack() as stack:
        others = [stack.enter_context(site.connect()) for _ in range(5)]
        for sock in others:
            sock.sendall(site.request("/api/jobs/others?wait=5"))
        with site.connect() as sock:
            sock.sendall(site.request("/api/jobs/others", b'{"percent": 1}'))
            receive(sock, b'"applied":true')
        for sock in others:
            receive(sock, b'"percent":1')
    with site.connect(source="127.0.0.9") as sock:
        sock.sendall(upgrade(host=site.host, x_forwarded_for="203.0.113.9"))
        receive(sock, b" 101 ", b"welcome")
        sock.sendall(command("hello", token="nonsense"))  # noqa: S106 - it is none
        receive(sock, b"not a JSON Web Token")
    deadline = time.monotonic() + WITHIN
    while not any(
        line.get("client") == "127.0.0.9" and line["event"] == "connection closed"
        for line in map(json.loads, site.gateway.errors.rpartition("\n")[0].splitlines())
    ):
        assert time.monotonic() < deadline, site.gateway.errors
        time.sleep(0.01)
