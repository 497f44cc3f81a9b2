"""If the feed task of a node ends, for any reason, the process ends too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.brokers.redis.server import session_server
from tests.cli.processes import Running

NODE = str(Path(__file__).with_name("broken_node.py"))


@pytest.mark.parametrize(
    ("failure", "log_text"), [("raise", "KeyError: 'unforeseen'"), ("end", "feed has ended")]
)
def test_a_defect_ends_the_process_with_a_traceback(failure: str, log_text: str) -> None:
    server = session_server()
    command = (sys.executable, "-P", NODE, failure, "serve", "--bind", "127.0.0.1:0")
    # The node's own probes make the batches of the feed.
    limits = "[limits]\nprobe_interval = 0.05\n"
    config = server.socket.with_name("broken.toml")
    config.write_text(limits)
    with Running(
        *command,
        "--config",
        str(config),
        env={"PROGRESS_GATEWAY_REDIS": server.url, "GATEWAY_REDIS": server.url},
    ) as running:
        code = running.end(within=20)
        assert code != 0
        assert log_text in running.errors
        assert "Traceback" in running.errors
