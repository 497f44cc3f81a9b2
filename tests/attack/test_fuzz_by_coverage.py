"""A short run of each fuzzing target. `fuzzing` runs them for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="Atheris is not installed (extra fuzz; Linux only)")

RUNS = {"command": 50_000, "update": 25_000, "head": 2_500, "handshake": 25_000}
BEGINNINGS = {
    "command": [
        b'{"type":"hello","token":"t","positions":{"a":[1,2]},"max_hz":20}',
        b'{"type":"sync_subscriptions","id":1,"jobs":["a","b"],"mode":"every"}',
    ],
    "update": [
        b'{"start":true,"percent":37.5,"data":{"a":[1,null]},"children":3,"weight":2,"run":"r"}'
    ],
    "head": [b"GET /ws?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nForwarded: for=a\r\n\r\nx"],
    "handshake": [
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ],
}


@pytest.mark.parametrize("target", RUNS)
def test_coverage_guided_input_breaks_nothing(target: str, tmp_path: Path) -> None:
    for number, data in enumerate(BEGINNINGS[target]):
        (tmp_path / str(number)).write_bytes(data)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tests.attack.fuzzing", target, str(tmp_path)),
            *(f"-runs={RUNS[target]}", "-seed=1", "-max_len=1024", f"-artifact_prefix={tmp_path}/"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Done {RUNS[target]} runs" in result.stderr
