"""The Redis publisher against real servers: its own properties (others: test_contract)."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.redis import codec, url
from gateway.model.constants import MAX_NUMBER
from gateway.protocol.commands import parse_update
from gateway.worker import Job, publisher
from gateway.worker.publisher import Publisher, PublishResult, Rejected, Unreachable, publish_one
from gateway.worker.redis import as_script_arguments
from tests.brokers.redis.cluster import BUS
from tests.brokers.redis.server import Server, redis_server
from tests.ports import free_port

from .fake import until
from .fake_gateway import DEADLINE
from .forking import python


@contextmanager
def publishing(url: str) -> Iterator[Publisher]:
    carrier = publisher.connect(url, None)
    try:
        yield carrier
    finally:
        carrier.close()


def status(server: Server, job: str) -> bytes | None:
    found: bytes | None = server.client.hget(f"progress:last:{job}", "status")
    return found


def wait_until(condition: Any) -> None:
    """Polls until a condition is true that only the servers know."""
    give_up_at = monotonic() + DEADLINE
    while not condition():
        assert monotonic() < give_up_at
        select.select([], [], [], 0.01)


# Checks in the user's thread.


def test_every_scheme_of_a_redis_url_has_a_publisher() -> None:
    known = {scheme for scheme, home in publisher.SCHEMES.items() if home.endswith(".redis")}
    assert known == set(url.SCHEMES)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "rediss://user:secret@example.org:6380/3?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2&prefix=staging",
        "redis+sentinel://a:1,b:2/mymaster?sentinel_password=secret",
        "redis+cluster://a:1,b:2?shards=3",
    ],
)
def test_spellings_of_an_address_are_canonical(url: str) -> None:
    job = Job("job", url=url)
    assert "secret" not in repr(job)
    assert job.url == publisher.redacted(url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://", "it has no host"),
        ("redis://:secret@host:port", "it has no host"),
        ("redis+sentinel://:secret@host", "the service of the Sentinels"),
        ("unix://:secret@", "the path of a socket"),
        ("redis://:secret@host/?shards=0", "shards must be"),
        ("rediss+unix://:secret@host", r"must begin with one of http://.*: 'rediss\+unix://host'"),
    ],
)
def test_invalid_addresses_raise(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        Job("job", url=url)
    assert "secret" not in str(caught.value)


def test_an_old_redis_client_works(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py 5 has no `is_connected`; arq needs a version below 6."""
    for kind in redis.UnixDomainSocketConnection.__mro__:
        if "is_connected" in vars(kind):
            monkeypatch.delattr(kind, "is_connected")
    with publishing(server.url) as carrier:
        for done in (1, 2):
            assert isinstance(publish_one(carrier, "old", {"done": done}), PublishResult)


def test_the_callers_thread_does_not_import_redis(server: Server) -> None:
    result = python(
        "import sys\n"
        "from gateway import Job\n"
        "print([m for m in sys.modules if m.startswith('gateway.brokers.redis')])\n"
        f"job = Job('job', url={server.url!r})\n"
        "print('redis' in sys.modules, 'asyncio' in sys.modules)\n"
        "with job: pass\n"
        "print(*(n in sys.modules for n in ('redis', 'gateway.model.state', 'trio')))\n"
    )
    assert result.stdout.splitlines() == ["[]", "False False", "True False False"]
    assert status(server, "job") == b"succeeded"


# Sent commands.

texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.none() | st.integers(0, MAX_NUMBER) | st.floats(0, MAX_NUMBER)
pictures = st.fixed_dictionaries(
    {},
    optional={
        "total": numbers,
        "done": numbers,
        "unit": texts,
        "phase": texts,
        "message": texts,
        "error": texts,
        "data": st.recursive(st.none() | st.booleans() | numbers | texts, st.lists, max_leaves=5),
        "weight": st.none() | st.just(2.5),
        "percent": st.floats(0, 100),
        "status": st.sampled_from(["queued", "running", "failed"]),
        "lease": st.floats(1, 86_400),
        "attempt": st.integers(1, 99),
        "start": st.just(True),
        "age": st.floats(0, 100),
        "run": st.just("r"),
        "accepts": st.none() | st.lists(st.sampled_from(["cancel", "pause", "x-ray"]), unique=True),
        "ack": st.just("request-1"),
        "refused": st.text(min_size=1, max_size=20).filter(str.isprintable),
    },
)


def pairs(words: list[Any]) -> set[tuple[str, str]]:
    texts = [word.decode() if isinstance(word, bytes) else word for word in words]
    return set(zip(texts[::2], texts[1::2], strict=True))


@given(pictures)
def test_the_script_gets_the_same_arguments_as_from_a_gateway(fields: dict[str, Any]) -> None:
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    assert pairs(as_script_arguments(fields)) == pairs(codec.as_arguments(parse_update(body)))


def test_publish_results_are_those_of_the_gateway(server: Server) -> None:
    with publishing(server.url) as carrier:
        first_result = publish_one(carrier, "job", {"done": 1})
        assert first_result == PublishResult(1, True, None, epoch=first_result.epoch, seq=1)
        assert publish_one(carrier, "job", {"done": 1}) == first_result._replace(
            applied=False, reason="unchanged"
        )
        assert (
            publish_one(carrier, "job", {"status": "failed", "start": True, "run": "r"}).attempt
            == 2
        )
        assert publish_one(carrier, "job", {"attempt": 1}).reason == "stale_attempt"
        assert publish_one(carrier, "job", {}).reason == "final"


def test_the_connection_has_a_client_name(server: Server) -> None:
    with publishing(server.url + "?prefix=mine") as carrier:
        publish_one(carrier, "job", {"lease": 30})
        assert "mine:worker" in {client["name"] for client in server.client.client_list()}
    assert server.client.hget("mine:last:job", "status") == b"running"


def test_the_documented_acl_user_suffices_for_a_worker(server: Server) -> None:
    page = (Path(__file__).parent.parent.parent / "docs/workers.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER worker .*$", page, re.MULTILINE)
    server.client.execute_command(*line.split())
    try:
        with publishing(server.url.replace("//", "//worker:password@")) as carrier:
            assert (
                publish_one(carrier, "job", {"start": True, "run": "r", "data": [1]}).attempt == 1
            )
            assert publish_one(carrier, "job", {"data": None, "done": 1, "attempt": 1}).applied
            server.client.hset("progress:counters", "generation", 2**53)  # all records are past
            assert publish_one(carrier, "job", {"done": 2}).seq == 1
            other = server.url.replace("//", "//worker:password@") + "?prefix=other"
            foreign = publisher.connect(other, None)
            with pytest.raises(Rejected, match=r"NOPERM|permission"):
                publish_one(foreign, "job", {"lease": 30})
    finally:
        server.client.acl_deluser("worker")


# Failures.


def test_the_script_is_sent_again_to_a_server_without_it(server: Server) -> None:
    with publishing(server.url) as carrier:
        publish_one(carrier, "job", {"lease": 30})
        server.client.script_flush()
        assert publish_one(carrier, "job", {"done": 1}).applied


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    for address in (
        "redis://127.0.0.1:9",
        f"unix://{tmp_path}/none",
        "redis+cluster://127.0.0.1:9",
        "redis+sentinel://127.0.0.1:9/mymaster",
    ):
        refused = pytest.raises(Unreachable, match=r"(?i)connect|No master")
        with publishing(address) as carrier, refused:
            publish_one(carrier, "job", {"lease": 30})


def test_temporary_errors_of_redis_are_retried(server: Server) -> None:
    with publishing(server.url) as carrier:
        publish_one(carrier, "job", {"lease": 30})
        server.client.config_set("maxmemory", 1)
        try:
            with pytest.raises(Unreachable, match=r"OOM|maxmemory"):
                publish_one(carrier, "job", {"done": 1})
        finally:
            server.client.config_set("maxmemory", 0)
        server.client.replicaof("127.0.0.1", 9)
        try:
            with pytest.raises(Unreachable, match=r"(?i)read.?only"):
                publish_one(carrier, "job", {"done": 2})
        finally:
            server.client.replicaof("NO", "ONE")
        assert publish_one(carrier, "job", {"done": 3}).applied


def test_permanent_errors_of_redis_are_rejections(server: Server) -> None:
    server.client.acl_setuser("worker", enabled=True, passwords=["+secret"], categories=["+@all"])
    server.client.acl_setuser("reader", enabled=True, passwords=["+secret"], commands=["+get"])
    try:
        for user, text in (("worker:wrong", "(?i)invalid username"), ("reader:secret", "(?i)perm")):
            url = server.url.replace("//", f"//{user}@")
            with publishing(url) as carrier, pytest.raises(Rejected, match=text):
                publish_one(carrier, "job", {"lease": 30})
    finally:
        server.client.acl_deluser("worker", "reader")


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server(redis_server())
    yield server
    server.close()


def test_a_restarted_empty_redis_gets_the_whole_state(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job", url=own_server.url, lease=1.0, message="m") as job:
        until(job, lambda: job.attempt)
        own_server.kill()
        job.update(done=1)
        until(job, lambda: job._sender._queue.outage.failures)
        own_server.start()
        until(job, lambda: status(own_server, "job"))
    assert own_server.client.hmget("progress:last:job", "status", "done", "message") == [
        b"succeeded", b"1", b"m",
    ]  # fmt: skip
    away, back = [r.message for r in caplog.records]
    assert away.startswith(f"the gateway at {own_server.url} is unavailable (")
    assert back.startswith(f"the gateway at {own_server.url} is available again after ")


def test_a_flushed_redis_gets_the_state_with_the_next_renewal(own_server: Server) -> None:
    with Job("job", url=own_server.url, lease=1.0, message="m") as job:
        until(job, lambda: job.attempt)
        own_server.client.flushall()
        until(job, lambda: status(own_server, "job"))
        assert own_server.client.hget("progress:last:job", "message") == b"m"


def test_a_stopped_redis_is_an_outage(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.brokers.redis.servers.TIMEOUT", 0.05)
    with Job("job", url=own_server.url) as job:
        until(job, lambda: job.attempt)
        own_server.process.send_signal(signal.SIGSTOP)
        job.update(done=1)
        until(job, lambda: job._sender._queue.outage.failures)
        own_server.process.send_signal(signal.SIGCONT)
    assert own_server.client.hget("progress:last:job", "done") == b"1"


# More than one server.


@contextmanager
def on_port(*options: str) -> Iterator[tuple[Server, int]]:
    port = free_port(BUS)
    server = Server(redis_server(), "--port", str(port), *options)
    try:
        yield server, port
    finally:
        server.close()


def test_moved_cluster_slots_are_followed(caplog: pytest.LogCaptureFixture) -> None:
    options = ("--cluster-enabled", "yes")
    with on_port(*options) as (first_server, port), on_port(*options) as (second_server, other):
        for number, server in enumerate((first_server, second_server), 1):
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
            server.client.execute_command(
                "CLUSTER", "ADDSLOTSRANGE", *((0, 8191), (8192, 16383))[number - 1]
            )
        first_server.client.execute_command("CLUSTER", "MEET", "127.0.0.1", other)
        for server in (first_server, second_server):
            cluster_info = partial(server.client.execute_command, "CLUSTER", "INFO")
            wait_until(
                lambda cluster_info=cluster_info: b"cluster_state:ok" in bytes(cluster_info())
            )
        with publishing(f"redis+cluster://127.0.0.1:{port}?shards=2") as carrier:
            for job in "abcdefgh":
                assert publish_one(carrier, job, {"lease": 30}).seq == 1
            keys = [server.client.keys("*:feed") for server in (first_server, second_server)]
            assert [len(found) for found in keys] == [1, 1]

            slot = first_server.client.execute_command("CLUSTER", "KEYSLOT", keys[0][0])
            heir = second_server.client.execute_command("CLUSTER", "MYID")
            first_server.client.flushall()
            for server in (second_server, first_server):
                server.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", heir)
            assert [publish_one(carrier, job, {"done": 1}).applied for job in "abcdefgh"] == [
                True
            ] * 8
            assert len(second_server.client.keys("*:feed")) == 2


@contextmanager
def sentinel(folder: Path, port: int) -> Iterator[tuple[Any, int]]:
    """Yields a Sentinel that monitors the server at `port` as `mymaster`, and its port."""
    config, watch = folder / "sentinel.conf", free_port()
    config.write_text(f"port {watch}\nsentinel monitor mymaster 127.0.0.1 {port} 1\n")
    program = [redis_server(), str(config), "--sentinel"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    client: Any = redis.Redis(port=watch)
    try:
        yield client, watch
    finally:
        client.close()
        process.kill()
        process.wait()


def fails_over(watcher: Any) -> bool:
    """Starts a failover, and returns whether it was accepted: the Sentinel must know the
    replica."""
    try:
        watcher.execute_command("SENTINEL", "DEBUG", "info-period", 100, "ping-period", 100)
        watcher.execute_command("SENTINEL", "FAILOVER", "mymaster")
    except (redis.ConnectionError, redis.ResponseError):
        return False
    return True


def test_a_failover_by_sentinel_is_followed(tmp_path: Path) -> None:
    with (
        on_port("--repl-diskless-sync-delay", "0") as (primary, port),
        on_port("--replicaof", f"127.0.0.1 {port}") as (replica, _),
    ):
        wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        with sentinel(tmp_path, port) as (watcher, watch):
            url = f"redis+sentinel://127.0.0.1:{watch}/mymaster"
            with Job("job", url=url, lease=1.0, message="m") as job:
                until(job, lambda: job.attempt)  # when the Sentinel is there
                assert status(primary, "job") == b"running"
                wait_until(lambda: fails_over(watcher))
                wait_until(lambda: replica.client.info("replication")["role"] == "master")
                primary.kill()
                job.update(done=1)
                until(job, lambda: replica.client.hget("progress:last:job", "done"))
        assert status(replica, "job") == b"succeeded"
