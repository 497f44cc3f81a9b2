"""A gateway as a service: its configuration file, `check`, SIGHUP, and systemd notifications."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from gateway.config.settings_file import limits_of, parse_settings
from gateway.model.errors import InvalidSettings
from gateway.model.limits import Limits
from tests.auth.signing import OTHER_SECRET, SECRET, sign
from tests.brokers.redis.server import Server, redis_server, session_server

from ..conftest import address
from ..processes import GATEWAY, WITHIN, Running, run_command

FILE = """
bind = "127.0.0.1:0"
keys = ["{keys}"]
origins = ["https://shop.example", "http://localhost:3000"]
shutdown_timeout = 2

[limits]
max_connections = 7
ping_interval = 12.5
"""


class TestSettingsFile:
    def test_the_settings_file_sets_settings_and_limits(self) -> None:
        texts, table = parse_settings(FILE.format(keys="/k"))
        assert texts == {
            "bind": "127.0.0.1:0",
            "keys": "/k",
            "origins": "https://shop.example,http://localhost:3000",
            "shutdown_timeout": "2",
        }
        limits = limits_of(table, shutdown_timeout=2.0)
        assert limits == Limits(max_connections=7, ping_interval=12.5, shutdown_timeout=2.0)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("bind =", "not TOML"),
            ("bnid = 'x'", "bnid is not a setting; did you mean bind?"),
            ("bind = 'x'", "HOST:PORT"),
            ("bind = 7", "HOST:PORT"),
            ("bind = [1]", "bind must be a text"),
            ("config = 'x'", "config is not a setting"),
            ("limits = 7", "not a table"),
            ("[limit]\nmax_connections = 7", "limit is not a setting; did you mean limits"),
            ("max_connections = 7", "max_connections belongs below the line"),
            ("[limits]\nmax_head = 7\norigins = ['x']", "origins belongs above the line"),
            ("[limits]\nmax_conections = 7", "did you mean max_connections"),
            ("[limits]\nmax_connections = 7.5", "whole number"),
            ("[limits]\nmax_connections = true", "whole number"),
            ("[limits]\nping_interval = 'long'", "limits.ping_interval must be a number from"),
            ("[limits]\nping_interval = 0", "limits.ping_interval must be a number from"),
            ("[limits]\nping_interval = nan", "limits.ping_interval must be a number from"),
            ("[limits]\nshutdown_timeout = 5", "set by the setting shutdown_timeout"),
        ],
    )
    def test_an_error_names_the_setting(self, text: str, expected: str) -> None:
        with pytest.raises(InvalidSettings, match=expected):
            parse_settings(text)

    def test_options_and_variables_override_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "gateway.toml"
        file.write_text('bind = "127.0.0.1:1"\norigins = "https://a"\n')
        result = run_command("check", "--config", str(file), "--bind", "127.0.0.1:0")
        assert "127.0.0.1:0 is free" in result.stdout
        assert "https://a" in result.stdout
        result = run_command(
            "check",
            PROGRESS_GATEWAY_CONFIG=str(file),
            PROGRESS_GATEWAY_BIND="[::1]:0",
            PROGRESS_GATEWAY_ORIGINS="https://b",
        )
        assert "[::1]:0 is free" in result.stdout
        assert "https://b" in result.stdout

    def test_an_unreadable_file_is_named(self) -> None:
        result = run_command("serve", "--config", "/no/such/file")
        assert result.returncode == 2
        assert "/no/such/file" in result.stderr


class TestCheck:
    def test_the_check_succeeds(self, tmp_path: Path) -> None:
        keys = tmp_path / "keys"
        keys.write_text(SECRET)
        file = tmp_path / "gateway.toml"
        file.write_text("[limits]\nmax_connections = 100\n")  # a laptop may have few descriptors
        result = run_command(
            "check", "--config", str(file), "--bind", "127.0.0.1:0", "--keys", str(keys)
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert f"HS256 from {keys}; every client needs a token" in result.stdout

    def test_a_redis_is_checked(self) -> None:
        url = session_server().url
        done = run_command("check", "--bind", "127.0.0.1:0", "--redis", url)
        lines = {line.split()[1]: line for line in done.stdout.splitlines()}
        assert set(lines) >= {"redis", "trial", "functions", "keys", "memory", "clock", "latency"}
        assert lines["clock"].startswith("OK ")

    async def test_effective_settings_are_shown_and_do_not_fail_the_check(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "gateway.toml"
        file.write_text("[limits]\nmax_connections = 1_000_000_000\n")
        redis = Server(redis_server(), "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
        with closing(redis):
            async with trio.open_nursery() as nursery:
                far = await _from_afar(redis, nursery)
                arguments = ("check", "--config", str(file), "--bind", "127.0.0.1:0")
                check = partial(run_command, *arguments, "--redis", far)
                result = await trio.to_thread.run_sync(check)
                nursery.cancel_scope.cancel()
        assert result.returncode == 0
        but = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("WARN ")}
        assert but == {"limits", "memory", "latency"}

    def test_an_address_in_use_is_only_a_warning(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gateway:
            result = run_command("check", "--bind", f"127.0.0.1:{gateway.getsockname()[1]}")
        assert result.returncode == 1
        assert "if the gateway itself is running" in result.stdout
        assert "itself" not in run_command("check", "--bind", "192.0.2.1:1").stdout

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--bind", "0.0.0.0:0"], "--insecure"),
            (["--bind", "127.0.0.1:0", "--internal-bind", "0.0.0.0:0"], "FAIL internal"),
            (["--bind", "192.0.2.1:1"], "cannot listen"),
            (["--bind", "systemd"], "socket unit"),
            (["--bind", "fd://x"], "names no descriptors"),
            (["--bind", "fd://999"], "descriptor 999: "),
            (["--bind", "127.0.0.1:0", "--keys", "/no/such/file"], "/no/such/file"),
            (["--bind", "127.0.0.1:0", "--redis", "redis://127.0.0.1:1"], "FAIL redis"),
        ],
    )
    def test_problems_fail_the_check(self, arguments: list[str], expected: str) -> None:
        result = run_command("check", *arguments)
        assert result.returncode == 1
        assert expected in result.stdout
        assert "Traceback" not in result.stderr


async def _from_afar(redis: Server, nursery: trio.Nursery) -> str:
    """Returns a URL at which this Redis answers with a latency of 15 ms."""

    async def serve(client: trio.SocketStream) -> None:
        async with (
            client,
            await trio.open_unix_socket(redis.socket) as server,
            trio.open_nursery() as both,
        ):
            both.start_soon(carry, client, server)
            await carry(server, client)
            both.cancel_scope.cancel()

    async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await trio.sleep(0.015)
            await sink.send_all(data)

    listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, serve, 0)
    return f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"


def publish(url: str, secret: str) -> subprocess.CompletedProcess[str]:
    token = sign({"exp": time.time() + 60, "publish": ["*"]}, key=secret)
    return run_command(
        "publish", "a", "--percent", "1", PROGRESS_GATEWAY_URL=url, PROGRESS_GATEWAY_TOKEN=token
    )


class Notified:
    """A socket that replaces systemd's."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(WITHIN)

    def receive(self, wanted: str) -> None:
        """Returns when this message has been received."""
        while wanted not in self._socket.recv(4096).decode().splitlines():
            pass

    def receive_nothing(self, *, for_: float) -> None:
        """Checks that no message is received for so many seconds."""
        give_up_at = time.monotonic() + WITHIN
        self._socket.settimeout(for_)
        try:
            while time.monotonic() < give_up_at:
                self._socket.recv(4096)
        except TimeoutError:
            return
        finally:
            self._socket.settimeout(WITHIN)
        raise AssertionError("it went on")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    notified = Notified(tmp_path / "notify")
    yield notified
    notified.close()


def test_sighup_rotates_keys(tmp_path: Path, notified: Notified) -> None:
    keys, file = tmp_path / "keys", tmp_path / "gateway.toml"
    keys.write_text(SECRET)
    file.write_text(FILE.format(keys=keys))
    env = {"NOTIFY_SOCKET": notified.path}
    with Running(*GATEWAY, "serve", "--config", str(file), env=env) as served:
        url = address(served)
        notified.receive("READY=1")
        assert publish(url, SECRET).returncode == 0
        assert publish(url, OTHER_SECRET).returncode == 1

        keys.write_text(OTHER_SECRET)
        served.tell(signal.SIGHUP)
        notified.receive("RELOADING=1")
        notified.receive("READY=1")
        assert publish(url, SECRET).returncode == 1
        assert publish(url, OTHER_SECRET).returncode == 0

        keys.write_text("short")
        served.tell(signal.SIGHUP)
        notified.receive("READY=1")
        assert "reload failed, keeping the current keys and limits" in served.errors
        assert publish(url, OTHER_SECRET).returncode == 0

        served.tell(signal.SIGTERM)
        notified.receive("STOPPING=1")
        assert served.end() == 0


def test_a_reload_adds_keys_and_names_ignored_settings(tmp_path: Path, notified: Notified) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "gateway.toml"
    old.write_text(SECRET)
    new.write_text(OTHER_SECRET)

    def configure(*keys: Path, origin: str, shutdown_timeout: int) -> None:
        paths = [str(key) for key in keys]
        file.write_text(
            f'keys = {paths}\norigins = ["{origin}"]\nshutdown_timeout = {shutdown_timeout}\n'
            f"[limits]\nretention = {shutdown_timeout}000\nmax_topics = {shutdown_timeout}00\n"
            f"max_hz = {shutdown_timeout}\n"
        )

    configure(old, origin="https://a", shutdown_timeout=2)
    env = {"NOTIFY_SOCKET": notified.path, "PROGRESS_GATEWAY_ORIGINS": "https://c"}
    command = (*GATEWAY, "serve", "--config", str(file), "--bind", "127.0.0.1:0")
    with Running(*command, env=env) as served:
        url = address(served)
        notified.receive("READY=1")
        configure(old, new, origin="https://b", shutdown_timeout=3)
        served.tell(signal.SIGHUP)
        notified.receive("READY=1")
        assert publish(url, SECRET).returncode == publish(url, OTHER_SECRET).returncode == 0
        assert '"keys": 2' in served.errors
        # The variable overrides the origins. Only some limits can be changed by a reload.
        ignored = 'needs a restart: shutdown_timeout, limits.max_topics, limits.retention"'
        assert ignored in served.errors

        configure(origin="https://b", shutdown_timeout=2)
        served.tell(signal.SIGHUP)
        notified.receive("READY=1")
        assert (
            "reload failed, keeping the current keys and limits: no keys are left" in served.errors
        )
        assert publish(url, OTHER_SECRET).returncode == 0


@pytest.mark.parametrize(
    ("limit", "code"), [("max_connections", "4002"), ("max_connections_per_address", "4003")]
)
def test_reloaded_limits_apply_to_new_clients(
    tmp_path: Path, notified: Notified, limit: str, code: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f'bind = "127.0.0.1:0"\n[limits]\n{limit} = 1000\n')
    env = {
        "NOTIFY_SOCKET": notified.path,
        "PROGRESS_GATEWAY_CONFIG": str(file),
        # Trust no proxy on this machine: trusted clients would not be counted.
        "PROGRESS_GATEWAY_TRUSTED_PROXIES": "192.0.2.1",
    }
    with Running(*GATEWAY, "serve", env=env) as served:
        url = address(served)
        notified.receive("READY=1")
        assert (
            run_command(
                "publish", "a", "--status", "succeeded", PROGRESS_GATEWAY_URL=url
            ).returncode
            == 0
        )
        assert run_command("watch", "a", PROGRESS_GATEWAY_URL=url).returncode == 0
        file.write_text(f'bind = "127.0.0.1:0"\n[limits]\n{limit} = 1\n')
        served.tell(signal.SIGHUP)
        notified.receive("READY=1")
        with (
            Running(*GATEWAY, "watch", "b", env={"PROGRESS_GATEWAY_URL": url}) as first_client,
            Running(*GATEWAY, "watch", "b", env={"PROGRESS_GATEWAY_URL": url}) as second_client,
        ):
            for _ in range(600):  # one of the two, whichever connected second
                if code in first_client.errors + second_client.errors:
                    break
                time.sleep(0.05)
            assert code in first_client.errors + second_client.errors


def test_the_systemd_watchdog_is_notified(notified: Notified) -> None:
    env = {"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "200000"}
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", env=env) as served:
        address(served)
        for _ in range(3):
            notified.receive("WATCHDOG=1")


ACTIVATE = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "gateway.cli", "serve", "--bind", "systemd"])
"""


def test_a_systemd_socket_is_used() -> None:
    """A client that connects before the gateway has started waits, and is then served."""
    with Running(sys.executable, "-c", ACTIVATE) as served:
        port = int(served.until("\n"))
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as early:
            early.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert early.recv(4096).startswith(b"HTTP/1.1 200")
        assert f":{port}/" in served.until("Serving")


def test_settings_are_documented() -> None:
    """`--help` lists the settings of `config.settings.SERVING`."""
    done = subprocess.run(
        [*GATEWAY, "serve", "--help"], capture_output=True, text=True, timeout=WITHIN, check=True,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    for name in ("CONFIG", "BIND", "KEYS", "ORIGINS", "TRUSTED_PROXIES", "REDIS"):
        assert f"PROGRESS_GATEWAY_{name}" in done.stdout
