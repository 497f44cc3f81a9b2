"""What the README shows works: its Python is run, its files exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from bench.report import summary
from gateway import Gateway, endings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
WORKER, EMBEDDED = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


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


async def test_the_worker_reports_to_a_gateway(gateway: Gateway) -> None:
    done = await trio.to_thread.run_sync(lambda: run(WORKER, GATEWAY_URL=gateway.url))
    assert done.stderr == ""
    state = (await gateway.node.broker.read(["video:42"]))["video:42"].state
    assert (state.status, state.percent, state.phase) == ("succeeded", 100, "upload")


def test_the_embedded_gateway_runs_and_ends() -> None:
    assert "watch it at http://127.0.0.1:" in run(EMBEDDED).stdout


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"""(?:\]\(|src=")(?!http)([^)#"]+)""", text):
        assert (ROOT / page).parent.joinpath(link).exists(), link


def test_the_figures_are_those_of_the_last_run() -> None:
    results = ROOT / "bench/results"
    assert summary(json.loads((results / "results.json").read_text())) in README


def test_the_protocol_page_has_every_ending() -> None:
    page = (ROOT / "docs/protocol.md").read_text()
    for ending in endings.ENDINGS:
        comes_back = "yes" if ending.reconnect else "no"
        row = f"| {ending.code} | {ending.reason} | {comes_back} | {ending.means} |"
        assert row in page
