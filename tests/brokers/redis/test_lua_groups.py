"""Groups in Lua, on a real server, equal those of the memory broker exactly.

Both are also compared with the definition of a group: the sum of its children's newest
contributions, for any order of updates, repetitions, retries, losses and dropped jobs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from gateway import Limits, MemoryBroker
from gateway.brokers.redis.codec import as_arguments, snapshot
from gateway.brokers.redis.keys import Layout
from gateway.model.children import Contribution, Sums, contribution_of, groups_above, total_of
from gateway.model.reducer import reduce
from gateway.model.state import Event, Record, Request, RequestUpdate, State, Update
from tests.brokers.redis.server import Server, script_on_test_clock, session_server

EXAMPLES = int(os.environ.get("FOLD_EXAMPLES", "1000")) // 10
RETENTION = 50
START = 1_000_000.0
SHARD = Layout("progress").shards[0]
JOBS = ["g", "g/a", "g/b", "g/s", "g/s/x", "g/s/y"]
"""Two levels: `g/s` is a group in `g`."""
LIMITS = Limits(retention=RETENTION, history=1_000)

numbers = st.integers(0, 100) | st.floats(0, 100).map(lambda x: round(x, 3))
worker_updates = st.builds(
    Update,
    status=st.just(UNSET) | st.sampled_from(["queued", "running", "succeeded", "failed"]),
    percent=st.sampled_from([UNSET, UNSET, None]) | numbers,
    done=st.just(UNSET) | numbers,
    total=st.just(UNSET) | numbers,
    start=st.booleans(),
    run=st.sampled_from([None, "r", "s"]),
    attempt=st.just(UNSET) | st.integers(1, 3),
    message=st.just(UNSET) | st.sampled_from(["m", "n"]),
    weight=st.sampled_from([UNSET] * 5 + [None, 2, 0.5, 1000]),
    lease=st.just(5),
    accepts=st.sampled_from([UNSET, UNSET, None, ("cancel",), ("cancel", "pause", "skip")]),
    ack=st.sampled_from([None, None, "1", "2"]),
    refused=st.sampled_from([None, None, "no"]),
)
group_updates = st.builds(
    Update,
    children=st.sampled_from([0, 1, 2, 2.5, 3, None]),
    status=st.just(UNSET) | st.just("queued"),
    start=st.booleans(),
    run=st.sampled_from([None, "r", "s"]),
    accepts=st.sampled_from([UNSET, ("cancel",), ("cancel", "pause", "skip")]),
)
request_updates = st.builds(
    RequestUpdate,
    request=st.builds(
        Request,
        id=st.sampled_from(["1", "2", "3"]),
        verb=st.sampled_from(["cancel", "pause", "skip"]),
        args=st.sampled_from([UNSET, Raw(b'{"at":7.5}')]),
        by=st.sampled_from([None, 'a ","at":1}']),
        alone=st.sampled_from([False, False, False, True]),
    ),
)
REAP = None
"""Used instead of an update: leases are checked."""
steps = st.one_of(
    st.tuples(st.sampled_from(JOBS), worker_updates),
    st.tuples(st.sampled_from(JOBS), worker_updates),
    st.tuples(st.sampled_from(["g", "g/s"]), group_updates),
    st.tuples(st.sampled_from(["g", "g/s", "g/a"]), request_updates),
    st.tuples(st.just(""), st.just(REAP)),
)
late_steps = st.one_of(
    st.tuples(st.sampled_from(JOBS[1:]), st.builds(
        Update, accepts=st.sampled_from([("cancel", "pause"), ("pause",)]),
        start=st.booleans(), status=st.sampled_from(["queued", "running"]),
        ack=st.sampled_from([None, "1", "2"]), refused=st.sampled_from([None, "no"]),
    )),
    st.tuples(st.sampled_from(["g", "g/s", "g/a"]), request_updates),
    st.tuples(st.sampled_from(["g", "g/s"]), st.builds(
        Update, children=st.just(2), accepts=st.just(("cancel", "pause", "skip")),
        start=st.booleans(),
    )),
)  # fmt: skip
ticks = st.sampled_from([0.0, 0.5, 1.0, 3.25, 20.0, 60.0])
histories = st.lists(st.tuples(steps, ticks), min_size=1, max_size=40)


class Lua:
    """The scripts, and the data in Redis."""

    def __init__(self, server: Server) -> None:
        self.client = server.client
        self.client.flushall()
        self._publish = self.client.script_load(script_on_test_clock("publish"))
        self._reap = self.client.script_load(script_on_test_clock("expire_leases"))
        mapping = {"history": LIMITS.history, "retention": RETENTION}
        self.client.hset(SHARD.counters, mapping=mapping)

    def set_clock(self, now: float) -> None:
        self.client.set(f"{SHARD.feed}:clock", repr(now))

    def publish(self, job: str, update: Update) -> str | None:
        keys = SHARD.keys(job)
        answer = self.client.evalsha(
            self._publish, len(keys), *keys, "", job, *as_arguments(update)
        )
        return answer[3].decode() or None

    def reap(self) -> None:
        """Expires leases as the broker does, but without the check for a stepped clock."""
        while True:
            self.client.hdel(SHARD.counters, "checked_at")
            keys = SHARD.keys()
            due_jobs = self.client.evalsha(self._reap, len(keys), *keys, "", 100)
            if not due_jobs:
                return
            jobs = [job.decode() for job in due_jobs]
            keys = SHARD.keys(*jobs)
            self.client.evalsha(self._reap, len(keys), *keys, "", 100, *jobs)

    def forget(self, job: str) -> None:
        """Drops the job, as after its retention."""
        self.client.hset(SHARD.last(job), "health", "lost")
        self.silence(job)

    def silence(self, job: str) -> None:
        """Expires the job's lease."""
        self.client.hset(SHARD.last(job), "reported_at", "1")
        self.client.zadd(f"{SHARD.prefix}:leases", {job: 1})
        keys = SHARD.keys(job)
        self.client.evalsha(self._reap, len(keys), *keys, "", 100, job)

    def event(self, job: str) -> Event | None:
        return snapshot(job, self.client.hgetall(SHARD.last(job)))

    def records(self) -> dict[str, tuple[object, ...]]:
        with self.client.pipeline(transaction=False) as pipeline:
            for job in JOBS:
                pipeline.hgetall(SHARD.last(job))
                pipeline.hgetall(f"progress:children:{job}")
            answers = pipeline.execute()
        record_by_job: dict[str, tuple[object, ...]] = {}
        for job, fields, children in zip(JOBS, answers[::2], answers[1::2], strict=True):
            if fields:
                event = snapshot(job, fields)
                assert event is not None
                sums = tuple(map(int, fields[b"sums"].split())) if b"sums" in fields else None
                state = msgspec.json.encode(event.state)
                record_by_job[job] = event.position.seq, state, fields.get(b"run"), sums
            if children:
                texts = {name.decode(): text.decode() for name, text in children.items()}
                record_by_job[f"children of {job}"] = tuple(sorted(texts.items()))
        return record_by_job


def in_python(broker: MemoryBroker) -> dict[str, tuple[object, ...]]:
    records: dict[str, tuple[object, ...]] = {}
    for job in JOBS:
        entry = broker._jobs.get(job)
        if entry is not None:
            record = entry.record
            sums = None if record.sums is None else numbers_of(record.sums)
            run = None if record.run is None else record.run.encode()
            records[job] = record.position.seq, msgspec.json.encode(record.state), run, sums
        children = broker._contributions.of(job)
        if children:
            rows = ((name, text_of(one)) for name, one in children.items())
            records[f"children of {job}"] = tuple(sorted(rows))
    return records


def text_of(one: Contribution) -> str:
    health = "" if one.health == "ok" else f" {one.health}"
    return f"{one.attempt} {one.weight} {one.progress} {one.status}{health}"


def numbers_of(sums: Sums) -> tuple[int, ...]:
    return (
        sums.queued, sums.running, sums.succeeded, sums.failed, sums.cancelled,
        sums.weight, sums.weighted_progress, sums.ended, sums.stalled, sums.lost,
    )  # fmt: skip


@given(histories)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_lua_and_python_compute_the_same_groups(module_server: Server, history: Any) -> None:
    trio.run(compare, Lua(module_server), history)


@given(st.lists(st.tuples(late_steps, ticks), min_size=3, max_size=20))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_job_that_begins_later_gets_the_lasting_request_of_its_group(history: Any) -> None:
    trio.run(compare, Lua(session_server()), history)


async def compare(lua: Lua, history: Any) -> None:
    now = START
    broker = MemoryBroker(LIMITS, clock=lambda: now, monotonic=lambda: now)
    before: dict[str, State] = {}
    for (job, update), tick in history:
        now += tick
        lua.set_clock(now)
        if update is REAP:
            lua.reap()
            await broker.expire_leases()
        else:
            reason = lua.publish(job, update)
            assert reason == (await broker.publish(job, update)).reason
        assert lua.records() == in_python(broker)
        after = {job: event.state for job, event in (await broker.read(JOBS)).items()}
        for group in ("g", "g/s"):
            check(group, before.get(group), after.get(group), broker)
        if type(update) is Update and reason in (None, "unchanged"):
            check_asked(job, after, broker)
        before = after


def check(group: str, before: State | None, state: State | None, broker: MemoryBroker) -> None:
    """Checks a group after each step."""
    if state is None or state.children is None:
        return
    contributed = broker._contributions.of(group)
    sums = broker._jobs[group].record.sums
    assert sums == total_of(contributed.values())
    for name, member in contributed.items():
        child = broker._jobs.get(f"{group}/{name}")
        if child is not None:
            now = child.record.state
            assert member == contribution_of(
                now.attempt, now.status, percent=now.percent, weight=now.weight, health=now.health
            )
    if not state.final:
        counts = (sums.queued, sums.running, sums.succeeded, sums.failed, sums.cancelled)
        shown_counts = state.children
        assert counts == (
            shown_counts.queued,
            shown_counts.running,
            shown_counts.succeeded,
            shown_counts.failed,
            shown_counts.cancelled,
        )
    running = [member.health for member in contributed.values() if member.status == "running"]
    if state.final or "ok" in running:
        assert state.health == "ok"
    elif running:
        assert state.health == ("stalled" if "stalled" in running else "lost")
        assert state.eta is None
    # A start while it is queued opens the same attempt again.
    if before is not None and before.attempt == state.attempt and before.status != "queued":
        assert (state.percent or 0) >= (before.percent or 0)
        if before.final:
            assert state == before


def check_asked(job: str, after: dict[str, State], broker: MemoryBroker) -> None:
    """Checks that a running job that has just reported has the lasting request of the groups above
    it, unless the job got a later one."""
    state = after.get(job)
    if state is None or state.status != "running" or not state.accepts:
        return
    earlier = broker._jobs[job].record.earlier_request_ids
    for group, _ in groups_above(job):
        above = after.get(group)
        if above is None or above.final or above.request is None:
            continue
        group_request, own_request = above.request, state.request
        was_running = state.started_at is not None and state.started_at < group_request.at
        holds_on = group_request.verb in ("cancel", "pause") or was_running
        if (
            holds_on
            and group_request.verb in state.accepts
            and group_request.refused is None
            and not group_request.alone
        ):
            assert own_request is not None
            had_it = group_request.id in (own_request.id, *earlier)
            assert had_it or own_request.at >= group_request.at or own_request.verb == "cancel"


# Any interleaving, repetition, retry and loss.

child_updates = st.lists(
    st.builds(
        Update,
        status=st.sampled_from(["running", "succeeded", "failed", "cancelled"]),
        percent=numbers,
        attempt=st.integers(1, 3),
    ),
    min_size=1,
    max_size=6,
)


@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_group_is_the_sum_of_its_children_in_any_order(data: st.DataObject) -> None:
    names = ["g/a", "g/s/x", "g/s/y"]
    updates = [(name, update) for name in names for update in data.draw(child_updates)]
    updates += data.draw(st.lists(st.sampled_from(updates), max_size=5))  # sent again
    updates += [("g", Update(children=2)), ("g/s", Update(children=2))]
    shuffled = data.draw(st.permutations(updates))
    arrived = [step for step in shuffled if step[0] == "g" or data.draw(st.integers(0, 5))]
    trio.run(at_rest, arrived)


async def at_rest(updates: list[tuple[str, Update]]) -> None:
    broker = MemoryBroker(LIMITS, clock=lambda: START, monotonic=lambda: START)
    alone: dict[str, Record] = {}  # each job alone, as if there were no groups
    for job, update in updates:
        await broker.publish(job, update)
        if update.children is UNSET:
            alone[job] = reduce(alone.get(job), update, now=START, epoch=1).record
    states = {job: event.state for job, event in (await broker.read(JOBS)).items()}
    for group in ("g/s", "g"):
        state = states.get(group)
        record = broker._jobs[group].record if group in states else None
        if record is None or record.sums is None or state is None:
            continue
        expected = [
            contribution_of(child.attempt, child.status, percent=child.percent, weight=child.weight)
            for job, child in children_of(group, alone, states)
        ]
        assert record.sums == total_of(expected)
        assert state.children is not None
        ended = sum(child.weight for child in expected if child.ended)
        live = any(not child.ended for child in expected)
        assert state.final == (ended >= 2000 and not live)


def children_of(
    group: str, alone: dict[str, Record], states: dict[str, State]
) -> Iterator[tuple[str, State]]:
    for job in {*alone, *states}:
        if next(groups_above(job), ("", ""))[0] == group:
            yield job, alone[job].state if job in alone else states[job]


def test_a_childs_data_is_not_in_its_group(server: Server) -> None:
    lua = Lua(server)
    lua.set_clock(START)
    lua.publish("g", Update(children=1, data=Raw(b'{"a":1}'), message="two"))
    lua.publish("g/a", Update(data=Raw(b"[1]"), message="one", status="failed", error="no disk"))
    event = snapshot("g", lua.client.hgetall(SHARD.last("g")))
    assert event is not None
    state = event.state
    assert (state.status, state.error, state.message) == ("failed", "1 of 1 failed", "two")
    assert bytes(state.data) == b'{"a":1}'  # type: ignore[arg-type]  # it is set
