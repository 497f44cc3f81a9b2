"""From a bare machine to a TLS endpoint, as `docs/operations.md` goes: its commands, its files and
its unit, in a folder and on ports of the test's own. Steps that would change the machine (packages,
users, certificates) are skipped by name."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import address
from tests.cli.processes import WITHIN, Running, clean_environment
from tests.e2e.client import command, upgrade

from .documented import adapted, documented, files
from .proxies import PROXIES
from .site import HOST, ProxiedGateway, certificate, receive

TOOLS = Path(sys.executable).parent
"""Where the gateway is installed, instead of in `/opt/gateway/venv/bin`."""
UNIT = "/etc/systemd/system/gateway.service"
OF_THE_MACHINE = ("apt ", "useradd ", "python3 -m venv ", "/opt/gateway/venv/bin/pip ")


def moved(text: str, root: Path) -> str:
    """`text` with the machine's paths in the folder."""
    return text.replace("/opt/gateway/venv/bin", str(TOOLS)).replace("/etc/", f"{root}/etc/")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The machine after the first chapter of the guide."""
    (tmp_path / "etc").mkdir()
    lines = documented("Installation with systemd", "sh").splitlines()
    ours = [line for line in lines if not line.startswith(OF_THE_MACHINE)]
    assert len(lines) - len(ours) == len(OF_THE_MACHINE) + 1  # `apt` does two things
    setup = adapted("\n".join(ours), (r"-o root -g gateway ", ""), (r"; chgrp [^)]*", ""))
    subprocess.run(["bash", "-ec", moved(setup, tmp_path)], check=True, timeout=WITHIN)
    for path, text in files().items():
        place = Path(moved(path, tmp_path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(moved(text, tmp_path))
    config = tmp_path / "etc/gateway/gateway.toml"
    config.write_text(
        adapted(
            config.read_text(),
            (r"127\.0\.0\.1:8000", "127.0.0.1:0"),
            (r"max_connections = 20000", "max_connections = 100"),  # no unit sets LimitNOFILE
        )
    )
    return tmp_path


def line_of(unit: Path, name: str) -> list[str]:
    """A command of the unit."""
    found = re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    assert len(found) == 1
    words: list[str] = found[0].split()
    return words


@contextmanager
def site(root: Path) -> Iterator[ProxiedGateway]:
    """The gateway as its unit starts it, behind nginx."""
    unit = Path(moved(UNIT, root))
    with Running(*line_of(unit, "ExecStartPre")) as checked:
        assert checked.end() == 0, checked.output
    with Running(*line_of(unit, "ExecStart")) as gateway:
        upstream = address(gateway).removeprefix("http://")
        pair = certificate(root)
        with PROXIES["nginx"](upstream, pair, root) as port:
            secret = (root / "etc/gateway/secret").read_text().strip()
            tls = ssl.create_default_context(cafile=str(pair[0]))
            yield ProxiedGateway(port, tls, gateway, secret)


def test_the_installation_guide_works(root: Path) -> None:
    assert (root / "etc/gateway/secret").stat().st_mode & 0o777 == 0o640
    with site(root) as walked:
        does_it_work = adapted(
            documented("Verification", "sh"),
            (rf"https://{HOST}", f"https://localhost:{walked.port}"),
            (r"--max-time 3", "--max-time 2"),
        )
        trusted = {name: str(root / "cert.pem") for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE")}
        received = subprocess.run(
            ["bash", "-c", moved(does_it_work, root)],
            capture_output=True,
            text=True,
            env=clean_environment(**trusted),
            timeout=WITHIN,
            check=False,
        )
        assert received.returncode == 0, received
        for wanted in ('"status":"ready"', "applied", '"percent":37', "succeeded 100%"):
            assert wanted in received.stdout, received

        with walked.connect() as sock:
            sock.sendall(upgrade(host=walked.host, origin=f"https://{walked.host}"))
            receive(sock, b" 101 ", b"welcome")
            sock.sendall(command("hello", token=walked.token()))
            sock.sendall(command("subscribe", jobs=["video:42"]))
            receive(sock, b'"succeeded"')

        reload = line_of(Path(moved(UNIT, root)), "ExecReload")
        assert reload == ["/bin/kill", f"-{signal.SIGHUP.name[3:]}", "$MAINPID"]
        walked.gateway.tell(signal.SIGHUP)
        deadline = time.monotonic() + WITHIN
        while "reloaded" not in walked.gateway.errors:
            assert time.monotonic() < deadline, walked.gateway.errors
            time.sleep(0.01)
        walked.gateway.tell(signal.SIGTERM)
        assert walked.gateway.end() == 0


def test_systemd_accepts_the_units(root: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze in PATH")
    units = sorted((root / "etc/systemd/system").iterdir())
    assert [unit.name for unit in units] == ["gateway.service", "gateway.socket"]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    ours = [line for line in verified.stderr.splitlines() if "gateway" in line]
    assert (verified.returncode, ours) == (0, []), verified.stderr
