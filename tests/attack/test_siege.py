"""Attacks with force: the gateway lives, its memory is flat, and others do not notice.

`GATEWAY_TEST_CROWD` is how many connections come at once (1,000 unless it says).
"""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

import pytest
import trio

from tests.e2e.client import open_client, upgrade
from tests.e2e.hosts import ROOT

from .attackers import ATTACKS, CROWD, GONE, SECONDS
from .siege import besieged

P99 = 0.25
"""Seconds: how old an update may be when the others see it, in spite of all."""
BUSY = 5
"""Times as old as before the attack: what is allowed on a machine that has other things to do."""
GROWTH = 40.0
"""MiB that an attack may leave in memory: pools, and what lingers for 30 s by design. A
crowd besides leaves the heap as large as it was when all were in."""
WITHIN = SECONDS + 30 + CROWD / 200


async def attack(name: str, port: int) -> int:
    """Run an attack in its own process; how much of it there was."""
    with trio.fail_after(WITHIN):
        done = await trio.run_process(
            [sys.executable, "-m", "tests.attack.attackers", name, str(port)],
            cwd=ROOT,
            capture_stdout=True,
            stdin=subprocess.DEVNULL,
        )
    return int(done.stdout)


@pytest.mark.parametrize("name", ATTACKS)
async def test_the_gateway_stands(name: str) -> None:
    async with besieged() as siege:
        before = siege.memory
        with trio.fail_after(10):
            while len(siege.ages) < 100:  # noqa: ASYNC110 - it counts what others do
                await trio.sleep(0.01)
        bound = max(P99, BUSY * siege.age(0.99))
        for _ in range(3):  # once more if the machine had other things to do just then
            siege.ages.clear()
            amount = await attack(name, siege.port)
            p99, seen = siege.age(0.99), len(siege.ages)
            if p99 < bound:
                break
        grown = siege.memory - before
        print(f"{name}: {amount:,}; p99 {p99 * 1e3:.0f} ms of {seen}; {grown:+.1f} MiB")  # noqa: T201
        assert siege.lives
        assert amount >= ATTACKS[name][1], "that was no attack"
        assert p99 < bound
        assert grown < GROWTH + (CROWD * 0.06 if name == "crowd" else 0)
        async with open_client(siege.port) as client:
            await client.hear_type("welcome")


def _dialled(port: int) -> trio.socket.SocketType:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setblocking(False)
    return trio.socket.from_stdlib_socket(sock)


async def test_a_crowd_from_one_address() -> None:
    """1,000 are served, some are told, the rest is dropped; others come in."""
    async with besieged() as siege:
        with ExitStack() as stack:
            told = partial(upgrade, x_forwarded_for="192.0.2.1")
            codes = {"welcome": 0, "too many": 0, "dropped": 0}
            socks = [stack.enter_context(_dialled(siege.port)) for _ in range(1_300)]
            for sock in socks:
                await sock.send(told())
            async with trio.open_nursery() as nursery:
                for sock in socks:
                    nursery.start_soon(_fate, sock, codes)
            assert codes["welcome"] == 1_000
            assert codes["too many"] > 0
            assert codes["too many"] + codes["dropped"] == 300
            async with open_client(siege.port) as client:
                await client.hear_type("welcome")


async def _fate(sock: trio.socket.SocketType, codes: dict[str, int]) -> None:
    heard = b""
    with trio.fail_after(30):
        while True:
            try:
                data = await sock.recv(4096)
            except GONE:
                data = b""
            heard += data
            for fate in ("welcome", "too many"):
                if fate.encode() in heard:
                    codes[fate] += 1
                    return
            if not data:
                codes["dropped"] += 1
                return
