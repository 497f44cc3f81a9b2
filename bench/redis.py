"""`python -m bench.redis`: measures the cost of each part of the Redis broker.

These figures are times, which are compared with targets and not with other servers. The node has
one core, Redis and the generator have the other.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import redis
from rich.console import Console
from rich.table import Table

from gateway import Job
from gateway.brokers.redis.cursor import Cursor, parse_entry_id
from gateway.brokers.redis.keys import Layout
from gateway.brokers.redis.poller import BATCH
from gateway.brokers.redis.scripts import PUBLISH

from .load.wire import text, upgrade
from .machine import (
    GENERATOR_CORE,
    SERVER_CORE,
    cpu_seconds,
    free_port,
    on_core,
    run_program,
    takes_connections,
)

SHARD = Layout("progress").shards[0]
JOBS = 1_000


def update(job: str, number: int) -> list[Any]:
    """Returns the command for a usual update of a worker."""
    keys = SHARD.keys(job)
    fields = ["done", number, "total", 1_000_000, "unit", "frames", "message", f"frame {number}",
              "status", "running", "lease", "30.0", "attempt", 1]  # fmt: skip
    return ["EVALSHA", PUBLISH.sha, len(keys), *keys, "", job, *fields]


def publish_events(client: Any, events: int) -> None:
    """Publishes this number of events, 500 in a round trip."""
    client.script_load(PUBLISH.text)
    pipeline = client.pipeline(transaction=False)
    for number in range(events):
        pipeline.execute_command(*update(f"job:{number % JOBS}", number // JOBS))
        if number % 500 == 499:
            pipeline.execute()
    pipeline.execute()


def publish_cost(client: Any, events: int) -> float:
    """Returns the microseconds that Redis takes for an update of a running job (INFO
    commandstats)."""
    publish_events(client, 5 * JOBS)
    client.config_resetstat()
    publish_events(client, events)
    stats: dict[str, Any] = client.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec_per_call"])


def read_cost(client: Any) -> float:
    """Returns the microseconds of CPU for reading one event of the feed in full batches, from the
    socket to the values that the hub gets."""
    cursor, events = Cursor(), 0
    connection = client.connection_pool.get_connection()
    started = time.thread_time()
    while True:
        connection.send_command("XREAD", "COUNT", BATCH, "STREAMS", SHARD.feed, cursor.id)
        answer = connection.read_response()
        if not answer:
            break
        entries = answer[0][1]
        cursor.number = (
            int(entries[0][1][1].split(b",", 1)[0][1:]) - 1
        )  # so that nothing is missing
        taken, wrong = cursor.advance(entries)
        assert not wrong
        assert cursor.entry_id == parse_entry_id(entries[-1][0])
        events += len(taken)
    took = time.thread_time() - started
    client.connection_pool.release(connection)
    return took / events * 1e6


def idle_cost(client: Any, pid: int, *, rate: int, seconds: float) -> float:
    """Returns the percentage of a core that a node takes to read `rate` events a second without
    watchers."""
    batch = rate // 100
    before, started, sent_count = cpu_seconds(pid), time.monotonic(), 0
    while time.monotonic() < started + seconds:
        pipeline = client.pipeline(transaction=False)
        for number in range(batch):
            pipeline.execute_command(*update(f"job:{number % JOBS}", sent_count + number))
        pipeline.execute()
        sent_count += batch
        time.sleep(max(0.0, started + sent_count / rate - time.monotonic()))
    seconds_taken = time.monotonic() - started
    return 100 * (cpu_seconds(pid) - before) / seconds_taken * (rate / (sent_count / seconds_taken))


@contextmanager
def watcher(port: int, job: str) -> Iterator[socket.socket]:
    """Opens a client of that job, in mode `every`, and waits for the snapshot."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(upgrade("/ws", subprotocol=None))
        data = b""
        while b"welcome" not in data:
            data += sock.recv(65_536)
        sock.sendall(text({"type": "subscribe", "jobs": [job], "mode": "every"}))
        while b'"snapshot":true' not in data:
            data += sock.recv(65_536)
        yield sock


def latency(client: Any, port: int, *, rate: float, events: int) -> Sequence[float]:
    """Returns, for each event, the milliseconds from the publish until the client has it."""
    job = f"latency:{rate:g}"
    client.execute_command(*update(job, 0))
    milliseconds = []
    with watcher(port, job) as sock:
        due = time.monotonic()
        for number in range(1, events + 1):
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            started = time.monotonic()
            client.execute_command(*update(job, number))
            wanted = f'"frame {number}"'.encode()
            data = b""
            while wanted not in data:
                data += sock.recv(65_536)
            milliseconds.append((time.monotonic() - started) * 1e3)
    return milliseconds


def update_cost(url: str, *, calls: int) -> float:
    """Returns the microseconds that `Job.update(done=…)` takes in the calling thread."""
    with Job("update", url=url, total=calls) as job:
        started = time.perf_counter()
        for done in range(calls):
            job.update(done=done)
        return (time.perf_counter() - started) / calls * 1e6


@click.command(help=__doc__)
@click.option(
    "--rounds", default=3, show_default=True, help="The number of rounds; the median is shown."
)
def main(rounds: int) -> None:
    latencies: dict[str, list[float]] = {}
    with ExitStack() as stack:
        port, node = stack.enter_context(_redis_and_node())
        client: Any = stack.enter_context(redis.Redis(port=port, protocol=2))
        client.script_load(PUBLISH.text)
        stack.enter_context(on_core(GENERATOR_CORE))
        for _ in range(rounds):
            for name, figure in _round(client, port, node):
                latencies.setdefault(name, []).append(figure)

    table = Table("what", "median", "from", "to", title=f"medians of {rounds} rounds")
    for name, figures in latencies.items():
        shown = (median(figures), min(figures), max(figures))
        table.add_row(name, *(f"{value:.2f}" for value in shown))
    Console().print(table)


@contextmanager
def _redis_and_node() -> Iterator[tuple[int, int]]:
    """Runs a Redis on the core of the generator, and a node at the next port. Yields the port of
    the Redis, and the process id of the node."""
    port = free_port(2)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    store = ("redis-server", "--port", str(port), "--save", "", "--dir", str(folder))
    serve = (sys.executable, "-m", "gateway.cli", "serve", "--log-level", "warning")
    bind = ("--bind", f"127.0.0.1:{port + 1}", "--redis", f"redis://127.0.0.1:{port}")
    with ExitStack() as stack:
        for name, core, at, program in (
            ("redis", GENERATOR_CORE, port, store),
            ("node", SERVER_CORE, port + 1, (*serve, *bind)),
        ):
            ready = partial(takes_connections, at)
            run = run_program(program, core=core, ready=ready, log=folder / f"{name}.log")
            process = stack.enter_context(run)
        yield port, process.pid
    shutil.rmtree(folder)


def _round(client: Any, port: int, node: int) -> Iterator[tuple[str, float]]:
    idle = idle_cost(client, node, rate=10_000, seconds=5)
    yield "10,000 events/s without watchers, % of a core", idle
    for rate in (20, 200):
        cuts = quantiles(latency(client, port + 1, rate=rate, events=rate * 5), n=100)
        yield f"from publish to the socket at {rate}/s, p50 ms", cuts[49]
        yield f"from publish to the socket at {rate}/s, p99 ms", cuts[98]
    yield "one publish in Redis, µs", publish_cost(client, 50_000)
    yield "reading an event of the feed, µs of CPU", read_cost(client)
    yield "Job.update(), µs", update_cost(f"redis://127.0.0.1:{port}", calls=300_000)


if __name__ == "__main__":
    main()
