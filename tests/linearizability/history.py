"""Records a history of operations on real processes, and runs the checker on it.

An operation has the time of its call and of its return, an update or nothing (a read), and the
answer or the state read. An update whose outcome is unknown returns at the end of time: it may have
happened at any time after its call, or never. An update that was in flight when Redis was killed
may have been sent again, because delivery is at least once. So a second one of unknown outcome is
added. A state in a stream existed at some time before the frame arrived, because a node that is cut
off from Redis shows its last states.
"""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.worker.publisher import PublishResult
from gateway.worker.redis import RedisPublisher
from tests.brokers.redis.server import Server, redis_server
from tests.cli.conftest import address
from tests.cli.processes import GATEWAY, Running

__all__ = ["Op", "check", "run", "written"]

Op = dict[str, Any]
JobUpdate = tuple[str, dict[str, Any]]

CHECKER = Path(__file__).parent / "checker"
END = 2**62
TOTAL = 100
JOB_SECONDS = 1.0
"""Seconds before the publishers change to new jobs, so that the search in each history is short."""
SINGLES = 4
TIMEOUT = 5.0
AOF = ("--appendonly", "yes", "--appendfsync", "always")
_READ = ("attempt", "status", "done", "percent", "message")
_COUNTS = ("expected", "queued", "running", "succeeded", "failed", "cancelled")
GROUPS = {"": 3, "/s": 2}
"""The expected weight of each group in a tree. `/x` has weight 2, so that of the outer group is
3."""
LEAVES = ("/s/a", "/s/b", "/x")
"""The jobs of a tree that are not groups. `checker/tree.go` has the same tree."""


def written(history: list[Op]) -> str:
    return "".join(json.dumps(op) + "\n" for op in history)


def check(history: list[Op]) -> tuple[bool, str]:
    """Returns whether the history is linearizable, and the output of the checker."""
    result = subprocess.run(
        ["go", "run", "."], cwd=CHECKER, input=written(history), capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode in (0, 1), result.stderr
    assert result.stdout, result.stderr
    return result.returncode == 0, result.stdout.strip()


def compared_fields(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a document `{job, epoch, seq, state}` that are compared."""
    state = document["state"]
    fields = {"epoch": document["epoch"], "seq": document["seq"]}
    fields |= {name: state.get(name) or 0 for name in _READ if name != "message"}
    fields["message"] = state.get("message", "")
    if "children" in state:
        fields["children"] = [state["children"].get(name, 0) for name in _COUNTS]
    return fields


class History:
    """The operations so far, of all threads."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.ops: list[Op] = []
        self.kills: list[int] = []
        """When Redis was killed."""
        self._began = time.monotonic()
        self._until = self._began + seconds
        self._seed = seed
        self._messages = iter(range(10**9))
        self._lock = threading.Lock()

    def goes_on(self) -> bool:
        return time.monotonic() < self._until

    def jobs(self) -> list[str]:
        """Returns the current single jobs."""
        return [f"{self._now()}:{number}" for number in range(SINGLES)]

    def tree(self) -> str:
        """Returns the current outer group."""
        return f"{self._now()}:t"

    def _now(self) -> str:
        return f"g{int((time.monotonic() - self._began) / JOB_SECONDS)}"

    def chance(self, client: int) -> random.Random:
        return random.Random(f"{self._seed} {client}")

    def updates(self, chance: random.Random, *, at_once: int, tree: bool) -> list[JobUpdate]:
        """Returns a publisher's next update, of a single job or of a tree."""
        if tree and chance.random() < 0.3:
            tree_name = self.tree()
            if chance.random() < 0.2:
                group, expected = chance.choice(list(GROUPS.items()))
                return [(tree_name + group, {"children": expected})]
            jobs = [tree_name + leaf for leaf in chance.sample(LEAVES, at_once)]
        else:
            jobs = chance.sample(self.jobs(), at_once)
        return [(job, self._update(chance, job)) for job in jobs]

    def _update(self, chance: random.Random, job: str) -> dict[str, Any]:
        with self._lock:
            message = f"m{next(self._messages)}"
        late = time.monotonic() - self._began
        attempt = 1 + (late % JOB_SECONDS > JOB_SECONDS / 2 and chance.random() < 0.5)
        update: dict[str, Any] = {"attempt": attempt, "done": chance.randrange(1, TOTAL)}
        update |= {"total": TOTAL, "message": message, "lease": 3600}
        if chance.random() < (0.25 if "/" in job else 0.08):
            update["status"] = chance.choice(["succeeded", "failed"])
        if job.endswith("/x"):
            update["weight"] = 2
        return update

    def add(self, client: int, job: str, call: int, **more: Any) -> None:
        with self._lock:
            self.ops.append(
                {"job": job, "client": client, "call": call, "return": time.monotonic_ns()} | more
            )

    def finished(self) -> list[Op]:
        """Returns all operations, with a second one for each update that may have been sent
        again."""
        again = [
            op | {"return": END, "answer": None}
            for op in self.ops
            if op.get("answer") and any(op["call"] < at < op["return"] for at in self.kills)
        ]
        for op in (*self.ops, *again):
            op["restarts"] = sum(at < op["return"] for at in self.kills)
        return self.ops + again


Publish = Callable[[list[JobUpdate]], list[dict[str, Any] | None]]


class Processes:
    """Two nodes and a Redis."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.redis = Server(redis_server(), *AOF)
        stack.callback(self.redis.close)
        self.nodes = [self._node(), self._node()]
        self.urls = [address(node) for node in self.nodes]

    def _node(self) -> Running:
        command = (*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--redis", self.redis.url)
        return self.stack.enter_context(Running(*command))

    def replace(self, number: int) -> None:
        """Sends SIGKILL to a node, and starts another one in its place."""
        self.nodes[number].process.kill()
        self.nodes[number] = self._node()
        self.urls[number] = address(self.nodes[number])

    def restart_redis(self, history: History) -> None:
        history.kills.append(time.monotonic_ns())
        self.redis.kill()
        self.redis.start()

    def request(self, number: int, target: str, body: Any = None) -> Any:
        """Returns the document that a node answers; None for a 404. Raises OSError,
        HTTPException."""
        connection = HTTPConnection(urlsplit(self.urls[number]).netloc, timeout=TIMEOUT)
        try:
            data = None if body is None else json.dumps(body)
            headers = {"content-type": "application/json"}
            connection.request("GET" if body is None else "POST", target, data, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status not in (200, 404):
                raise HTTPException(f"{response.status} {text!r}")
            return json.loads(text) if response.status == 200 else None
        finally:
            connection.close()


def _answer(document: dict[str, Any]) -> dict[str, Any] | None:
    if "applied" not in document:
        return None  # an error response: the outcome is unknown
    names = ("epoch", "seq", "attempt")
    return {name: document[name] for name in names} | {"reason": document.get("reason") or ""}


def _publishers(processes: Processes) -> list[Publish]:
    worker = RedisPublisher(processes.redis.url)
    plain = redis.Redis(unix_socket_path=str(processes.redis.socket), retry=Retry(NoBackoff(), 0))

    def single(updates: list[JobUpdate], node: int) -> Any:
        return [_answer(processes.request(node, f"/api/jobs/{updates[0][0]}", updates[0][1]))]

    def batch(updates: list[JobUpdate]) -> Any:
        body = [{"job": job, **update} for job, update in updates]
        return [_answer(document) for document in processes.request(1, "/api/jobs", body)]

    def fcall(updates: list[JobUpdate]) -> Any:
        job, update = updates[0]
        fields = [word for pair in update.items() for word in pair]
        result: Any = plain.fcall("progress", 1, "progress", job, *fields)
        words = [word.decode() if isinstance(word, bytes) else word for word in result]
        return [_answer(dict(zip(words[::2], words[1::2], strict=True)))]

    def by_worker(updates: list[JobUpdate]) -> Any:
        return [
            _answer(outcome._asdict()) if isinstance(outcome, PublishResult) else None
            for outcome in worker.publish(updates)
        ]

    return [lambda updates: single(updates, 0), lambda updates: single(updates, 1), batch, fcall,
            by_worker]  # fmt: skip


def _publish(history: History, client: int, publish: Publish) -> None:
    chance = history.chance(client)
    outcome_known = True
    while history.goes_on():
        # Only a batch has several. A tree gets few updates of unknown outcome: all its jobs are one
        # history, in which each of them doubles the search.
        updates = history.updates(chance, at_once=2 if client == 2 else 1, tree=outcome_known)
        call = time.monotonic_ns()
        try:
            answers = publish(updates)
        except (OSError, HTTPException, redis.RedisError):
            answers = [None] * len(updates)
        for (job, update), answer in zip(updates, answers, strict=True):
            returned = {} if answer else {"return": END}
            history.add(client, job, call, update=update, answer=answer, **returned)
        outcome_known = all(answers)
        time.sleep(chance.random() * (0.05 if outcome_known else 0.4))


def _read(history: History, client: int, processes: Processes) -> None:
    chance = history.chance(client)
    while history.goes_on():
        tree = history.tree()
        job = chance.choice([*history.jobs(), *(tree + name for name in (*GROUPS, *LEAVES))])
        node = chance.randrange(2)
        call = time.monotonic_ns()
        try:
            if chance.random() < 0.7:
                document = processes.request(node, f"/api/jobs/{job}")
                history.add(
                    client, job, call, read=compared_fields(document) if document else {"seq": 0}
                )
            else:
                listed = processes.request(node, f"/api/jobs?prefix={job.partition(':')[0]}:")
                for document in listed["jobs"]:
                    history.add(client, document["job"], call, read=compared_fields(document))
        except (OSError, HTTPException):
            pass  # a read without an answer has no result
        time.sleep(chance.random() * 0.05)


def _stream(history: History, client: int, processes: Processes) -> None:
    chance = history.chance(client)
    while history.goes_on():
        jobs = history.jobs()
        query = "&".join(f"job={job}" for job in [*jobs, *(history.tree() + one for one in GROUPS)])
        netloc = urlsplit(processes.urls[chance.randrange(2)]).netloc
        connection = HTTPConnection(netloc, timeout=1.0)
        call = 0
        try:
            connection.request("GET", f"/api/events?mode=every&{query}")
            response = connection.getresponse()
            while history.goes_on() and history.jobs() == jobs:
                line = response.readline()
                if not line.endswith(b"\n"):
                    break  # the end, maybe in the middle of a line
                if line.startswith(b"data:"):
                    _take(history, client, call, line[5:].decode())
        except (OSError, HTTPException):
            time.sleep(0.1)
        finally:
            connection.close()


def _take(history: History, client: int, call: int, data: str) -> None:
    document = json.loads(data)
    if document.get("type") == "progress" and document["state"] is not None:
        history.add(client, document["job"], call, read=compared_fields(document))


def run(*, seconds: float, seed: int) -> list[Op]:
    """Publishes and reads for so many seconds, while nodes and Redis are killed. Returns the
    history."""
    with ExitStack() as stack:
        processes = Processes(stack)
        processes.request(0, "/readyz")
        history = History(seconds, seed)
        targets: list[Callable[[], None]] = [
            *(
                partial(_publish, history, client, publish)
                for client, publish in enumerate(_publishers(processes))
            ),
            *(partial(_read, history, client, processes) for client in (10, 11)),
            *(partial(_stream, history, client, processes) for client in (20, 21)),
        ]
        failed: list[BaseException] = []

        def guarded(target: Callable[[], None]) -> None:
            try:
                target()
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=guarded, args=[target]) for target in targets]
        for thread in threads:
            thread.start()
        chance = history.chance(99)
        turn = 0
        while history.goes_on():
            time.sleep(1.5 + chance.random() * 2)
            if turn % 2:
                processes.replace(chance.randrange(2))
            else:
                processes.restart_redis(history)
            turn += 1
        for thread in threads:
            thread.join(60)
        assert not failed, failed
        return history.finished()
