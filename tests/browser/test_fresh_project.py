"""The packed client in a project that was begun today: Vite builds it and replaces its modules
while it runs, and Vitest runs its tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli.processes import Running

from .bundled import MODULES, WEB
from .chromium import SOON, Complaints, Page, WebSocket, expect
from .proxy import Proxy
from .served import Served

FRESH = Path(__file__).parent / "fresh"
DEADLINE = 240
OPTIONS = ("--no-package-lock", "--no-audit", "--no-fund", "--silent")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with all that it needs from npm, and the client from its tarball."""
    if shutil.which("npm") is None or not MODULES.exists():
        pytest.skip("needs npm and the client's development packages: cd web && npm install")
    folder = tmp_path_factory.mktemp("fresh") / "project"
    shutil.copytree(FRESH, folder)
    packed = run("npm", "pack", "--silent", "--pack-destination", str(folder), cwd=WEB)
    assert packed.returncode == 0, packed.stderr
    [tarball] = folder.glob("progress-gateway-*.tgz")
    installed = run("npm", "install", *OPTIONS, f"./{tarball.name}", cwd=folder)
    if installed.returncode != 0 and run("npm", "ping", cwd=folder).returncode != 0:
        pytest.skip("needs the network, for Vite and Vitest")
    assert installed.returncode == 0, installed.stderr
    return folder


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE
    )


@pytest.mark.parametrize("environment", ["jsdom", "happy-dom"])
def test_vitest_runs_a_test_of_a_component(project: Path, environment: str) -> None:
    run_vitest(project, environment)


def test_vitest_runs_it_with_the_client_from_its_folder(project: Path) -> None:
    client = project / "node_modules" / "progress-gateway"
    shutil.rmtree(client)
    installed = run("npm", "install", *OPTIONS, "--install-links", str(WEB), cwd=project)
    assert installed.returncode == 0, installed.stderr
    assert not client.is_symlink()  # or there would be two copies of React
    assert (client / "types" / "react.d.ts").exists()
    run_vitest(project, "jsdom")


def run_vitest(project: Path, environment: str) -> None:
    vitest = ("node_modules/vitest/vitest.mjs", "run", "--environment", environment)
    ran = run("node", *vitest, cwd=project)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_vite_build_is_live_over_each_transport(
    complaints: Complaints, page: Page, served: Served, project: Path
) -> None:
    complaints.expect("WebSocket connection to")
    with Proxy(served.url) as proxy:
        proxy.refuse_upgrades = True
        served.report("video:42", percent=37)
        for gateway in (served.url, proxy.url):
            built = run(
                "node",
                "node_modules/vite/bin/vite.js",
                "build",
                cwd=project,
                VITE_GATEWAY=f"{gateway}/ws",
            )
            assert built.returncode == 0, built.stdout + built.stderr
            with served_folder(project / "dist") as site:
                page.goto(site)
                expect(page.get_by_text("The video: running 37%")).to_be_visible()
                bar = page.get_by_role("progressbar", name="Your video")
                expect(bar).to_have_attribute("aria-valuenow", "37")
                page.goto("about:blank")


def test_a_hot_update_keeps_the_connection_and_the_state(
    complaints: Complaints, page: Page, served: Served, project: Path
) -> None:
    served.report("video:42", percent=37)
    sockets: list[str] = []

    def opened(socket: WebSocket) -> None:
        if socket.url.startswith(served.url.replace("http", "ws")):
            sockets.append(socket.url)

    page.on("websocket", opened)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    vite = project / "node_modules" / "vite" / "bin" / "vite.js"
    options = ("--host", "127.0.0.1", "--port", str(port), "--strictPort", "--clearScreen", "false")
    gateway = {"VITE_GATEWAY": f"{served.url}/ws"}
    with Running("node", str(vite), str(project), *options, env=gateway) as serving:
        serving.until("ready in")
        # Until it is idle, because Vite loads the page anew when it has bundled the dependencies.
        page.goto(f"http://127.0.0.1:{port}", wait_until="networkidle")
        expect(page.get_by_text("The video: running 37%")).to_be_visible(timeout=3 * SOON)
        del sockets[:-1]
        page.evaluate("statuses = []; globalThis.same = true")
        component = project / "src" / "App.jsx"
        component.write_text(component.read_text().replace("The video", "A film"))
        expect(page.get_by_text("A film: running 37%")).to_be_visible()
        served.report("video:42", percent=40)
        expect(page.get_by_text("A film: running 40%")).to_be_visible()
        assert page.evaluate("same"), "the page was loaded anew"
        assert set(page.evaluate("statuses")) == {"running"}
        assert len(sockets) == 1


class Quiet(SimpleHTTPRequestHandler):
    """A web server of files, which reports nothing."""

    def log_message(self, *args: object) -> None:
        """Log nothing, to keep the output of the tests readable."""


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
