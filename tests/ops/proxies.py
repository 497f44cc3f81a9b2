"""The proxies of `docs/operations.md`, run with the documented configuration; only ports,
certificates and timeouts are replaced.

Each is created with the address of the gateway, a certificate with its key, and a folder, and runs
while the context is open. A test of a proxy that is not installed is skipped.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.cli.processes import WITHIN, Running
from tests.ports import free_port

from .documented import TEXT, adapted, files
from .site import HOST, listening

__all__ = ["IDLE", "PROXIES", "SETTINGS", "Proxy"]

IDLE = 1
"""Seconds that these proxies let a connection idle; the gateway pings thrice as often."""
SETTINGS = """
bind = "127.0.0.1:0"
[limits]
ping_interval = 0.3
ping_timeout = 0.6
"""

Proxy = Callable[[str, tuple[Path, Path], Path], AbstractContextManager[int]]


@contextmanager
def nginx(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[int]:
    port = free_port()
    text = adapted(
        files()["/etc/nginx/conf.d/gateway.conf"],
        (r"server 127\.0\.0\.1:8000;", f"server {upstream};"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        (r"(ssl_certificate +)\S+;", rf"\g<1>{certificate[0]};"),
        (r"(ssl_certificate_key +)\S+;", rf"\g<1>{certificate[1]};"),
        (r"proxy_read_timeout 60s;", f"proxy_read_timeout {IDLE}s;"),
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr info;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
    )
    command = (_program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config))
    with _running(command, port, check=(*command, "-t")):
        yield port


@contextmanager
def caddy(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[int]:
    port = free_port()
    tls = " ".join(map(str, certificate))
    text = adapted(
        files()["/etc/caddy/Caddyfile"],
        (rf"{HOST} {{", f"{HOST}:{port} {{\n    bind 127.0.0.1\n    tls {tls}"),
        (r"reverse_proxy 127\.0\.0\.1:8000", f"reverse_proxy {upstream}"),
    )
    config = folder / "Caddyfile"
    config.write_text(
        f"{{\n    admin off\n    auto_https disable_redirects\n    storage file_system {folder}\n"
        f"    servers {{\n        timeouts {{\n            idle {IDLE}s\n        }}\n    }}\n}}\n"
        + text
    )
    which = "--config", str(config), "--adapter", "caddyfile"
    program = _program("caddy")
    with _running((program, "run", *which), port, check=(program, "validate", *which)):
        yield port


@contextmanager
def haproxy(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[int]:
    with _haproxy(files()["/etc/haproxy/haproxy.cfg"], upstream, certificate, folder) as port:
        yield port


@contextmanager
def haproxy_of_bytes(upstream: str, certificate: tuple[Path, Path], folder: Path) -> Iterator[int]:
    """In TCP mode, as described in the guide."""
    (server,) = {line for line in TEXT.split("`") if line.startswith("server one")}
    text = adapted(
        files()["/etc/haproxy/haproxy.cfg"],
        (r"mode http", "mode tcp"),
        (r" +option forwardfor\n", ""),
        (r"server one .*", server),
    )
    with _haproxy(text, upstream, certificate, folder) as port:
        yield port


@contextmanager
def _haproxy(
    text: str, upstream: str, certificate: tuple[Path, Path], folder: Path
) -> Iterator[int]:
    port = free_port()
    both = folder / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in certificate))
    text = adapted(
        text,
        (r"bind :443 ssl crt \S+", f"bind 127.0.0.1:{port} ssl crt {both}"),
        (r"(server one) 127\.0\.0\.1:8000(.*)", rf"\1 {upstream}\2 inter 100ms"),
        *((rf"timeout {w} 60s", f"timeout {w} {IDLE}s") for w in ("client", "server", "tunnel")),
    )
    config = folder / "haproxy.cfg"
    config.write_text(f"global\n    stats socket {folder}/stats\n\n{text}")
    command = (_program("haproxy"), "-db", "-f", str(config))
    with _running(command, port, check=(*command, "-c")):
        _found_healthy(folder / "stats")
        yield port


def _found_healthy(stats: Path) -> None:
    """Wait until HAProxy's own check of the gateway has succeeded."""
    deadline = time.monotonic() + WITHIN
    received = ""
    while "L7OK,200" not in received:
        assert time.monotonic() < deadline, received
        if not stats.exists():  # it has just been started
            time.sleep(0.01)
            continue
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile() as answer:
            connection.connect(str(stats))
            connection.sendall(b"show stat\n")
            received = answer.read()
        time.sleep(0.01)


PROXIES: dict[str, Proxy] = {
    "nginx": nginx,
    "caddy": caddy,
    "haproxy": haproxy,
    "haproxy of bytes": haproxy_of_bytes,
}


def _program(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"no {name} in PATH")
    return path


@contextmanager
def _running(command: tuple[str, ...], port: int, *, check: tuple[str, ...]) -> Iterator[None]:
    checked = subprocess.run(check, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert checked.returncode == 0, checked.stderr
    with Running(*command) as running:
        listening(running, port)
        yield
        running.process.terminate()
        running.process.wait(WITHIN)
