"""Tests `pip install progress-gateway`: the wheel is built and installed without the extra `server`
into a separate environment. There a worker works, and the server names the missing packages."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import trio

from gateway import Gateway
from gateway.config import server_packages
from gateway.config.server_packages import how_to_install, missing_server_packages
from tests.cli.processes import clean_environment

ROOT = Path(__file__).parents[2]
MISSING = (
    "cryptography, hypercorn, prometheus-client, pyjwt, starlette, structlog are not installed"
)
WORKER = {
    "attrs", "click", "h11", "idna", "markdown_it_py", "mdurl", "msgspec", "outcome",
    "progress_gateway", "pygments", "redis", "rich", "sniffio", "sortedcontainers", "trio",
    "trio_websocket", "wsproto",
}  # fmt: skip
"""All installed packages, except those for older versions of Python."""
OF_OLD_PYTHONS = {"async_timeout", "typing_extensions"}


def pip(*arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", *arguments],
        capture_output=True, text=True, timeout=300, check=False, env=clean_environment(),
    )  # fmt: skip
    if "from versions: none" in result.stderr:
        pytest.skip(f"no package index answers: {result.stderr.splitlines()[-1]}")
    assert result.returncode == 0, result.stderr


def install_without_the_server(folder: Path) -> Path:
    """Returns the `bin` of an environment with the wheel and what it requires."""
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip("--python", str(python), "install", "-q", "--no-compile", str(wheel))
    return python.parent


def run(*command: str | Path, url: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd="/", capture_output=True, text=True, timeout=60, check=False,
        env=clean_environment(PROGRESS_GATEWAY_URL=url),
    )  # fmt: skip


PROGRAM = """
import gateway.integrations.logging, gateway.integrations.rich, gateway.worker.redis
from gateway import Job, announce, job_id
announce("queued:1")
with Job("job:1", total=3) as job:
    for _ in job.track(range(3)): pass
gateway.worker.redis.connect("redis://127.0.0.1:9", None)
"""


async def test_a_worker_is_installed_without_the_server(gateway: Gateway, tmp_path: Path) -> None:
    # One test, as each process of pytest-xdist would install it again.
    pytest.importorskip("hatchling", reason="pip install -e '.[test]' brings it")
    on_a_thread = trio.to_thread.run_sync
    programs = await on_a_thread(install_without_the_server, tmp_path)
    found = (tmp_path / "venv").rglob("*.dist-info")
    assert {path.name.partition("-")[0].lower() for path in found} - OF_OLD_PYTHONS == WORKER

    command = programs / "gateway"
    python = programs / "python"
    commands: list[list[str | Path]] = [
        [python, "-W", "error", "-c", PROGRAM],
        [command, "run", "run:1", "--", "sh", "-c", "echo 37%"],
        [command, "publish", "published:1", "--status", "succeeded"],
        [command, "watch", "job:1", "run:1", "published:1"],
    ]
    for command_line in commands:
        done = await on_a_thread(partial(run, *command_line, url=gateway.url))
        assert (done.returncode, done.stderr) == (0, ""), command_line
    result = await on_a_thread(partial(run, command, "cancel", "job:1", url=gateway.url))
    assert result.returncode == 1
    assert "ended" in result.stderr
    records = await gateway.node.broker.read(["job:1", "run:1", "published:1", "queued:1"])
    assert [record.state.status for record in records.values()] == ["succeeded"] * 3 + ["queued"]

    for name, *more in (["serve"], ["token", "--watch", "*"]):
        done = await on_a_thread(partial(run, command, name, *more))
        assert done.returncode == 1
        assert done.stderr.lower() == (
            f"error: gateway {name} needs the server: {MISSING}; "
            "pip install 'progress-gateway[server]'\n"
        )
    done = await on_a_thread(partial(run, python, "-c", "from gateway import serve_gateway"))
    assert f"gateway.serve_gateway needs the server: {MISSING}" in done.stderr.lower()


def test_missing_packages_are_found_in_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_server_packages() == []
    required = ["attrs>=25", 'hypercorn[trio]>=0; extra == "server"', "no-such; extra == 'server'"]
    monkeypatch.setattr(metadata, "requires", lambda _: [*required, "other; extra == 'tqdm'"])
    assert server_packages.server_packages() == ["hypercorn", "no-such"]
    assert missing_server_packages() == ["no-such"]
    assert "progress-gateway[server]" in how_to_install(["no-such"])


def test_a_checkout_that_is_not_installed_has_no_missing_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_packages, "DISTRIBUTION", "no-such-distribution")
    assert missing_server_packages() == []
