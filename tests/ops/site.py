"""A TLS site in front of a gateway, with any proxy."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.auth.signing import SECRET, sign
from tests.cli.processes import WITHIN, Running

__all__ = ["HOST", "ProxiedGateway", "certificate", "listening", "receive"]

HOST = "progress.example"


@frozen
class ProxiedGateway:
    """A proxy with a gateway behind it."""

    port: int
    tls: ssl.SSLContext
    gateway: Running
    secret: str = SECRET
    """The key that the gateway checks tokens with."""

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

    def token(self) -> str:
        """A token with all permissions."""
        claims = {"exp": time.time() + 60, "watch": ["*"], "publish": ["*"]}
        return sign(claims, key=self.secret)

    def request(self, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """A request with such a token."""
        method = "GET" if body is None else "POST"
        lines = {"host": self.host, "authorization": f"Bearer {self.token()}"}
        lines |= {"content-length": str(len(body or b""))}
        lines |= {name.replace("_", "-"): text for name, text in headers.items()}
        head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(HOST), x509.DNSName("localhost")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def listening(running: Running, port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + WITHIN
    while True:
        assert running.process.poll() is None, running.errors
        try:
            socket.create_connection(("127.0.0.1", port), timeout=WITHIN).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, running.errors
            time.sleep(0.01)
        else:
            return


def receive(sock: ssl.SSLSocket, *wanted: bytes) -> bytes:
    """Receive data until it contains all of these."""
    received = b""
    while not all(part in received for part in wanted):
        data = sock.recv(65_536)
        assert data, f"it ended: {received!r}"
        received += data
    return received
