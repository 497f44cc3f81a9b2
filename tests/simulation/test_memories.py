"""`Memories` finds exactly the jobs whose newest state no node and no server has any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.model.state import Position

from .groups import Group
from .memories import Memories
from .redis import Store


def host(name: str, **positions: int) -> Any:
    """Returns a running node that has read these positions."""
    events = [SimpleNamespace(job=job, position=Position(1, seq)) for job, seq in positions.items()]
    observed = SimpleNamespace(all=lambda: events)
    return SimpleNamespace(
        number=1,
        alive=True,
        process=SimpleNamespace(name=name),
        broker=SimpleNamespace(_observed=observed),
    )


def server(*restored_by: str, **positions: int) -> Store:
    """Returns the data of a server, after a new repair if nodes have restored their states."""
    store = Store()
    store.values[b"progress:counters"] = {b"repair": b"5" if restored_by else b"1"}
    for name in restored_by:
        store.values[b"progress:counters"][f"node:{name}".encode()] = b"1700000000 5"
    for job, seq in positions.items():
        store.values[f"progress:last:{job}".encode()] = {b"epoch": b"1", b"seq": b"%d" % seq}
    return store


def test_nothing_is_lost_while_a_node_runs_that_has_read_it() -> None:
    memories = Memories((), set())
    first_host, other = host("one", a=3, b=2), host("other", a=3)
    memories.server_has_lost_writes(server(a=1, b=2), [first_host, other])
    memories.node_has_ended(first_host, server(a=1, b=2))
    assert memories.lost == set()


def test_what_only_an_ended_node_had_read_is_lost() -> None:
    memories = Memories((), set())
    first_host, second_host = host("one", a=3, b=2), host("other", a=2, b=2)
    memories.server_has_lost_writes(server(a=1), [first_host, second_host])
    memories.node_has_ended(first_host, server(a=1))
    assert memories.lost == {"a"}
    memories.node_has_ended(second_host, server(a=1))
    assert memories.lost == {"a", "b"}


def test_what_a_node_has_restored_is_not_lost_when_it_ends() -> None:
    memories = Memories((), set())
    first_host, second_host = host("one", a=3), host("other", a=2)
    memories.server_has_lost_writes(server(a=1), [first_host, second_host])
    memories.node_has_ended(first_host, server("one", a=1))
    memories.node_has_ended(second_host, server("one", a=1))
    assert memories.lost == set()


def test_what_a_node_had_read_that_ended_before_the_loss_is_lost() -> None:
    memories = Memories((), set())
    memories.node_has_ended(host("one", a=3, b=1), server(a=3, b=1))
    assert memories.lost == set()
    memories.server_has_lost_writes(server(a=2, b=1), [host("other", b=1)])
    assert memories.lost == {"a"}


def test_with_a_child_all_jobs_of_its_group_are_lost() -> None:
    inner = Group("g/n", {"g/n/a": 1.0}, 1.0)
    memories = Memories([Group("g", {"g/b": 1.0, "g/n": 1.0}, 2.0, (inner,))], set())
    first_host = host("one", **{"g/n/a": 3, "other": 1})
    memories.server_has_lost_writes(server(other=1), [first_host])
    memories.node_has_ended(first_host, server(other=1))
    assert memories.lost == {"g", "g/n", "g/n/a", "g/b"}
