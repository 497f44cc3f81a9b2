"""The README is correct: its Python examples run, and its links resolve."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import serve_websocket

from bench.report import summary
from gateway import Gateway
from gateway.protocol import close_codes

from ..e2e.client import open_client

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
WORKER, EMBEDDED, HANDED_OVER = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(
    program: str, *, warnings: str = "error", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", warnings, "-c", program],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.slow
async def test_the_worker_example_reports_to_a_gateway(gateway: Gateway) -> None:
    done = await trio.to_thread.run_sync(lambda: run(WORKER, PROGRESS_GATEWAY_URL=gateway.url))
    assert done.stderr == ""
    state = (await gateway.node.broker.read(["video:42"]))["video:42"].state
    assert (state.status, state.percent, state.phase) == ("succeeded", 100, "upload")


@pytest.mark.slow
def test_the_embedding_example_runs_and_ends() -> None:
    assert "watch it at http://127.0.0.1:" in run(EMBEDDED).stdout


async def test_the_trio_websocket_example_works(gateway: Gateway, nursery: trio.Nursery) -> None:
    program: dict[str, Any] = {"gateway": gateway}
    exec(HANDED_OVER, program)  # noqa: S102 - it is our own

    server = await nursery.start(serve_websocket, program["watch"], "127.0.0.1", 0, None)
    pages = {
        None: True,
        "http://127.0.0.1:8001": True,
        "http://elsewhere.example": False,
    }
    for origin, welcome in pages.items():
        async with open_client(
            server.port, path="/any", subprotocol="progress.v1", origin=origin
        ) as client:
            if welcome:
                assert (await client.receive())["type"] == "welcome"
                await client.close()
            else:
                assert await client.close_code() == 4501
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_resolve(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"""(?:\]\(|src=")(?!http)([^)#"]+)""", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
FOLDERS = ("", "gateway/")
"""The folders in which docs/architecture.md looks for a path."""


def test_the_files_that_the_architecture_page_names_exist() -> None:
    name = r"[\w-]+\.(?:py|lua|js|html|css|json|md)"
    paths = re.findall(rf"`((?:[\w.-]+/)+(?:{name})?|{name})`", ARCHITECTURE)
    assert len(paths) > 100
    missing = [
        path for path in paths if not any((ROOT / folder / path).exists() for folder in FOLDERS)
    ]
    assert not missing


def test_the_excerpt_of_the_architecture_page_is_in_the_code() -> None:
    [excerpt] = re.findall(r"```python\n(.*?)```", ARCHITECTURE, re.DOTALL)
    code = (ROOT / "gateway/delivery/connection.py").read_text()
    assert textwrap.indent(excerpt, " " * 8) in code


def test_the_benchmark_figures_are_those_of_the_last_run() -> None:
    results = ROOT / "bench/results"
    assert summary(json.loads((results / "results.json").read_text())) in README


def test_the_protocol_page_has_every_close_code() -> None:
    page = (ROOT / "docs/protocol.md").read_text()
    for close_code in close_codes.CLOSE_CODES:
        comes_back = "yes" if close_code.reconnect else "no"
        row = f"| {close_code.code} | {close_code.reason} | {comes_back} | {close_code.meaning} |"
        assert row in page
