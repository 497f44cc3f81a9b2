"""The nginx configuration of `docs/operations.md`, run as it stands there: only its ports,
its certificate and its patience are the test's."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.auth.signing import SECRET, sign
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, WITHIN, Running
from tests.e2e.client import command, upgrade

DOCUMENTED = re.search(
    r"```nginx\n(.*?)```",
    (Path(__file__).parents[2] / "docs/operations.md").read_text(),
    re.DOTALL,
)
HOST = "progress.example"
IDLE = 1.0
"""Seconds that this nginx lets a connection idle; the gateway pings thrice as often."""
SETTINGS = """
bind = "127.0.0.1:0"
[limits]
ping_after = 0.3
pong_within = 0.2
"""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@frozen
class Site:
    """nginx with a gateway behind it."""

    port: int
    tls: ssl.SSLContext
    gateway: Running

    @contextmanager
    def connect(self, source: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
        """A TLS connection, from one of this machine's addresses."""
        plain = socket.create_connection(
            ("127.0.0.1", self.port), timeout=WITHIN, source_address=(source, 0)
        )
        with self.tls.wrap_socket(plain, server_hostname=HOST) as sock:
            yield sock

    @property
    def host(self) -> str:
        return f"{HOST}:{self.port}"

    def request(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The request, with a token for everything."""
        method = "GET" if body is None else "POST"
        token = sign({"exp": time.time() + 60, "watch": ["*"], "publish": ["*"]})
        lines = {"host": self.host, "authorization": f"Bearer {token}"}
        lines |= {"content-length": str(len(body or b""))} | headers
        head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        pytest.skip("no nginx in PATH")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "gateway.toml").write_text(SETTINGS)
    cert, key = certificate(folder)
    with ExitStack() as stack:
        serve = (*GATEWAY, "serve", "--config", str(folder / "gateway.toml"))
        gateway = stack.enter_context(Running(*serve, env={"GATEWAY_SECRET": SECRET}))
        upstream, port = address(gateway).removeprefix("http://"), free_port()
        assert DOCUMENTED is not None
        text = DOCUMENTED[1]
        for pattern, replacement in (
            (r"server 127\.0\.0\.1:8000;", f"server {upstream};"),
            (r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
            (r"(ssl_certificate +)\S+;", rf"\g<1>{cert};"),
            (r"(ssl_certificate_key +)\S+;", rf"\g<1>{key};"),
            (r"proxy_read_timeout 60s;", f"proxy_read_timeout {IDLE:g}s;"),
        ):
            text, times = re.subn(pattern, replacement, text)
            assert times == 1, pattern
        config = folder / "nginx.conf"
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr info;\n"
            f"events {{}}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
        )
        command_ = (nginx, "-p", str(folder), "-e", "stderr", "-c", str(config))
        checked = subprocess.run(
            [*command_, "-t"], capture_output=True, text=True, timeout=WITHIN, check=False
        )
        assert checked.returncode == 0, checked.stderr
        running = stack.enter_context(Running(*command_))
        deadline = time.monotonic() + WITHIN
        while "start worker processes" not in running.errors:
            assert time.monotonic() < deadline, running.errors
            assert running.process.poll() is None, running.errors
            time.sleep(0.01)
        yield Site(port, ssl.create_default_context(cafile=str(cert)), gateway)
        running.process.terminate()
        running.process.wait(WITHIN)


def hear(sock: ssl.SSLSocket, *wanted: bytes) -> bytes:
    """What comes, up to the first that has all of these in it."""
    heard = b""
    while not all(part in heard for part in wanted):
        data = sock.recv(65_536)
        assert data, f"it ended: {heard!r}"
        heard += data
    return heard


def test_the_page_and_an_update(site: Site) -> None:
    with site.connect() as sock:
        sock.sendall(site.request("/"))
        hear(sock, b" 200 ", b"</html>")
        sock.sendall(site.request("/api/jobs/a", b'{"percent": 10}'))
        hear(sock, b" 200 ", b'"applied":true')


def test_a_websocket_outlives_the_idle_timeout(site: Site) -> None:
    with site.connect() as sock:
        token = sign({"exp": time.time() + 60, "watch": ["*"]})
        sock.sendall(upgrade(host=site.host, origin=f"https://{site.host}"))
        hear(sock, b" 101 ", b"welcome")
        sock.sendall(command("hello", token=token) + command("subscribe", jobs=["idle"]))
        hear(sock, b'"state":null')
        end = time.monotonic() + 3 * IDLE
        while time.monotonic() < end:
            hear(sock, b'"ping"')
            sock.sendall(command("pong"))
        with site.connect() as other:
            other.sendall(site.request("/api/jobs/idle", b'{"percent": 55}'))
            hear(other, b'"applied":true')
        hear(sock, b'"percent":55')


def test_an_upgrade_reuses_a_connection_that_carried_requests(site: Site) -> None:
    """nginx keeps its connections to us: requests first, then an upgrade, many times."""
    for _ in range(10):
        with site.connect() as sock:
            sock.sendall(site.request("/healthz"))
            hear(sock, b'"ok"')
        with site.connect() as sock:
            sock.sendall(upgrade(host=site.host))
            hear(sock, b" 101 ", b"welcome")


def test_events_are_not_held_back(site: Site) -> None:
    with site.connect() as stream, site.connect() as other:
        stream.sendall(site.request("/api/events?job=sse"))
        hear(stream, b"text/event-stream", b'"state":null')
        for percent in (1, 2, 3):
            other.sendall(site.request("/api/jobs/sse", b'{"percent": %d}' % percent))
            hear(other, b'"applied":true')
            hear(stream, b'"percent":%d' % percent)


def test_a_page_of_another_origin_stays_outside(site: Site) -> None:
    with site.connect() as sock:
        sock.sendall(upgrade(host=site.host, origin="https://evil.example"))
        hear(sock, b" 101 ", b"forbidden origin")


def test_the_gateway_knows_where_a_client_is(site: Site) -> None:
    with site.connect(source="127.0.0.9") as sock:
        sock.sendall(upgrade(host=site.host) + command("hello", token="nonsense"))  # noqa: S106
        hear(sock, b"unauthorized")
    deadline = time.monotonic() + WITHIN
    while not any(
        line.get("client") == "127.0.0.9" and line["event"] == "ended"
        for line in map(json.loads, site.gateway.errors.splitlines())
    ):
        assert time.monotonic() < deadline, site.gateway.errors
        time.sleep(0.01)
